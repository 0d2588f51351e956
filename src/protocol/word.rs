//! [`Word`]: what a handler says should become of its run.

use crate::sync::{AtomicU8, Ordering};

/// What a handler says should become of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Keep,
    KeepWithoutBody,
    Release,
}

/// The last word of a handler, if it has said one.
#[derive(Debug, Default)]
pub(super) struct LastWord(AtomicU8);

impl LastWord {
    // Only the word itself is passed on, and the last one counts, so no order with other memory is needed.
    pub(super) fn say(&self, word: Word) {
        let code = match word {
            Word::Keep => 1,
            Word::KeepWithoutBody => 2,
            Word::Release => 3,
        };
        self.0.store(code, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Word> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Word::Keep),
            2 => Some(Word::KeepWithoutBody),
            3 => Some(Word::Release),
            _ => None,
        }
    }
}
