//! What holds in every schedule. Each invariant returns what contradicts it.

use tower_idempotency::Rejection;

use crate::schedule::Aftermath;

type Invariant = fn(&Aftermath) -> bool;

/// All of them, by their names.
const INVARIANTS: &[(&str, Invariant)] = &[
    ("no run starts beside another, or after one that is kept", |aftermath| {
        aftermath.ledger.runs().iter().all(|run| !run.wrong)
    }),
    ("every client that stays is answered", |aftermath| aftermath.unanswered == 0),
    ("nothing is left behind", |aftermath| aftermath.live_runs + aftermath.busy_keys == 0),
    ("answers that are kept are of one run", |aftermath| {
        let kept = |run: &usize| aftermath.ledger.runs()[*run].kept;
        let mut runs = aftermath.answers.iter().filter(|answer| answer.stored).filter_map(|answer| answer.run);
        let mut runs: Vec<_> = runs.by_ref().filter(kept).collect();
        runs.dedup();
        runs.len() <= 1
    }),
    ("bodies are those of their runs", |aftermath| {
        aftermath.answers.iter().all(|answer| match (answer.run, &answer.body) {
            (Some(run), Some(body)) => {
                body.split(|byte| *byte == b';').all(|part| part.is_empty() || part == run.to_string().as_bytes())
            }
            _ => true,
        })
    }),
    ("who is refused is refused for a conflict, or for a time-out", |aftermath| {
        aftermath.answers.iter().all(|answer| match answer.rejection {
            None => answer.run.is_some(),
            Some(Rejection::InProgress) => true,
            Some(Rejection::BackendUnavailable) => aftermath.timed_out,
            Some(_) => false,
        })
    }),
];

/// The first invariant that `aftermath` breaks.
pub(crate) fn check(aftermath: &Aftermath) -> Result<(), String> {
    let broken = INVARIANTS.iter().find(|(_, holds)| !holds(aftermath));
    broken.map_or(Ok(()), |(name, _)| Err(format!("{name}: {aftermath:?}")))
}
