//! What is to happen in a run, as drawn from a seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{application::Store, dialect::Step, proxy::Point, witness::Build};

/// A claim lives so long unless renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// No handler takes longer.
pub(crate) const LONGEST_RUN: Duration = Duration::from_millis(2500);

/// One run: processes, clients and faults over one store, from its start to the verdict.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) store: Store,
    pub(crate) build: Build,
    /// How long faults are injected.
    pub(crate) length: Duration,
    pub(crate) applications: usize,
    pub(crate) clients: usize,
}

/// When a fault hits.
pub(crate) type Aim = Option<(Step, Point)>;

/// All of them; `None` is whenever.
pub(crate) const AIMS: [(&str, Aim); 10] = [
    ("before the claim", Some((Step::Claim, Point::Before))),
    ("during the claim", Some((Step::Claim, Point::During))),
    ("in the handler", Some((Step::Claim, Point::After))),
    ("before complete", Some((Step::Complete, Point::Before))),
    ("during complete", Some((Step::Complete, Point::During))),
    ("after complete", Some((Step::Complete, Point::After))),
    ("before a renewal", Some((Step::Renew, Point::Before))),
    ("during a renewal", Some((Step::Renew, Point::During))),
    ("during a release", Some((Step::Release, Point::During))),
    ("at any time", None),
];

/// One fault of a process: after `pause`, at `aim`, for `length`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) pause: Duration,
    /// Index into [`AIMS`].
    pub(crate) aim: usize,
    /// It is killed, and started again after `length`; else it stands still for `length`.
    pub(crate) kills: bool,
    pub(crate) length: Duration,
}

impl Plan {
    /// The dice of one part of the run.
    pub(crate) fn dice(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(part))
    }

    /// Whether processes are killed, and the store hit. An application that is wrong shows it soonest when it is stalled
    /// and nothing else goes wrong.
    pub(crate) fn kills(&self) -> bool {
        matches!(self.build, Build::Right | Build::ForgetfulStore)
    }

    /// The share of requests whose clients leave before long.
    pub(crate) fn impatience(&self) -> f64 {
        if self.build == Build::ReleaseOnDisconnect { 0.5 } else { 0.1 }
    }

    /// The next fault of an application.
    pub(crate) fn blow_to_application(&self, dice: &mut StdRng) -> Blow {
        let kills = self.kills() && dice.random_bool(0.6);
        let length = if kills { millis(dice, 0, 300) } else { millis(dice, 1100, 1900) };
        Blow { pause: millis(dice, 200, 2200), aim: dice.random_range(0..AIMS.len()), kills, length }
    }

    /// The next fault of the store. Half of the kills leave it down for less than a lease.
    pub(crate) fn blow_to_store(dice: &mut StdRng) -> Blow {
        let kills = dice.random_bool(0.6);
        let length = if kills { millis(dice, 0, 1600) } else { millis(dice, 300, 1700) };
        Blow { pause: millis(dice, 800, 3000), aim: dice.random_range(0..AIMS.len()), kills, length }
    }
}

/// One key, and what its clients do with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) run: Duration,
    /// How many clients send it at the same time.
    pub(crate) copies: usize,
    /// The clients leave after this time, and do not come back before the end.
    pub(crate) leave_after: Option<Duration>,
}

impl Order {
    pub(crate) fn draw(dice: &mut StdRng) -> Self {
        let run = match dice.random_range(0..100) {
            0..80 => millis(dice, 0, 20),
            80..92 => millis(dice, 50, 400),
            _ => millis(dice, 1300, 2500),
        };
        let leaves = dice.random_bool(0.03);
        Self { run, copies: dice.random_range(1..=4), leave_after: leaves.then(|| millis(dice, 1, 300)) }
    }
}

pub(crate) fn millis(dice: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.random_range(from..=to))
}
