//! What is explored: which requests there are, and how much may go wrong.

use crate::rules::Rules;

pub(crate) const NODES: usize = 2;
pub(crate) const REQUESTS: usize = 4;

/// Where a request arrives, and what it asks for. All requests carry one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) node: usize,
    pub(crate) fingerprint: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies, with all its requests. Its messages stay on their way; it starts anew at once.
    Kill,
    /// A process stands still while time goes on.
    Stall,
    /// A process does not reach the store for a while, and learns of it by waiting.
    Cut,
    /// A command or a reply is lost.
    Lose,
    /// A command arrives at any later time; its caller does not get the reply.
    Delay,
    /// The caller gets an error for a command that was executed, was not, or is going to be.
    Error,
    /// The handler fails.
    Fail,
    /// The client hangs up.
    Leave,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) requests: &'static [Origin],
    /// How many faults may happen in all.
    pub(crate) faults: u8,
    /// Those that may happen.
    pub(crate) kinds: &'static [Fault],
    pub(crate) at_most_once: bool,
    /// Requests that meet in one process share a claim.
    pub(crate) shared: bool,
    pub(crate) rules: Rules,
}

impl Scenario {
    pub(crate) fn node(&self, request: usize) -> usize {
        self.requests[request].node
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.requests.len()
    }

    /// The requests that arrive at `node`.
    pub(crate) fn requests_on(&self, node: usize) -> impl Iterator<Item = usize> + Clone {
        self.numbers().filter(move |number| self.node(*number) == node)
    }
}

pub(crate) const EVERY_FAULT: &[Fault] =
    &[Fault::Kill, Fault::Stall, Fault::Cut, Fault::Lose, Fault::Delay, Fault::Error, Fault::Fail, Fault::Leave];

#[cfg(feature = "test-util")]
pub(crate) const NO_STALL: &[Fault] =
    &[Fault::Kill, Fault::Cut, Fault::Lose, Fault::Delay, Fault::Error, Fault::Fail, Fault::Leave];

const fn on(node: usize) -> Origin {
    Origin { node, fingerprint: 0 }
}

pub(crate) const TWO: &[Origin] = &[on(0), on(1)];
pub(crate) const THREE: &[Origin] = &[on(0), on(0), on(1)];
pub(crate) const FOUR: &[Origin] = &[on(0), on(0), on(1), on(1)];
pub(crate) const ONE_DIFFERS: &[Origin] = &[on(0), on(1), Origin { node: 1, fingerprint: 1 }];
pub(crate) const THREE_MEET: &[Origin] = &[on(0), on(0), on(0), on(1)];
