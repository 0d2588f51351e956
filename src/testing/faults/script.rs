//! Which fault a command meets: the next one in its script, else the standing one, else one drawn by the odds.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Command, State,
    fate::{Fate, Fault},
    lock,
};
use crate::BackendErrorKind;

/// The faults that one command will meet. Made by [`FaultyBackend::on`](super::FaultyBackend::on).
#[derive(Debug)]
pub struct Script<'a> {
    state: &'a Mutex<State>,
    command: Command,
}

impl<'a> Script<'a> {
    pub(super) const fn new(state: &'a Mutex<State>, command: Command) -> Self {
        Self { state, command }
    }

    /// The next command meets `fault`. Several calls make a queue.
    pub fn next(&self, fault: Fault) {
        lock(self.state).scripts.push(self.command, fault.into());
    }

    /// Every command meets `fault`, once the queue of [`next`](Self::next) ones is empty.
    pub fn always(&self, fault: Fault) {
        lock(self.state).scripts.always.insert(self.command, fault);
    }

    /// Forgets what was scripted for this command.
    pub fn clear(&self) {
        let scripts = &mut lock(self.state).scripts;
        scripts.next.remove(&self.command);
        scripts.always.remove(&self.command);
    }
}

/// How probable each fault is for a command, from 0 to 1, for [`FaultyBackend::random`](super::FaultyBackend::random).
/// What is left of 1 passes. All zero by default.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use std::time::Duration;
/// use tower_idempotency::{MemoryBackend, testing::{FaultyBackend, Odds}};
///
/// let faulty = FaultyBackend::new(MemoryBackend::new());
/// let longest_delay = Duration::from_millis(50);
/// faulty.random(42, Odds { lose_reply: 0.1, delay_request: 0.2, longest_delay, ..Odds::default() });
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Odds {
    /// [`Fault::LoseRequest`]
    pub lose_request: f64,
    /// [`Fault::LoseReply`]
    pub lose_reply: f64,
    /// [`Fault::DelayRequest`]
    pub delay_request: f64,
    /// [`Fault::DelayReply`]
    pub delay_reply: f64,
    /// [`Fault::ErrorBefore`], with [`BackendErrorKind::Unavailable`]
    pub error_before: f64,
    /// [`Fault::ErrorAfter`], with [`BackendErrorKind::TimedOut`]
    pub error_after: f64,
    /// Delays are drawn evenly from zero to this.
    pub longest_delay: Duration,
}

impl Odds {
    fn draw(&self, dice: &mut StdRng) -> Fault {
        let delay = self.longest_delay.mul_f64(dice.random());
        let faults = [
            (self.lose_request, Fault::LoseRequest),
            (self.lose_reply, Fault::LoseReply),
            (self.delay_request, Fault::DelayRequest(delay)),
            (self.delay_reply, Fault::DelayReply(delay)),
            (self.error_before, Fault::ErrorBefore(BackendErrorKind::Unavailable)),
            (self.error_after, Fault::ErrorAfter(BackendErrorKind::TimedOut)),
        ];
        let mut left: f64 = dice.random();
        for (odds, fault) in faults {
            if left < odds {
                return fault;
            }
            left -= odds;
        }
        Fault::Pass
    }
}

#[derive(Debug, Default)]
pub(super) struct Scripts {
    next: HashMap<Command, VecDeque<Fate>>,
    always: HashMap<Command, Fault>,
    random: Option<(StdRng, Odds)>,
}

impl Scripts {
    pub(super) fn push(&mut self, command: Command, fate: Fate) {
        self.next.entry(command).or_default().push_back(fate);
    }

    pub(super) fn random(&mut self, seed: u64, odds: Odds) {
        self.random = Some((StdRng::seed_from_u64(seed), odds));
    }

    pub(super) fn draw(&mut self, command: Command) -> Fate {
        if let Some(fate) = self.next.get_mut(&command).and_then(VecDeque::pop_front) {
            return fate;
        }
        let standing = self.always.get(&command).copied();
        let drawn = || self.random.as_mut().map(|(dice, odds)| odds.draw(dice));
        standing.or_else(drawn).unwrap_or(Fault::Pass).into()
    }
}
