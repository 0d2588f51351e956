//! Plays a history: two nodes over one backend, their clients, and what all of them see.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::{
    Backend, BoxBackend, Entry as Stored, Key, MemoryBackend, Rejection, RequestBody, ResponseBody, Run,
    testing::{Command, Fault, FaultyBackend},
};

use crate::{
    distant::Distant,
    handler::{Call, Ledger, Moment, Own, Played, Shared, lock},
    history::{Client, History, KEYS, KnownBy},
    node::Node,
    script::{End, Response, Script},
    till::Till,
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
    pub(crate) keys_in_progress: Vec<Key>,
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

/// The backend, and the way to it.
pub(crate) type Faulty = FaultyBackend<BoxBackend>;

fn backend(history: &History, memory: MemoryBackend) -> BoxBackend {
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
        let (backend, from) = (backend.clone(), Instant::now() + from);
        tokio::spawn(async move {
            sleep_until(from).await;
            backend.stall();
            // Not so much later than it began: all clocks may have jumped.
            sleep_until(from + length).await;
            backend.resume();
        });
    }
}

/// Stops a node for a while, or all clocks at once.
fn stall(history: &History, nodes: &[Node]) {
    let Some(stall) = history.stall else { return };
    let pulse = stall.node.map(|node| nodes[node].pulse.clone());
    tokio::spawn(async move {
        sleep(stall.from).await;
        match pulse {
            Some(pulse) => {
                pulse.stop();
                sleep(stall.length).await;
                pulse.go_on();
            }
            None => tokio::time::advance(stall.length).await,
        }
    });
}

pub(crate) async fn play(mut history: History) -> Aftermath {
    let (begin, drawn) = (Instant::now(), history.requests.len());
    append_last_questions(&mut history);
    let history = Arc::new(history);
    let memory = MemoryBackend::with_limits(1024, 1 << 20);
    let (ledger, backend) = (Ledger::open(), Faulty::new(backend(&history, memory.clone())));
    let till = Till::new(memory, &backend, &ledger, &history);
    let nodes: Vec<_> = (0..history.nodes.len()).map(|node| Node::new(&history, node, &backend)).collect();
    disturb(&history, &backend);
    stall(&history, &nodes);

    let ask = |number: usize| {
        let node = &nodes[history.requests[number].node];
        let service = node.layer.layer(service(&history, &till, node));
        let pulse = node.pulse.clone();
        let (history, ledger) = (Arc::clone(&history), Arc::clone(&ledger));
        let asked = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move {
                sleep(history.requests[number].at).await;
                let what = pulse.of(client(&history, number, service)).await;
                Seen { at: lock(&ledger).now(), what }
            }
        });
        tokio::spawn(result(ledger, asked))
    };
    let mut seen = Vec::new();
    for asked in (0..drawn).map(ask).collect::<Vec<_>>() {
        seen.push(asked.await.expect("it does not panic"));
    }
    sleep_until(begin + history.calms_down()).await;
    sleep(history.longest_run()).await; // of those that clients have left
    backend.clear();
    backend.resume();
    sleep(history.longest_delay()).await;

    let live_runs = nodes.iter().map(|node| node.layer.runs().len()).sum();
    let busy_keys = nodes.iter().map(|node| node.layer.busy_keys()).sum();
    let keys_in_progress = keys_in_progress(&backend).await;
    for number in drawn..history.requests.len() {
        seen.push(ask(number).await.expect("it does not panic"));
    }
    Aftermath { history, ledger, seen, drawn, live_runs, busy_keys, keys_in_progress }
}

async fn keys_in_progress(backend: &Faulty) -> Vec<Key> {
    let mut keys: Vec<_> = backend.log().into_iter().map(|sent| sent.key).collect();
    keys.sort_unstable_by_key(|key| *key.as_bytes());
    keys.dedup();
    let mut in_progress = Vec::new();
    for key in keys {
        if matches!(backend.inner().get(&key).await, Ok(Some(Stored::InProgress { .. }))) {
            in_progress.push(key);
        }
    }
    in_progress
}

/// Each key and body once more, for the time when all is over. Should it run, it gives the key back.
fn append_last_questions(history: &mut History) {
    let ends = End::Response(Response::small(StatusCode::INTERNAL_SERVER_ERROR));
    let script = Script { thinks: Duration::ZERO, says: None, commits: None, ends };
    for (key, body) in (0..KEYS).flat_map(|key| [(key, 0), (key, 1)]) {
        history.requests.push(crate::history::Request {
            at: Duration::ZERO,
            node: key % history.nodes.len(),
            key,
            body: if history.known_by == KnownBy::Header { body } else { 0 },
            script: script.clone(),
            client: Client::Stays,
        });
    }
}

fn service(
    history: &Arc<History>,
    till: &Till,
    node: &Node,
) -> impl Service<Inner, Response = http::Response<Played>, Error = Own, Future: Send> + Clone + Send + use<> {
    let (history, till, pulse) = (Arc::clone(history), till.clone(), node.pulse.clone());
    service_fn(move |request: Inner| {
        let number = request.headers()["x-request"].to_str().ok().and_then(|text| text.parse().ok());
        let call = Call {
            history: Arc::clone(&history),
            till: till.clone(),
            pulse: pulse.clone(),
            request: number.expect("a number"),
            run: request.extensions().get::<Run>().cloned(),
        };
        call.handle()
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

/// What a client sends, and what is its key.
fn request(history: &History, number: usize) -> Request<Full<Bytes>> {
    let plan = &history.requests[number];
    let request = Request::post("http://localhost/").header("x-request", number);
    let (request, body) = match history.known_by {
        KnownBy::Header => (request.header("idempotency-key", format!("key-{}", plan.key)), plan.body),
        // Two of them send the same.
        KnownBy::BodyOfCaller => (request.header("authorization", format!("caller {}", plan.key % 2)), plan.key / 2),
        KnownBy::Body => (request.header("authorization", format!("caller {number}")), plan.key),
    };
    request.body(Full::from(format!("body {body}"))).expect("a request")
}

async fn client<S>(history: &History, number: usize, service: S) -> What
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<ResponseBody<Played>>, Error = Own>,
{
    let client = history.requests[number].client;
    let patience = match client {
        Client::LeavesAfter(patience) => patience,
        _ => Duration::from_secs(7200),
    };
    match timeout(patience, service.oneshot(request(history, number))).await {
        Err(_elapsed) => What::Left,
        Ok(Err(Own)) => What::ServiceError,
        Ok(Ok(response)) => What::Answer(read(response, client).await),
    }
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
