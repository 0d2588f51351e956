//! The model's world, built of the crate's own code: every action of the model can be done to it.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    process::{Process, Progress},
    wire::{Sending, Wire},
};
use crate::{
    action::{Action, Fate, ReplyFate},
    call::Flight,
    machine::{Node, State},
    scenario::{NODES, REQUESTS, Scenario},
    store::{Answer, Command, Message, Value},
};

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) store: Value,
    pub(super) late: Vec<Message>,
    pub(super) processes: [Process; NODES],
    pub(super) progress: [Arc<Mutex<Progress>>; REQUESTS],
    wire: Arc<Mutex<Wire>>,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let wire = Arc::new(Mutex::new(Wire::new(scenario)));
        Self {
            scenario,
            store: Value::Absent,
            late: Vec::new(),
            processes: std::array::from_fn(|node| Process::new(node, &wire, scenario)),
            progress: std::array::from_fn(|_| Arc::default()),
            wire,
        }
    }

    /// Does to the real code what `action` does to the model. `before` is the model's state before it.
    pub(super) fn perform(&mut self, action: Action, before: &State) {
        match action {
            Action::Arrive(number) => self.process(number).arrive(request(number), &self.progress[number]),
            Action::Command(number, slot, fate) => {
                self.command(before.requests[number].message(request(number), slot), fate);
            }
            Action::Reply(number, slot, fate) => {
                self.reply(number, before.requests[number].message(request(number), slot), fate);
            }
            Action::Late(message) => {
                let place = self.late.iter().position(|other| *other == message).expect("it is on its way");
                self.late.remove(place);
                self.store.execute(message, true, &self.scenario.rules);
            }
            Action::Tick => self.tick(),
            Action::HandlerEnds { request: number, failed } => {
                self.process(number).handler_ends(request(number), &self.progress[number], failed);
            }
            // The layer hands the run to the runtime, where it goes on: nothing happens at this level.
            Action::Leave(_) => {}
            Action::Kill(node) => self.kill(node),
            Action::Stall(node) => self.processes[node].condition = Node::Stalled,
            Action::Resume { node, late_replies } => self.resume(node, late_replies, before),
            Action::Cut(node) => self.processes[node].condition = Node::Cut,
            Action::Heal(node) => self.processes[node].condition = Node::Up,
        }
        let cut = [0, 1].map(|node: usize| self.processes[node].condition == Node::Cut);
        self.wire().sendings.retain(|sending| !cut[sending.node]);
    }

    fn process(&self, number: usize) -> &Process {
        &self.processes[self.scenario.node(number)]
    }

    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().expect("no thread panics")
    }

    fn take(&self, wanted: impl Fn(&Sending) -> bool) -> Vec<Sending> {
        self.wire().sendings.extract_if(.., |sending| wanted(sending)).collect()
    }

    fn take_one(&self, message: Message) -> Sending {
        self.take(|sending| sending.message == message && !sending.reply.is_closed()).pop().expect("it was compared")
    }

    fn command(&mut self, message: Message, fate: Fate) {
        let mut sending = self.take_one(message);
        let flight = match fate {
            Fate::Arrives => Flight::Replied(self.store.execute(message, false, &self.scenario.rules)),
            Fate::Lost | Fate::Delayed => Flight::Silent,
            Fate::LostWithError | Fate::DelayedWithError => Flight::Replied(Answer::Error),
        };
        if matches!(fate, Fate::Delayed | Fate::DelayedWithError) {
            self.send_late(message);
        }
        if flight != Flight::Silent {
            sending.flight = flight;
            self.wire().sendings.push(sending);
        }
    }

    fn send_late(&mut self, message: Message) {
        if message.command != Command::Get {
            self.late.push(message);
            self.late.sort();
        }
    }

    fn reply(&mut self, number: usize, message: Message, fate: ReplyFate) {
        let sending = self.take_one(message);
        let answer = match (fate, sending.flight) {
            (ReplyFate::Arrives, Flight::Replied(answer)) => answer,
            (ReplyFate::BecomesError, _) => Answer::Error,
            _ => return,
        };
        let _ = sending.reply.send(answer);
        let process = &mut self.processes[self.scenario.node(number)];
        if answer == Answer::Error {
            process.pause_after_error();
        } else {
            process.settle();
        }
    }

    fn tick(&mut self) {
        self.store.tick();
        for process in &mut self.processes {
            if process.condition == Node::Stalled {
                process.missed += 1;
            } else {
                process.ticks(1);
            }
        }
    }

    /// What came while it stood still is read first, unless the model says that a timer fired before; renewals first of
    /// all, as in the model.
    fn resume(&mut self, node: usize, late_replies: bool, before: &State) {
        let mut replies = self.take(|sending| sending.node == node && sending.flight != Flight::Sent);
        replies.sort_by_key(|sending| sending.message.command != Command::Renew);
        if late_replies {
            replies.retain(|sending| !is_overdue(before, sending.message));
        }
        self.processes[node].resume(replies);
    }

    fn kill(&mut self, node: usize) {
        for number in self.scenario.requests_on(node) {
            let mut progress = self.progress[number].lock().expect("no thread panics");
            progress.lease = None;
        }
        self.processes[node] = Process::new(node, &self.wire, self.scenario);
        for sending in self.take(|sending| sending.node == node) {
            if sending.flight == Flight::Sent {
                self.send_late(sending.message);
            }
        }
    }
}

fn is_overdue(model: &State, message: Message) -> bool {
    let number = message.token.request;
    let owner = model.requests[usize::from(number)];
    owner.calls().any(|(slot, call)| owner.message(number, slot) == message && call.is_overdue())
}

pub(super) fn request(number: usize) -> u8 {
    u8::try_from(number).expect("few requests")
}
