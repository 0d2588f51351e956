//! [`FaultyBackend`]: a backend whose commands get lost, late, held back or refused as a test says.

mod fate;
mod script;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use self::{fate::Fate, script::Scripts};
pub use self::{
    fate::{Fault, Held},
    script::{Odds, Script},
};
use crate::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};

/// A backend between a caller and another backend, where commands meet the [`Fault`]s that a test asks for.
///
/// Clones share everything. A command that meets a fault travels on its own, in a task of the tokio runtime, as in a
/// network: it reaches the wrapped backend also when its caller has given up.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_idempotency::BackendError> {
/// use tower_idempotency::testing::{Command, Fault, FaultyBackend};
/// use tower_idempotency::{Backend, BackendErrorKind, Key, MemoryBackend, Token};
///
/// let (key, token) = (Key::new("orders", "k-1"), Token::random());
/// let faulty = FaultyBackend::new(MemoryBackend::new());
/// faulty.on(Command::Release).next(Fault::ErrorAfter(BackendErrorKind::TimedOut));
///
/// faulty.release(&key, token).await.unwrap_err(); // "perhaps"
/// faulty.release(&key, token).await?;
/// assert_eq!((faulty.sent(Command::Release), faulty.executed(Command::Release)), (2, 2));
///
/// let held = faulty.hold(Command::Remove);
/// let removal = tokio::spawn({
///     let faulty = faulty.clone();
///     async move { faulty.remove(&key).await }
/// });
/// held.arrived().await; // sent, but not executed
/// assert_eq!((faulty.sent(Command::Remove), faulty.executed(Command::Remove)), (1, 0));
/// held.open();
/// removal.await.unwrap()?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
pub struct FaultyBackend<B>(Arc<Shared<B>>);

struct Shared<B> {
    inner: B,
    state: Mutex<State>,
    stalled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    scripts: Scripts,
    log: Vec<Sent>,
    executed: HashMap<Command, usize>,
}

/// A command of [`Backend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// [`Backend::claim`]
    Claim,
    /// [`Backend::renew`]
    Renew,
    /// [`Backend::complete`]
    Complete,
    /// [`Backend::release`]
    Release,
    /// [`Backend::get`]
    Get,
    /// [`Backend::remove`]
    Remove,
    /// [`Backend::wait`]
    Wait,
}

/// A command that was sent: a line of [`FaultyBackend::log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// What was sent.
    pub command: Command,
    /// The key it was sent for.
    pub key: Key,
    /// The token it carried; [`get`](Backend::get), [`remove`](Backend::remove) and [`wait`](Backend::wait) have none.
    pub token: Option<Token>,
}

impl<B> FaultyBackend<B> {
    /// A backend that passes everything on to `inner`, for now.
    pub fn new(inner: B) -> Self {
        Self(Arc::new(Shared { inner, state: Mutex::default(), stalled: watch::Sender::new(false) }))
    }

    /// The wrapped backend, for commands that meet no fault and are not counted.
    #[must_use]
    pub fn inner(&self) -> &B {
        &self.0.inner
    }

