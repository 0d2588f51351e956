//! The world: a store, processes, requests, messages. What an action leads to.

use crate::{
    action::{Action, Fate, ReplyFate},
    call::{Call, Flight},
    protocol::Actor,
    request::{Client, Phase, Request, Slot},
    scenario::{NODES, REQUESTS, Scenario},
    store::{Answer, Command, Message, Value, count_down},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Up,
    Stalled,
    Cut,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Value,
    pub(crate) nodes: [Node; NODES],
    pub(crate) requests: [Request; REQUESTS],
    /// Commands on their way that nobody waits for; sorted.
    pub(crate) late: Vec<Message>,
    pub(crate) faults_left: u8,
}

impl State {
    pub(crate) fn initial(scenario: &Scenario) -> Self {
        Self {
            store: Value::Absent,
            nodes: [Node::Up; NODES],
            requests: [Request::IDLE; REQUESTS],
            late: Vec::new(),
            faults_left: scenario.faults,
        }
    }

    /// Does `action`, and returns the command that the store executed in it.
    pub(crate) fn apply(&mut self, action: Action, scenario: &Scenario) -> Option<Message> {
        if action.fault().is_some() {
            self.faults_left -= 1;
        }
        let executed = match action {
            Action::Command(number, slot, fate) => self.command(number, slot, fate, scenario),
            Action::Late(message) => Some(self.late_command(message, scenario)),
            _ => None,
        };
        match action {
            Action::Arrive(number) if scenario.shared => self.meet(number, true, scenario),
            Action::Arrive(number) => self.actor(number, scenario).arrive(),
            Action::Reply(number, slot, fate) => self.reply(number, slot, fate, scenario),
            Action::Tick => self.tick(scenario),
            Action::HandlerEnds { request, failed } => self.actor(request, scenario).handler_ends(failed),
            Action::Leave(number) => self.actor(number, scenario).client_leaves(),
            Action::Kill(node) => self.kill(node, scenario),
            Action::Stall(node) => self.strike(node, Node::Stalled, scenario),
            Action::Cut(node) => self.strike(node, Node::Cut, scenario),
            Action::Heal(node) => self.nodes[node] = Node::Up,
            Action::Resume { node, late_replies } => self.resume(node, late_replies, scenario),
            Action::Command(..) | Action::Late(_) => {}
        }
        self.share(scenario);
        self.tidy(scenario);
        executed
    }

    pub(crate) fn actor<'a>(&'a mut self, number: usize, scenario: &'a Scenario) -> Actor<'a> {
        Actor { request: &mut self.requests[number], number: u8::try_from(number).unwrap_or(u8::MAX), scenario }
    }

    // Messages

    fn command(&mut self, number: usize, slot: Slot, fate: Fate, scenario: &Scenario) -> Option<Message> {
        let message = self.message(number, slot);
        let request = &mut self.requests[number];
        if matches!(fate, Fate::Lost | Fate::Delayed) {
            request.history.charge(message.command);
        }
        let (flight, executed) = match fate {
            Fate::Arrives => (Flight::Replied(self.store.execute(message, false, &scenario.rules)), Some(message)),
            Fate::Lost | Fate::Delayed => (Flight::Silent, None),
            Fate::LostWithError | Fate::DelayedWithError => (Flight::Replied(Answer::Error), None),
        };
        request.set_flight(slot, flight);
        if matches!(fate, Fate::Delayed | Fate::DelayedWithError) {
            self.send_late(message);
        }
        executed
    }

    fn late_command(&mut self, message: Message, scenario: &Scenario) -> Message {
        if let Some(place) = self.late.iter().position(|other| *other == message) {
            self.late.remove(place);
        }
        self.store.execute(message, true, &scenario.rules);
        message
    }

    fn send_late(&mut self, message: Message) {
        if message.command != Command::Get {
            let place = self.late.partition_point(|other| *other < message);
            self.late.insert(place, message);
        }
    }

    fn reply(&mut self, number: usize, slot: Slot, fate: ReplyFate, scenario: &Scenario) {
        let command = self.message(number, slot).command;
        let request = &mut self.requests[number];
        let Some(Flight::Replied(answer)) = request.call(slot).map(|call| call.flight) else { return };
        if fate == ReplyFate::Lost {
            request.history.charge(command);
            return request.set_flight(slot, Flight::Silent);
        }
        let mut actor = self.actor(number, scenario);
        actor.answered(slot, if fate == ReplyFate::BecomesError { Answer::Error } else { answer });
        actor.wake();
        if let Client::Conflict { .. } = self.requests[number].client
            && !scenario.rules.refused_request_changes_nothing
            && matches!(self.store, Value::InProgress { .. })
        {
            self.store = Value::Absent;
        }
    }

    fn message(&self, number: usize, slot: Slot) -> Message {
        self.requests[number].message(u8::try_from(number).unwrap_or(u8::MAX), slot)
    }

    // Time and processes

    fn tick(&mut self, scenario: &Scenario) {
        self.store.tick();
        for number in scenario.numbers() {
            let request = &mut self.requests[number];
            count_down(&mut request.left);
            count_down(&mut request.shared);
            request.main.iter_mut().chain(&mut request.renewal).for_each(Call::tick);
        }
        self.lose_patience(scenario);
        for number in scenario.numbers() {
            if self.nodes[scenario.node(number)] != Node::Stalled {
                self.actor(number, scenario).wake();
            }
        }
    }

    fn resume(&mut self, node: usize, late_replies: bool, scenario: &Scenario) {
        self.nodes[node] = Node::Up;
        for number in scenario.requests_on(node) {
            for (slot, call) in self.requests[number].calls() {
                match call.flight {
                    Flight::Replied(_) if late_replies && call.is_overdue() => {
                        self.requests[number].set_flight(slot, Flight::Silent);
                    }
                    Flight::Replied(answer) => self.actor(number, scenario).answered(slot, answer),
                    Flight::Sent | Flight::Silent => {}
                }
            }
            self.actor(number, scenario).wake();
        }
        self.share(scenario);
        self.lose_patience(scenario);
    }

    /// Something befalls a process that may cost its runs their leases.
    fn strike(&mut self, node: usize, becomes: Node, scenario: &Scenario) {
        self.nodes[node] = becomes;
        for number in scenario.requests_on(node) {
            if self.requests[number].is_active() {
                self.requests[number].history.struck();
            }
        }
    }

    fn kill(&mut self, node: usize, scenario: &Scenario) {
        self.nodes[node] = Node::Up;
        for number in scenario.requests_on(node) {
            if !self.requests[number].is_active() {
                continue;
            }
            for (slot, _) in self.requests[number].calls().filter(|(_, call)| call.flight == Flight::Sent) {
                self.send_late(self.message(number, slot));
            }
            self.actor(number, scenario).die();
        }
    }

    /// Nothing gets through to or from a process that is cut off; and a request that is over has no token any more.
    fn tidy(&mut self, scenario: &Scenario) {
        for number in scenario.numbers() {
            let request = &mut self.requests[number];
            if self.nodes[scenario.node(number)] == Node::Cut && request.is_active() {
                request.history.struck();
                request.calls().for_each(|(slot, _)| request.set_flight(slot, Flight::Silent));
            }
            if request.phase == Phase::Over && request.renewal.is_none() {
                request.round = 0;
            }
        }
    }
}
