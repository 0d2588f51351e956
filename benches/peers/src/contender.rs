//! The same router, bare and behind each layer, and what each needs to do its work.

use std::{future::pending, sync::Arc};

use axum::{Router, body::Body, extract::Request, http::header, routing::post};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use idempotent::memory::MemoryStore;
use ruts::{CookieOptions, SessionLayer, store::moka::MokaStore};
use tower::layer::util::Identity;
use tower_cookies::CookieManagerLayer;
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

/// 100 bytes in, 200 bytes out.
const REQUEST: &[u8] = &[b'x'; 100];
const RESPONSE: &[u8] = &[b'y'; 200];

const DAY: i64 = 24 * 60 * 60;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    /// The header that its replays carry. `None`: it replays nothing.
    pub(crate) marker: Option<&'static str>,
}

/// All of them, each with an empty store, all with a retention of a day. The first is bare. To be called within the
/// runtime on which they are measured.
pub(crate) fn contenders() -> Vec<Contender> {
    let contender = |name, marker, router| Contender { name, router, marker };
    vec![
        contender("bare axum", None, router()),
        contender("no-op layer", None, router().layer(Identity::new())),
        contender("tower-idempotency", Some("idempotent-replayed"), tower_idempotency(router())),
        contender("idempotent 2.0.0", Some("idempotent-replayed"), idempotent(router())),
        contender("axum-idempotent 0.6.0", Some("idempotency-replayed"), axum_idempotent(router())),
    ]
}

/// The routers of [`contenders`], in their order, with a handler that never answers behind those which refuse a duplicate
/// of a running request. `None`: it runs duplicates.
pub(crate) fn refusing() -> [Option<Router>; 5] {
    let hanging = || Router::new().route("/payments", post(|_: axum::body::Bytes| pending::<()>()));
    let noop = router().layer(Identity::new());
    [Some(router()), Some(noop), Some(tower_idempotency(hanging())), Some(idempotent(hanging())), None]
}

fn router() -> Router {
    Router::new().route("/payments", post(|_: axum::body::Bytes| async { RESPONSE }))
}

fn tower_idempotency(router: Router) -> Router {
    router.layer(IdempotencyLayer::new(MemoryBackend::new()))
}

fn idempotent(router: Router) -> Router {
    let store = MemoryStore::builder().try_build().expect("there is a runtime");
    router.layer(idempotent::middleware::IdempotencyLayer::new(store))
}

/// It keeps its records in sessions, which take a store, cookies and two layers more.
fn axum_idempotent(router: Router) -> Router {
    let options = IdempotentOptions::new(DAY).use_idempotency_key_header(None, false);
    let sessions = SessionLayer::new(Arc::new(MokaStore::builder().build()));
    router
        .layer(IdempotentLayer::<MokaStore>::new(options))
        .layer(sessions.with_cookie_options(CookieOptions::build().name("session")))
        .layer(CookieManagerLayer::new())
}

/// The same for everybody. Each number has a session of its own, as a session takes the longer the more records it has.
pub(crate) fn request(number: u64, with_key: bool) -> Request {
    let request = Request::post("http://localhost/payments")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::COOKIE, format!("session={number:021}A"));
    let request = if with_key { request.header("idempotency-key", format!("k-{number}")) } else { request };
    request.body(Body::from(REQUEST)).expect("all of it is valid")
}
