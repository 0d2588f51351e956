//! Waiting for keys that are in progress.
//!
//! A watcher per key reads for all who wait for it in this process: when the key is first waited for, at every notice,
//! at the deadline of a waiter, and now and then in between, since a holder that crashed sends no notice, and a notice
//! can be lost. Without a subscription it polls, with pauses that grow.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::board::{Answer, Board, Waiter, Watch};
use crate::{Backend, BackendError, Entry, Key};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A backend that learns from other processes when it is time to look.
pub(super) trait Watched: Backend + Clone {
    fn board(&self) -> &Arc<Board>;

    /// How long its commands may fail before those who wait are told.
    fn patience(&self) -> Duration;

    /// Subscribes to the notices, unless that has been done or cannot be.
    fn listen(&self);
}

/// [`Backend::wait`], by notices.
pub(super) async fn wait<B: Watched>(backend: &B, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
    let (sender, receiver) = oneshot::channel();
    if let Some(watch) = backend.board().join(*key, Waiter { deadline, answer: sender }) {
        tokio::spawn(read_for(backend.clone(), watch));
    }
    // A read may take its time: half of what it is given, as anywhere else.
    match timeout_at(deadline + backend.patience() / 2, receiver).await {
        Ok(Ok(answer)) => answer.map_err(|error| BackendError::new(error.kind()).because(error)),
        // The watcher has gone with the runtime that it was spawned on, or stands still with it.
        Ok(Err(_)) | Err(_) => backend.get(key).await,
    }
}

/// Reads for those who wait for a key until nobody does.
async fn read_for<B: Watched>(backend: B, mut watch: Watch) {
    backend.listen();
    let mut pause = FIRST_PAUSE;
    let mut answered = Instant::now();
    loop {
        let waiters = watch.take();
        let answer = backend.get(&watch.key).await;
        let now = Instant::now();
        let goes_on = match &answer {
            Ok(entry) => matches!(entry, Some(Entry::InProgress { .. })),
            // What fails now may be answered in a moment.
            Err(error) => !error.changed_nothing() && now < answered + backend.patience(),
        };
        if answer.is_ok() {
            answered = now;
        }
        let waiting = tell(waiters, &answer.map_err(Arc::new), |waiter| !goes_on || waiter.deadline <= now);
        let Some(earliest) = watch.put_back(waiting) else { return };
        let listening = backend.board().is_listening();
        let longest = if listening { LONGEST_PAUSE } else { pause };
        let next = earliest.min(now + longest.mul_f64(rand::random_range(0.5..=1.0)));
        let looked_in_vain = timeout_at(next, watch.look.notified()).await.is_err();
        if looked_in_vain && !listening {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Gives `answer` to those whom `is_told` names, and returns the others.
fn tell(waiters: Vec<Waiter>, answer: &Answer, is_told: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
    let (told, waiting): (Vec<_>, _) = waiters.into_iter().partition(is_told);
    for waiter in told {
        // One that is gone needs no answer.
        let _ = waiter.answer.send(answer.clone());
    }
    waiting
}

#[cfg(test)]
mod tests;
