//! Is there an order of a few overlapping commands that explains all their answers?

use std::collections::HashSet;

use super::model::{Seen, Step, Value, apply};

/// A command as its sender saw it: `sent` and `answered` are readings of one counter shared by all senders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) step: Step,
    pub(super) seen: Seen,
    pub(super) sent: u64,
    pub(super) answered: u64,
}

/// Whether the commands of `history`, sent to one absent key, could each have taken effect at one moment between being
/// sent and being answered.
///
/// The search is Wing and Gong's with Lowe's memory: a set of commands already placed together with the value they left
/// is looked into once.
pub(super) fn is_linearizable(history: &[Operation]) -> bool {
    assert!(history.len() < 64, "the set of placed commands is kept in 64 bits");
    explains(history, 0, Value::Absent, &mut HashSet::new())
}

fn explains(history: &[Operation], placed: u64, value: Value, failed: &mut HashSet<(u64, Value)>) -> bool {
    if placed.count_ones() as usize == history.len() {
        return true;
    }
    if failed.contains(&(placed, value)) {
        return false;
    }
    let open = || history.iter().enumerate().filter(|(i, _)| placed & (1 << i) == 0);
    // A command that was sent after another one was answered cannot come before it.
    let first_answer = open().map(|(_, operation)| operation.answered).min().unwrap_or(u64::MAX);
    for (i, operation) in open().filter(|(_, operation)| operation.sent < first_answer) {
        let (seen, next) = apply(value, operation.step);
        if seen == operation.seen && explains(history, placed | (1 << i), next, failed) {
            return true;
        }
    }
    failed.insert((placed, value));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(step: Step, seen: Seen, sent: u64, answered: u64) -> Operation {
        Operation { step, seen, sent, answered }
    }

    #[test]
    fn overlapping_commands_may_take_effect_in_any_order() {
        let history = [
            operation(Step::Claim(0), Seen::InProgress(1), 0, 3),
            operation(Step::Claim(1), Seen::Acquired, 1, 2),
            operation(Step::Complete(1, 0), Seen::Held, 4, 7),
            operation(Step::Get, Seen::Completed(1, 0), 5, 6),
        ];
        assert!(is_linearizable(&history));
    }

    #[test]
    fn two_winners_cannot_be_explained() {
        let history =
            [operation(Step::Claim(0), Seen::Acquired, 0, 3), operation(Step::Claim(1), Seen::Acquired, 1, 2)];
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn a_command_never_takes_effect_after_its_answer() {
        let claim = operation(Step::Claim(0), Seen::Acquired, 0, 1);
        assert!(!is_linearizable(&[claim, operation(Step::Get, Seen::Nothing, 2, 3)]));
        let overlapping = operation(Step::Claim(0), Seen::Acquired, 0, 3);
        assert!(is_linearizable(&[overlapping, operation(Step::Get, Seen::Nothing, 1, 2)]));
    }

    #[test]
    fn two_reads_in_a_row_never_go_back_in_time() {
        let complete = operation(Step::Complete(0, 0), Seen::Held, 0, 9);
        let new = operation(Step::Get, Seen::Completed(0, 0), 1, 2);
        let old = operation(Step::Get, Seen::Nothing, 3, 4);
        assert!(!is_linearizable(&[complete, new, old]));
        let old = operation(Step::Get, Seen::Nothing, 1, 2);
        let new = operation(Step::Get, Seen::Completed(0, 0), 3, 4);
        assert!(is_linearizable(&[complete, old, new]));
    }

    /// Without the memory this takes 20! steps.
    #[test]
    fn twenty_overlapping_commands_are_searched_in_no_time() {
        let mut history: Vec<_> = (0..19).map(|i| operation(Step::Release(0), Seen::Released, i, 100 + i)).collect();
        history.push(operation(Step::Get, Seen::Completed(0, 0), 50, 200));
        assert!(!is_linearizable(&history));
    }
}
