//! What a request knows, and what its client has got.

use crate::{
    call::{Call, Flight},
    store::{Answer, Command, Message, Record, Token},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Not arrived yet.
    Idle,
    /// Another request of the process has sent a claim, whose answer is awaited.
    Following,
    /// `claim` is sent.
    Claiming,
    /// At most once: the claim is extended to the retention before the run.
    Extending,
    /// The claim was acquired too late to start on it. It is released; then comes the next round.
    Discarding,
    /// The handler runs.
    Running,
    /// `complete` is sent, and the client waits for it.
    Completing,
    /// The handler failed: `release` is sent, and the client waits for it.
    Releasing,
    /// At most once, the handler failed: `complete` is sent with a record that says so, and the client waits for it.
    Keeping,
    /// `complete` is sent on; the client has its response, marked as not stored.
    CompletingBehind,
    /// `release` is sent on; the client has its response.
    ReleasingBehind,
    /// `complete` was answered "lost": what is stored instead?
    Reading,
    /// The client was refused; a claim that was perhaps made is released.
    Cleaning,
    /// Nothing more to do.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Waiting,
    /// It has hung up.
    Left,
    /// Its connection broke with the process that served it.
    CutOff,
    /// It has the run's own response, and was told that it is stored.
    Stored(Record),
    /// It has the run's own response, marked as not stored.
    NotStored,
    /// It has a stored response.
    Replayed(Record),
    /// It has the handler's failure.
    Failed,
    /// 409: the key is in progress. `own`: by a claim of this very request.
    Conflict {
        own: bool,
    },
    /// 409: the lease was lost, and there is no record to show.
    LeaseLost,
    /// 422.
    Mismatch,
    /// 503.
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) phase: Phase,
    pub(crate) client: Client,
    /// Which of its tokens it uses.
    pub(crate) round: u8,
    /// The private deadline: ticks until the lease may be over.
    pub(crate) left: u8,
    /// The run has been told that it lost its lease.
    pub(crate) lost: bool,
    /// A claim of an earlier round may still arrive.
    pub(crate) astray: bool,
    /// Whose claim it follows.
    pub(crate) follows: u8,
    /// It came to that when it had been sent.
    pub(crate) late: bool,
    /// For how many ticks it follows, or its claim is followed.
    pub(crate) shared: u8,
    /// What its claim has come to in this step: for its followers.
    pub(crate) news: Option<Answer>,
    /// The command that the phase waits for.
    pub(crate) main: Option<Call>,
    /// The renewal on its way. It may outlive the run.
    pub(crate) renewal: Option<Call>,
    /// For the invariants only; the protocol does not know it.
    pub(crate) history: History,
}

/// What has happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct History {
    /// Its handler was started.
    pub(crate) ran: bool,
    /// Its handler failed.
    pub(crate) failed: bool,
    /// Its process was killed.
    pub(crate) killed: bool,
    /// Ticks of its lease that faults may have cost it.
    pub(crate) cost: u8,
    /// While it was there, its key was in progress for the same request, or was another's. Only where claims are shared.
    pub(crate) conflict: bool,
    pub(crate) mismatch: bool,
}

impl History {
    /// A command got no reply. A lease outlives one renewal that fails, not two.
    pub(crate) fn charge(&mut self, command: Command) {
        if matches!(command, Command::Claim | Command::Renew) {
            self.cost = 2.min(self.cost + 1);
        }
    }

    /// Its process stood still, or was cut off.
    pub(crate) fn struck(&mut self) {
        self.cost = 2;
    }

    pub(crate) fn may_have_lost_the_lease(self) -> bool {
        self.cost == 2
    }
}

/// Which of a request's two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Main,
    Renewal,
}

impl Request {
    pub(crate) const IDLE: Self = Self {
        phase: Phase::Idle,
        client: Client::Waiting,
        round: 0,
        left: 0,
        lost: false,
        astray: false,
        follows: 0,
        late: false,
        shared: 0,
        news: None,
        main: None,
        renewal: None,
        history: History { ran: false, failed: false, killed: false, cost: 0, conflict: false, mismatch: false },
    };

    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Over) || self.renewal.is_some()
    }

    /// A run whose end is not answered yet.
    pub(crate) fn is_live(&self) -> bool {
        use Phase::{Completing, CompletingBehind, Keeping, Releasing, ReleasingBehind, Running};
        matches!(self.phase, Running | Completing | Keeping | Releasing | CompletingBehind | ReleasingBehind)
    }

    /// Takes the key for its own. A run that has sent its release no longer does.
    pub(crate) fn is_entitled(&self) -> bool {
        use Phase::{Completing, CompletingBehind, Keeping, Running};
        matches!(self.phase, Running | Completing | Keeping | CompletingBehind) && !self.lost && self.left > 0
    }

    /// The renewal first: where both replies have come, the lease is extended before anything is decided by it.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (Slot, Call)> + use<> {
        let main = self.main.map(|call| (Slot::Main, call));
        self.renewal.map(|call| (Slot::Renewal, call)).into_iter().chain(main)
    }

    pub(crate) fn call(&mut self, slot: Slot) -> &mut Option<Call> {
        match slot {
            Slot::Main => &mut self.main,
            Slot::Renewal => &mut self.renewal,
        }
    }

    pub(crate) fn set_flight(&mut self, slot: Slot, flight: Flight) {
        if let Some(call) = self.call(slot) {
            call.flight = flight;
        }
    }

    /// What the call in `slot` sends.
    pub(crate) fn message(&self, request: u8, slot: Slot) -> Message {
        use Phase::{Claiming, Completing, CompletingBehind, Extending, Keeping, Reading};
        let command = match (slot, self.phase) {
            (Slot::Renewal, _) => Command::Renew,
            (_, Claiming) => Command::Claim,
            (_, Extending) => Command::Extend,
            (_, Completing | Keeping | CompletingBehind) => Command::Complete,
            (_, Reading) => Command::Get,
            _ => Command::Release,
        };
        Message { command, token: Token { request, round: self.round } }
    }
}
