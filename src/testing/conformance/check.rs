//! [`Check`]: one property of a backend, judged.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{
    law::{Broken, Law, Verdict},
    trial::{PATIENCE, Trial},
};
use crate::Backend;

pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

type Run<B> = dyn Fn(&Trial<B>) -> Running<'_> + Send + Sync;

/// What helps where no answer comes, whatever the check is about.
const NO_ANSWER: &str = "look for a lock, a permit or a connection that is waited for and never given back; a store that \
                         is merely slow must still answer a hundred commands a second to be judged";

/// One property of a backend, and what to say when it does not hold.
pub(super) struct Check<B> {
    pub(super) law: Law,
    pub(super) name: String,
    pub(super) hint: &'static str,
    pub(super) run: Box<Run<B>>,
}

/// A check that failed, ready to be read.
pub(super) struct Finding {
    pub(super) text: String,
    pub(super) unanswered: bool,
}

impl<B: Backend> Check<B> {
    /// Runs the check, with longer and longer leases as long as the machine is too slow for them.
    pub(super) async fn judge(self, backend: Arc<B>) -> Option<Finding> {
        let mut short = Duration::from_millis(300);
        loop {
            let trial = Trial::new(Arc::clone(&backend), short);
            match (self.run)(&trial).await {
                Ok(()) => return None,
                Err(Broken::TooSlow) if short < PATIENCE / 2 => short *= 3,
                Err(broken) => return Some(self.finding(broken, &trial)),
            }
        }
    }

    fn finding(&self, broken: Broken, trial: &Trial<B>) -> Finding {
        let unanswered = matches!(broken, Broken::Unanswered(_));
        let (law, seen, expected) = match broken {
            Broken::Answer { law, seen, expected } => (law.unwrap_or(self.law), seen, expected),
            Broken::Unanswered(command) => {
                (self.law, format!("{command} was not answered within {PATIENCE:?}"), "an answer".to_owned())
            }
            Broken::TooSlow => {
                (self.law, format!("{:?} were not enough for a few commands", trial.short), "answers".to_owned())
            }
        };
        let hint = match law {
            _ if unanswered => NO_ANSWER,
            law if law == self.law => self.hint,
            law => law.hint(),
        };
        let mut text = format!("{law}\n  check:    {}\n  done:\n", self.name);
        for line in trial.protocol() {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str(&format!("  seen:     {seen}\n  expected: {expected}\n  hint:     {hint}\n"));
        Finding { text, unanswered }
    }
}
