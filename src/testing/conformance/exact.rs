//! Law 5: keys never share a value, and bytes come back as they went in.

use http::{HeaderValue, Response};

use super::{
    cast::Member,
    law::{Broken, Verdict, expect},
    trial::{LONG, Trial, fresh_key},
};
use crate::{Backend, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record};

pub(super) async fn keys_that_differ_in_one_bit_are_different<B: Backend>(trial: &Trial<B>) -> Verdict {
    let base: [u8; Key::LEN] = rand::random();
    let mut keys = vec![base];
    for bit in 0..8 * Key::LEN {
        let mut key = base;
        key[bit / 8] ^= 1 << (bit % 8);
        keys.push(key);
    }
    trial.note("for 257 keys, the first and its neighbours by one bit: claim, then complete, then get");
    all_distinct(trial, keys).await
}

/// Bytes that mean something to some protocol, language or file system.
pub(super) async fn keys_of_unusual_bytes_are_different<B: Backend>(trial: &Trial<B>) -> Verdict {
    let mut keys = Vec::new();
    for byte in [0, b'\n', b' ', b'%', b'*', b'\'', b'/', b':', b'A', b'a', b'\\', b'_', b'{', 0x7f, 0x80, 0xc3, 0xff] {
        let fresh: [u8; Key::LEN] = rand::random();
        for range in [0..16, 16..32, 0..1, 31..32] {
            let mut key = fresh;
            key[range].fill(byte);
            keys.push(key);
        }
    }
    trial.note("for keys that hold or begin or end with zeros, line ends, quotes, wildcards, no UTF-8: the same");
    all_distinct(trial, keys).await
}

pub(super) async fn many_random_keys_are_different<B: Backend>(trial: &Trial<B>) -> Verdict {
    trial.note("for 300 random keys: the same");
    all_distinct(trial, (0..300).map(|_| rand::random()).collect()).await
}

/// Claims and completes every key with a value of its own, and reads them all back at the end.
async fn all_distinct<B: Backend>(trial: &Trial<B>, mut keys: Vec<[u8; Key::LEN]>) -> Verdict {
    keys.sort_unstable();
    keys.dedup();
    let keys: Vec<Key> = keys.into_iter().map(Key::from_bytes).collect();
    let quiet = trial.silent();
    for &key in &keys {
        let seen = quiet.claim(key, &Member::owner_of(&key), LONG).await?;
        if seen != Claim::Acquired {
            return Err(Broken::new(format!("claim({key}) -> {seen:?}"), "Acquired: the key was never used"));
        }
    }
    for &key in &keys {
        let owner = Member::owner_of(&key);
        expect(quiet.get(key).await?, Some(Entry::InProgress { fingerprint: owner.fingerprint }))?;
        expect(quiet.complete(key, &owner, &owner.value(key.as_bytes()), LONG).await?, Ownership::Held)?;
    }
    for &key in &keys {
        let Some(Entry::Completed(record)) = quiet.get(key).await? else {
            return Err(Broken::new(format!("no record under {key}"), "the record stored under it"));
        };
        same_bytes(&record, &Member::owner_of(&key).value(key.as_bytes()))?;
    }
    Ok(())
}

pub(super) async fn records_of_any_size_come_back<B: Backend>(trial: &Trial<B>) -> Verdict {
    const SIZES: [usize; 10] = [0, 1, 255, 256, 4_095, 65_535, 65_536, 65_537, 300_000, 1_048_576];
    for size in SIZES {
        let cast = trial.cast(2);
        // A period that is no power of two, so that a block in the wrong place is noticed.
        let value: Vec<u8> = (0..=255_u8).cycle().zip(0..251_u8).map(|(a, b)| a ^ b).cycle().take(size).collect();
        comes_back(trial, cast.member(0), cast.member(1), &cast.member(0).value(&value)).await?;
    }
    Ok(())
}

