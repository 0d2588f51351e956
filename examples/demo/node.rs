//! A node: the payments API, once behind the layer, once behind a layer that lets duplicates wait, and once without.

use std::{future::pending, io::Read, path::Path, process, thread, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, time::sleep};
use tower_idempotency::{IdempotencyLayer, Outcome, Run};

use crate::{
    Result,
    bank::Bank,
    report::{Report, What},
    sqlite::SqliteBackend,
};

/// How long a killed node blocks a key. Short, so that nobody has to watch for the 30 seconds of the default.
const LEASE: Duration = Duration::from_secs(5);
/// How long a handler thinks before it charges, how long it takes then to answer, and how long where clients give up.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(500);
const SLOWLY: Duration = Duration::from_secs(3);

#[derive(Clone)]
struct Node {
    name: String,
    bank: Bank,
}

#[derive(Serialize, Deserialize)]
struct Payment {
    amount: u32,
}

pub(crate) async fn serve(name: &str, folder: &Path) -> Result<()> {
    let node = Node { name: name.to_owned(), bank: Bank::open(folder)? };
    let layer = IdempotencyLayer::new(SqliteBackend::open(folder.join("idempotency.db"))?).lease(LEASE);
    let app = Router::new()
        .route("/payments", post(pay).layer(layer.clone()))
        .route("/patient/payments", post(pay).layer(layer.wait(Duration::from_secs(20))))
        .route("/unprotected/payments", post(pay))
        .layer(from_fn_with_state(node.clone(), watch))
        .with_state(node);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    thread::spawn(end_with_the_shop);
    Report::of_node(name, What::Up { process: process::id(), port: listener.local_addr()?.port() }).print();
    Ok(axum::serve(listener, app).await?)
}

async fn pay(
    State(node): State<Node>,
    Extension(call): Extension<Call>,
    run: Option<Extension<Run>>,
    headers: HeaderMap,
    Json(payment): Json<Payment>,
) -> std::result::Result<impl IntoResponse, StatusCode> {
    call.tell(What::Run);
    sleep(BEFORE).await;
    call.die_if("before", &headers).await;

    // The same in every run of this key: a bank that knows it charges once, though the run is repeated after a crash.
    let id = run.filter(|_| headers.contains_key("x-demo-unique")).map(|Extension(run)| run.derive(["charge"]));
    let charged = node.bank.charge(id, payment.amount, call.guarded).await;
    let charged = charged.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    call.tell(if charged { What::Charged } else { What::NotChargedAgain });
    call.die_if("after", &headers).await;

    sleep(if headers.contains_key("x-demo-slow") { SLOWLY } else { AFTER }).await;
    call.tell(What::Ended);
    Ok((StatusCode::CREATED, Json(payment)))
}

/// A request, as it is reported.
#[derive(Clone)]
struct Call {
    node: String,
    key: String,
    guarded: bool,
}

impl Call {
    fn new(node: Node, request: &Request) -> Self {
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
        let guarded = !request.uri().path().starts_with("/unprotected");
        Self { node: node.name, key: key.unwrap_or_default().to_owned(), guarded }
    }

    fn tell(&self, what: What) {
        Report { node: self.node.clone(), what, key: self.key.clone(), guarded: self.guarded }.print();
    }

    /// Waits to be killed, if the client wants it here.
    async fn die_if(&self, here: &str, headers: &HeaderMap) {
        if headers.get("x-demo-crash").is_some_and(|when| when == here) {
            self.tell(What::KillMe);
            pending::<()>().await;
        }
    }
}

/// Outside of the layer: reports what it answers without a run, and clients that leave.
async fn watch(State(node): State<Node>, mut request: Request, next: Next) -> Response {
    let call = Call::new(node, &request);
    request.extensions_mut().insert(call.clone());
    let mut client = Client { call, is_answered: false };
    let response = next.run(request).await;
    client.is_answered = true;
    match response.extensions().get() {
        Some(Outcome::Replayed) => client.call.tell(What::Replayed),
        Some(Outcome::Conflict) => client.call.tell(What::Refused),
        Some(Outcome::Mismatch | Outcome::Rejected) => client.call.tell(What::Rejected),
        _ => {} // the handler has reported
    }
    response
}

/// hyper drops what it waits for when a client closes its connection.
struct Client {
    call: Call,
    is_answered: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.is_answered {
            self.call.tell(What::HungUp);
        }
    }
}

/// The shop holds the other end, and nobody should have to look for nodes that it has left behind.
fn end_with_the_shop() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}
