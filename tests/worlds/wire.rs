//! What goes over the network between a service and the store: one command for each connection.

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_idempotency::{Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token};
use turmoil::net::TcpStream;

use crate::store::PORT;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Command {
    Claim,
    Renew,
    Complete,
    Release,
    Get,
}

const COMMANDS: [Command; 5] = [Command::Claim, Command::Renew, Command::Complete, Command::Release, Command::Get];

#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) command: Command,
    pub(crate) key: [u8; 32],
    pub(crate) token: [u8; 16],
    pub(crate) fingerprint: [u8; 48],
    pub(crate) life: Duration,
    pub(crate) record: Bytes,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Acquired,
    InProgress([u8; 48]),
    Completed(Bytes),
    Held,
    Lost,
    Nothing,
}

impl Question {
    fn new(command: Command, key: &Key, token: Token) -> Self {
        let (key, token) = (*key.as_bytes(), *token.as_bytes());
        Self { command, key, token, fingerprint: [0; 48], life: Duration::ZERO, record: Bytes::new() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.command as u8];
        bytes.put_slice(&self.key);
        bytes.put_slice(&self.token);
        bytes.put_slice(&self.fingerprint);
        bytes.put_u64(u64::try_from(self.life.as_millis()).expect("a life"));
        bytes.put_slice(&self.record);
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let command = COMMANDS[usize::from(bytes.get_u8())];
        let (mut key, mut token, mut fingerprint) = ([0; 32], [0; 16], [0; 48]);
        bytes.copy_to_slice(&mut key);
        bytes.copy_to_slice(&mut token);
        bytes.copy_to_slice(&mut fingerprint);
        let life = Duration::from_millis(bytes.get_u64());
        Self { command, key, token, fingerprint, life, record: Bytes::copy_from_slice(bytes) }
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Acquired => vec![0],
            Self::InProgress(fingerprint) => [&[1], &fingerprint[..]].concat(),
            Self::Completed(record) => [&[2], &record[..]].concat(),
            Self::Held => vec![3],
            Self::Lost => vec![4],
            Self::Nothing => vec![5],
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        match bytes[0] {
            0 => Self::Acquired,
            1 => Self::InProgress(bytes[1..].try_into().expect("a fingerprint")),
            2 => Self::Completed(Bytes::copy_from_slice(&bytes[1..])),
            3 => Self::Held,
            4 => Self::Lost,
            _ => Self::Nothing,
        }
    }
}

/// The store, as a service sees it.
#[derive(Debug, Clone)]
pub(crate) struct Remote;

impl Remote {
    async fn ask(&self, question: Question) -> Result<Answer, BackendError> {
        self.exchange(&question.encode()).await.map_err(BackendError::unavailable)
    }

    async fn exchange(&self, question: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(("store", PORT)).await?;
        stream.write_u32(u32::try_from(question.len()).expect("a small record")).await?;
        stream.write_all(question).await?;
        let length = stream.read_u32().await?;
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
        Ok(Answer::decode(&answer))
    }
}

fn record(bytes: Bytes) -> Record {
    Record::from_bytes(bytes).expect("what was stored")
}

impl Backend for Remote {
    async fn claim(&self, key: &Key, token: Token, of: &Fingerprint, lease: Duration) -> Result<Claim, BackendError> {
        let question =
            Question { fingerprint: of.to_bytes(), life: lease, ..Question::new(Command::Claim, key, token) };
        Ok(match self.ask(question).await? {
            Answer::InProgress(fingerprint) => Claim::InProgress { fingerprint: Fingerprint::from_bytes(fingerprint) },
            Answer::Completed(bytes) => Claim::Completed(record(bytes)),
            _ => Claim::Acquired,
        })
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.ask(Question { life: lease, ..Question::new(Command::Renew, key, token) })
            .await
            .map(|answer| ownership(&answer))
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        let (fingerprint, record) = (record.fingerprint().to_bytes(), record.to_bytes());
        let question =
            Question { fingerprint, record, life: retention, ..Question::new(Command::Complete, key, token) };
        self.ask(question).await.map(|answer| ownership(&answer))
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.ask(Question::new(Command::Release, key, token)).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        let nobody = Token::from_bytes([0; Token::LEN]);
        Ok(match self.ask(Question::new(Command::Get, key, nobody)).await? {
            Answer::InProgress(fingerprint) => {
                Some(Entry::InProgress { fingerprint: Fingerprint::from_bytes(fingerprint) })
            }
            Answer::Completed(bytes) => Some(Entry::Completed(record(bytes))),
            _ => None,
        })
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        unreachable!("no operator is in these worlds")
    }
}

fn ownership(answer: &Answer) -> Ownership {
    if matches!(answer, Answer::Held) { Ownership::Held } else { Ownership::Lost }
}
