//! [`Pulse`]: whether a connection still answers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A connection that has been asked, and has answered nothing and nobody for so long, is thought dead.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether a connection still answers. Times are in milliseconds after it was opened, so that in a crowd of commands few
/// have to write them.
#[derive(Debug)]
pub(super) struct Pulse {
    opened: Instant,
    /// When it was first asked after its last answer.
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Pulse {
    /// That of a connection opened now.
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), asked: AtomicU64::new(0), answered: AtomicU64::new(0) }
    }

    pub(super) fn ask(&self) {
        let now = self.age();
        let asked = self.asked.load(Ordering::Relaxed);
        if asked <= self.answered.load(Ordering::Relaxed) && asked != now {
            self.asked.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn answer(&self) {
        let now = self.age();
        if self.answered.load(Ordering::Relaxed) != now {
            self.answered.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silence() >= SILENCE
    }

    /// How long it has been asked without an answer to anybody.
    fn silence(&self) -> Duration {
        let asked = self.asked.load(Ordering::Relaxed);
        let is_open = asked > self.answered.load(Ordering::Relaxed);
        if is_open { Duration::from_millis(self.age().saturating_sub(asked)) } else { Duration::ZERO }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_lasts_from_the_first_question_to_the_next_answer() {
        let pulse = Pulse::new();
        tokio::time::sleep(SILENCE).await;
        assert_eq!(pulse.silence(), Duration::ZERO, "nobody has asked");
        for _ in 0..3 {
            pulse.ask();
            tokio::time::sleep(SILENCE).await;
            pulse.ask();
            assert_eq!(pulse.silence(), SILENCE);
            pulse.answer();
            assert_eq!(pulse.silence(), Duration::ZERO);
            tokio::time::sleep(SILENCE).await;
        }
    }
}
