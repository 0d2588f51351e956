//! What can happen to a command, and the two passages it takes: to the backend and back.

use std::{future::pending, time::Duration};

use tokio::sync::{oneshot, watch};

use crate::{BackendError, BackendErrorKind};

/// What happens to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: the command passes. Takes a place in a script.
    Pass,
    /// The command is never executed, and the caller never answered.
    LoseRequest,
    /// The command is executed, and the caller never answered.
    LoseReply,
    /// The command is executed after this time, also when the caller has given up.
    DelayRequest(Duration),
    /// The command is executed, and the caller answered after this time.
    DelayReply(Duration),
    /// The command is not executed, and the caller is told of an error.
    ErrorBefore(BackendErrorKind),
    /// The command is executed, and the caller is told of an error.
    ErrorAfter(BackendErrorKind),
}

/// A command, or its reply, that waits for a test. Dropping this loses it for ever.
#[derive(Debug)]
pub struct Held {
    arrived: watch::Receiver<bool>,
    open: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the command, or its reply, has come as far as the gate.
    ///
    /// Never returns when no such command comes.
    pub async fn arrived(&self) {
        if self.arrived.clone().wait_for(|&arrived| arrived).await.is_err() {
            pending::<()>().await; // the scripts were cleared, and the gate with them
        }
    }

    /// Lets it go on. One that has not come yet passes without waiting.
    pub fn open(self) {
        // A command whose caller and runtime are gone needs no gate.
        let _ = self.open.send(());
    }
}

/// The other side of a [`Held`].
#[derive(Debug)]
pub(super) struct Gate {
    arrived: watch::Sender<bool>,
    open: oneshot::Receiver<()>,
}

pub(super) fn gate() -> (Gate, Held) {
    let (opener, open) = oneshot::channel();
    let (arrive, arrived) = watch::channel(false);
    (Gate { arrived: arrive, open }, Held { arrived, open: opener })
}

/// What happens to a command on its way to the backend and to the reply on its way back.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) request: Passage,
    pub(super) reply: Passage,
}

#[derive(Debug)]
pub(super) enum Passage {
    Open,
    Lost,
    Slow(Duration),
    Refused(BackendErrorKind),
    Gated(Gate),
}

impl Fate {
    const fn before(request: Passage) -> Self {
        Self { request, reply: Passage::Open }
    }

    const fn after(reply: Passage) -> Self {
        Self { request: Passage::Open, reply }
    }

    pub(super) const fn held_before(gate: Gate) -> Self {
        Self::before(Passage::Gated(gate))
    }

    pub(super) const fn held_after(gate: Gate) -> Self {
        Self::after(Passage::Gated(gate))
    }
}

impl From<Fault> for Fate {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Pass => Self::before(Passage::Open),
            Fault::LoseRequest => Self::before(Passage::Lost),
            Fault::LoseReply => Self::after(Passage::Lost),
            Fault::DelayRequest(delay) => Self::before(Passage::Slow(delay)),
            Fault::DelayReply(delay) => Self::after(Passage::Slow(delay)),
            Fault::ErrorBefore(kind) => Self::before(Passage::Refused(kind)),
            Fault::ErrorAfter(kind) => Self::after(Passage::Refused(kind)),
        }
    }
}

impl Passage {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) async fn pass(self) -> Result<(), BackendError> {
        match self {
            Self::Open => Ok(()),
            Self::Lost => pending().await,
            Self::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Self::Refused(kind) => Err(BackendError::new(kind)),
            Self::Gated(Gate { arrived, open }) => {
                arrived.send_replace(true);
                match open.await {
                    Ok(()) => Ok(()),
                    Err(_) => pending().await,
                }
            }
        }
    }
}
