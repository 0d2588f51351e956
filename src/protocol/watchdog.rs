//! A thread that keeps renewals going while a handler blocks a thread of the runtime.
//!
//! tokio's timers and events are driven by one of its workers, the one that has nothing to do. When that one is handed a
//! request whose handler blocks, no timer fires until another worker wakes by itself, however many are idle: a lease
//! would not be renewed. What is spawned from outside the runtime wakes an idle worker, which then takes the clock over.

use std::{
    convert::Infallible,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Lives in the task that the watchdog watches over, and ends its thread when it is dropped.
pub(super) struct Leash(#[allow(dead_code, reason = "its end is the message")] Sender<Infallible>);

/// Spawns `task` on the current runtime, and wakes one of its idle workers in every `interval` until the leash that
/// `task` was given is dropped.
///
/// A runtime of one thread has no idle worker: there `task` is all.
pub(super) fn spawn_watched<F>(interval: Duration, task: impl FnOnce(Option<Leash>) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = Handle::current();
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        runtime.spawn(task(None));
        return;
    }
    let watch = {
        let (runtime, task) = (runtime.clone(), task.clone());
        move || {
            let (leash, end) = mpsc::channel();
            // From here, because a worker keeps the task that it spawned last to itself, and the one that asks for this
            // may be about to enter a handler that blocks.
            runtime.spawn(task(Some(Leash(leash))));
            while end.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                runtime.spawn(async {});
            }
        }
    };
    if thread::Builder::new().name("idempotency-watchdog".to_owned()).spawn(watch).is_err() {
        runtime.spawn(task(None)); // renews all the same, unless a handler blocks
    }
}
