//! The store: the table of `Backend` on a host of its own. What it keeps outlives its crashes, as on a disk.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

use crate::wire::{Answer, Command, Question};

pub(crate) const PORT: u16 = 6000;

/// What is stored. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<HashMap<[u8; 32], Slot>>>);

#[derive(Debug)]
struct Slot {
    token: [u8; 16],
    fingerprint: [u8; 48],
    record: Option<Bytes>,
    end: Duration,
}

impl Disk {
    /// How many keys are in progress at `now`.
    pub(crate) fn in_progress(&self, now: Duration) -> usize {
        let slots = self.0.lock().expect("nothing panics under this lock");
        slots.values().filter(|slot| slot.record.is_none() && slot.end > now).count()
    }

    /// One atomic step.
    fn execute(&self, question: Question, now: Duration) -> Answer {
        let mut slots = self.0.lock().expect("nothing panics under this lock");
        if slots.get(&question.key).is_some_and(|slot| slot.end <= now) {
            slots.remove(&question.key);
        }
        let (key, end) = (question.key, now + question.life);
        let found = slots.get_mut(&key);
        match (question.command, found) {
            (Command::Claim, None) => {
                let (token, fingerprint) = (question.token, question.fingerprint);
                slots.insert(key, Slot { token, fingerprint, record: None, end });
                Answer::Acquired
            }
            (Command::Claim, Some(slot)) if slot.token == question.token && slot.record.is_none() => Answer::Acquired,
            (Command::Claim | Command::Get, Some(slot)) => slot.entry(),
            (Command::Renew, Some(slot)) if slot.token == question.token && slot.record.is_none() => {
                slot.end = end;
                Answer::Held
            }
            (Command::Complete, Some(slot)) if slot.token != question.token => Answer::Lost,
            (Command::Complete, Some(Slot { record: Some(_), .. })) => Answer::Held,
            (Command::Complete, _) => {
                let (token, fingerprint) = (question.token, question.fingerprint);
                slots.insert(key, Slot { token, fingerprint, record: Some(question.record), end });
                Answer::Held
            }
            (Command::Release, Some(slot)) if slot.token == question.token && slot.record.is_none() => {
                slots.remove(&key);
                Answer::Nothing
            }
            (Command::Renew, _) => Answer::Lost,
            (Command::Release | Command::Get, _) => Answer::Nothing,
        }
    }

    /// Answers one question for each connection, until the host crashes.
    pub(crate) async fn serve(self) -> turmoil::Result {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let disk = self.clone();
            // A connection that breaks is its client's concern.
            tokio::spawn(async move { drop(disk.answer(stream).await) });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let length = stream.read_u32().await?;
        let mut question = vec![0; length as usize];
        stream.read_exact(&mut question).await?;
        let now = turmoil::sim_elapsed().expect("in a simulation");
        let answer = self.execute(Question::decode(&question), now).encode();
        stream.write_u32(u32::try_from(answer.len()).expect("a small record")).await?;
        stream.write_all(&answer).await
    }
}

impl Slot {
    fn entry(&self) -> Answer {
        match &self.record {
            Some(record) => Answer::Completed(record.clone()),
            None => Answer::InProgress(self.fingerprint),
        }
    }
}
