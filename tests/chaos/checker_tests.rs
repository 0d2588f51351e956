//! The checker over histories that were written by hand: of one key, with a lease of 1,000.

use super::*;

const LEASE: Nanos = 1000 * MILLISECOND;
const MILLISECOND: Nanos = 1_000_000;

/// An execution of process `process` whose claim was sent at `at`, in milliseconds, and answered one later.
fn execution(token: &str, process: u32, at: Nanos) -> Execution {
    Execution {
        key: "order".to_owned(),
        token: token.to_owned(),
        process,
        claimed: (at * MILLISECOND, (at + 1) * MILLISECOND),
        begun: (at + 2) * MILLISECOND,
        begins: 1,
        ..Execution::default()
    }
}

fn ended(at: Nanos, status: u16, execution: Execution) -> Execution {
    Execution { ended: Some((at * MILLISECOND, status)), ..execution }
}

fn fault(kind: Kind, target: Target, from: Nanos, to: Nanos) -> Fault {
    Fault { kind, target, from: from * MILLISECOND, to: to.saturating_mul(MILLISECOND) }
}

fn verdict(executions: Vec<Execution>, faults: Vec<Fault>) -> Verdict {
    check(&History { lease: LEASE, executions, faults, answers: HashMap::new() })
}

#[track_caller]
fn assert_explained(executions: Vec<Execution>, faults: Vec<Fault>, reasons: &[Reason]) {
    let verdict = verdict(executions, faults);
    assert!(verdict.wrong.is_empty(), "{:?}", verdict.examples);
    assert_eq!(verdict.extra.keys().copied().collect::<Vec<_>>(), reasons);
}

#[track_caller]
fn assert_wrong(executions: Vec<Execution>, faults: Vec<Fault>, wrong: Wrong) {
    assert_eq!(verdict(executions, faults).wrong, BTreeMap::from([(wrong, 1)]));
}

fn answers(recorded: &[&str], firsts: usize, settled: bool) -> HashMap<String, Answers> {
    let recorded = recorded.iter().map(|&token| format!("{token} order")).collect();
    HashMap::from([("order".to_owned(), Answers { recorded, firsts, settled })])
}

#[track_caller]
fn wrong_answers(answers: HashMap<String, Answers>) -> Vec<Wrong> {
    let executions = vec![ended(10, 500, execution("b", 2, 0)), ended(30, 201, execution("a", 1, 20))];
    let verdict = check(&History { lease: LEASE, executions, faults: vec![], answers });
    verdict.wrong.keys().copied().collect()
}

#[test]
fn one_execution_needs_no_explanation() {
    assert_explained(vec![ended(20, 201, execution("a", 1, 0))], vec![], &[]);
}

#[test]
fn a_second_execution_after_the_lease_of_one_that_was_hit_is_explained() {
    let executions = || vec![execution("a", 1, 0), execution("b", 2, 1000)];
    for (kind, target) in [
        (Kind::ServerKilled, Target::Process(1)),
        (Kind::ServerStalled, Target::Process(1)),
        (Kind::StoreKilled, Target::Store),
        (Kind::Silenced, Target::Process(1)),
        (Kind::Starved, Target::Process(1)),
    ] {
        assert_explained(executions(), vec![fault(kind, target, 500, 1500)], &[Reason::Fault(kind)]);
    }
}

#[test]
fn a_second_execution_without_a_fault_is_not_explained() {
    let executions = || vec![execution("a", 1, 0), execution("b", 2, 5000)];
    assert_wrong(executions(), vec![], Wrong::Unexplained);
    for fault in [
        fault(Kind::ServerKilled, Target::Process(2), 500, Nanos::MAX), // of somebody else
        fault(Kind::ServerKilled, Target::Process(1), 1001, Nanos::MAX), // after the lease
        fault(Kind::Cut, Target::Process(1), 500, 500),                 // which costs no lease
    ] {
        assert_wrong(executions(), vec![fault], Wrong::Unexplained);
    }
    let before = Execution { renewed: vec![900 * MILLISECOND], ..execution("a", 1, 0) };
    let fault = fault(Kind::StoreStalled, Target::Store, 100, 800); // which it has survived
    assert_wrong(vec![before, execution("b", 2, 5000)], vec![fault], Wrong::Unexplained);
}

