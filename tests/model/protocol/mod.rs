//! The protocol: what a request does when it arrives, when a reply comes, when time passes, when its handler ends.

mod claim;
mod run;

use crate::{
    call::{Call, Failed, Flight},
    request::{Client, Phase, Request, Slot},
    scenario::Scenario,
    store::{Answer, FOREVER, Record, Token},
};

/// A request at work: its state, its number, and the world that it lives in.
pub(crate) struct Actor<'a> {
    pub(crate) request: &'a mut Request,
    pub(crate) number: u8,
    pub(crate) scenario: &'a Scenario,
}

impl Actor<'_> {
    pub(crate) fn arrive(&mut self) {
        self.claim();
    }

    pub(super) fn wait_for(&mut self, phase: Phase, call: Call) {
        self.request.phase = phase;
        self.request.main = Some(call);
    }

    /// A reply has come.
    pub(crate) fn answered(&mut self, slot: Slot, answer: Answer) {
        match (slot, answer) {
            (Slot::Main, Answer::Error) => self.try_failed(),
            (Slot::Main, answer) => self.settled(answer),
            (Slot::Renewal, answer) => self.renewed(answer),
        }
    }

    /// Replies have been dealt with, or time has passed.
    pub(crate) fn wake(&mut self) {
        if self.request.main.is_some_and(|call| call.flight == Flight::Silent && call.is_overdue()) {
            self.try_failed();
        }
        if self.request.renewal.is_some_and(|call| call.flight == Flight::Silent && call.is_overdue()) {
            self.renewed(Answer::Error);
        }
        self.renew_if_due();
    }

    // Replies, and their lack

    fn settled(&mut self, answer: Answer) {
        match (self.request.phase, answer) {
            (Phase::Claiming, Answer::Acquired) => self.acquired(),
            (Phase::Claiming, Answer::InProgress { holder }) => self.refused(holder),
            (Phase::Claiming, Answer::Completed(record)) => {
                self.finish(self.replay_or(record, Client::Mismatch));
                self.request.news = Some(answer);
            }
            (Phase::Extending, Answer::Held) => {
                self.request.left = FOREVER;
                self.start();
            }
            (Phase::Extending, _) => self.discard(),
            (Phase::Discarding, _) => self.next_round(),
            (Phase::Completing | Phase::CompletingBehind, Answer::Held) => self.finish(Client::Stored(self.record())),
            (Phase::Completing, _) => self.superseded(),
            (Phase::Reading, Answer::Completed(record)) => self.finish(self.replay_or(record, Client::LeaseLost)),
            (Phase::Reading, _) => self.finish(Client::LeaseLost),
            (Phase::Keeping | Phase::Releasing, _) => self.finish(Client::Failed),
            _ => self.over(),
        }
    }

    fn try_failed(&mut self) {
        let Some(call) = &mut self.request.main else { return };
        match call.fail() {
            Failed::GivenUp => self.unanswered(),
            Failed::SentAgain if self.request.phase == Phase::Claiming => {
                if !self.scenario.rules.retry_keeps_the_token {
                    self.request.round += 1;
                }
            }
            Failed::SentAgain => {}
        }
    }

    /// The caller's patience is at its end.
    fn unanswered(&mut self) {
        match self.request.phase {
            Phase::Claiming | Phase::Extending | Phase::Discarding => self.clean_up(),
            Phase::Completing => {
                if self.scenario.rules.client_waits_no_longer_than_a_step {
                    self.tell(Client::NotStored);
                }
                self.go_on_behind(Phase::CompletingBehind);
            }
            Phase::Keeping => {
                self.tell(Client::Failed);
                self.go_on_behind(Phase::CompletingBehind);
            }
            Phase::Releasing => {
                self.tell(Client::Failed);
                self.go_on_behind(Phase::ReleasingBehind);
            }
            Phase::Reading => self.finish(Client::LeaseLost),
            behind @ (Phase::CompletingBehind | Phase::ReleasingBehind) => self.go_on_behind(behind),
            _ => self.over(),
        }
    }

    // What is told

    pub(crate) fn finish(&mut self, client: Client) {
        self.tell(client);
        self.over();
    }

    pub(super) fn tell(&mut self, client: Client) {
        if self.request.client == Client::Waiting {
            self.request.client = client;
        }
    }

    /// What is no longer needed is forgotten, so that states that differ in nothing else are one.
    pub(super) fn over(&mut self) {
        let Request { client, round, renewal, history, .. } = *self.request;
        let round = if renewal.is_some() { round } else { 0 };
        *self.request = Request { phase: Phase::Over, client, round, renewal, history, ..Request::IDLE };
    }

    pub(super) fn record(&self) -> Record {
        Record { run: Token { request: self.number, round: self.request.round } }
    }

    pub(crate) fn replay_or(&self, record: Record, other: Client) -> Client {
        if self.has_our_fingerprint(record.run) { Client::Replayed(record) } else { other }
    }

    pub(crate) fn has_our_fingerprint(&self, holder: Token) -> bool {
        let ours = self.scenario.requests[usize::from(self.number)].fingerprint;
        ours == self.scenario.requests[usize::from(holder.request)].fingerprint
            || !self.scenario.rules.fingerprint_is_compared
    }
}
