//! Where a run can be struck, and with what.

use std::fmt;

use rand::{RngExt, rngs::StdRng, seq::SliceRandom};

/// A step of a run, as the database sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Claim,
    Begin,
    Insert,
    Record,
    Commit,
}

const STEPS: [Step; 5] = [Step::Claim, Step::Begin, Step::Insert, Step::Record, Step::Commit];

impl Step {
    /// `None`: it is no step of a run.
    pub(crate) fn of(statement: &str) -> Option<Self> {
        let begins = [
            ("WITH live", Self::Claim),
            ("BEGIN", Self::Begin),
            ("INSERT INTO ledger", Self::Insert),
            ("WITH changed AS (UPDATE", Self::Record),
            // Without a transaction the layer stores the record.
            ("WITH changed AS (INSERT", Self::Record),
            ("COMMIT", Self::Commit),
        ];
        begins.into_iter().find_map(|(start, step)| statement.starts_with(start).then_some(step))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The server never gets the statement.
    Before,
    /// The statement was sent to the server a moment ago.
    During,
    /// The server has executed it; the process never gets the reply.
    After,
}

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::During, Moment::After];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    At(Moment, Step),
    /// A client has the head of the response.
    Response,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// `kill -9` of the process whose run it is.
    Process,
    /// The process stands still for longer than its lease, and goes on.
    Stall,
    /// The connection of the run is closed on both sides.
    Connection,
    /// The connection of the run stays open for two seconds, and nothing comes through any more.
    Silence,
    /// `kill -9` of the server process of that connection: the server ends all others, and recovers.
    ServerProcess,
    /// `kill -9` of the server's first process; the server is started again.
    Server,
    /// The server is told to end without saying goodbye to anybody, and started again.
    Shutdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aim {
    pub(crate) blow: Blow,
    pub(crate) point: Point,
}

impl Aim {
    pub(crate) fn at(blow: Blow, moment: Moment, step: Step) -> Self {
        Self { blow, point: Point::At(moment, step) }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point {
            Point::At(moment, step) => write!(f, "{:?} {moment:?} {step:?}", self.blow),
            Point::Response => write!(f, "{:?} During Response", self.blow),
        }
    }
}

/// A process is killed at every point; connections and the server suffer at a few of them.
pub(crate) fn round(random: &mut StdRng) -> Vec<Aim> {
    let points = STEPS.into_iter().flat_map(|step| MOMENTS.map(|moment| Point::At(moment, step)));
    let points: Vec<_> = points.collect();
    let mut aims: Vec<_> = points.iter().map(|&point| Aim { blow: Blow::Process, point }).collect();
    aims.push(Aim { blow: Blow::Process, point: Point::Response });
    // Another process has taken the key over when this one goes on to record and commit.
    aims.push(Aim::at(Blow::Stall, Moment::After, Step::Insert));
    aims.extend(MOMENTS.map(|moment| Aim::at(Blow::Connection, moment, Step::Commit)));
    let anywhere = [Blow::Stall, Blow::Connection, Blow::Silence, Blow::ServerProcess, Blow::Server, Blow::Shutdown];
    for blow in anywhere {
        // Half of them strike around COMMIT.
        let from = if random.random() { points.len() - MOMENTS.len() } else { 0 };
        aims.push(Aim { blow, point: points[random.random_range(from..points.len())] });
    }
    aims.shuffle(random);
    aims
}
