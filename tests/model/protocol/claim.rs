//! From the arrival of a request to the start of its run, or to its refusal.

use super::Actor;
use crate::{
    call::Call,
    request::{Client, Phase},
    store::{Answer, FOREVER, LEASE, Token},
};

/// Claims are made again with a fresh token when their lease is over before the handler could start.
const ROUNDS: u8 = 3;

impl Actor<'_> {
    pub(super) fn claim(&mut self) {
        self.request.left = LEASE;
        self.wait_for(Phase::Claiming, Call::STEP);
    }

    pub(super) fn acquired(&mut self) {
        let rules = &self.scenario.rules;
        self.request.astray |=
            self.request.main.is_some_and(|call| call.was_sent_again()) && rules.stray_claims_are_remembered;
        if !rules.lease_counts_from_the_first_sending {
            self.request.left = LEASE;
        }
        if self.scenario.at_most_once && rules.at_most_once_extends_first {
            self.wait_for(Phase::Extending, Call::STEP);
        } else if self.request.left == 0 && rules.lease_is_checked_before_the_start {
            self.discard();
        } else {
            self.start();
        }
    }

    /// The key is in progress. A request is never refused by its own claim: then nobody can tell, so 503.
    pub(crate) fn refused(&mut self, holder: Token) {
        let own = holder.request == self.number;
        let news = if self.request.astray { Answer::Error } else { Answer::InProgress { holder } };
        if self.request.astray {
            self.finish(Client::Unavailable);
        } else if !self.has_our_fingerprint(holder) {
            self.finish(Client::Mismatch);
        } else {
            self.finish(Client::Conflict { own });
        }
        self.request.news = Some(news);
    }

    /// The claim may be over, so nothing may start on it; left alone it would refuse the next round.
    pub(super) fn discard(&mut self) {
        if self.scenario.rules.late_claim_is_released {
            self.wait_for(Phase::Discarding, Call::STEP);
        } else {
            self.next_round();
        }
    }

    pub(super) fn next_round(&mut self) {
        self.request.round += 1;
        if self.request.round == ROUNDS {
            self.finish(Client::Unavailable);
            self.request.news = Some(Answer::Error);
        } else {
            self.claim();
        }
    }

    /// A claim that nobody uses must not lock its key. Released until answered, or until it has expired by itself.
    pub(super) fn clean_up(&mut self) {
        self.tell(Client::Unavailable);
        if !self.scenario.rules.unanswered_claim_runs_nothing {
            return self.start();
        }
        (self.request.left, self.request.shared) = (0, 0);
        if self.scenario.rules.unanswered_claim_is_released {
            self.wait_for(Phase::Cleaning, Call::behind(if self.scenario.at_most_once { FOREVER } else { LEASE }));
        } else {
            self.over();
        }
        self.request.news = Some(Answer::Error);
    }
}