#[test]
fn a_second_execution_within_the_lease_is_too_early_whatever_has_happened() {
    let killed = || vec![fault(Kind::ServerKilled, Target::Process(1), 5, Nanos::MAX)];
    assert_wrong(vec![execution("a", 1, 0), execution("b", 2, 900)], killed(), Wrong::TooEarly);
    let renewed = Execution { renewed: vec![300 * MILLISECOND], ..execution("a", 1, 0) };
    assert_wrong(vec![renewed.clone(), execution("b", 2, 1200)], killed(), Wrong::TooEarly);
    assert_explained(vec![renewed, execution("b", 2, 1300)], killed(), &[Reason::Fault(Kind::ServerKilled)]);
}

#[test]
fn a_failed_execution_gives_the_key_back_once_it_has_ended() {
    let second = || execution("b", 2, 50);
    assert_explained(vec![ended(50, 500, execution("a", 1, 0)), second()], vec![], &[Reason::Failed]);
    assert_wrong(vec![ended(52, 500, execution("a", 1, 0)), second()], vec![], Wrong::Unexplained);
    assert_wrong(vec![ended(50, 201, execution("a", 1, 0)), second()], vec![], Wrong::Unexplained);
}

#[test]
fn every_earlier_execution_has_to_be_over_not_only_the_last() {
    let executions = vec![execution("a", 1, 0), ended(20, 500, execution("b", 2, 10)), execution("c", 3, 30)];
    let verdict = verdict(executions, vec![]);
    assert_eq!(verdict.wrong, BTreeMap::from([(Wrong::Unexplained, 2)]), "b beside a, and then c beside a");
}

#[test]
fn a_claim_after_a_stored_record_is_wrong_whatever_has_happened() {
    let recorded = Execution { recorded: Some(40 * MILLISECOND), ..ended(30, 201, execution("a", 1, 0)) };
    let faults = || vec![fault(Kind::StoreKilled, Target::Store, 5, 5000)];
    assert_wrong(vec![recorded.clone(), execution("b", 2, 1200)], faults(), Wrong::AfterTheRecord);
    // This one had its claim before: it stood still between its claim and its handler, and the other one's record
    // came first.
    let late = Execution { begun: 5000 * MILLISECOND, ..execution("b", 2, 39) };
    let stalled = vec![fault(Kind::ServerStalled, Target::Process(1), 5, 2000)];
    assert_wrong(vec![recorded, late], stalled, Wrong::TooEarly);
}

#[test]
fn claims_that_overlap_may_have_been_executed_in_either_order() {
    let slow = Execution { claimed: (0, 100 * MILLISECOND), ..execution("a", 1, 0) };
    let quick = ended(30, 500, execution("b", 2, 10));
    assert_explained(vec![slow, quick], vec![], &[Reason::Failed]);
}

#[test]
fn two_handlers_under_one_claim_are_wrong() {
    let twice = Execution { begins: 2, ..execution("a", 1, 0) };
    assert_wrong(vec![twice], vec![], Wrong::TwoUnderOneClaim);
}

#[test]
fn different_foreign_and_missing_answers_are_wrong() {
    assert_eq!(wrong_answers(answers(&["a"], 1, true)), []);
    assert_eq!(wrong_answers(answers(&["a"], 0, true)), []);
    assert_eq!(wrong_answers(answers(&["a"], 2, true)), [Wrong::DifferentAnswers]);
    assert_eq!(wrong_answers(answers(&["a", "b"], 1, true)), [Wrong::DifferentAnswers, Wrong::ForeignAnswer]);
    assert_eq!(wrong_answers(answers(&["b"], 1, true)), [Wrong::ForeignAnswer], "which has failed");
    assert_eq!(wrong_answers(answers(&["a"], 1, false)), [Wrong::Stuck]);
}
