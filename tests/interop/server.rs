//! A payments API that counts, and shows what its clients do.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Arc, Mutex},
};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Outcome, Run};

pub(crate) struct Server {
    pub(crate) url: String,
    api: Api,
}

#[derive(Clone)]
struct Api {
    seen: Arc<Mutex<Seen>>,
    /// Closed, runs wait for it.
    gate: watch::Sender<bool>,
    /// How many runs have started.
    started: watch::Sender<usize>,
}

#[derive(Default)]
struct Seen {
    /// How often each key has run.
    runs: BTreeMap<String, usize>,
    outcomes: Vec<Outcome>,
    /// Whether the next answer is lost on its way.
    loses_answer: bool,
    /// Whether the first refusal lets the run end that it was refused for.
    opens_at_conflict: bool,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|layer| layer).await
    }

    pub(crate) async fn start_with(
        set: impl FnOnce(IdempotencyLayer<MemoryBackend>) -> IdempotencyLayer<MemoryBackend>,
    ) -> Self {
        let api = Api { seen: Arc::default(), gate: watch::Sender::new(true), started: watch::Sender::new(0) };
        let app = Router::new()
            .route("/{*path}", post(pay))
            .layer(set(IdempotencyLayer::new(MemoryBackend::new()).require_key()))
            .layer(from_fn_with_state(api.clone(), see))
            .with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { url, api }
    }

    /// How often each key has run.
    pub(crate) fn runs(&self) -> Vec<usize> {
        self.api.seen.lock().unwrap().runs.values().copied().collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.api.seen.lock().unwrap().outcomes.clone()
    }

    /// Its client sees the connection end.
    pub(crate) fn lose_next_answer(&self) {
        self.api.seen.lock().unwrap().loses_answer = true;
    }

    /// Runs do not end before it is opened.
    pub(crate) fn close_gate(&self) {
        self.api.gate.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.api.gate.send_replace(true);
    }

    pub(crate) fn open_gate_at_first_conflict(&self) {
        self.api.seen.lock().unwrap().opens_at_conflict = true;
    }

    pub(crate) async fn first_run_has_started(&self) {
        self.api.started.subscribe().wait_for(|started| *started > 0).await.unwrap();
    }
}

async fn pay(State(api): State<Api>, Extension(run): Extension<Run>) -> impl IntoResponse {
    *api.seen.lock().unwrap().runs.entry(run.key().to_owned()).or_default() += 1;
    api.started.send_modify(|started| *started += 1);
    let number = *api.started.borrow();
    api.gate.subscribe().wait_for(|is_open| *is_open).await.unwrap();
    (StatusCode::CREATED, Json(json!({ "id": format!("pay_{number}"), "object": "payment_intent" })))
}

/// Outside of the layer.
async fn see(State(api): State<Api>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let mut seen = api.seen.lock().unwrap();
    let outcome = *response.extensions().get().expect("every request has a key");
    seen.outcomes.push(outcome);
    if outcome == Outcome::Conflict && seen.opens_at_conflict {
        api.gate.send_replace(true);
    }
    if std::mem::take(&mut seen.loses_answer) {
        drop(seen);
        resume_unwind(Box::new("the connection is lost")); // hyper's task ends, and with it the connection
    }
    drop(seen);
    response
}
