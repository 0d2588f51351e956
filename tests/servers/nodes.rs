//! Processes that each serve payments behind a layer, over one store.

use std::{
    collections::HashMap,
    env,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    routing::{get, post, put},
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tower_idempotency::{Backend, IdempotencyLayer};

use super::order;
use crate::behaviour::support::{Answer, Client, request, until_some};

/// Tells a process of the tests that it is a node, and what it needs for that.
const ROLE: &str = "TOWER_IDEMPOTENCY_NODE";
/// The test that a node runs in.
const ROLE_TEST: &str = "processes::a_node_ends_with_the_process_that_started_it";

/// The header of a payment whose run is held.
const HELD: &str = "x-held";

/// What the nodes of a test have in common.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Terms {
    /// Where the store is: its URL or port.
    pub(crate) place: String,
    /// What separates the nodes from those of other tests there: a prefix or a table.
    pub(crate) name: String,
    pub(crate) lease: Duration,
    /// How long a request waits for the store.
    pub(crate) timeout: Duration,
    /// How long a run takes, unless it is held.
    pub(crate) run: Duration,
}

/// A process that serves payments. It ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Node {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Node {
    /// Starts the test program once more, as a node.
    pub(crate) fn start(terms: &Terms) -> Self {
        Self::start_build(&env::current_exe().unwrap(), terms)
    }

    /// Starts another build of the test program, as a node.
    pub(crate) fn start_build(program: &Path, terms: &Terms) -> Self {
        let mut process = Command::new(program)
            .args([ROLE_TEST, "--exact", "--nocapture"])
            .env(ROLE, serde_json::to_string(terms).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.split("listening on ").nth(1)?.parse().ok());
        Self { address: address.expect("the node says where it listens"), process }
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets the process know that nobody needs it any more, as when the tests die, and waits until it has ended.
    pub(crate) fn leave_alone(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }

    /// Sends a payment whose run is held until the node is opened, and waits until it is under way.
    pub(crate) async fn hold(&self, key: &str) -> JoinHandle<hyper::Result<Answer>> {
        let (client, mut order) = (Client::http2(self.address).await, order(key));
        order.headers_mut().insert(HELD, HeaderValue::from_static("true"));
        let answer = tokio::spawn(async move { Answer::read(client.send(order).await?).await });
        until_some("the run begins", async || self.runs().await.contains_key(key).then_some(())).await;
        answer
    }

    /// Lets the held runs go on.
    pub(crate) async fn open(&self) {
        let open = request(Method::PUT, "/gate", "none", "");
        assert!(Client::http1(self.address).ask(open).await.status.is_success());
    }

    /// How often the handler of this node has run, by key.
    async fn runs(&self) -> HashMap<String, usize> {
        let asked = request(Method::GET, "/runs", "none", "");
        serde_json::from_slice(&Client::http1(self.address).ask(asked).await.body).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How often the handlers of all `nodes` have run, by key.
pub(crate) async fn runs_of(nodes: &[Node]) -> HashMap<String, usize> {
    let mut all = HashMap::new();
    for node in nodes {
        for (key, runs) in node.runs().await {
            *all.entry(key).or_default() += runs;
        }
    }
    all
}

/// Serves over the backend that `connect` makes, where this process was started as a node, until the one that started it
/// has ended. Returns at once where it was not.
pub(crate) fn serve_as_node<B: Backend>(connect: impl AsyncFnOnce(&Terms) -> B) {
    let Ok(terms) = env::var(ROLE) else { return };
    let terms: Terms = serde_json::from_str(&terms).unwrap();
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async { serve(connect(&terms).await, terms).await });
}

async fn serve(backend: impl Backend, terms: Terms) {
    let layer = IdempotencyLayer::new(backend).lease(terms.lease).backend_timeout(terms.timeout);
    let payments = Payments { runs: Arc::default(), gate: Arc::new(Semaphore::new(0)), run: terms.run };
    let router = Router::new()
        .route("/payments", post(Payments::pay))
        .layer(layer)
        .route("/runs", get(Payments::runs))
        .route("/gate", put(Payments::open))
        .with_state(payments);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(20_000);
            server.serve_connection(TokioIo::new(stream), service).await
        });
    }
}

/// The handler of a node.
#[derive(Debug, Clone)]
struct Payments {
    runs: Arc<Mutex<HashMap<String, usize>>>,
    gate: Arc<Semaphore>,
    run: Duration,
}

impl Payments {
    async fn pay(State(payments): State<Self>, request: Request<Body>) -> Response<Body> {
        let answer = payments.count(&request);
        if request.headers().contains_key(HELD) {
            payments.gate.acquire().await.unwrap().forget();
        } else {
            tokio::time::sleep(payments.run).await;
        }
        answer
    }

    /// No two runs give the same answer.
    fn count(&self, request: &Request<Body>) -> Response<Body> {
        let key = request.headers()["x-idempotency-key"].to_str().unwrap();
        let mut runs = self.runs.lock().unwrap();
        let run = runs.entry(key.to_owned()).or_default();
        *run += 1;
        let answer = format!("run {run} of {key} in process {}", std::process::id());
        Response::builder().status(StatusCode::CREATED).body(Body::from(answer)).unwrap()
    }

    async fn runs(State(payments): State<Self>) -> Json<HashMap<String, usize>> {
        Json(payments.runs.lock().unwrap().clone())
    }

    async fn open(State(payments): State<Self>) {
        payments.gate.add_permits(1 << 20);
    }
}
