//! What happens in one history, all of it drawn from one seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tower_idempotency::{BodyHash, testing::Odds};

use crate::script::Script;

/// No lease is longer.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(30);
/// What is recorded of a response at most, in bytes.
pub(crate) const LIMIT: usize = 200;
/// There are no more keys.
pub(crate) const KEYS: usize = 3;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) weather: Option<Weather>,
    pub(crate) stall: Option<Stall>,
    pub(crate) lease: Duration,
    /// How long a record lives: the window, where requests are known by their bodies.
    pub(crate) retention: Duration,
    pub(crate) known_by: KnownBy,
    pub(crate) at_most_once: bool,
    /// Whether requests run although the backend does not answer.
    pub(crate) runs_unprotected: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) requests: Vec<Request>,
    /// How far away the backend is. `None`: it lives in the process, so that duplicates share no claims.
    pub(crate) round_trip: Option<Duration>,
}

/// How requests are told apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum KnownBy {
    Header,
    /// Their bodies, for each caller.
    BodyOfCaller,
    /// Their bodies, whoever sends them.
    Body,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// How long it lets duplicates wait.
    pub(crate) wait: Option<Duration>,
    /// Whether it keeps records of its own.
    pub(crate) caches: bool,
}

/// What the backend and the way to it suffer.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) odds: Odds,
    pub(crate) renewals_are_lost: bool,
    /// From when, and for how long, no command gets through.
    pub(crate) outage: Option<(Duration, Duration)>,
}

/// Something stands still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    pub(crate) from: Duration,
    pub(crate) length: Duration,
    /// One node, whose clock goes on. `None`: everything, so that all clocks jump.
    pub(crate) node: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) at: Duration,
    pub(crate) node: usize,
    pub(crate) key: usize,
    /// Requests with one key and other bodies are others. Always 0 where the body is the key.
    pub(crate) body: usize,
    /// What the handler does, should this request run.
    pub(crate) script: Script,
    pub(crate) client: Client,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Client {
    Stays,
    /// Drops the response's future after this time.
    LeavesAfter(Duration),
    /// Drops the body after so many frames.
    LeavesAtFrame(usize),
}

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let known_by = match dice.random_range(0..10) {
            0 => KnownBy::Body,
            1 | 2 => KnownBy::BodyOfCaller,
            _ => KnownBy::Header,
        };
        let header = known_by == KnownBy::Header;
        let span = [20, 500, 10_000, 120_000][dice.random_range(0..4)];
        let nodes: Vec<_> = (0..dice.random_range(2..=3)).map(|_| Node::draw(dice, seed)).collect();
        let short = dice.random_bool(0.3);
        let at_most_once = header && dice.random_bool(0.2);
        let stays = at_most_once || dice.random_bool(if header { 0.8 } else { 0.4 });
        Self {
            seed,
            known_by,
            requests: requests(dice, span, nodes.len(), header),
            weather: dice.random_bool(0.5).then(|| Weather::draw(dice)),
            stall: dice.random_bool(0.25).then(|| Stall::draw(dice, span, nodes.len())),
            lease: if short { millis(dice, 100, 2_000) } else { LONGEST_LEASE },
            retention: if stays { DAY } else { millis(dice, 10, 60_000) },
            at_most_once,
            runs_unprotected: !header || !at_most_once && dice.random_bool(0.1),
            nodes,
            round_trip: dice.random_bool(0.5).then(|| millis(dice, 2, 20)),
        }
    }

    /// What requests without a key are known by.
    pub(crate) fn body_hash(&self) -> Option<BodyHash> {
        match self.known_by {
            KnownBy::Header => None,
            KnownBy::BodyOfCaller => Some(BodyHash::per_caller(self.retention)),
            KnownBy::Body => Some(BodyHash::any_caller(self.retention)),
        }
    }

    /// How long a duplicate on `node` waits.
    pub(crate) fn wait(&self, node: usize) -> Option<Duration> {
        let by_default = (self.known_by != KnownBy::Header).then_some(Duration::from_secs(30));
        self.nodes[node].wait.or(by_default)
    }

    /// When the last of what disturbs it on its own account is over.
    pub(crate) fn calms_down(&self) -> Duration {
        let stall = self.stall.map_or(Duration::ZERO, |stall| stall.from + stall.length);
        let outage = self.weather.as_ref().and_then(|weather| weather.outage);
        stall.max(outage.map_or(Duration::ZERO, |(from, length)| from + length))
    }

    /// No handler and its body take longer.
    pub(crate) fn longest_run(&self) -> Duration {
        self.requests.iter().map(|request| request.script.length()).max().unwrap_or_default()
    }

    /// No command is held up longer, no transaction, and none is sent again later than that behind a request.
    pub(crate) fn longest_delay(&self) -> Duration {
        let commits = self.requests.iter().filter_map(|request| request.script.commits);
        let late = commits.map(|order| order.longest_delay()).max().unwrap_or_default();
        let weather = self.weather.as_ref().map_or(Duration::ZERO, |weather| weather.odds.longest_delay);
        late.max(weather) + 3 * self.lease + Duration::from_secs(10)
    }

    /// Nothing fails but handlers and clients.
    pub(crate) fn is_calm(&self) -> bool {
        self.weather.is_none() && self.stall.is_none()
    }
}

