//! What the handler does with one request, drawn from the seed of its history.

use std::time::Duration;

use http::StatusCode;
use rand::{RngExt, rngs::StdRng};

use crate::{
    history::{LIMIT, duration},
    till::Order,
};

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) thinks: Duration,
    pub(crate) says: Option<Say>,
    /// It stores its response together with its effect, in one transaction.
    pub(crate) commits: Option<Order>,
    pub(crate) ends: End,
}

/// What a handler says should become of its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Say {
    Keep,
    KeepWithoutBody,
    Release,
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

impl Script {
    pub(crate) fn draw(dice: &mut StdRng) -> Self {
        let mut script = Self {
            thinks: duration(dice),
            says: match dice.random_range(0..16) {
                0 => Some(Say::Keep),
                1 => Some(Say::KeepWithoutBody),
                2 => Some(Say::Release),
                _ => None,
            },
            commits: None,
            ends: match dice.random_range(0..10) {
                0 => End::Error,
                1 => End::Panic,
                _ => End::Response(Response::draw(dice)),
            },
        };
        if dice.random_bool(0.15) {
            // A transaction stores a response whose length is known.
            let pauses = vec![Duration::ZERO; dice.random_range(0..3)];
            script.ends = End::Response(Response { pauses, ..Response::small(StatusCode::CREATED) });
            (script.says, script.commits) = (None, Some(Order::draw(dice)));
        }
        script
    }

    /// How long it takes, with its body.
    pub(crate) fn length(&self) -> Duration {
        let body = match &self.ends {
            End::Response(response) => response.pauses.iter().sum(),
            _ => Duration::ZERO,
        };
        self.thinks + self.commits.map_or(Duration::ZERO, |order| order.length()) + body
    }

    /// What is left by a run that does not commit.
    pub(crate) fn leaves(&self, at_most_once: bool) -> Leaves {
        let keeps = self.says.map(|says| says != Say::Release).or(at_most_once.then_some(true));
        let failed = if keeps == Some(true) { Leaves::OutcomeUnknown } else { Leaves::Nothing };
        match &self.ends {
            End::Error | End::Panic => failed,
            End::Response(response) if !keeps.unwrap_or_else(|| !response.is_passing()) => Leaves::Nothing,
            End::Response(response) if response.is_over_limit() || self.keeps_no_body() => Leaves::Tombstone,
            End::Response(response) if response.breaks => failed,
            End::Response(_) => Leaves::Record,
        }
    }

    pub(crate) fn keeps_no_body(&self) -> bool {
        self.says == Some(Say::KeepWithoutBody)
    }

    /// Whether the run is over, as far as its key is concerned, when the head of its response is there: what comes then
    /// is delivery.
    pub(crate) fn ends_at_its_head(&self, at_most_once: bool) -> bool {
        let End::Response(response) = &self.ends else { return true };
        self.leaves(at_most_once) == Leaves::Nothing && (response.is_passing() || self.says == Some(Say::Release))
            || self.keeps_no_body()
            || response.sized && response.is_over_limit()
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

    /// An empty one that is known to be so.
    pub(crate) fn small(status: StatusCode) -> Self {
        Self { status, sized: true, pauses: Vec::new(), chunk: 5, trailers: false, breaks: false }
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.pauses.len() * self.chunk > LIMIT
    }

    /// Its status gives the key back.
    pub(crate) fn is_passing(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }
}
