//! Plays a history: two nodes over one backend, their clients, and what all of them see.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::{
    Backend, BoxBackend, CachedBackend, Entry as Stored, IdempotencyLayer, Key, MemoryBackend, Rejection, RequestBody,
    ResponseBody, Run,
    testing::{Command, Fault, FaultyBackend},
};

use crate::{
    distant::Distant,
    handler::{self, Ledger, Moment, Own, Played, Shared, lock},
    history::{Client, End, History, LIMIT, LONGEST_DELAY, LONGEST_LEASE, LONGEST_RUN, Response, Script},
};

/// What came of a history.
#[derive(Debug)]
pub(crate) struct Aftermath {
    pub(crate) history: Arc<History>,
    pub(crate) ledger: Shared,
    /// What the clients saw, in the order of the requests.
    pub(crate) seen: Vec<Seen>,
    /// So many requests were drawn. Those behind ask for each key and body once more, when all faults are over.
    pub(crate) drawn: usize,
    pub(crate) live_runs: usize,
    pub(crate) busy_keys: usize,
    pub(crate) keys_in_progress: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Moment,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Answer(Answer),
    ServiceError,
    Panic,
    /// The client hung up before it had an answer.
    Left,
    /// There was none within an hour.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) rejection: Option<Rejection>,
    /// The run that made this response.
    pub(crate) run: Option<usize>,
    pub(crate) replayed: bool,
    pub(crate) marked_not_stored: bool,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) end: BodyEnd,
}

#[derive(Debug, PartialEq)]
pub(crate) enum BodyEnd {
    Whole,
    Broken,
    Left,
}

type Faulty = FaultyBackend<BoxBackend>;

fn key(number: usize) -> String {
    format!("key-{number}")
}

/// What a node sees of the backend: in every third history through a cache of its own.
fn seen_from_a_node(history: &History, backend: &Faulty) -> BoxBackend {
    if history.seed.is_multiple_of(3) {
        BoxBackend::new(CachedBackend::new(MemoryBackend::with_limits(1024, 1 << 20), backend.clone()))
    } else {
        BoxBackend::new(backend.clone())
    }
}

fn layer(history: &History, node: usize, backend: &Faulty) -> IdempotencyLayer<BoxBackend> {
    let layer = IdempotencyLayer::new(seen_from_a_node(history, backend)).lease(history.lease).limits(1024, LIMIT);
    let layer = if history.at_most_once { layer.at_most_once() } else { layer };
    match history.wait[node] {
        Some(max) => layer.wait(max),
        None => layer,
    }
}

fn backend(history: &History) -> BoxBackend {
    let memory = MemoryBackend::with_limits(1024, 1 << 20);
    match history.round_trip {
        Some(round_trip) => BoxBackend::new(Distant::new(memory, round_trip)),
        None => BoxBackend::new(memory),
    }
}

/// Lets the weather loose on the backend.
fn disturb(history: &History, backend: &Faulty) {
    let Some(weather) = &history.weather else { return };
    backend.random(history.seed, weather.odds);
    if weather.renewals_are_lost && !history.at_most_once {
        backend.on(Command::Renew).always(Fault::LoseRequest);
    }
    if let Some((from, length)) = weather.outage {
        let backend = backend.clone();
        tokio::spawn(async move {
            sleep(from).await;
            backend.stall();
            sleep(length).await;
            backend.resume();
        });
    }
}

pub(crate) async fn play(mut history: History) -> Aftermath {
    let drawn = history.requests.len();
    append_last_questions(&mut history);
    let history = Arc::new(history);
    let (ledger, backend) = (Ledger::open(), Faulty::new(backend(&history)));
    let layers = [0, 1].map(|node| layer(&history, node, &backend));
    let services = layers.each_ref().map(|layer| layer.layer(service(&history, &ledger)));
    disturb(&history, &backend);

    let ask = |number: usize| {
        let service = services[history.requests[number].node].clone();
        let asked = tokio::spawn(client(Arc::clone(&history), Arc::clone(&ledger), number, service));
        tokio::spawn(result(Arc::clone(&ledger), asked))
    };
    let mut seen = Vec::new();
    for asked in (0..drawn).map(ask).collect::<Vec<_>>() {
        seen.push(asked.await.expect("it does not panic"));
    }
    sleep(LONGEST_RUN).await; // of those that clients have left
    backend.clear();
    backend.resume();
    sleep(LONGEST_DELAY + 3 * LONGEST_LEASE).await;

    let live_runs = layers.iter().map(|layer| layer.runs().len()).sum();
    let busy_keys = layers.iter().map(IdempotencyLayer::busy_keys).sum();
    let mut keys_in_progress = Vec::new();
    for number in 0..3 {
        let stored = backend.inner().get(&Key::new("", key(number))).await;
        if matches!(stored, Ok(Some(Stored::InProgress { .. }))) {
            keys_in_progress.push(number);
        }
    }
    for number in drawn..history.requests.len() {
        seen.push(ask(number).await.expect("it does not panic"));
    }
    Aftermath { history, ledger, seen, drawn, live_runs, busy_keys, keys_in_progress }
}

