//! What can happen next.

use crate::{
    call::Flight,
    machine::{Node, State},
    request::{Client, Phase, Slot},
    scenario::{Fault, NODES, Scenario},
    store::Message,
};

/// What becomes of a command on its way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    Lost,
    Delayed,
    LostWithError,
    DelayedWithError,
}

/// What becomes of a reply on its way to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyFate {
    Arrives,
    Lost,
    BecomesError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Arrive(usize),
    Command(usize, Slot, Fate),
    Reply(usize, Slot, ReplyFate),
    Late(Message),
    /// Time passes. Everything that is on its way within a tick has arrived by now, or a fault has befallen it.
    Tick,
    HandlerEnds {
        request: usize,
        failed: bool,
    },
    Leave(usize),
    Kill(usize),
    Stall(usize),
    /// The process goes on. `late_replies`: its timers fire before it reads what came while it stood still.
    Resume {
        node: usize,
        late_replies: bool,
    },
    Cut(usize),
    Heal(usize),
}

impl Action {
    pub(crate) fn fault(self) -> Option<Fault> {
        match self {
            Self::Command(_, _, Fate::Lost) | Self::Reply(_, _, ReplyFate::Lost) => Some(Fault::Lose),
            Self::Command(_, _, Fate::Delayed) => Some(Fault::Delay),
            Self::Command(_, _, Fate::LostWithError | Fate::DelayedWithError)
            | Self::Reply(_, _, ReplyFate::BecomesError) => Some(Fault::Error),
            Self::HandlerEnds { failed: true, .. } => Some(Fault::Fail),
            Self::Leave(_) => Some(Fault::Leave),
            Self::Kill(_) => Some(Fault::Kill),
            Self::Stall(_) => Some(Fault::Stall),
            Self::Cut(_) => Some(Fault::Cut),
            _ => None,
        }
    }
}

impl State {
    /// Everything that can happen now.
    pub(crate) fn actions(&self, scenario: &Scenario) -> Vec<Action> {
        let mut actions = Vec::with_capacity(32);
        scenario.numbers().for_each(|number| self.request_actions(number, scenario, &mut actions));
        (0..NODES).for_each(|node| self.node_actions(node, scenario, &mut actions));
        actions.extend(self.late.iter().map(|message| Action::Late(*message)));
        if self.can_tick(scenario) {
            actions.push(Action::Tick);
        }
        actions.retain(|action| {
            action.fault().is_none_or(|fault| self.faults_left > 0 && scenario.kinds.contains(&fault))
        });
        actions
    }

    fn request_actions(&self, number: usize, scenario: &Scenario, actions: &mut Vec<Action>) {
        let request = &self.requests[number];
        let runs_on = self.nodes[scenario.node(number)];
        for (slot, call) in request.calls() {
            match call.flight {
                Flight::Sent => {
                    use Fate::{Arrives, Delayed, DelayedWithError, Lost, LostWithError};
                    let fates = [Arrives, Lost, LostWithError, Delayed, DelayedWithError];
                    actions.extend(fates.map(|fate| Action::Command(number, slot, fate)));
                }
                Flight::Replied(_) if runs_on != Node::Stalled => {
                    use ReplyFate::{Arrives, BecomesError, Lost};
                    actions.extend([Arrives, Lost, BecomesError].map(|fate| Action::Reply(number, slot, fate)));
                }
                Flight::Replied(_) | Flight::Silent => {}
            }
        }
        if runs_on == Node::Stalled {
            return;
        }
        if request.phase == Phase::Idle && !self.has_a_twin_before(number, scenario) {
            actions.push(Action::Arrive(number));
        }
        if request.phase == Phase::Running {
            actions.extend([false, true].map(|failed| Action::HandlerEnds { request: number, failed }));
        }
        if request.client == Client::Waiting && request.phase != Phase::Idle {
            actions.push(Action::Leave(number));
        }
    }

    /// Of requests that are alike in all respects, the first arrives first.
    fn has_a_twin_before(&self, number: usize, scenario: &Scenario) -> bool {
        (0..number).any(|other| {
            scenario.requests[other] == scenario.requests[number] && self.requests[other].phase == Phase::Idle
        })
    }

    fn node_actions(&self, node: usize, scenario: &Scenario, actions: &mut Vec<Action>) {
        let mut here = scenario.requests_on(node);
        if here.clone().any(|number| self.requests[number].is_active()) {
            actions.push(Action::Kill(node));
            if self.nodes[node] == Node::Up {
                actions.extend([Action::Stall(node), Action::Cut(node)]);
            }
        }
        match self.nodes[node] {
            Node::Up => {}
            Node::Cut => actions.push(Action::Heal(node)),
            Node::Stalled => {
                actions.push(Action::Resume { node, late_replies: false });
                if here.any(|number| self.requests[number].calls().any(|(_, call)| call.is_overdue())) {
                    actions.push(Action::Resume { node, late_replies: true });
                }
            }
        }
    }

    fn can_tick(&self, scenario: &Scenario) -> bool {
        scenario.numbers().all(|number| {
            let stalled = self.nodes[scenario.node(number)] == Node::Stalled;
            self.requests[number].calls().all(|(_, call)| match call.flight {
                Flight::Sent => false,
                Flight::Replied(_) => stalled,
                Flight::Silent => true,
            })
        })
    }
}
