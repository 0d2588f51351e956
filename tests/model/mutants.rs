//! What each rule is for: without it, the explorer finds the shortest way to break a named invariant.

use crate::{
    ANY,
    explore::explore,
    invariants::INVARIANTS,
    rules::Rules,
    scenario::{ONE_DIFFERS, Origin, Scenario, THREE, TWO},
    threads,
};

/// The protocol with one rule left out.
struct Mutant {
    name: &'static str,
    leave_out: fn(&mut Rules),
    breaks: &'static [&'static str],
    requests: &'static [Origin],
    faults: u8,
    at_most_once: bool,
    shared: bool,
}

const fn mutant(name: &'static str, leave_out: fn(&mut Rules), breaks: &'static [&'static str], faults: u8) -> Mutant {
    Mutant { name, leave_out, breaks, requests: TWO, faults, at_most_once: false, shared: false }
}

const MUTANTS: &[Mutant] = &[
    mutant(
        "complete does not compare tokens",
        |rules| rules.complete_compares_tokens = false,
        &["a_lost_holder_never_changes_its_successors_value"],
        1,
    ),
    mutant(
        "renew does not compare tokens",
        |rules| rules.renew_compares_tokens = false,
        &["a_lost_holder_never_changes_its_successors_value"],
        2,
    ),
    mutant(
        "release does not compare tokens",
        |rules| rules.release_compares_tokens = false,
        &["a_lost_holder_never_changes_its_successors_value"],
        2,
    ),
    mutant("complete overwrites a record", |rules| rules.complete_keeps_a_record = false, &["a_record_is_final"], 1),
    mutant(
        "a claim does not recognise its own token",
        |rules| rules.own_claim_is_recognised = false,
        &["no_request_is_refused_by_its_own_claim"],
        1,
    ),
    mutant(
        "a repeated claim moves its deadline",
        |rules| rules.own_claim_keeps_its_deadline = false,
        &["only_renewals_move_a_deadline"],
        2,
    ),
    mutant(
        "an expired claim is not absent",
        |rules| rules.expired_is_absent = false,
        &["an_expired_claim_refuses_nobody"],
        1,
    ),
    mutant(
        "a claim lives for the retention",
        |rules| rules.claim_lives_a_lease = false,
        &["no_claim_outlives_its_lease"],
        0,
    ),
    mutant(
        "a claim is sent again with a fresh token",
        |rules| rules.retry_keeps_the_token = false,
        &["no_request_is_refused_by_its_own_claim"],
        1,
    ),
    mutant(
        "an unanswered claim is not released",
        |rules| rules.unanswered_claim_is_released = false,
        &["every_claim_has_somebody_who_will_end_it"],
        2,
    ),
    mutant(
        "an unanswered claim runs all the same",
        |rules| rules.unanswered_claim_runs_nothing = false,
        &["nothing_runs_for_a_refused_client", "one_handler_runs_at_a_time"],
        2,
    ),
    mutant(
        "a claim that came too late is not released before the next round",
        |rules| rules.late_claim_is_released = false,
        &["every_claim_has_somebody_who_will_end_it"],
        2,
    ),
    mutant(
        "the lease counts from the reply to the claim",
        |rules| rules.lease_counts_from_the_first_sending = false,
        &["one_request_holds_the_key", "one_handler_runs_at_a_time"],
        2,
    ),
    mutant(
        "the lease is not checked before the handler starts",
        |rules| rules.lease_is_checked_before_the_start = false,
        &["no_handler_starts_on_a_lease_that_may_be_over"],
        1,
    ),
    mutant(
        "409 although an own claim may hold the key",
        |rules| rules.stray_claims_are_remembered = false,
        &["no_request_is_refused_by_its_own_claim"],
        2,
    ),
    Mutant {
        requests: THREE,
        ..mutant(
            "a refused duplicate removes the claim",
            |rules| rules.refused_request_changes_nothing = false,
            &["a_lost_holder_never_changes_its_successors_value", "one_request_holds_the_key"],
            0,
        )
    },
    Mutant {
        requests: ONE_DIFFERS,
        ..mutant(
            "fingerprints are not compared",
            |rules| rules.fingerprint_is_compared = false,
            &["no_other_request_is_answered_or_replayed"],
            0,
        )
    },
    Mutant {
        at_most_once: true,
        ..mutant(
            "at most once without extending the claim first",
            |rules| rules.at_most_once_extends_first = false,
            &["at_most_once_is_at_most_once"],
            1,
        )
    },
    Mutant {
        requests: THREE,
        shared: true,
        ..mutant(
            "a conflict is shared with those who came after its claim",
            |rules| rules.outdated_conflicts_are_not_shared = false,
            &["no_refusal_is_outdated"],
            1,
        )
    },
    Mutant {
        requests: THREE,
        shared: true,
        ..mutant(
            "a run refuses duplicates past its deadline",
            |rules| rules.runs_past_their_deadline_refuse_nobody = false,
            &["no_refusal_is_outdated"],
            1,
        )
    },
    Mutant {
        requests: THREE,
        shared: true,
        ..mutant(
            "a run refuses duplicates until its release is answered",
            |rules| rules.runs_that_release_refuse_nobody = false,
            &["no_refusal_is_outdated"],
            1,
        )
    },
    mutant(
        "renewal ends when the handler returns",
        |rules| rules.renewed_until_the_end_is_answered = false,
        &["no_execution_is_without_a_cause"],
        3,
    ),
    mutant(
        "leases are not renewed",
        |rules| rules.leases_are_renewed = false,
        &["no_lease_is_lost_without_a_cause", "no_execution_is_without_a_cause"],
        0,
    ),
    mutant(
        "a renewal counts from its reply",
        |rules| rules.renewal_counts_from_its_sending = false,
        &["one_request_holds_the_key"],
        1,
    ),
    mutant("a lost lease is not noticed", |rules| rules.lost_lease_is_noticed = false, &["a_lost_lease_is_noticed"], 1),
    mutant(
        "a disconnect releases the claim",
        |rules| rules.disconnect_does_not_release = false,
        &["no_execution_is_without_a_cause"],
        1,
    ),
    mutant(
        "a disconnect cancels the run and leaves its claim",
        |rules| rules.disconnect_does_not_cancel = false,
        &["every_claim_has_somebody_who_will_end_it", "no_execution_is_without_a_cause"],
        1,
    ),
    mutant(
        "the client is answered before complete is",
        |rules| rules.answer_waits_for_the_record = false,
        &["a_stored_response_is_seen_only_after_its_record_is_stored", "a_stored_response_can_be_replayed"],
        0,
    ),
    mutant(
        "the client waits until complete is answered",
        |rules| rules.client_waits_no_longer_than_a_step = false,
        &["every_client_is_answered"],
        1,
    ),
    mutant(
        "complete is not sent on behind",
        |rules| rules.end_is_sent_behind = false,
        &["every_claim_has_somebody_who_will_end_it", "no_execution_is_without_a_cause"],
        3,
    ),
    Mutant {
        requests: THREE,
        ..mutant(
            "a run that lost its lease returns its own answer",
            |rules| rules.lost_run_shows_the_record = false,
            &["all_clients_get_one_answer"],
            1,
        )
    },
];

#[test]
fn every_rule_is_needed() {
    for mutant in MUTANTS {
        mutant.breaks.iter().for_each(|invariant| mutant.must_break(invariant));
    }
}

impl Mutant {
    fn must_break(&self, invariant: &str) {
        let Self { name, requests, faults, at_most_once, shared, .. } = *self;
        let mut rules = Rules::ALL;
        (self.leave_out)(&mut rules);
        let scenario = Scenario { name, requests, faults, at_most_once, shared, rules, ..ANY };
        let named: Vec<_> = INVARIANTS.iter().copied().filter(|(name, _)| *name == invariant).collect();
        let found = explore(&scenario, &named, threads());
        let Some(violation) = found.violation else {
            panic!("{name}: {invariant} holds in all {} states", found.states)
        };
        println!("{name}: breaks {invariant} in {} steps", violation.trace.len());
        violation.trace.iter().for_each(|action| println!("    {action:?}"));
    }
}

#[test]
fn every_invariant_can_be_broken() {
    let broken: Vec<_> = MUTANTS.iter().flat_map(|mutant| mutant.breaks).collect();
    for (invariant, _) in INVARIANTS {
        assert!(broken.contains(&invariant), "no mutant breaks {invariant}");
    }
}
