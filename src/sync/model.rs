//! Models of tokio's [`Notify`](tokio::sync::Notify) and [`watch`](tokio::sync::watch): as much of them as is used.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use loom::sync::{Mutex, MutexGuard};

/// Wakes those that wait: all that do now, or one, also if it comes later.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    /// Somebody who comes later need not wait.
    permit: bool,
    /// `None`: it has not been polled. Whoever is taken out has been notified.
    waiting: BTreeMap<u64, Option<Waker>>,
}

/// Waits for a notice. Those to all count from the moment when it is made, not only from its first poll.
#[derive(Debug)]
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    number: u64,
    polled: bool,
}

impl Notify {
    pub(crate) fn notified(&self) -> Notified<'_> {
        let mut waiters = self.lock();
        let number = waiters.next;
        waiters.next += 1;
        waiters.waiting.insert(number, None);
        Notified { notify: self, number, polled: false }
    }

    pub(crate) fn notify_waiters(&self) {
        let woken = std::mem::take(&mut self.lock().waiting);
        woken.into_values().flatten().for_each(Waker::wake);
    }

    pub(crate) fn notify_one(&self) {
        let mut waiters = self.lock();
        let first = waiters.waiting.iter().find(|(_, waker)| waker.is_some()).map(|(number, _)| *number);
        let waker = first.and_then(|number| waiters.waiting.remove(&number).flatten());
        waiters.permit |= waker.is_none();
        drop(waiters);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap()
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.notify.lock();
        let takes_permit = !self.polled && std::mem::take(&mut waiters.permit);
        if takes_permit {
            waiters.waiting.remove(&self.number);
        }
        let pending = match waiters.waiting.get_mut(&self.number) {
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                true
            }
            None => false,
        };
        drop(waiters);
        self.polled = true;
        if pending { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        self.notify.lock().waiting.remove(&self.number);
    }
}

/// A value, and those who wait for it to change.
pub(crate) mod watch {
    use std::{future::poll_fn, ops::Deref, sync::Arc};

    use super::{Context, Mutex, MutexGuard, Poll, Waker, fmt};

    struct State<T> {
        value: T,
        senders: usize,
        waiting: Vec<Waker>,
    }

    pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);

    pub(crate) struct Receiver<T>(Arc<Mutex<State<T>>>);

    /// A copy: nothing here holds a value for long.
    pub(crate) struct Ref<T>(T);

    /// There is no sender any more.
    #[derive(Debug)]
    pub(crate) struct Closed;

    fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
        state.lock().unwrap()
    }

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Arc::new(Mutex::new(State { value, senders: 1, waiting: Vec::new() })))
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            Receiver(Arc::clone(&self.0))
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            let mut state = lock(&self.0);
            let old = std::mem::replace(&mut state.value, value);
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
            old
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            lock(&self.0).senders += 1;
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let mut state = lock(&self.0);
            state.senders -= 1;
            let waiting = if state.senders == 0 { std::mem::take(&mut state.waiting) } else { Vec::new() };
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    impl<T: Clone> Receiver<T> {
        pub(crate) async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<Ref<T>, Closed> {
            poll_fn(|cx| self.poll(cx, &mut wanted)).await
        }

        fn poll(&self, cx: &mut Context<'_>, wanted: &mut dyn FnMut(&T) -> bool) -> Poll<Result<Ref<T>, Closed>> {
            let mut state = lock(&self.0);
            if wanted(&state.value) {
                return Poll::Ready(Ok(Ref(state.value.clone())));
            }
            if state.senders == 0 {
                return Poll::Ready(Err(Closed));
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        }
    }

    impl<T> Deref for Ref<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Sender").finish_non_exhaustive()
        }
    }

    impl<T> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Receiver").finish_non_exhaustive()
        }
    }
}
