//! What a network does to requests.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

use crate::{
    clock::{nanos, now},
    fault::{ClientFault, FaultLog, Kind, Target},
    plan::millis,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Pass,
    /// It is lost, and its connection is closed.
    Lose,
    /// It is delivered; the connection is closed in place of a reply.
    LoseReply,
    /// To the store: no reply ever comes on this connection again. To an application: the client leaves meanwhile.
    Silence,
    Delay(Duration),
    /// A copy of it reaches another application.
    Duplicate,
}

/// How long a silent connection stays open.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);

/// What becomes of a client's request: of ten, nine arrive, and their answers do.
pub(crate) fn fate_of_request(dice: &mut StdRng, log: &FaultLog) -> Fate {
    let (fate, fault) = match dice.random_range(0..1000) {
        0..10 => (Fate::Lose, ClientFault::LostRequest),
        10..30 => (Fate::Silence, ClientFault::Disconnect),
        30..40 => (Fate::LoseReply, ClientFault::LostReply),
        40..50 => (Fate::Delay(millis(dice, 5, 400)), ClientFault::Delay),
        50..100 => (Fate::Duplicate, ClientFault::Duplicate),
        _ => return Fate::Pass,
    };
    log.count(fault);
    fate
}

/// What becomes of a command to the store. A connection carries many, so that faults are rarer.
pub(crate) fn fate_of_command(dice: &mut StdRng, target: Target, log: &FaultLog) -> Fate {
    let (fate, kind, lasts) = match dice.random_range(0..10_000) {
        0..10 => (Fate::Lose, Kind::Cut, Duration::ZERO),
        10..20 => (Fate::LoseReply, Kind::Cut, Duration::ZERO),
        20..22 => (Fate::Silence, Kind::Silenced, SILENCE),
        22..40 => {
            let delay = millis(dice, 5, 400);
            (Fate::Delay(delay), Kind::Delayed, delay)
        }
        _ => return Fate::Pass,
    };
    log.note(kind, target, now(), now() + nanos(lasts));
    fate
}
