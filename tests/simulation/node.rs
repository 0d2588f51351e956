//! A node: a layer with a way to the backend that stands still with it.

use tower_idempotency::{Backend, BackendFailure, BoxBackend, CachedBackend, IdempotencyLayer, MemoryBackend};

use crate::{
    distant::way::Behind,
    history::{History, LIMIT},
    stall::Pulse,
    world::Faulty,
};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) layer: IdempotencyLayer<BoxBackend>,
    pub(crate) pulse: Pulse,
}

impl Node {
    pub(crate) fn new(history: &History, node: usize, backend: &Faulty) -> Self {
        let pulse = Pulse::default();
        let wire = Behind { way: pulse.clone(), backend: backend.clone(), local: backend.is_local() };
        let backend = if history.nodes[node].caches {
            BoxBackend::new(CachedBackend::new(MemoryBackend::with_limits(1024, 1 << 20), wire))
        } else {
            BoxBackend::new(wire)
        };
        Self { layer: layer(history, node, backend), pulse }
    }
}

fn layer(history: &History, node: usize, backend: BoxBackend) -> IdempotencyLayer<BoxBackend> {
    let mut layer = IdempotencyLayer::new(backend).lease(history.lease).limits(1024, LIMIT);
    if let Some(hash) = history.body_hash() {
        layer = layer.or_body_hash(hash);
    } else {
        layer = layer.retention(history.retention);
    }
    if history.at_most_once {
        layer = layer.at_most_once();
    }
    if history.runs_unprotected {
        layer = layer.on_backend_failure(BackendFailure::RunUnprotected);
    }
    match history.nodes[node].wait {
        Some(max) => layer.wait(max),
        None => layer,
    }
}
