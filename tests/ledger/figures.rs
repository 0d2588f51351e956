//! What a proof has seen, to be told at its end.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts of what clients did and got.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    booked: AtomicUsize,
    sent: AtomicUsize,
    answered: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
}

impl Figures {
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answers(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unanswered(&self) {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn books_hold(&self, payments: usize) {
        self.booked.store(payments, Ordering::Relaxed);
    }

    /// How many payments the ledger has.
    pub(crate) fn booked(&self) -> usize {
        self.booked.load(Ordering::Relaxed)
    }
}
