//! [`Cast`]: who takes part in a check, and what they store.

use super::{
    law::{Broken, Law, Verdict},
    model::{Party, Seen, Version, name},
};
use crate::{Claim, Entry, Fingerprint, Key, Record, Token};

/// A party of a check.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) token: Token,
    pub(super) fingerprint: Fingerprint,
}

impl Member {
    /// The party to whom nothing but `key` belongs: its token and its fingerprint follow from the key.
    pub(super) fn owner_of(key: &Key) -> Self {
        let fingerprint = Fingerprint::of(key.as_bytes());
        let mut token = [0; Token::LEN];
        token.copy_from_slice(&fingerprint.to_bytes()[..Token::LEN]);
        Self { name: "its owner".to_owned(), token: Token::from_bytes(token), fingerprint }
    }

    pub(super) fn value(&self, value: &[u8]) -> Record {
        Record::value(&self.fingerprint, value)
    }

    /// The same party with another fingerprint.
    pub(super) fn with_fingerprint(&self, fingerprint: Fingerprint) -> Self {
        Self { name: self.name.clone(), token: self.token, fingerprint }
    }
}

/// The parties of a check, and the way from what a backend returns back to their numbers.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) members: Vec<Member>,
}

impl Cast {
    pub(super) fn new(count: usize) -> Self {
        let member = |i| Member {
            name: name(Party::try_from(i).unwrap_or(Party::MAX)),
            token: Token::random(),
            fingerprint: Fingerprint::from_bytes(rand::random()),
        };
        Self { members: (0..count).map(member).collect() }
    }

    /// One party, and others whose tokens differ from its token by a bit in one byte each.
    pub(super) fn of_neighbours() -> Self {
        let mut cast = Self::new(1 + Token::LEN);
        let base = *cast.members[0].token.as_bytes();
        for (byte, member) in cast.members[1..].iter_mut().enumerate() {
            let mut token = base;
            token[byte] ^= 1 << (byte % 8);
            member.token = Token::from_bytes(token);
        }
        cast
    }

    pub(super) fn member(&self, party: Party) -> &Member {
        &self.members[usize::from(party)]
    }

    /// Records of different versions differ in length, so that a report can tell them apart.
    pub(super) fn record(&self, party: Party, version: Version) -> Record {
        self.member(party).value(&vec![version; 10 + usize::from(version)])
    }

    pub(super) fn of_claim(&self, answer: &Claim) -> Verdict<Seen> {
        match answer {
            Claim::Acquired => Ok(Seen::Acquired),
            Claim::InProgress { fingerprint } => self.of_fingerprint(fingerprint),
            Claim::Completed(record) => self.of_record(record),
        }
    }

    pub(super) fn of_entry(&self, entry: Option<&Entry>) -> Verdict<Seen> {
        match entry {
            None => Ok(Seen::Nothing),
            Some(Entry::InProgress { fingerprint }) => self.of_fingerprint(fingerprint),
            Some(Entry::Completed(record)) => self.of_record(record),
        }
    }

    fn of_fingerprint(&self, fingerprint: &Fingerprint) -> Verdict<Seen> {
        let found = (0..).zip(&self.members).find(|(_, member)| member.fingerprint == *fingerprint);
        found.map(|(party, _)| Seen::InProgress(party)).ok_or_else(|| {
            let seen = format!("in progress with {fingerprint:?}, with which nobody claimed");
            Broken::under(Law::Exact, seen, "in progress with the fingerprint of the holder")
        })
    }

    fn of_record(&self, record: &Record) -> Verdict<Seen> {
        let known = (0..).zip(&self.members).flat_map(|(party, _)| [(party, 0), (party, 1)]);
        let found = known.into_iter().find(|&(party, version)| self.record(party, version) == *record);
        found.map(|(party, version)| Seen::Completed(party, version)).ok_or_else(|| {
            Broken::under(Law::Exact, format!("{record:?}, which nobody completed with"), "a record as it was stored")
        })
    }
}
