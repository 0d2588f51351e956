//! What a `RedisBackend` makes of any bytes that it finds under a key, and that it finds again what it has written.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread_local,
    time::Duration,
};

use redis::{Cmd, Pipeline, RedisFuture, Value, aio::ConnectionLike};
use tokio::runtime::{Builder, Runtime};
use tower_idempotency::{
    Backend, BackendErrorKind, Claim, Entry, Fingerprint, Key, Ownership, Record, RedisBackend, Token,
};

/// Version, state, token: the header is these bytes long.
const HEADER: usize = 22;
const LEASE: Duration = Duration::from_secs(30);

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
}

pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            any_value_is_read_as_described(rest).await;
            if let Some(token) = rest.first_chunk() {
                what_is_written_is_found_again(Token::from_bytes(*token), &rest[16..], mode % 4).await;
            }
        });
    });
}

/// A connection that gives one answer, and notes what it was sent.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Exchange>>);

#[derive(Debug, Default)]
struct Exchange {
    answer: Option<Vec<u8>>,
    /// The words of the last command.
    sent: Vec<Vec<u8>>,
}

impl Wire {
    fn with<T>(&self, change: impl FnOnce(&mut Exchange) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.with(|exchange| exchange.sent.clone())
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let words = command.args_iter().filter_map(|word| match word {
            redis::Arg::Simple(word) => Some(word.to_vec()),
            _ => None,
        });
        let answer = self.with(|exchange| {
            exchange.sent = words.collect();
            exchange.answer.clone()
        });
        Box::pin(async move { Ok(answer.map_or(Value::Nil, Value::BulkString)) })
    }

    fn req_packed_commands<'a>(&'a mut self, _: &'a Pipeline, _: usize, _: usize) -> RedisFuture<'a, Vec<Value>> {
        unreachable!("commands go one by one")
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// A backend that finds `value` under every key.
fn finding(value: Option<&[u8]>) -> (RedisBackend<Wire>, Wire) {
    let wire = Wire::default();
    wire.with(|exchange| exchange.answer = value.map(<[u8]>::to_vec));
    (RedisBackend::new(wire.clone(), wire.clone()), wire)
}

/// What a value is by its description.
#[derive(Debug)]
enum Described {
    InProgress(Token, Fingerprint),
    Completed(Token, Record),
    Unreadable,
}

fn described(value: &[u8]) -> Described {
    let Some((header, rest)) = value.split_at_checked(HEADER) else { return Described::Unreadable };
    let token = Token::from_bytes(header[6..].try_into().unwrap());
    match (&header[..6], Record::from_bytes(rest.to_vec().into())) {
        (b"IDMP1P", _) => rest.try_into().map_or(Described::Unreadable, |fingerprint| {
            Described::InProgress(token, Fingerprint::from_bytes(fingerprint))
        }),
        (b"IDMP1C", Ok(record)) => Described::Completed(token, record),
        _ => Described::Unreadable,
    }
}

async fn any_value_is_read_as_described(value: &[u8]) {
    let (backend, _) = finding(Some(value));
    let (key, of) = (Key::new("", "k"), Fingerprint::of("a request"));
    let found = backend.get(&key).await.map_err(|error| error.kind());
    let holder = value.get(6..HEADER).and_then(|token| token.try_into().ok()).map(Token::from_bytes);
    let mut claims = Vec::new();
    for token in [Some(Token::from_bytes([0xee; 16])), holder].into_iter().flatten() {
        claims.push((token, backend.claim(&key, token, &of, LEASE).await.map_err(|error| error.kind())));
    }
    for (token, claim) in claims {
        match (described(value), claim) {
            (Described::InProgress(holder, _), Ok(Claim::Acquired)) => assert_eq!(holder, token),
            (Described::InProgress(holder, of), Ok(Claim::InProgress { fingerprint })) => {
                assert!(holder != token && fingerprint == of);
            }
            (Described::Completed(_, record), Ok(Claim::Completed(found))) => assert_eq!(found, record),
            (Described::Unreadable, Err(BackendErrorKind::Corrupt)) => {}
            other => panic!("{other:?}"),
        }
    }
    match (described(value), found) {
        (Described::InProgress(_, of), Ok(Some(Entry::InProgress { fingerprint }))) => assert_eq!(fingerprint, of),
        (Described::Completed(_, record), Ok(Some(Entry::Completed(found)))) => assert_eq!(found, record),
        (Described::Unreadable, Err(BackendErrorKind::Corrupt)) => {}
        other => panic!("{other:?}"),
    }
    scripts_answer_with_a_header(value, &backend).await;
}

/// What the scripts return where the value is not the claim that they were sent for.
async fn scripts_answer_with_a_header(value: &[u8], backend: &RedisBackend<Wire>) {
    let renewed = backend.renew(&Key::new("", "k"), Token::from_bytes([0xee; 16]), LEASE).await;
    let known = value.len() >= HEADER && matches!(&value[..6], b"IDMP1P" | b"IDMP1C");
    match renewed.map_err(|error| error.kind()) {
        Ok(ownership) => assert!(known && ownership == Ownership::Lost),
        Err(kind) => assert!(!known && kind == BackendErrorKind::Corrupt),
    }
}

async fn what_is_written_is_found_again(token: Token, content: &[u8], kind: u8) {
    let key = Key::new("", "k");
    let of = Fingerprint::of(content);
    let (backend, wire) = finding(None);
    assert!(matches!(backend.claim(&key, token, &of, LEASE).await, Ok(Claim::Acquired)));
    let claim = wire.sent()[2].clone();
    assert!(matches!(described(&claim), Described::InProgress(holder, found) if holder == token && found == of));

    let record = match kind {
        0 => Record::tombstone(&of),
        1 | 2 => Record::value(&of, content),
        _ => match Record::from_bytes(content.to_vec().into()) {
            Ok(record) => record,
            Err(_) => return,
        },
    };
    let _ = backend.complete(&key, token, &record, LEASE).await;
    // EVALSHA, the hash, 1, the key; the header of the claim, and the value.
    let words = wire.sent();
    assert!(claim.starts_with(&words[4]) && words[4].len() == HEADER);
    assert!(matches!(described(&words[5]), Described::Completed(holder, found) if holder == token && found == record));
}
