//! Faults, and the log of those that were injected or observed.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use crate::clock::Nanos;

/// Whom a fault keeps from renewing, recording or giving back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The application with this process id.
    Process(u32),
    Store,
}

/// In the order in which they are named as a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    ServerKilled,
    ServerStalled,
    StoreKilled,
    StoreStalled,
    /// A connection to the store that stayed open and said no more.
    Silenced,
    /// A command or a reply that took its time.
    Delayed,
    /// A connection to the store that was cut, with the command, or in place of its reply. A renewal is sent again at
    /// once: this alone costs no lease.
    Cut,
    /// Not injected, but noticed: a process that the busy machine left no time.
    Starved,
    /// Not injected, but noticed: a command that the store took long to answer.
    Slow,
}

impl Kind {
    /// Whether a holder may lose its lease by it.
    pub(crate) fn costs_leases(self) -> bool {
        self != Self::Cut
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    pub(crate) from: Nanos,
    /// `Nanos::MAX`: for good.
    pub(crate) to: Nanos,
}

/// What a proxy does between clients and applications. It can explain no second execution, and is only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientFault {
    LostRequest,
    Disconnect,
    LostReply,
    Delay,
    Duplicate,
}

#[derive(Debug, Default)]
pub(crate) struct FaultLog {
    faults: Mutex<Vec<Fault>>,
    of_clients: [AtomicU64; 5],
}

impl FaultLog {
    pub(crate) fn note(&self, kind: Kind, target: Target, from: Nanos, to: Nanos) {
        self.faults.lock().unwrap().push(Fault { kind, target, from, to });
    }

    pub(crate) fn count(&self, fault: ClientFault) {
        self.of_clients[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }

    /// Lost requests, disconnects, lost replies, delays, duplicates.
    pub(crate) fn of_clients(&self) -> [u64; 5] {
        std::array::from_fn(|at| self.of_clients[at].load(Ordering::Relaxed))
    }
}
