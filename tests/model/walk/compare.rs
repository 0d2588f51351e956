//! What must be the same in the world of the crate's code and in the model's.

use tower_idempotency::protocol::Lease;

use super::world::{World, request};
use crate::{
    call::Flight,
    machine::{Node, State},
    request::{Client, Phase},
};

impl World<'_> {
    /// What differs between this world and the model's, in the words of both.
    pub(super) fn differs(&self, model: &State) -> Option<String> {
        let differs = |what: &str, real: String, model: String| {
            (real != model).then(|| format!("{what}: the code has {real}, the model {model}"))
        };
        let what = differs("store", format!("{:?}", self.store), format!("{:?}", model.store));
        let what = what.or_else(|| differs("late", format!("{:?}", self.late), format!("{:?}", model.late)));
        let what = what.or_else(|| differs("on the wire", self.on_the_wire(), self.on_the_models_wire(model)));
        what.or_else(|| {
            self.scenario.numbers().find_map(|number| {
                let (real, model) = (self.seen_of(number), seen_of_model(model, number));
                let client = model.1.map_or_else(|| format!("{:?}", real.1), |client| format!("{client:?}"));
                let what = differs("handler", format!("{number} {:?}", real.0), format!("{number} {:?}", model.0));
                what.or_else(|| differs("client", format!("{number} {:?}", real.1), format!("{number} {client}")))
            })
        })
    }

    /// Every command that the code waits for and that may still be answered.
    fn on_the_wire(&self) -> String {
        let wire = self.wire();
        let stalled = |node: usize| self.processes[node].condition == Node::Stalled;
        let mut waiting: Vec<_> = wire
            .sendings
            .iter()
            .map(|sending| {
                let given_up = if sending.reply.is_closed() && !stalled(sending.node) { " given up" } else { "" };
                format!("{:?} {:?}{given_up}", sending.message, sending.flight)
            })
            .collect();
        waiting.sort();
        format!("{waiting:?}")
    }

    fn on_the_models_wire(&self, model: &State) -> String {
        let calls = self.scenario.numbers().flat_map(|number| {
            let owner = model.requests[number];
            owner.calls().map(move |(slot, call)| (owner.message(request(number), slot), call.flight))
        });
        let waiting = calls.filter(|(_, flight)| *flight != Flight::Silent);
        let mut waiting: Vec<_> = waiting.map(|(message, flight)| format!("{message:?} {flight:?}")).collect();
        waiting.sort();
        format!("{waiting:?}")
    }

    /// Whether its handler runs, and is told that its lease is lost; and what its client has.
    fn seen_of(&self, number: usize) -> (Option<bool>, Client) {
        let progress = self.progress[number].lock().expect("no thread panics");
        let handler = progress.lease.as_ref().map(Lease::is_lost);
        (handler, progress.client.unwrap_or(Client::Waiting))
    }
}

/// As above. A client that has gone sees nothing more.
fn seen_of_model(model: &State, number: usize) -> (Option<bool>, Option<Client>) {
    let request = model.requests[number];
    let handler = (request.phase == Phase::Running).then_some(request.lost);
    (handler, Some(request.client).filter(|client| !matches!(client, Client::Left | Client::CutOff)))
}
