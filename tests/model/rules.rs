//! The rules of the protocol that can be left out, one by one, to see what each of them is for.

/// All on is the protocol. A mutant has one of them off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    // In the store.
    pub(crate) complete_compares_tokens: bool,
    pub(crate) renew_compares_tokens: bool,
    pub(crate) release_compares_tokens: bool,
    pub(crate) complete_keeps_a_record: bool,
    pub(crate) own_claim_is_recognised: bool,
    pub(crate) own_claim_keeps_its_deadline: bool,
    pub(crate) expired_is_absent: bool,
    pub(crate) claim_lives_a_lease: bool,
    // While claiming.
    pub(crate) retry_keeps_the_token: bool,
    pub(crate) unanswered_claim_is_released: bool,
    pub(crate) unanswered_claim_runs_nothing: bool,
    pub(crate) late_claim_is_released: bool,
    pub(crate) lease_counts_from_the_first_sending: bool,
    pub(crate) lease_is_checked_before_the_start: bool,
    pub(crate) stray_claims_are_remembered: bool,
    pub(crate) refused_request_changes_nothing: bool,
    pub(crate) fingerprint_is_compared: bool,
    pub(crate) at_most_once_extends_first: bool,
    pub(crate) outdated_conflicts_are_not_shared: bool,
    pub(crate) runs_past_their_deadline_refuse_nobody: bool,
    pub(crate) runs_that_release_refuse_nobody: bool,
    // While running.
    pub(crate) leases_are_renewed: bool,
    pub(crate) renewed_until_the_end_is_answered: bool,
    pub(crate) renewal_counts_from_its_sending: bool,
    pub(crate) lost_lease_is_noticed: bool,
    pub(crate) disconnect_does_not_release: bool,
    pub(crate) disconnect_does_not_cancel: bool,
    // At the end.
    pub(crate) answer_waits_for_the_record: bool,
    pub(crate) client_waits_no_longer_than_a_step: bool,
    pub(crate) end_is_sent_behind: bool,
    pub(crate) lost_run_shows_the_record: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        complete_compares_tokens: true,
        renew_compares_tokens: true,
        release_compares_tokens: true,
        complete_keeps_a_record: true,
        own_claim_is_recognised: true,
        own_claim_keeps_its_deadline: true,
        expired_is_absent: true,
        claim_lives_a_lease: true,
        retry_keeps_the_token: true,
        unanswered_claim_is_released: true,
        unanswered_claim_runs_nothing: true,
        late_claim_is_released: true,
        lease_counts_from_the_first_sending: true,
        lease_is_checked_before_the_start: true,
        stray_claims_are_remembered: true,
        refused_request_changes_nothing: true,
        fingerprint_is_compared: true,
        at_most_once_extends_first: true,
        outdated_conflicts_are_not_shared: true,
        runs_past_their_deadline_refuse_nobody: true,
        runs_that_release_refuse_nobody: true,
        leases_are_renewed: true,
        renewed_until_the_end_is_answered: true,
        renewal_counts_from_its_sending: true,
        lost_lease_is_noticed: true,
        disconnect_does_not_release: true,
        disconnect_does_not_cancel: true,
        answer_waits_for_the_record: true,
        client_waits_no_longer_than_a_step: true,
        end_is_sent_behind: true,
        lost_run_shows_the_record: true,
    };
}
