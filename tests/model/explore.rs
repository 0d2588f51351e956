//! A breadth-first explorer: every state that can be reached, each once, the nearest first.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    action::Action,
    invariants::{Invariant, Step},
    machine::State,
    scenario::Scenario,
};

/// Which invariant broke, and the shortest way there.
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) trace: Vec<Action>,
}

pub(crate) struct Exploration {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    pub(crate) depth: usize,
    pub(crate) took: Duration,
    pub(crate) violation: Option<Violation>,
}

/// States are told apart by 64 bits. Among ten million states two coincide with a probability of 1 in 370,000.
type Print = u64;

/// The states seen, each with the one it was reached from, in parts that threads lock one at a time.
struct Seen {
    parts: Vec<Mutex<HashMap<Print, Print, BuildHasherDefault<Mixed>>>>,
}

/// What one thread found in its part of a level.
#[derive(Default)]
struct Found {
    next: Vec<State>,
    transitions: usize,
    broken: Option<(&'static str, Print, Action)>,
}

/// Explores `scenario` to its end, or to the first step that breaks one of `invariants`.
pub(crate) fn explore(scenario: &Scenario, invariants: &[Invariant], threads: usize) -> Exploration {
    let begin = Instant::now();
    let seen = Seen { parts: (0..256).map(|_| Mutex::default()).collect() };
    let initial = State::initial(scenario);
    seen.insert(print_of(&initial), 0);
    let mut level = vec![initial];
    let mut found = Exploration { states: 0, transitions: 0, depth: 0, took: Duration::ZERO, violation: None };
    while !level.is_empty() && found.violation.is_none() {
        found.states += level.len();
        found.depth += 1;
        let parts = expand_level(&level, &seen, scenario, invariants, threads);
        level.clear();
        for part in parts {
            found.transitions += part.transitions;
            level.extend(part.next);
            if let Some((invariant, last, action)) = part.broken {
                let trace = seen.trace(last, action, scenario);
                found.violation.get_or_insert(Violation { invariant, trace });
            }
        }
    }
    found.took = begin.elapsed();
    found
}

fn expand_level(
    level: &[State],
    seen: &Seen,
    scenario: &Scenario,
    invariants: &[Invariant],
    threads: usize,
) -> Vec<Found> {
    let share = level.len().div_ceil(threads);
    thread::scope(|scope| {
        let work = |states| scope.spawn(move || expand(states, seen, scenario, invariants));
        let workers: Vec<_> = level.chunks(share).map(work).collect();
        workers.into_iter().map(|worker| worker.join().expect("no step panics")).collect()
    })
}

fn expand(states: &[State], seen: &Seen, scenario: &Scenario, invariants: &[Invariant]) -> Found {
    let mut found = Found::default();
    for before in states {
        let from = print_of(before);
        for action in before.actions(scenario) {
            let mut after = before.clone();
            let executed = after.apply(action, scenario);
            found.transitions += 1;
            let step = Step { scenario, before, action, executed, after: &after };
            if let Some((invariant, _)) = invariants.iter().find(|(_, holds)| !holds(&step)) {
                found.broken = Some((invariant, from, action));
                return found;
            }
            if seen.insert(print_of(&after), from) {
                found.next.push(after);
            }
        }
    }
    found
}

impl Seen {
    fn insert(&self, print: Print, from: Print) -> bool {
        let part = &self.parts[usize::try_from(print >> 56).unwrap_or_default()];
        match part.lock().expect("no thread panics").entry(print) {
            Entry::Vacant(vacant) => {
                vacant.insert(from);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    fn reached_from(&self, print: Print) -> Print {
        let part = &self.parts[usize::try_from(print >> 56).unwrap_or_default()];
        part.lock().expect("no thread panics")[&print]
    }

    /// The actions that lead to the state `last`, and `action` behind them.
    fn trace(&self, last: Print, action: Action, scenario: &Scenario) -> Vec<Action> {
        let mut way = vec![last];
        while let Some(from) = way.last().map(|print| self.reached_from(*print)).filter(|from| *from != 0) {
            way.push(from);
        }
        let mut state = State::initial(scenario);
        let mut trace = Vec::new();
        for print in way.into_iter().rev().skip(1) {
            let leads_there = |action: &Action| {
                let mut after = state.clone();
                after.apply(*action, scenario);
                print_of(&after) == print
            };
            let taken = state.actions(scenario).into_iter().find(leads_there).expect("a state is reached by an action");
            state.apply(taken, scenario);
            trace.push(taken);
        }
        trace.push(action);
        trace
    }
}

fn print_of(state: &State) -> Print {
    let mut hasher = Mixed::default();
    state.hash(&mut hasher);
    hasher.finish().max(1)
}

/// A fast hash that spreads every bit: two rounds of multiplication for eight bytes.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 32)
    }
}
