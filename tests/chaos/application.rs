//! An application: a process that serves payments behind a layer, over the store of the run.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    routing::{get, post},
};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::{net::TcpListener, time::sleep};
use tower_idempotency::{
    BoxBackend, IdempotencyLayer, OnDisconnect, PostgresBackend, RedisBackend, Run,
    sqlx::postgres::{PgPoolOptions, PgSslMode},
};

use crate::{
    clock::notice_starvation,
    ledger::Ledger,
    postgres_server::address_at,
    witness::{Build, Witness, hex},
};

/// Tells a process of the tests that it is an application, and what it needs for that.
pub(crate) const ROLE: &str = "TOWER_IDEMPOTENCY_CHAOS";

/// Headers of a payment: how long its handler takes, in milliseconds, and whether it fails.
pub(crate) const RUN: &str = "x-run";
pub(crate) const FAIL: &str = "x-fail";

/// How long a request waits for the store in one step.
const PATIENCE: Duration = Duration::from_millis(400);

/// What an application is told when it is started.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Terms {
    pub(crate) port: u16,
    pub(crate) store: Store,
    /// Where the store's proxy listens.
    pub(crate) store_port: u16,
    pub(crate) build: Build,
    pub(crate) lease: Duration,
    pub(crate) ledger: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Store {
    Redis,
    Postgres,
}

/// Serves, where this process was started as an application, until it is ended. Returns at once where it was not.
pub(crate) fn serve_as_application() {
    let Ok(terms) = env::var(ROLE) else { return };
    let terms: Terms = serde_json::from_str(&terms).unwrap();
    let ledger = Arc::new(Ledger::open(&terms.ledger));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (life, notes) = (Arc::new(()), Arc::clone(&ledger));
    notice_starvation(&life, move |from| notes.starved(from));
    runtime.block_on(serve(terms, ledger));
}

async fn serve(terms: Terms, ledger: Arc<Ledger>) {
    let witness = Witness::new(store(&terms).await, terms.build, Arc::clone(&ledger));
    let mut layer = IdempotencyLayer::new(witness).lease(terms.lease).backend_timeout(PATIENCE);
    if terms.build == Build::ReleaseOnDisconnect {
        layer = layer.on_disconnect(OnDisconnect::Cancel);
    }
    let router = Router::new()
        .route("/payments", post(pay))
        .layer(layer)
        .route("/process", get(async || std::process::id().to_string()))
        .with_state(ledger);
    // The process before this one may not have left its port yet.
    let listener = loop {
        match TcpListener::bind(("127.0.0.1", terms.port)).await {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    axum::serve(listener, router).await.unwrap();
}

async fn store(terms: &Terms) -> BoxBackend {
    match terms.store {
        Store::Redis => {
            let url = format!("redis://127.0.0.1:{}/", terms.store_port);
            // Nothing is lost if it is down: the connection is made when it is back.
            BoxBackend::new(RedisBackend::connect(url).await.expect("a valid address").timeout(PATIENCE))
        }
        Store::Postgres => {
            let address = address_at(terms.store_port).ssl_mode(PgSslMode::Disable);
            let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(address);
            BoxBackend::new(PostgresBackend::new(pool).timeout(PATIENCE))
        }
    }
}

/// The handler. What it does goes on in a task of its own, as effects do that its caller cannot take back.
async fn pay(State(ledger): State<Arc<Ledger>>, request: Request<Body>) -> Response<Body> {
    let run = request.extensions().get::<Run>().expect("each payment has a key");
    let (token, key) = (hex(run.token()), run.key().to_owned());
    let (length, fails) = wishes(request.headers());
    tokio::spawn(async move {
        ledger.begun(&token, &key);
        sleep(length).await;
        let status = if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED };
        ledger.ended(&token, status.as_u16());
        // No two runs give the same answer.
        Response::builder().status(status).body(Body::from(format!("{token} {key}"))).unwrap()
    })
    .await
    .unwrap()
}

fn wishes(headers: &HeaderMap) -> (Duration, bool) {
    let length = headers.get(RUN).map_or(0, |run| run.to_str().unwrap().parse().unwrap());
    (Duration::from_millis(length), headers.contains_key(FAIL))
}
