//! What lies between the processes and the store: every command waits here until the walk says what becomes of it.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::oneshot;
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, Token,
};

use super::RETENTION;
use crate::{
    call::Flight,
    scenario::Scenario,
    store::{self, Answer, Command, Message},
};

tokio::task_local! {
    /// The request that a task works for: a claim's first sending says whose its token is.
    pub(super) static REQUEST: u8;
}

/// A command that somebody waits for.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) node: usize,
    pub(super) message: Message,
    pub(super) flight: Flight,
    pub(super) reply: oneshot::Sender<Answer>,
}

impl Sending {
    /// Gives its reply, if there is one, to whoever waits for it.
    pub(super) fn deliver(self) {
        if let Flight::Replied(answer) = self.flight {
            let _ = self.reply.send(answer);
        }
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) sendings: Vec<Sending>,
    /// The model's name of each token.
    tokens: Vec<(Token, store::Token)>,
    records: HashMap<store::Token, Record>,
    released: HashSet<store::Token>,
    fingerprints: Vec<Fingerprint>,
}

impl Wire {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let fingerprints = scenario.requests.iter().map(|origin| Fingerprint::of([origin.fingerprint])).collect();
        Self {
            sendings: Vec::new(),
            tokens: Vec::new(),
            records: HashMap::new(),
            released: HashSet::new(),
            fingerprints,
        }
    }

    pub(super) fn fingerprint(&self, request: u8) -> Fingerprint {
        self.fingerprints[usize::from(request)]
    }

    /// Tokens are named by the request that made them, in the order in which they appear.
    pub(super) fn name(&mut self, token: Token) -> store::Token {
        let known = self.tokens.iter().find(|(other, _)| *other == token);
        known.map(|(_, name)| *name).unwrap_or_else(|| {
            let request = REQUEST.get();
            let name = store::Token { request, round: self.rounds(request) };
            self.tokens.push((token, name));
            name
        })
    }

    fn rounds(&self, request: u8) -> u8 {
        let rounds = self.tokens.iter().filter(|(_, name)| name.request == request).count();
        u8::try_from(rounds).expect("a request has few rounds")
    }

    fn record(&self, run: store::Token) -> Record {
        self.records[&run].clone()
    }

    /// Whose record this is.
    pub(super) fn run_of(&self, record: &Record) -> store::Record {
        let found = self.records.iter().find(|(_, other)| *other == record);
        store::Record { run: *found.expect("only records that were sent come back").0 }
    }
}

/// A backend that does nothing by itself.
#[derive(Debug)]
pub(super) struct ScriptedBackend {
    pub(super) node: usize,
    pub(super) wire: Arc<Mutex<Wire>>,
    /// Whether requests of one process share their claims.
    pub(super) shared: bool,
}

impl ScriptedBackend {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().expect("no thread panics")
    }

    /// Puts a command on the wire, and waits for what comes back, perhaps for ever.
    async fn send(&self, command: Command, token: store::Token) -> Result<Answer, BackendError> {
        let (reply, receiver) = oneshot::channel();
        let message = Message { command, token };
        self.wire().sendings.push(Sending { node: self.node, message, flight: Flight::Sent, reply });
        match receiver.await {
            Ok(Answer::Error) => Err(BackendError::new(BackendErrorKind::Unavailable)),
            Ok(answer) => Ok(answer),
            Err(_lost) => pending().await,
        }
    }

    fn named(&self, token: Token) -> store::Token {
        self.wire().name(token)
    }
}

fn ownership(answer: Answer) -> Ownership {
    if answer == Answer::Held { Ownership::Held } else { Ownership::Lost }
}

impl Backend for ScriptedBackend {
    async fn claim(&self, _: &Key, token: Token, _: &Fingerprint, _: Duration) -> Result<Claim, BackendError> {
        let token = self.named(token);
        Ok(match self.send(Command::Claim, token).await? {
            Answer::InProgress { holder } => Claim::InProgress { fingerprint: self.wire().fingerprint(holder.request) },
            Answer::Completed(record) => Claim::Completed(self.wire().record(record.run)),
            _ => Claim::Acquired,
        })
    }

    async fn renew(&self, _: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        let command = if lease == RETENTION { Command::Extend } else { Command::Renew };
        self.send(command, self.named(token)).await.map(ownership)
    }

    async fn complete(&self, _: &Key, token: Token, record: &Record, _: Duration) -> Result<Ownership, BackendError> {
        let token = self.named(token);
        self.wire().records.insert(token, record.clone());
        self.send(Command::Complete, token).await.map(ownership)
    }

    async fn release(&self, _: &Key, token: Token) -> Result<(), BackendError> {
        let token = self.named(token);
        // The model sends no second release: it leaves what that one would reach to the lease.
        if !self.wire().released.contains(&token) {
            self.send(Command::Release, token).await?;
            self.wire().released.insert(token);
        }
        Ok(())
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, BackendError> {
        let request = REQUEST.get();
        let token = store::Token { request, round: self.wire().rounds(request) - 1 };
        Ok(match self.send(Command::Get, token).await? {
            Answer::InProgress { holder } => {
                Some(Entry::InProgress { fingerprint: self.wire().fingerprint(holder.request) })
            }
            Answer::Completed(record) => Some(Entry::Completed(self.wire().record(record.run))),
            _ => None,
        })
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        unreachable!("the protocol removes nothing")
    }

    fn is_local(&self) -> bool {
        !self.shared
    }
}
