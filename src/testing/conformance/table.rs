//! The command table, cell by cell, and the same cells for `get` and `remove`.

use tokio::time::Instant;

use super::{
    check::Check,
    law::{Broken, Law, Verdict, expect},
    model::{Seen, Step, Value, apply},
    trial::{LONG, Trial, fresh_key},
};
use crate::Backend;

const OWN: u8 = 0;
const OTHER: u8 = 1;

/// What a command is sent to.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// A value that lives long.
    Live(Value),
    /// A value that has expired: as good as absent.
    Expired(Value),
}

/// `get` comes first, since the other cells are read through it.
const COMMANDS: [(&str, Step); 6] = [
    ("get", Step::Get),
    ("claim", Step::Claim(OWN)),
    ("renew", Step::Renew(OWN)),
    ("complete", Step::Complete(OWN, 1)),
    ("release", Step::Release(OWN)),
    ("remove", Step::Remove),
];

const COLUMNS: [(&str, Before); 9] = [
    ("an absent key", Before::Live(Value::Absent)),
    ("its own claim in progress", Before::Live(Value::Claimed(OWN))),
    ("the claim in progress of another token", Before::Live(Value::Claimed(OTHER))),
    ("its own record", Before::Live(Value::Completed(OWN, 0))),
    ("the record of another token", Before::Live(Value::Completed(OTHER, 0))),
    ("its own expired claim", Before::Expired(Value::Claimed(OWN))),
    ("the expired claim of another token", Before::Expired(Value::Claimed(OTHER))),
    ("its own expired record", Before::Expired(Value::Completed(OWN, 0))),
    ("the expired record of another token", Before::Expired(Value::Completed(OTHER, 0))),
];

/// A check for each cell.
pub(super) fn cells<B: Backend>() -> Vec<Check<B>> {
    let pairs = COMMANDS.iter().flat_map(|command| COLUMNS.iter().map(move |column| (command, column)));
    let check = |(&(command, step), &(on, before))| Check {
        law: law(step, before),
        name: format!("command table: {command} on {on}"),
        hint: hint(step, before),
        run: Box::new(move |trial| Box::pin(cell(trial, step, before))),
    };
    pairs.map(check).collect()
}

async fn cell<B: Backend>(trial: &Trial<B>, step: Step, before: Before) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(2);
    let (value, life) = match before {
        Before::Live(value) => (value, LONG),
        Before::Expired(value) => (value, trial.short),
    };
    let sent = Instant::now();
    for setup in way_to(value) {
        let (expected, _) = apply(setup.0, setup.1);
        let seen = trial.play(key, &cast, setup.1, life).await?;
        if life != LONG {
            trial.in_time(sent)?;
        }
        expect(seen, expected)?;
    }
    let value = match before {
        Before::Live(value) => value,
        Before::Expired(_) => {
            trial.outlast_short().await;
            Value::Absent
        }
    };
    let (expected, after) = apply(value, step);
    compare(trial.play(key, &cast, step, LONG).await?, expected)?;
    compare(trial.play(key, &cast, Step::Get, LONG).await?, apply(after, Step::Get).0)?;
    for probe in [Step::Renew(OTHER), Step::Renew(OWN)] {
        let (expected, _) = apply(after, probe);
        let seen = trial.play(key, &cast, probe, LONG).await?;
        if seen != expected {
            return Err(Broken::under(Law::Fenced, format!("{seen:?}"), format!("{expected:?}")));
        }
    }
    Ok(())
}

/// The commands that lead from an absent key to `value`, each with the value it meets.
fn way_to(value: Value) -> Vec<(Value, Step)> {
    match value {
        Value::Absent => vec![],
        Value::Claimed(party) => vec![(Value::Absent, Step::Claim(party))],
        Value::Completed(party, version) => {
            vec![(Value::Absent, Step::Claim(party)), (Value::Claimed(party), Step::Complete(party, version))]
        }
    }
}

/// A right answer with somebody else's fingerprint or record breaks another law than a wrong answer.
fn compare(seen: Seen, expected: Seen) -> Verdict {
    match (seen, expected) {
        (Seen::InProgress(got), Seen::InProgress(holder)) if got != holder => {
            Err(Broken::under(Law::Exact, format!("{seen:?}"), format!("{expected:?}")))
        }
        _ => expect(seen, expected),
    }
}

fn law(step: Step, before: Before) -> Law {
    match (step, before) {
        (_, Before::Expired(_)) => Law::Expiring,
        (Step::Get, _) => Law::Reading,
        (Step::Remove, _) => Law::Removing,
        (_, Before::Live(Value::Completed(..))) => Law::Final,
        (Step::Claim(_), _) => Law::Atomic,
        _ => Law::Fenced,
    }
}

fn hint(step: Step, before: Before) -> &'static str {
    match (step, before) {
        (_, Before::Expired(_)) => {
            "compare the deadline with the store's clock in every command (deadline > now); do not rely on clean-up"
        }
        (Step::Get, _) => "get reads what is stored, once, and writes nothing",
        (Step::Remove, _) => "delete without comparing a token, and answer whether a live value was deleted",
        (Step::Claim(_), Before::Live(Value::Claimed(_))) => {
            "compare tokens before answering: one's own claim is Acquired again, another's is InProgress"
        }
        (Step::Claim(_), _) => {
            "insert the claim if nothing live is stored, and else answer what is stored, in one step"
        }
        (Step::Complete(..), Before::Live(Value::Completed(..))) => {
            "a second complete changes nothing: Held when the stored record has the same token, Lost otherwise"
        }
        (Step::Release(_), _) => "delete only where the value is in progress and carries the same token",
        (Step::Complete(..), _) => {
            "let the step that stores compare the token: it replaces nothing live but the claim with the same token"
        }
        (Step::Renew(_), _) => "move the deadline only where the value is in progress and carries the same token",
    }
}