/// Each key and body once more, for the time when all is over. Should it run, it gives the key back.
fn append_last_questions(history: &mut History) {
    let response = Response {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        sized: true,
        pauses: Vec::new(),
        chunk: 1,
        trailers: false,
        breaks: false,
    };
    let script = Script { thinks: Duration::ZERO, ends: End::Response(response) };
    for (key, body) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
        history.requests.push(crate::history::Request {
            at: Duration::ZERO,
            node: key % 2,
            key,
            body,
            script: script.clone(),
            client: Client::Stays,
        });
    }
}

fn service(
    history: &Arc<History>,
    ledger: &Shared,
) -> impl Service<Inner, Response = http::Response<Played>, Error = Own, Future: Send> + Clone + Send + use<> {
    let (history, ledger) = (Arc::clone(history), Arc::clone(ledger));
    service_fn(move |request: Inner| {
        let run = request.extensions().get::<Run>().expect("a guarded request has one").clone();
        let number = request.headers()["x-request"].to_str().ok().and_then(|text| text.parse().ok());
        handler::handle(Arc::clone(&history), Arc::clone(&ledger), run, number.expect("a number"))
    })
}

type Inner = Request<RequestBody<Full<Bytes>>>;

async fn result(ledger: Shared, asked: JoinHandle<Seen>) -> Seen {
    let what = match timeout(Duration::from_secs(3600), asked).await {
        Ok(Ok(seen)) => return seen,
        Ok(Err(_panic)) => What::Panic,
        Err(_elapsed) => What::Nothing,
    };
    Seen { at: lock(&ledger).now(), what }
}

async fn client<S>(history: Arc<History>, ledger: Shared, number: usize, service: S) -> Seen
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<ResponseBody<Played>>, Error = Own>,
{
    let plan = &history.requests[number];
    let request = Request::post("http://localhost/")
        .header("idempotency-key", key(plan.key))
        .header("x-request", number)
        .body(Full::from(format!("body {}", plan.body)))
        .expect("a request");
    sleep(plan.at).await;
    let patience = match plan.client {
        Client::LeavesAfter(patience) => patience,
        _ => Duration::from_secs(7200),
    };
    let what = match timeout(patience, service.oneshot(request)).await {
        Err(_elapsed) => What::Left,
        Ok(Err(Own)) => What::ServiceError,
        Ok(Ok(response)) => What::Answer(read(response, plan.client).await),
    };
    Seen { at: lock(&ledger).now(), what }
}

async fn read(response: http::Response<ResponseBody<Played>>, client: Client) -> Answer {
    let (head, mut stream) = response.into_parts();
    let (mut body, mut trailers, mut end, mut frames) = (Vec::new(), None, BodyEnd::Whole, 0);
    loop {
        if client == Client::LeavesAtFrame(frames) {
            end = BodyEnd::Left;
            break;
        }
        frames += 1;
        match stream.frame().await.map(|frame| frame.map(http_body::Frame::into_data)) {
            None => break,
            Some(Ok(Ok(data))) => body.extend_from_slice(&data),
            Some(Ok(Err(frame))) => trailers = frame.into_trailers().ok(),
            Some(Err(_)) => {
                end = BodyEnd::Broken;
                break;
            }
        }
    }
    let not_stored = |headers: &HeaderMap| headers.contains_key("idempotency-stored");
    Answer {
        status: head.status,
        rejection: head.extensions.get().copied(),
        run: head.headers.get("x-run").and_then(|run| run.to_str().ok()?.parse().ok()),
        replayed: head.headers.contains_key("idempotent-replayed"),
        marked_not_stored: not_stored(&head.headers) || trailers.as_ref().is_some_and(not_stored),
        body: body.into(),
        trailers,
        end,
    }
}
