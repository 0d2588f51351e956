//! The conformance suite passes what keeps the laws, and names the law that each wrong backend breaks.
#![cfg(feature = "test-util")]

mod support;

use std::{future::Future, sync::Arc, time::Duration};

use support::reference::{Bug, Polling, Reference};
use tower_idempotency::{
    Backend, BoxBackend,
    testing::{Command, Fault, FaultyBackend, Odds, conformance},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_correct_backend_passes_in_real_time() {
    conformance(|| async { Reference::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_correct_backend_passes_under_a_paused_clock() {
    conformance(|| async { Reference::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backend_that_polls_passes_in_real_time() {
    conformance(|| async { Polling::default() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_backend_passes() {
    let shared = Arc::new(Reference::default());
    conformance(|| async { shared.clone() }).await;
}

#[tokio::test(start_paused = true)]
async fn a_boxed_backend_passes() {
    conformance(|| async { BoxBackend::new(Reference::default()) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_faulty_backend_without_faults_passes() {
    conformance(|| async { FaultyBackend::new(Reference::default()) }).await;
}

/// Commands that travel on their own are still commands.
#[tokio::test(start_paused = true)]
async fn a_slow_backend_passes() {
    let odds =
        Odds { delay_request: 0.5, delay_reply: 0.5, longest_delay: Duration::from_millis(20), ..Odds::default() };
    let connect = || async {
        let faulty = FaultyBackend::new(Reference::default());
        faulty.random(1, odds);
        faulty
    };
    conformance(connect).await;
}

/// A slow disk makes the suite slow, not wrong.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_20_ms_for_each_command_passes() {
    conformance(|| async { Polling::slow(Duration::from_millis(20)) }).await;
}

/// The report of the suite on a backend with `bug`.
async fn report_on(bug: Bug) -> String {
    report(move || async move { Reference::with(bug) }).await
}

async fn report<B: Backend, F: Future<Output = B> + Send>(connect: impl Fn() -> F + Send + Sync + 'static) -> String {
    let Err(error) = tokio::spawn(async move { conformance(connect).await }).await else {
        panic!("the suite passes a wrong backend")
    };
    *error.into_panic().downcast::<String>().expect("a formatted message")
}

/// The laws of the failed checks, in the order of the report.
fn laws(report: &str) -> Vec<&str> {
    let is_law = |line: &&str| line.starts_with("law ") || line.starts_with("contract of ");
    report.lines().filter(is_law).map(|line| line.split(':').next().unwrap()).collect()
}

fn checks(report: &str) -> Vec<&str> {
    report.lines().filter_map(|line| line.trim().strip_prefix("check:")).map(str::trim).collect()
}

macro_rules! wrong_backends {
    ($($test:ident: $bug:ident breaks $law:literal, found by $check:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let report = report_on(Bug::$bug).await;
            let found = laws(&report).into_iter().zip(checks(&report)).collect::<Vec<_>>();
            assert!(found.contains(&($law, $check)), "{found:#?}\n{report}");
            assert_eq!(found[0].0, $law, "the first finding misleads: {found:#?}");
        }
    )*};
}

wrong_backends! {
    check_then_insert_is_found: CheckThenInsert breaks "law 1 (Atomic)",
        found by "one of many concurrent claims is acquired";
    check_then_insert_leaves_histories_without_an_order: CheckThenInsert breaks "law 1 (Atomic)",
        found by "histories of random commands are linearizable";
    check_then_insert_lets_two_hold_a_key: CheckThenInsert breaks "law 1 (Atomic)",
        found by "a storm has one holder at a time";
    check_then_replace_of_an_expired_claim_is_found: CheckThenReplaceExpired breaks "law 3 (Expiring)",
        found by "an expired claim can be claimed once";
    a_claim_that_does_not_know_its_token_is_found: OwnTokenNotRecognised breaks "law 1 (Atomic)",
        found by "command table: claim on its own claim in progress";
    unfenced_renew_is_found: UnfencedRenew breaks "law 2 (Fenced)",
        found by "command table: renew on the claim in progress of another token";
    unfenced_complete_is_found: UnfencedComplete breaks "law 2 (Fenced)",
        found by "command table: complete on the claim in progress of another token";
    unfenced_release_is_found: UnfencedRelease breaks "law 2 (Fenced)",
        found by "command table: release on the claim in progress of another token";
    forgotten_expiry_is_found: ExpiryForgotten breaks "law 3 (Expiring)",
        found by "command table: claim on the expired claim of another token";
    a_claim_that_prolongs_its_lease_is_found: OwnClaimProlongs breaks "law 3 (Expiring)",
        found by "a claim by its own token does not prolong the lease";
    a_record_that_keeps_the_deadline_of_its_claim_is_found: RecordKeepsDeadlineOfClaim breaks "law 3 (Expiring)",
        found by "a record outlives the lease of its claim";
    a_timer_that_outlives_its_claim_is_found: TimerPerClaim breaks "law 3 (Expiring)",
        found by "the end of a former value spares the present one";
    complete_that_overwrites_its_record_is_found: OverwritesItsRecord breaks "law 4 (Final)",
        found by "command table: complete on its own record";
    release_that_deletes_records_is_found: ReleaseDeletesRecords breaks "law 4 (Final)",
        found by "command table: release on its own record";
    truncated_records_are_found: TruncatesRecords breaks "law 5 (Exact)",
        found by "records of any size come back";
    shortened_keys_are_found: ShortKeys breaks "law 5 (Exact)",
        found by "keys that differ in one bit are different";
    shortened_tokens_are_found: ShortTokens breaks "law 2 (Fenced)",
        found by "tokens that differ in one bit are different";
    a_wrong_fingerprint_for_losers_is_found: WrongFingerprint breaks "law 5 (Exact)",
        found by "command table: claim on the claim in progress of another token";
    a_lock_left_behind_is_found: LeavesLock breaks "law 6 (Cancel safe)",
        found by "a dropped command can be sent again";
    one_queue_for_all_is_found: OneQueue breaks "law 7 (Prompt for holders)",
        found by "a holder renews while a thousand claims are in flight";
    get_that_takes_is_found: GetTakes breaks "contract of get",
        found by "command table: get on its own record";
    remove_that_always_says_yes_is_found: RemoveLies breaks "contract of remove",
        found by "command table: remove on an absent key";
    a_wait_that_misses_a_release_is_found: WaitMissesRelease breaks "contract of wait",
        found by "a waiter learns of a release";
    a_wait_that_misses_the_end_of_a_lease_is_found: WaitMissesExpiry breaks "contract of wait",
        found by "a waiter learns of the end of a lease";
    a_wait_that_misses_a_renewal_is_found: WaitTrustsFirstDeadline breaks "contract of wait",
        found by "a waiter goes on after a renewal";
    a_wait_that_registers_too_late_is_found: WaitLooksThenRegisters breaks "contract of wait",
        found by "a wait that races the end is woken";
    a_wake_up_for_one_of_many_waiters_is_found: WakesOneWaiter breaks "contract of wait",
        found by "a hundred waiters all get the record";
    waiters_that_keep_others_waiting_are_found: WaitHoldsConnection breaks "contract of wait",
        found by "waiters hold nothing that others need";
}

/// The first finding of a report, without the random digits of keys, tokens and fingerprints.
fn first_finding(report: &str) -> String {
    masked(report.split("\n\n").nth(1).expect("a finding"))
}

fn masked(finding: &str) -> String {
    let digits = |part: &str| part.trim_end_matches(|c: char| c.is_ascii_hexdigit()).to_owned();
    let mut parts: Vec<_> = finding.trim_end().split("..)").map(str::to_owned).collect();
    let (_, before) = parts.split_last_mut().expect("split returns something");
    before.iter_mut().for_each(|part| *part = digits(part));
    parts.join("..)")
}

/// The report is what a backend author works with: it names the law, and tells what was done, what was seen, what was
/// expected, and how to mend it.
macro_rules! reports {
    ($($test:ident: $bug:ident, $finding:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            assert_eq!(first_finding(&report_on(Bug::$bug).await), $finding.trim());
        }
    )*};
}

reports! {
    check_then_insert_is_told_how_to_be_mended: CheckThenInsert, "
law 1 (Atomic): each command is one indivisible step
  check:    one of many concurrent claims is acquired
  done:
    64 tasks at once: claim(Key(..), each its own token, lease 300s)
  seen:     64 of 64 claims acquired
  expected: exactly 1 acquired
  hint:     look up and insert in one step (INSERT .. ON CONFLICT, SET NX, one lock over both), with no await between
";
    unfenced_complete_is_told_how_to_be_mended: UnfencedComplete, "
law 2 (Fenced): renew, complete and release compare the token inside their step
  check:    command table: complete on the claim in progress of another token
  done:
    A has Token(..) and Fingerprint(..)
    B has Token(..) and Fingerprint(..)
    claim(Key(..), B, lease 300s) -> Acquired
    complete(Key(..), A, 61 bytes, retention 300s) -> Held
  seen:     Held
  expected: Lost
  hint:     let the step that stores compare the token: it replaces nothing live but the claim with the same token
";
    forgotten_expiry_is_told_how_to_be_mended: ExpiryForgotten, "
law 3 (Expiring): past its deadline a claim, and past its expiry a record, is absent
  check:    command table: get on its own expired claim
  done:
    A has Token(..) and Fingerprint(..)
    B has Token(..) and Fingerprint(..)
    claim(Key(..), A, lease 300ms) -> Acquired
    600ms pass
    get(Key(..)) -> Some(InProgress { fingerprint: Fingerprint(..) })
  seen:     InProgress, claimed by A
  expected: nothing is stored
  hint:     compare the deadline with the store's clock in every command (deadline > now); do not rely on clean-up
";
}

/// Checks of other things come upon it, too. They must not send the reader elsewhere.
#[tokio::test(start_paused = true)]
async fn unfenced_complete_is_called_so_by_every_check_that_sees_it_in_its_commands() {
    let report = report_on(Bug::UnfencedComplete).await;
    let elsewhere = ["law 1 (Atomic)"]; // histories of concurrent commands do not tell which of them went wrong
    let laws: Vec<_> = laws(&report).into_iter().filter(|law| !elsewhere.contains(law)).collect();
    assert_eq!(laws, ["law 2 (Fenced)"; 4], "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_report_in_the_guide_is_what_the_suite_says() {
    let guide = include_str!("../docs/guide/backend.md");
    let (_, quoted) = guide.split_once("```text\n").expect("the guide quotes a report");
    let (quoted, _) = quoted.split_once("\n```").unwrap();
    assert_eq!(masked(quoted), first_finding(&report_on(Bug::UnfencedComplete).await));
}

/// No answer is worth a hint of its own: that of the check is about wrong ones.
#[tokio::test(start_paused = true)]
async fn a_command_without_an_answer_is_told_what_to_look_for() {
    let connect = || async {
        let faulty = FaultyBackend::new(Reference::default());
        faulty.on(Command::Get).always(Fault::LoseReply);
        faulty
    };
    let finding = first_finding(&report(connect).await);
    assert!(finding.contains("seen:     get(Key(..)) was not answered within 20s"), "{finding}");
    assert!(finding.contains("hint:     look for a lock, a permit or a connection"), "{finding}");
}
