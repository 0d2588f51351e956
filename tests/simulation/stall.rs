//! Nodes that stand still: nothing of one goes on, no command leaves it, and no answer reaches it, until it moves again.
//! Then all of it is there at once, time-outs that are over too.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use crate::distant::way::Way;

/// Whether a node stands still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stands_still: bool,
    waiting: Vec<Waker>,
}

impl Pulse {
    pub(crate) fn stop(&self) {
        self.0.lock().expect("nothing panics under this lock").stands_still = true;
    }

    pub(crate) fn go_on(&self) {
        let mut state = self.0.lock().expect("nothing panics under this lock");
        state.stands_still = false;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().expect("nothing panics under this lock");
        if !state.stands_still {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) async fn beats(&self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Lets `future` go on only while the node does.
    pub(crate) async fn of<F: Future>(&self, future: F) -> F::Output {
        let mut future: Pin<Box<F>> = Box::pin(future);
        poll_fn(|cx| {
            std::task::ready!(self.poll(cx));
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// A node's way to the backend.
impl Way for Pulse {
    async fn there_and_back<T: Send>(&self, command: impl Future<Output = T> + Send) -> T {
        self.beats().await;
        let answer = command.await;
        self.beats().await;
        answer
    }
}