    /// The script of faults for `command`.
    #[must_use]
    pub fn on(&self, command: Command) -> Script<'_> {
        Script::new(&self.0.state, command)
    }

    /// Holds back the next `command` (after those already scripted) before it is executed.
    #[must_use = "a command is lost when what holds it is dropped"]
    pub fn hold(&self, command: Command) -> Held {
        let (gate, held) = fate::gate();
        self.state().scripts.push(command, Fate::held_before(gate));
        held
    }

    /// Executes the next `command` (after those already scripted) and holds back the reply.
    #[must_use = "a reply is lost when what holds it is dropped"]
    pub fn hold_reply(&self, command: Command) -> Held {
        let (gate, held) = fate::gate();
        self.state().scripts.push(command, Fate::held_after(gate));
        held
    }

    /// Lets every command that is sent from now on wait for [`resume`](Self::resume), and then be executed.
    pub fn stall(&self) {
        self.0.stalled.send_replace(true);
    }

    /// Ends a [`stall`](Self::stall).
    pub fn resume(&self) {
        self.0.stalled.send_replace(false);
    }

    /// Draws a fault by `odds` for each command that no script speaks of. Equal seeds and equal commands draw the same.
    pub fn random(&self, seed: u64, odds: Odds) {
        self.state().scripts.random(seed, odds);
    }

    /// Forgets all scripts and odds. What has been sent goes its way.
    pub fn clear(&self) {
        self.state().scripts = Scripts::default();
    }

    /// How many times `command` was sent.
    #[must_use]
    pub fn sent(&self, command: Command) -> usize {
        self.state().log.iter().filter(|sent| sent.command == command).count()
    }

    /// How many times the wrapped backend has answered `command`, whether or not the answer reached a caller.
    #[must_use]
    pub fn executed(&self, command: Command) -> usize {
        self.state().executed.get(&command).copied().unwrap_or_default()
    }

    /// All commands in the order in which they were sent.
    #[must_use]
    pub fn log(&self) -> Vec<Sent> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Clone for FaultyBackend<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for FaultyBackend<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBackend").field("state", &*self.state()).finish_non_exhaustive()
    }
}

impl<B: Backend> FaultyBackend<B> {
    /// Sends a command, which `run` executes, on its way through the faults.
    async fn send<T, F>(&self, sent: Sent, run: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BackendError>> + Send + 'static,
    {
        let Fate { request, reply } = self.enter(sent);
        let undisturbed = request.is_open() && reply.is_open() && !*self.0.stalled.borrow();
        let this = self.clone();
        let journey = async move {
            let mut stalled = this.0.stalled.subscribe();
            // The sender lives in `this`, so the wait cannot fail.
            let _ = stalled.wait_for(|stalled| !stalled).await;
            request.pass().await?;
            let answer = run(this.clone()).await;
            *this.state().executed.entry(sent.command).or_default() += 1;
            answer
        };
        let answer = if undisturbed { journey.await } else { on_its_own(journey).await };
        reply.pass().await.and(answer)
    }

    /// Writes the command down and decides what happens to it.
    fn enter(&self, sent: Sent) -> Fate {
        let mut state = self.state();
        state.log.push(sent);
        state.scripts.draw(sent.command)
    }
}

/// Runs `journey` to its end, whatever becomes of the caller.
async fn on_its_own<T: Send + 'static>(journey: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(journey).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and the caller with it.
            Err(_) => std::future::pending().await,
        },
    }
}

impl<B: Backend> Backend for FaultyBackend<B> {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        let (key, fingerprint) = (*key, *fingerprint);
        let sent = Sent { command: Command::Claim, key, token: Some(token) };
        self.send(sent, move |this| async move { this.inner().claim(&key, token, &fingerprint, lease).await }).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let key = *key;
        let sent = Sent { command: Command::Renew, key, token: Some(token) };
        self.send(sent, move |this| async move { this.inner().renew(&key, token, lease).await }).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        let (key, record) = (*key, record.clone());
        let sent = Sent { command: Command::Complete, key, token: Some(token) };
        self.send(sent, move |this| async move { this.inner().complete(&key, token, &record, retention).await }).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        let key = *key;
        let sent = Sent { command: Command::Release, key, token: Some(token) };
        self.send(sent, move |this| async move { this.inner().release(&key, token).await }).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let key = *key;
        let sent = Sent { command: Command::Get, key, token: None };
        self.send(sent, move |this| async move { this.inner().get(&key).await }).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        let key = *key;
        let sent = Sent { command: Command::Remove, key, token: None };
        self.send(sent, move |this| async move { this.inner().remove(&key).await }).await
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        let key = *key;
        let sent = Sent { command: Command::Wait, key, token: None };
        self.send(sent, move |this| async move { this.inner().wait(&key, deadline).await }).await
    }

    fn is_local(&self) -> bool {
        self.inner().is_local()
    }
}
