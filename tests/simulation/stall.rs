//! Nodes that stand still: nothing of one goes on, no command leaves it, and no answer reaches it, until it moves again.
//! Then all of it is there at once, time-outs that are over too.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

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
#[derive(Debug)]
pub(crate) struct Wire<B> {
    pub(crate) pulse: Pulse,
    pub(crate) backend: B,
}

impl<B: Backend> Wire<B> {
    async fn send<T>(&self, command: impl Future<Output = T>) -> T {
        self.pulse.beats().await;
        let answer = command.await;
        self.pulse.beats().await;
        answer
    }
}

impl<B: Backend> Backend for Wire<B> {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        self.send(self.backend.claim(key, token, of, lease)).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.send(self.backend.renew(key, token, lease)).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.send(self.backend.complete(key, token, record, retention)).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.send(self.backend.release(key, token)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.send(self.backend.get(key)).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.send(self.backend.remove(key)).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        self.send(self.backend.wait(key, deadline)).await
    }

    fn is_local(&self) -> bool {
        self.backend.is_local()
    }
}
