//! What earlier versions have stored is read as it was meant, and today's code still writes the same.
//!
//! Over real servers the same fixtures are planted by `tests/redis/formats.rs` and `tests/postgres/formats.rs`.
#![cfg(all(feature = "json", feature = "memory"))]

mod fixtures;
mod names;

use std::{
    convert::Infallible,
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::{
    Backend, Entry, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Ownership, Record, RecordPolicy, Rejection,
    RequestBody, Run, Token,
};

use self::fixtures::{FINGERPRINT, Fixture, Kind, NEXT, Recorded, TOKEN, VALUE, VERSIONS};

const LONG: Duration = Duration::from_secs(600);

type Body = BoxBody<Bytes, Infallible>;

/// The request that all fixtures are of.
fn order(key: &str) -> Request<Full<Bytes>> {
    let order = Request::post("http://example.com/payments?to=alice").header("idempotency-key", key);
    order.body(Full::from(r#"{"amount":100}"#)).unwrap()
}

fn every_fixture() -> impl Iterator<Item = &'static Fixture> {
    const { &VERSIONS }.iter().flat_map(|version| &version.fixtures)
}

#[test]
fn a_record_of_any_version_says_what_it_said() {
    for Fixture { kind, record, .. } in every_fixture() {
        let read = Record::from_bytes(Bytes::from_static(record)).unwrap();
        assert_eq!(read.fingerprint(), Fingerprint::from_bytes(FINGERPRINT), "{kind:?}");
        assert_eq!(read.as_value().as_deref(), (*kind == Kind::Value).then_some(VALUE), "{kind:?}");
        assert_eq!(read.to_bytes(), *record, "a record is never written anew");
    }
}

#[tokio::test]
async fn a_record_of_any_version_is_replayed_as_it_was() {
    for Fixture { kind, record, .. } in every_fixture() {
        let (backend, runs) = (MemoryBackend::new(), Arc::new(AtomicUsize::new(0)));
        let key = Key::new("", kind.name());
        let record = Record::from_bytes(Bytes::from_static(record)).unwrap();
        backend.claim(&key, Token::from_bytes(TOKEN), &record.fingerprint(), LONG).await.unwrap();
        let stored = backend.complete(&key, Token::from_bytes(TOKEN), &record, LONG).await.unwrap();
        assert_eq!(stored, Ownership::Held);

        let count = Arc::clone(&runs);
        let service = IdempotencyLayer::new(backend).layer(service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            count.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        }));
        let (head, body) = service.oneshot(order(kind.name())).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        match kind.recorded() {
            Some(recorded) => {
                recorded.assert_is(head.status, &head.headers, &body.to_bytes(), trailers.as_ref());
                let cookie = head.headers.get("set-cookie").map(HeaderValue::is_sensitive);
                assert_eq!(cookie, (*kind == Kind::Response).then_some(true));
            }
            None => assert_eq!(head.extensions.get::<Rejection>(), Some(&kind.rejection())),
        }
        assert_eq!(runs.load(Ordering::SeqCst), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_recorded_today_is_the_written_version_byte_for_byte() {
    let written: Vec<_> = VERSIONS.iter().filter(|version| version.is_written).collect();
    assert_eq!(written.len(), 1);
    for Fixture { kind, record, .. } in &written[0].fixtures {
        let bytes = match kind {
            Kind::Value => Record::value(&Fingerprint::from_bytes(FINGERPRINT), VALUE).to_bytes(),
            kind => recorded(*kind).await.to_bytes(),
        };
        assert_eq!(bytes, *record, "{kind:?}");
    }
}

/// What is left of a run that comes to this.
async fn recorded(kind: Kind) -> Record {
    let backend = MemoryBackend::new();
    let policy = RecordPolicy::default().keep_header("set-cookie");
    let service =
        IdempotencyLayer::new(backend.clone()).record(policy).layer(service_fn(move |request: Request<_>| {
            let run = request.extensions().get::<Run>().unwrap();
            ready(match kind {
                Kind::OutcomeUnknown => {
                    run.keep();
                    Err(io::Error::other("the connection to the bank broke off"))
                }
                Kind::Tombstone => {
                    run.keep_without_body();
                    Ok(Response::default())
                }
                kind => Ok(response(&kind.recorded().unwrap())),
            })
        }));
    if let Ok(answer) = service.oneshot(order(kind.name())).await {
        answer.into_body().collect().await.unwrap();
    }
    match backend.get(&Key::new("", kind.name())).await.unwrap() {
        Some(Entry::Completed(record)) => record,
        other => panic!("{kind:?}: {other:?}"),
    }
}

fn response(recorded: &Recorded) -> Response<Body> {
    let lines = |lines: &[(&'static str, &[u8])]| {
        let mut found = HeaderMap::new();
        for (name, value) in lines {
            let mut value = HeaderValue::from_bytes(value).unwrap();
            value.set_sensitive(*name == "set-cookie");
            found.append(HeaderName::from_static(name), value);
        }
        found
    };
    let body = Full::new(Bytes::from_static(recorded.body));
    let body = match lines(&recorded.trailers) {
        none if none.is_empty() => body.boxed(),
        // A stream: the length of a body that is known stands in its record, where trailers follow.
        trailers => {
            let frames = [Frame::data(Bytes::from_static(recorded.body)), Frame::trailers(trailers)];
            StreamBody::new(tokio_stream::iter(frames.map(Ok))).boxed()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = recorded.status;
    *response.headers_mut() = lines(&recorded.headers);
    response
}

#[test]
fn a_record_of_a_newer_version_is_refused() {
    for Fixture { kind, record, .. } in every_fixture() {
        let mut newer = record.to_vec();
        newer[0] = NEXT;
        let error = Record::from_bytes(newer.into()).unwrap_err();
        assert_eq!(error.to_string(), format!("record layout version {NEXT} is not known"), "{kind:?}");
    }
}
