//! Requests that meet in one process: one claims, the others follow, and a run answers for its key.

use crate::{
    machine::{Node, State},
    request::{Client, Phase, Request},
    rules::Rules,
    scenario::Scenario,
    store::{Answer, Token, Value},
};

/// For how many ticks a claim is followed, and a request follows: longer than a step that a client waits for.
const PATIENCE: u8 = 3;

impl Request {
    fn claims(&self) -> bool {
        matches!(self.phase, Phase::Claiming | Phase::Extending | Phase::Discarding)
    }

    fn is_followed(&self) -> bool {
        self.claims() && self.shared > 0
    }

    /// Its run holds the key, as far as its process knows, until its end is answered, or its release sent.
    fn refuses_duplicates(&self, rules: &Rules) -> bool {
        let releases = self.phase == Phase::Releasing && !rules.runs_that_release_refuse_nobody;
        let runs = matches!(self.phase, Phase::Running | Phase::Completing | Phase::Keeping);
        let in_time = !self.lost && self.left > 0 || !rules.runs_past_their_deadline_refuse_nobody;
        (runs || releases) && in_time
    }
}

impl State {
    /// A request comes, or comes again because what it followed said nothing that it could use.
    pub(crate) fn meet(&mut self, number: usize, late: bool, scenario: &Scenario) {
        let others = scenario.requests_on(scenario.node(number)).filter(|other| *other != number);
        if let Some(other) = others.clone().find(|other| self.requests[*other].refuses_duplicates(&scenario.rules)) {
            return self.refuse(number, other, scenario);
        }
        let leads = others.clone().find(|other| self.requests[*other].is_followed());
        self.requests[number].shared = PATIENCE;
        if let Some(leads) = leads {
            return self.follow(number, leads, late);
        }
        self.follow(number, 0, false);
        self.actor(number, scenario).arrive();
        // It takes the place of one that has taken too long.
        for other in others.filter(|other| *other != number) {
            if self.requests[other].phase == Phase::Following {
                if self.requests[other].late {
                    self.requests[other].shared = PATIENCE;
                }
                self.follow(other, number, false);
            }
        }
    }

    fn follow(&mut self, number: usize, leads: usize, late: bool) {
        let request = &mut self.requests[number];
        (request.phase, request.follows, request.late) = (Phase::Following, name(leads), late);
    }

    /// A run of the process holds the key.
    fn refuse(&mut self, number: usize, other: usize, scenario: &Scenario) {
        let holder = Token { request: name(other), round: 0 };
        let mut actor = self.actor(number, scenario);
        let same = actor.has_our_fingerprint(holder);
        actor.finish(if same { Client::Conflict { own: false } } else { Client::Mismatch });
    }

    /// Followers are told what a claim has come to in this step.
    pub(crate) fn share(&mut self, scenario: &Scenario) {
        if scenario.shared {
            self.remember(scenario);
            scenario.numbers().for_each(|number| self.tell(number, scenario));
        }
        self.requests.iter_mut().for_each(|request| request.news = None);
    }

    fn tell(&mut self, number: usize, scenario: &Scenario) {
        let Request { phase: Phase::Following, follows, late, .. } = self.requests[number] else { return };
        let mut here = scenario.requests_on(scenario.node(number));
        if let Some(other) = here.find(|other| self.requests[*other].news == Some(Answer::Acquired)) {
            return self.refuse(number, other, scenario);
        }
        let leads = self.requests[usize::from(follows)];
        let can_change = scenario.rules.outdated_conflicts_are_not_shared;
        match leads.news {
            Some(Answer::InProgress { .. }) if late && can_change => self.meet(number, false, scenario),
            Some(Answer::InProgress { holder }) => {
                let mut actor = self.actor(number, scenario);
                actor.refused(holder);
                actor.request.news = None;
            }
            Some(Answer::Completed(record)) => {
                let mut actor = self.actor(number, scenario);
                let client = actor.replay_or(record, Client::Mismatch);
                actor.finish(client);
            }
            Some(_) => self.actor(number, scenario).finish(Client::Unavailable),
            None if leads.claims() => {}
            None => self.meet(number, false, scenario),
        }
    }

    /// Those who have followed for long enough ask for themselves; the second time they are refused.
    pub(crate) fn lose_patience(&mut self, scenario: &Scenario) {
        let nodes = self.nodes;
        for number in scenario.numbers().filter(|number| nodes[scenario.node(*number)] != Node::Stalled) {
            match self.requests[number] {
                Request { phase: Phase::Following, shared: 0, late: true, .. } => self.meet(number, false, scenario),
                Request { phase: Phase::Following, shared: 0, .. } => {
                    self.actor(number, scenario).finish(Client::Unavailable);
                }
                _ => {}
            }
        }
    }

    /// For the invariants: what has been under the key while a request was there.
    fn remember(&mut self, scenario: &Scenario) {
        for number in scenario.numbers() {
            let (conflict, mismatch) = self.reasons(number, scenario);
            let request = &mut self.requests[number];
            let there = request.client == Client::Waiting && request.phase != Phase::Idle;
            request.history.conflict = there && (request.history.conflict || conflict);
            request.history.mismatch = there && (request.history.mismatch || mismatch);
        }
    }

    /// Whether a request may be told now that it is in progress, or that its key is another's.
    pub(crate) fn reasons(&self, number: usize, scenario: &Scenario) -> (bool, bool) {
        let holder = match self.store {
            Value::Completed(record) => Some(record.run),
            other => other.claim().map(|(token, _)| token),
        };
        let print = |number: usize| scenario.requests[number].fingerprint;
        let same = holder.map(|holder| print(holder.request.into()) == print(number));
        (same == Some(true) && self.store.claim().is_some(), same == Some(false))
    }
}

fn name(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
