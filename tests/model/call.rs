//! A command that is sent until it is answered, or until its caller's patience ends.

use crate::store::{Answer, LEASE, count_down};

/// What a try has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flight {
    /// The command is on its way. It arrives within the tick, unless a fault befalls it.
    Sent,
    /// The reply is on its way.
    Replied(Answer),
    /// Nothing will come of this try any more; only time tells.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) flight: Flight,
    /// Ticks since this try was sent.
    pub(crate) age: u8,
    /// A try is given up at this age.
    per_try: u8,
    /// How many sendings are left, this one included.
    tries: u8,
    /// Ticks until the caller goes on without an answer.
    pub(crate) patience: u8,
}

/// What becomes of a call when a try has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    SentAgain,
    GivenUp,
}

impl Call {
    const STEP_TRIES: u8 = 3;
    const ANY_NUMBER: u8 = u8::MAX;

    /// For a step that a client waits for: two ticks, three sendings, one tick for each.
    pub(crate) const STEP: Self =
        Self { flight: Flight::Sent, age: 0, per_try: 1, tries: Self::STEP_TRIES, patience: 2 };

    /// For a step that nobody waits for.
    pub(crate) const fn behind(patience: u8) -> Self {
        Self { flight: Flight::Sent, age: 0, per_try: 2, tries: Self::ANY_NUMBER, patience }
    }

    /// For a renewal of a lease of which `left` ticks are left.
    pub(crate) const fn renewal(left: u8) -> Self {
        Self { flight: Flight::Sent, age: 0, per_try: 1, tries: Self::ANY_NUMBER, patience: left }
    }

    pub(crate) fn was_sent_again(&self) -> bool {
        self.tries < Self::STEP_TRIES
    }

    pub(crate) fn tick(&mut self) {
        self.age = LEASE.min(self.age + 1);
        count_down(&mut self.patience);
    }

    /// Its caller has waited long enough for this try.
    pub(crate) fn is_overdue(&self) -> bool {
        self.age >= self.per_try || self.patience == 0
    }

    /// A try has timed out, or was answered by an error.
    pub(crate) fn fail(&mut self) -> Failed {
        if self.tries != Self::ANY_NUMBER {
            self.tries -= 1;
        }
        if self.tries == 0 || self.patience == 0 {
            return Failed::GivenUp;
        }
        (self.flight, self.age) = (Flight::Sent, 0);
        Failed::SentAgain
    }
}