pub(super) async fn records_of_every_kind_come_back<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(2);
    let (holder, other) = (cast.member(0), cast.member(1));
    let every_byte: Vec<u8> = (0..=255).collect();
    let (mut head, ()) = Response::new(()).into_parts();
    let headers = &mut head.headers;
    for value in ["text/plain", "a", "a", ""] {
        headers.append("x-repeated", HeaderValue::from_static(value));
    }
    // Bytes that are no UTF-8, which HTTP allows.
    headers.extend(HeaderValue::from_bytes(b"caf\xe9 \xff").map(|value| (http::header::SERVER, value)));
    let fingerprint = &holder.fingerprint;
    let response = |trailers| Record::response(fingerprint, &head, |_| true, &every_byte, trailers);
    let records = [
        Some(holder.value(&every_byte)),
        Some(Record::tombstone(fingerprint)),
        Some(Record::outcome_unknown(fingerprint)),
        response(None),
        response(Some(&head.headers)),
    ];
    for record in records.into_iter().flatten() {
        comes_back(trial, holder, other, &record).await?;
    }
    Ok(())
}

pub(super) async fn fingerprints_of_any_bytes_come_back<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(2);
    for byte in [0, 0xff, b'\n', b'\'', 0x80] {
        let holder = cast.member(0).with_fingerprint(Fingerprint::from_bytes([byte; Fingerprint::LEN]));
        trial.note(format!("A claims with a fingerprint of {} bytes {byte:#04x}", Fingerprint::LEN));
        let key = fresh_key();
        let fingerprint = holder.fingerprint;
        expect(trial.claim(key, &holder, LONG).await?, Claim::Acquired)?;
        expect(trial.claim(key, cast.member(1), LONG).await?, Claim::InProgress { fingerprint })?;
        expect(trial.get(key).await?, Some(Entry::InProgress { fingerprint }))?;
    }
    Ok(())
}

/// Completes a fresh key with `record` and reads it in every way there is.
async fn comes_back<B: Backend>(trial: &Trial<B>, holder: &Member, other: &Member, record: &Record) -> Verdict {
    let key = fresh_key();
    expect(trial.claim(key, holder, LONG).await?, Claim::Acquired)?;
    match trial.try_complete(key, holder, record).await? {
        Ok(answer) => expect(answer, Ownership::Held)?,
        Err(error) if error.kind() == BackendErrorKind::TooLarge => {
            return claim_is_untouched(trial, key, holder).await;
        }
        Err(error) => return Err(Broken::error(&error)),
    }
    let reads = [
        trial.get(key).await?,
        trial.wait(key, LONG).await?,
        of_claim(trial.claim(key, holder, LONG).await?),
        of_claim(trial.claim(key, other, LONG).await?),
        trial.get(key).await?,
    ];
    reads.into_iter().try_for_each(|entry| match entry {
        Some(Entry::Completed(seen)) => same_bytes(&seen, record),
        entry => Err(Broken::new(format!("{entry:?}"), format!("{record:?}"))),
    })
}

fn of_claim(claim: Claim) -> Option<Entry> {
    match claim {
        Claim::Acquired => None,
        Claim::InProgress { fingerprint } => Some(Entry::InProgress { fingerprint }),
        Claim::Completed(record) => Some(Entry::Completed(record)),
    }
}

/// What a refused record leaves behind: the claim, ready to be completed with less.
async fn claim_is_untouched<B: Backend>(trial: &Trial<B>, key: Key, holder: &Member) -> Verdict {
    expect(trial.renew(key, holder, LONG).await?, Ownership::Held)?;
    let tombstone = Record::tombstone(&holder.fingerprint);
    expect(trial.complete(key, holder, &tombstone, LONG).await?, Ownership::Held)
}

fn same_bytes(seen: &Record, expected: &Record) -> Verdict {
    let (seen, expected) = (seen.to_bytes(), expected.to_bytes());
    if seen == expected {
        return Ok(());
    }
    let differing = seen.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(seen.len().min(expected.len()));
    Err(Broken::new(
        format!("{} bytes, which differ from byte {differing} on", seen.len()),
        format!("the {} bytes that were stored", expected.len()),
    ))
}
