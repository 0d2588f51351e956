//! The list of all checks but the command table's: the law, the check, and how to mend what breaks it.

use super::{cancel, check::Check, claims, exact, expiry, law::Law, storm, table, waiting};
use crate::Backend;

macro_rules! checks {
    ($($law:ident, $module:ident::$check:ident, $hint:literal;)*) => {
        vec![$(Check {
            law: Law::$law,
            name: stringify!($check).replace('_', " "),
            hint: $hint,
            run: Box::new(|trial| Box::pin($module::$check(trial))),
        }),*]
    };
}

/// The checks that put little load on a backend.
pub(super) fn quiet<B: Backend>() -> Vec<Check<B>> {
    let mut checks = table::cells();
    checks.extend(checks![
        Fenced, claims::a_stalled_holder_cannot_touch_its_successor,
            "compare the token in the same step that changes the value: a script, a WHERE clause, a lock";
        Fenced, claims::tokens_that_differ_in_one_bit_are_different,
            "store and compare all 16 bytes of a token as they are: no short form, no text";
        Removing, claims::a_removed_claim_is_lost_to_its_holder,
            "remove the whole value, token included";
        Expiring, expiry::a_renewal_moves_the_deadline_later,
            "renew sets the deadline to the store's now plus the lease";
        Expiring, expiry::a_renewal_moves_the_deadline_earlier,
            "renew sets the deadline, it does not take the later of two";
        Expiring, expiry::a_claim_by_its_own_token_does_not_prolong_the_lease,
            "answer Acquired to the own token without writing: a retried claim is not a renewal";
        Expiring, expiry::a_claim_by_its_own_token_does_not_shorten_the_lease,
            "answer Acquired to the own token without writing: a retried claim is not a renewal";
        Expiring, expiry::the_claims_of_others_do_not_prolong_the_lease,
            "write the deadline only in the branch that writes the claim";
        Expiring, expiry::a_record_outlives_the_lease_of_its_claim,
            "complete sets an expiry of its own; the deadline of the claim must not remain on the value";
        Expiring, expiry::a_record_ends_at_its_expiry,
            "complete sets the expiry to now plus the retention, in place of the deadline of the claim";
        Expiring, expiry::nothing_prolongs_the_life_of_a_record,
            "the expiry of a record is set once, by the complete that stores it";
        Expiring, expiry::nothing_shortens_the_life_of_a_record,
            "the expiry of a record is set once, by the complete that stores it";
        Expiring, expiry::the_end_of_a_former_value_spares_the_present_one,
            "let expiry be a property of the value, or let a timer check that the value is still the one it was set for";
        Expiring, expiry::a_year_is_not_too_long,
            "keep times in 64 bits; a year of milliseconds does not fit 32";
        Expiring, expiry::waiting_does_not_prolong_the_lease,
            "wait only reads";
        Exact, exact::keys_that_differ_in_one_bit_are_different,
            "use all 32 bytes of a key as they are: no prefix, no short hash";
        Exact, exact::keys_of_unusual_bytes_are_different,
            "keys are bytes: no text type, no trimming, no case folding, no pattern matching";
        Exact, exact::many_random_keys_are_different,
            "use all 32 bytes of a key as they are: no prefix, no short hash";
        Exact, exact::records_of_any_size_come_back,
            "store Record::to_bytes as a binary value without a limit below 1 MiB, or refuse with TooLarge before \
             anything is changed";
        Exact, exact::records_of_every_kind_come_back,
            "store Record::to_bytes as a binary value and hand it to Record::from_bytes";
        Exact, exact::fingerprints_of_any_bytes_come_back,
            "store the 48 bytes of Fingerprint::to_bytes as a binary value";
        CancelSafe, cancel::a_dropped_command_can_be_sent_again,
            "hold no lock, permit or connection across an await unless dropping it gives it back";
        CancelSafe, cancel::a_dropped_command_blocks_its_key_no_longer_than_its_lease,
            "write the claim and its deadline in one step, so that no claim is ever without one";
        Waiting, waiting::a_waiter_gets_the_record,
            "notify the waiters of a key after complete has stored the record";
        Waiting, waiting::a_waiter_learns_of_a_release,
            "release and remove end a wait as complete does: notify there, too";
        Waiting, waiting::a_waiter_learns_of_a_removal,
            "release and remove end a wait as complete does: notify there, too";
        Waiting, waiting::a_hundred_waiters_all_get_the_record,
            "notify all waiters, not one";
        Waiting, waiting::a_waiter_learns_of_the_end_of_a_lease,
            "nobody notifies when a lease runs out: wait must sleep no longer than until the deadline it has read";
        Waiting, waiting::a_waiter_goes_on_after_a_renewal,
            "look again at the deadline that was read: it may have been moved";
        Waiting, waiting::a_wait_ends_at_its_deadline,
            "answer what is stored at the deadline, neither earlier nor never";
        Waiting, waiting::nothing_to_wait_for_is_answered_at_once,
            "look before sleeping";
        Waiting, waiting::waiters_that_give_up_change_nothing,
            "let a dropped waiter pass on a wake-up it has taken, or wake all";
        Waiting, waiting::a_wait_that_races_the_end_is_woken,
            "register for the notification first, then look, then sleep";
    ]);
    checks
}

/// The checks that put so much load on a backend that they run one after the other.
pub(super) fn busy<B: Backend>() -> Vec<Check<B>> {
    checks![
        Atomic, claims::one_of_many_concurrent_claims_is_acquired,
            "look up and insert in one step (INSERT .. ON CONFLICT, SET NX, one lock over both), with no await between";
        Atomic, claims::concurrent_retries_of_one_claim_are_all_acquired,
            "when the insert finds a value, compare its token in the same step";
        Expiring, expiry::an_expired_claim_can_be_claimed_once,
            "replace an expired value in the step that finds it expired, as an absent one is written";
        Expiring, expiry::an_expired_record_can_be_claimed_once,
            "replace an expired value in the step that finds it expired, as an absent one is written";
        CancelSafe, cancel::claims_dropped_in_a_crowd_wedge_nothing,
            "hold no lock, permit or connection across an await unless dropping it gives it back";
        Atomic, storm::a_storm_has_one_holder_at_a_time,
            "look for commands that take more than one step in the store";
        Atomic, storm::histories_of_random_commands_are_linearizable,
            "look for commands that take more than one step in the store, or that read from a replica or a cache";
        Waiting, waiting::waiters_hold_nothing_that_others_need,
            "hold no permit and no connection of a pool while a wait sleeps";
        Prompt, claims::a_holder_renews_while_a_thousand_claims_are_in_flight,
            "send renew, complete and release over a connection, a queue or a pool of their own";
    ]
}
