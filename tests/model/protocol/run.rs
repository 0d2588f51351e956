//! From the start of a run until its end is answered.

use super::Actor;
use crate::{
    call::{Call, Failed},
    request::{Client, Phase},
    store::{Answer, LEASE},
};

impl Actor<'_> {
    pub(super) fn start(&mut self) {
        self.request.phase = Phase::Running;
        self.request.main = None;
        self.request.history.ran = true;
        self.request.news = Some(Answer::Acquired);
        self.request.shared = 0;
    }

    /// A lease that was last confirmed a tick ago, or longer, is renewed, until the end of the run is answered.
    pub(super) fn renew_if_due(&mut self) {
        let request = &mut *self.request;
        let rules = &self.scenario.rules;
        let ended = !rules.renewed_until_the_end_is_answered && request.phase != Phase::Running;
        if !request.is_live() || ended {
            return;
        }
        if request.left == 0 {
            request.lost |= rules.lost_lease_is_noticed;
        } else if request.left < LEASE && !request.lost && request.renewal.is_none() && rules.leases_are_renewed {
            request.renewal = Some(Call::renewal(request.left));
        }
    }

    pub(super) fn renewed(&mut self, answer: Answer) {
        let request = &mut *self.request;
        let Some(call) = &mut request.renewal else { return };
        if answer == Answer::Error {
            if call.fail() == Failed::GivenUp {
                request.renewal = None;
            }
            return;
        }
        let age = if self.scenario.rules.renewal_counts_from_its_sending { call.age } else { 0 };
        request.renewal = None;
        if request.is_live() {
            match answer {
                Answer::Held => request.left = LEASE - age,
                _ => request.lost |= self.scenario.rules.lost_lease_is_noticed,
            }
        }
    }

    /// The client hangs up. The run goes on; its outcome goes nowhere.
    pub(crate) fn client_leaves(&mut self) {
        self.request.client = Client::Left;
        let rules = &self.scenario.rules;
        if self.request.phase == Phase::Running && !rules.disconnect_does_not_release {
            self.wait_for(Phase::Releasing, Call::STEP);
        } else if !rules.disconnect_does_not_cancel {
            self.over();
        }
    }

    /// Its process is killed.
    pub(crate) fn die(&mut self) {
        self.request.history.killed = true;
        self.request.renewal = None;
        self.finish(Client::CutOff);
    }

    /// The handler has ended. At most once, a failure is recorded too: nobody knows what it has done.
    pub(crate) fn handler_ends(&mut self, failed: bool) {
        self.request.history.failed |= failed;
        let phase = match (failed, self.scenario.at_most_once) {
            (false, _) => Phase::Completing,
            (true, false) => Phase::Releasing,
            (true, true) => Phase::Keeping,
        };
        self.wait_for(phase, Call::STEP);
        if phase == Phase::Completing && !self.scenario.rules.answer_waits_for_the_record {
            self.tell(Client::Stored(self.record()));
        }
    }

    /// Another run may have completed. Its record is shown, never our own answer, which nobody will see again.
    pub(super) fn superseded(&mut self) {
        if self.scenario.rules.lost_run_shows_the_record {
            self.request.lost = false;
            self.request.left = 0;
            self.wait_for(Phase::Reading, Call::STEP);
        } else {
            self.finish(Client::Stored(self.record()));
        }
    }

    /// The end is sent until it is answered or the lease is over, and renewals with it.
    pub(super) fn go_on_behind(&mut self, phase: Phase) {
        if self.request.left > 0 && self.scenario.rules.end_is_sent_behind {
            self.wait_for(phase, Call::behind(self.request.left));
        } else {
            self.over();
        }
    }
}
