//! What happens in one history, all of it drawn from one seed.

use std::time::Duration;

use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tower_idempotency::testing::Odds;

/// No lease is longer.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(30);
/// What is recorded of a response at most, in bytes.
pub(crate) const LIMIT: usize = 200;
/// No handler and its body take longer.
pub(crate) const LONGEST_RUN: Duration = Duration::from_secs(130);
/// No command is held up longer.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) weather: Option<Weather>,
    pub(crate) lease: Duration,
    pub(crate) at_most_once: bool,
    /// How long each node lets duplicates wait.
    pub(crate) wait: [Option<Duration>; 2],
    pub(crate) requests: Vec<Request>,
    /// How far away the backend is. `None`: it lives in the process, so that duplicates share no claims.
    pub(crate) round_trip: Option<Duration>,
}

/// What the backend and the way to it suffer.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) odds: Odds,
    pub(crate) renewals_are_lost: bool,
    /// From when, and for how long, no command gets through.
    pub(crate) outage: Option<(Duration, Duration)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) at: Duration,
    pub(crate) node: usize,
    pub(crate) key: usize,
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

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) thinks: Duration,
    pub(crate) ends: End,
}

#[derive(Debug, Clone)]
pub(crate) enum End {
    Error,
    Panic,
    Response(Response),
}

#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// Whether the length of its body is known beforehand.
    pub(crate) sized: bool,
    /// The pauses before the chunks of its body.
    pub(crate) pauses: Vec<Duration>,
    /// The size of a chunk, in bytes.
    pub(crate) chunk: usize,
    pub(crate) trailers: bool,
    /// Whether the body fails after its chunks. Never that of a sized one.
    pub(crate) breaks: bool,
}

/// What a run leaves under its key, if its lease lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Leaves {
    Nothing,
    Record,
    Tombstone,
    OutcomeUnknown,
}

impl History {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let keys = dice.random_range(1..=3);
        let span = [20, 500, 10_000, 120_000][dice.random_range(0..4)];
        let mut requests: Vec<_> = (0..dice.random_range(3..=12)).map(|_| Request::draw(dice, keys, span)).collect();
        requests.sort_by_key(|request| request.at);
        let weather = dice.random_bool(0.5).then(|| Weather::draw(dice));
        let short = dice.random_bool(0.3);
        Self {
            seed,
            weather,
            lease: if short { millis(dice, 100, 2_000) } else { LONGEST_LEASE },
            at_most_once: dice.random_bool(0.15),
            wait: [(); 2].map(|()| dice.random_bool(0.5).then(|| millis(dice, 1, 60_000))),
            requests,
            round_trip: dice.random_bool(0.5).then(|| millis(dice, 2, 20)),
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
            odds: Odds { longest_delay: Duration::from_millis(longest).min(LONGEST_DELAY), ..odds },
            renewals_are_lost: dice.random_bool(0.2),
            outage: dice.random_bool(0.2).then(|| (millis(dice, 0, 120_000), millis(dice, 0, 60_000))),
        }
    }
}

impl Request {
    fn draw(dice: &mut StdRng, keys: usize, span: u64) -> Self {
        Self {
            at: millis(dice, 0, span),
            node: dice.random_range(0..2),
            key: dice.random_range(0..keys),
            body: usize::from(dice.random_bool(0.12)),
            script: Script::draw(dice),
            client: match dice.random_range(0..10) {
                0 | 1 => Client::LeavesAfter(duration(dice)),
                2 => Client::LeavesAtFrame(dice.random_range(0..4)),
                _ => Client::Stays,
            },
        }
    }
}

impl Script {
    fn draw(dice: &mut StdRng) -> Self {
        let ends = match dice.random_range(0..10) {
            0 => End::Error,
            1 => End::Panic,
            _ => End::Response(Response::draw(dice)),
        };
        Self { thinks: duration(dice), ends }
    }

    /// How long it takes, with its body.
    pub(crate) fn length(&self) -> Duration {
        let body = match &self.ends {
            End::Response(response) => response.pauses.iter().sum(),
            _ => Duration::ZERO,
        };
        self.thinks + body
    }

    pub(crate) fn leaves(&self, at_most_once: bool) -> Leaves {
        let failed = if at_most_once { Leaves::OutcomeUnknown } else { Leaves::Nothing };
        match &self.ends {
            End::Error | End::Panic => failed,
            End::Response(response) if !at_most_once && response.is_passing() => Leaves::Nothing,
            End::Response(response) if response.is_over_limit() => Leaves::Tombstone,
            End::Response(response) if response.breaks => failed,
            End::Response(_) => Leaves::Record,
        }
    }
}

impl Response {
    fn draw(dice: &mut StdRng) -> Self {
        let statuses = [StatusCode::CREATED, StatusCode::NOT_FOUND, StatusCode::TOO_MANY_REQUESTS];
        let sized = dice.random_bool(0.5);
        Self {
            status: match dice.random_range(0..10) {
                0 => StatusCode::INTERNAL_SERVER_ERROR,
                draw @ 1..=2 => statuses[draw],
                _ => statuses[0],
            },
            sized,
            pauses: (0..dice.random_range(0..4)).map(|_| duration(dice) / 9).collect(),
            chunk: if dice.random_bool(0.15) { 1 + LIMIT } else { dice.random_range(1..=LIMIT / 4) },
            trailers: dice.random_bool(0.3),
            breaks: !sized && dice.random_bool(0.15),
        }
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.pauses.len() * self.chunk > LIMIT
    }

    /// Its status gives the key back.
    pub(crate) fn is_passing(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}

/// From nothing to three leases, mostly short.
fn duration(dice: &mut StdRng) -> Duration {
    match dice.random_range(0..10) {
        0..3 => Duration::ZERO,
        3..8 => millis(dice, 0, 3_000),
        _ => millis(dice, 0, 90_000),
    }
}

fn millis(dice: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.random_range(from..=to))
}