fn requests(dice: &mut StdRng, span: u64, nodes: usize, mismatches: bool) -> Vec<Request> {
    let keys = dice.random_range(1..=KEYS);
    let mut requests: Vec<_> = (0..dice.random_range(3..=12))
        .map(|_| Request {
            at: millis(dice, 0, span),
            node: dice.random_range(0..nodes),
            key: dice.random_range(0..keys),
            body: usize::from(mismatches && dice.random_bool(0.12)),
            script: Script::draw(dice),
            client: Client::draw(dice),
        })
        .collect();
    requests.sort_by_key(|request| request.at);
    requests
}

impl Node {
    fn draw(dice: &mut StdRng, seed: u64) -> Self {
        let wait = dice.random_bool(0.5).then(|| millis(dice, 1, 60_000));
        Self { wait, caches: seed.is_multiple_of(3) }
    }
}

impl Client {
    fn draw(dice: &mut StdRng) -> Self {
        match dice.random_range(0..10) {
            0 | 1 => Self::LeavesAfter(duration(dice)),
            2 => Self::LeavesAtFrame(dice.random_range(0..4)),
            _ => Self::Stays,
        }
    }
}

impl Weather {
    fn draw(dice: &mut StdRng) -> Self {
        let mut odds = || dice.random_range(0.0..0.12);
        let odds = Odds {
            lose_request: odds(),
            lose_reply: odds(),
            delay_request: odds(),
            delay_reply: odds(),
            error_before: odds(),
            error_after: odds(),
            longest_delay: Duration::ZERO,
        };
        let longest = [300, 2_000, 60_000][dice.random_range(0..3)];
        Self {
            odds: Odds { longest_delay: Duration::from_millis(longest), ..odds },
            renewals_are_lost: dice.random_bool(0.2),
            outage: dice.random_bool(0.2).then(|| (millis(dice, 0, 120_000), millis(dice, 0, 60_000))),
        }
    }
}

impl Stall {
    fn draw(dice: &mut StdRng, span: u64, nodes: usize) -> Self {
        let longest = [100, 2_000, 60_000][dice.random_range(0..3)];
        Self {
            from: millis(dice, 0, span + 5_000),
            length: millis(dice, 1, longest),
            node: dice.random_bool(0.8).then(|| dice.random_range(0..nodes)),
        }
    }

    /// Whether it keeps `node` from renewing a lease in time, by itself, between these moments.
    pub(crate) fn costs_a_lease(&self, history: &History, node: usize, from: Duration, to: Duration) -> bool {
        let since_renewal = history.lease / 3 + 2 * history.round_trip.unwrap_or_default() + Duration::from_millis(20);
        let here = self.node.is_none_or(|stalled| stalled == node);
        let long = self.length + since_renewal >= history.lease || history.weather.is_some();
        here && long && self.from <= to && from <= self.from + self.length
    }
}

/// From nothing to three leases, mostly short.
pub(crate) fn duration(dice: &mut StdRng) -> Duration {
    match dice.random_range(0..10) {
        0..3 => Duration::ZERO,
        3..8 => millis(dice, 0, 3_000),
        _ => millis(dice, 0, 90_000),
    }
}

pub(crate) fn millis(dice: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.random_range(from..=to))
}
