//! What a check can find broken, and how a report says it.

use std::fmt;

use super::model::{Seen, Step, Value};
use crate::BackendError;

/// The laws in the documentation of [`Backend`](crate::Backend), and the contracts of its methods beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Law {
    Atomic,
    Fenced,
    Expiring,
    Final,
    Exact,
    CancelSafe,
    Prompt,
    Reading,
    Removing,
    Waiting,
}

impl Law {
    /// What helps where a check comes upon a law that is not its own.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Atomic => {
                "look up and insert in one step (INSERT .. ON CONFLICT, SET NX, one lock over both), with no await between"
            }
            Self::Fenced => {
                "compare the token in the same step that changes the value: a script, a WHERE clause, a lock"
            }
            Self::Exact => "store fingerprints and records as binary values, and hand back those that were stored",
            _ => "read this law in the documentation of Backend",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Atomic => "law 1 (Atomic): each command is one indivisible step",
            Self::Fenced => "law 2 (Fenced): renew, complete and release compare the token inside their step",
            Self::Expiring => "law 3 (Expiring): past its deadline a claim, and past its expiry a record, is absent",
            Self::Final => "law 4 (Final): a completed record never changes until it expires or is removed",
            Self::Exact => "law 5 (Exact): keys never share a value, and what is stored comes back byte for byte",
            Self::CancelSafe => "law 6 (Cancel safe): a command dropped at any await leaves nothing but its claim",
            Self::Prompt => "law 7 (Prompt for holders): renew, complete and release do not queue behind claims",
            Self::Reading => "contract of get: it tells what is stored and changes nothing",
            Self::Removing => "contract of remove: it deletes whatever is stored and says whether something was",
            Self::Waiting => "contract of wait: it ends when the key is no longer in progress, or at its deadline",
        })
    }
}

/// What came of a check, or of one step of it.
pub(super) type Verdict<T = ()> = Result<T, Broken>;

/// Why a check ended early.
#[derive(Debug)]
pub(super) enum Broken {
    /// The backend answered something else than it had to.
    Answer {
        /// The law, where it is not the one that the check is about.
        law: Option<Law>,
        seen: String,
        expected: String,
    },
    /// A command was not answered at all.
    Unanswered(String),
    /// The machine was so slow that a lease of the check ended too early to tell anything.
    TooSlow,
}

impl Broken {
    pub(super) fn new(seen: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Answer { law: None, seen: seen.into(), expected: expected.into() }
    }

    pub(super) fn under(law: Law, seen: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Answer { law: Some(law), seen: seen.into(), expected: expected.into() }
    }

    pub(super) fn error(error: &BackendError) -> Self {
        let mut seen = format!("error: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            seen.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::new(seen, "an answer (no store should fail while it is checked)")
    }
}

/// Fails unless `seen` is `expected`.
#[expect(clippy::needless_pass_by_value, reason = "both are made for this call and read better without `&`")]
pub(super) fn expect<T: PartialEq + fmt::Debug>(seen: T, expected: T) -> Verdict {
    if seen == expected { Ok(()) } else { Err(Broken::new(format!("{seen:?}"), format!("{expected:?}"))) }
}

/// Like [`expect`], of `step` sent to `value`. Where an owner's command gets at the claim of another, the broken law is
/// the one of fencing, whatever the check is about.
pub(super) fn expect_on(value: Value, step: Step, seen: Seen, expected: Seen) -> Verdict {
    match (value, step) {
        (Value::Claimed(holder), Step::Renew(me) | Step::Complete(me, _) | Step::Release(me))
            if me != holder && seen != expected =>
        {
            Err(Broken::under(Law::Fenced, format!("{seen:?}"), format!("{expected:?}")))
        }
        _ => expect(seen, expected),
    }
}
