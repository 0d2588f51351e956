//! The journal: how things stand, counted, and told to every page that is open.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    bank::Bank,
    report::{Report, What},
};

pub(crate) struct Journal {
    bank: Bank,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    with_layer: Counts,
    without: Counts,
    nodes: Vec<Node>,
    /// Who has had the last payment.
    turn: usize,
    pages: Vec<UnboundedSender<String>>,
}

#[derive(Default, Serialize)]
struct Counts {
    charges: u32,
    runs: u32,
    replays: u32,
    refusals: u32,
}

#[derive(Clone, Serialize)]
struct Node {
    name: String,
    process: u32,
    /// None while it is down.
    port: Option<u16>,
}

impl Journal {
    pub(crate) fn new(bank: Bank) -> Self {
        Self { bank, state: Mutex::default() }
    }

    pub(crate) fn note(&self, report: &Report) {
        let mut state = self.lock();
        let counts = if report.guarded { &mut state.with_layer } else { &mut state.without };
        match report.what {
            // Not what the node says, but what stands in the bank's table.
            What::Charged => counts.charges = self.bank.charges(report.guarded).unwrap_or_default(),
            What::Run => counts.runs += 1,
            What::Replayed => counts.replays += 1,
            What::Refused => counts.refusals += 1,
            What::Up { process, port } => state.set(&report.node, process, Some(port)),
            What::Killed { process } => state.set(&report.node, process, None),
            _ => {}
        }
        state.tell(Some(report));
    }

    /// How things stand, and from now on what happens.
    pub(crate) fn follow(&self) -> UnboundedReceiver<String> {
        let (page, lines) = unbounded_channel();
        let mut state = self.lock();
        state.pages.push(page);
        state.tell(None);
        lines
    }

    pub(crate) fn start_over(&self) -> rusqlite::Result<()> {
        self.bank.forget()?;
        let mut state = self.lock();
        (state.with_layer, state.without) = Default::default();
        state.tell(None);
        Ok(())
    }

    /// The port of the node whose turn it is, of those that are up.
    pub(crate) fn next_node(&self) -> Option<u16> {
        let mut state = self.lock();
        let ports: Vec<_> = state.nodes.iter().filter_map(|node| node.port).collect();
        state.turn += 1;
        ports.get(state.turn % ports.len().max(1)).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, name: &str, process: u32, port: Option<u16>) {
        self.nodes.retain(|node| node.name != name);
        self.nodes.push(Node { name: name.to_owned(), process, port });
        self.nodes.sort_by(|one, other| one.name.cmp(&other.name));
    }

    fn tell(&mut self, report: Option<&Report>) {
        let counts = json!({ "with": self.with_layer, "without": self.without });
        let news = json!({ "counts": counts, "nodes": self.nodes, "report": report }).to_string();
        self.pages.retain(|page| page.send(news.clone()).is_ok());
    }
}
