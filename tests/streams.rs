//! Responses that are recorded while they are sent: what their client sees when, and what is left of them. On tokio's
//! paused clock, frame by frame.
#![cfg(all(feature = "memory", feature = "test-util"))]

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{
    BodyExt, Full,
    channel::{Channel, Sender},
};
use tokio::{
    task::yield_now,
    time::{advance, sleep, timeout},
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};
use tower_idempotency::{
    Backend, BackendErrorKind, BodyHash, Claim, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Rejection,
    RequestBody, ResponseBody, Token,
    testing::{Command, Fault, FaultyBackend},
};

const LEASE: Duration = Duration::from_secs(30);
const LIMIT: usize = 10;

type Faulty = FaultyBackend<MemoryBackend>;
type Stream = Channel<Bytes, io::Error>;
type Live = Response<ResponseBody<Stream>>;

/// A layer over handlers whose responses the test writes.
struct Stage {
    backend: Faulty,
    service: BoxCloneSyncService<Request<Full<Bytes>>, Live, Infallible>,
    /// The heads of the next responses.
    heads: Arc<Mutex<VecDeque<Response<()>>>>,
    /// Where the bodies of the responses so far are written.
    writers: Arc<Mutex<Vec<Sender<Bytes, io::Error>>>>,
}

impl Stage {
    fn new() -> Self {
        Self::with(|layer| layer)
    }

    fn with(change: impl FnOnce(IdempotencyLayer<Faulty>) -> IdempotencyLayer<Faulty>) -> Self {
        let backend = FaultyBackend::new(MemoryBackend::new());
        let heads = Arc::new(Mutex::new(VecDeque::<Response<()>>::new()));
        let writers = Arc::new(Mutex::new(Vec::new()));
        let (next, bodies) = (heads.clone(), writers.clone());
        let handler = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            let (writer, body) = Channel::new(100);
            bodies.lock().unwrap().push(writer);
            let head = next.lock().unwrap().pop_front().unwrap_or_default();
            async move { Ok::<_, Infallible>(head.map(|()| body)) }
        });
        let layer = change(IdempotencyLayer::new(backend.clone()).limits(1024, LIMIT));
        Self { backend, service: BoxCloneSyncService::new(layer.layer(handler)), heads, writers }
    }

    /// The next response has this content type.
    fn next_is(&self, content_type: &'static str) {
        let head = Response::builder().header(header::CONTENT_TYPE, content_type).body(()).unwrap();
        self.heads.lock().unwrap().push_back(head);
    }

    async fn send(&self) -> Live {
        self.send_as("application/json").await
    }

    async fn send_as(&self, content_type: &'static str) -> Live {
        let request = Request::post("http://localhost/").header("idempotency-key", "k-1");
        let request = request.header(header::CONTENT_TYPE, content_type).body(Full::default()).unwrap();
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// What writes the body of the last response.
    fn writer(&self) -> Sender<Bytes, io::Error> {
        self.writers.lock().unwrap().pop().expect("a handler has run")
    }

    /// Sends the request, which streams.
    async fn stream(&self) -> (ResponseBody<Stream>, Sender<Bytes, io::Error>) {
        let response = self.send().await;
        assert_eq!(response.status(), StatusCode::OK);
        (response.into_body(), self.writer())
    }

    async fn assert_replays(&self, body: &str, trailers: Option<HeaderMap>) {
        let response = self.send().await;
        assert_eq!(response.headers().get("idempotent-replayed").unwrap(), "true");
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().cloned(), trailers);
        assert_eq!(collected.to_bytes(), body);
    }

    async fn assert_refuses(&self, rejection: Rejection) {
        assert_eq!(self.send().await.extensions().get(), Some(&rejection));
    }

    async fn assert_runs_again(&self) {
        let response = self.send().await;
        assert_eq!(response.extensions().get::<Rejection>(), None);
        assert!(!response.headers().contains_key("idempotent-replayed"));
        drop(self.writer());
    }
}

/// What `future` yields, unless it waits although everything else in the program waits too.
async fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    timeout(Duration::from_millis(1), future).await.ok()
}

async fn write(writer: &mut Sender<Bytes, io::Error>, data: &'static str) {
    writer.send_data(Bytes::from(data)).await.unwrap();
}

async fn data<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Bytes
where
    B::Error: std::fmt::Debug,
{
    body.frame().await.expect("a frame").unwrap().into_data().expect("data")
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_until_the_record_is_durable() {
    let stage = Stage::new();
    let (mut body, mut writer) = stage.stream().await;
    let complete = stage.backend.hold(Command::Complete);
    write(&mut writer, "one").await;
    assert_eq!(data(&mut body).await, "one");
    writer.send_trailers(trailers("etag", "\"1\"")).await.unwrap();
    drop(writer);
    complete.arrived().await;
    {
        let mut end = pin!(body.frame());
        assert!(now_or_never(end.as_mut()).await.is_none(), "the client sees the end before the record is stored");
        complete.open();
        assert_eq!(end.await.unwrap().unwrap().into_trailers().unwrap(), trailers("etag", "\"1\""));
    }
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
    stage.assert_replays("one", Some(trailers("etag", "\"1\""))).await;
}

/// With a declared length the client would know the end by counting: nothing is sent before the record is durable.
#[tokio::test(start_paused = true)]
async fn a_response_of_known_length_waits_until_the_record_is_durable() {
    let stage = Stage::new();
    let head = Response::builder().header(header::CONTENT_LENGTH, "3").body(()).unwrap();
    stage.heads.lock().unwrap().push_back(head);
    let complete = stage.backend.hold(Command::Complete);
    let mut response = pin!(stage.send());
    assert!(now_or_never(response.as_mut()).await.is_none());
    let mut writer = stage.writer();
    write(&mut writer, "one").await;
    drop(writer);
    assert!(now_or_never(response.as_mut()).await.is_none(), "the client sees the end before the record is stored");
    complete.arrived().await;
    complete.open();
    assert_eq!(response.await.into_body().collect().await.unwrap().to_bytes(), "one");
    stage.assert_replays("one", None).await;
}

/// The answer to HEAD has the length of a body that it does not have.
#[tokio::test(start_paused = true)]
async fn a_response_without_a_body_is_recorded_at_its_head() {
    let stage = Stage::with(|layer| layer.cover(|parts| parts.method == Method::HEAD));
    let head = || Request::head("http://localhost/").header("idempotency-key", "k-1").body(Full::default()).unwrap();
    let length = Response::builder().header(header::CONTENT_LENGTH, "1234").body(()).unwrap();
    stage.heads.lock().unwrap().push_back(length);
    let first = stage.service.clone().oneshot(head()).await.unwrap();
    let replay = stage.service.clone().oneshot(head()).await.unwrap();
    assert_eq!(replay.headers()["idempotent-replayed"], "true");
    assert_eq!(
        (&first.headers()["content-length"], &replay.headers()["content-length"]),
        (&"1234".parse().unwrap(), &"1234".parse().unwrap())
    );
    assert_eq!(stage.writers.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_does_not_hold_up_the_record() {
    let stage = Stage::new();
    let (body, mut writer) = stage.stream().await;
    for chunk in ["one", "two", "six"] {
        write(&mut writer, chunk).await;
    }
    drop(writer);
    sleep(LEASE).await;
    stage.assert_replays("onetwosix", None).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "onetwosix");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_midway_does_not_lose_the_rest() {
    let stage = Stage::new();
    let (mut body, mut writer) = stage.stream().await;
    write(&mut writer, "one").await;
    assert_eq!(data(&mut body).await, "one");
    drop(body);
    sleep(2 * LEASE).await;
    stage.assert_refuses(Rejection::InProgress).await;
    write(&mut writer, "two").await;
    drop(writer);
    sleep(LEASE).await;
    stage.assert_replays("onetwo", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_past_the_limit_flows_on_and_leaves_a_tombstone() {
    let stage = Stage::new();
    let (mut body, mut writer) = stage.stream().await;
    for chunk in ["12345", "67890", "12345", "67890"] {
        write(&mut writer, chunk).await;
        assert_eq!(data(&mut body).await, chunk);
    }
    stage.assert_refuses(Rejection::NotKept).await;
    writer.send_trailers(trailers("etag", "\"1\"")).await.unwrap();
    drop(writer);
    assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers("etag", "\"1\"")));
    stage.assert_refuses(Rejection::NotKept).await;
}

/// Up to the limit the run reads ahead of its client; past it the client sets the pace, and ends it when it leaves.
#[tokio::test(start_paused = true)]
async fn past_the_limit_the_client_drives_the_body() {
    let stage = Stage::new();
    let (body, mut writer) = stage.stream().await;
    write(&mut writer, "more than ten").await;
    let mut sent = 0;
    while now_or_never(writer.send_data(Bytes::from("x"))).await.is_some() {
        sent += 1;
        assert!(sent <= 101, "the body is read although its client does not read");
    }
    drop(body);
    assert!(writer.send_data(Bytes::from("x")).await.is_err(), "the body lives on without a client");
    stage.assert_refuses(Rejection::NotKept).await;
}

/// A body of 16,384 frames of 64 KiB, which counts those that were asked for.
struct Gigabyte(Arc<AtomicUsize>);

impl Gigabyte {
    const FRAMES: usize = 1 << 14;
    const FRAME: Bytes = Bytes::from_static(&[7; 1 << 16]);
}

impl Body for Gigabyte {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready((frame < Self::FRAMES).then_some(Ok(Frame::data(Self::FRAME))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_flows_in_flat_memory() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    let inner = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let body = Gigabyte(counted.clone());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let service = IdempotencyLayer::new(MemoryBackend::new()).layer(inner);
    let request = || Request::post("/").header("idempotency-key", "k-1").body(Full::default()).unwrap();
    let mut body = service.clone().oneshot(request()).await.unwrap().into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        assert_eq!(frame.unwrap().into_data().unwrap().len(), 1 << 16);
        read += 1;
        let ahead = made.load(Ordering::Relaxed) - read;
        assert!(ahead <= 17, "{ahead} frames are in memory, and a record holds 16");
    }
    assert_eq!(read, Gigabyte::FRAMES);
    let duplicate = service.oneshot(request()).await.unwrap();
    assert_eq!(duplicate.extensions().get(), Some(&Rejection::NotKept));
    assert_eq!(made.load(Ordering::Relaxed), Gigabyte::FRAMES + 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_midway_releases_its_key() {
    let stage = Stage::new();
    let (mut body, mut writer) = stage.stream().await;
    write(&mut writer, "one").await;
    assert_eq!(data(&mut body).await, "one");
    writer.abort(io::Error::other("disk on fire"));
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "disk on fire");
    assert!(body.frame().await.is_none());
    stage.assert_runs_again().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_midway_releases_its_key() {
    struct Panics;

    impl Body for Panics {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("no frame")
        }
    }

    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let inner = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(Response::new(Panics)) }
    });
    let service = IdempotencyLayer::new(MemoryBackend::new()).layer(inner);
    for run in 1..=2 {
        let request = Request::post("/").header("idempotency-key", "k-1").body(Full::default()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "the client takes a part for the whole");
        assert_eq!(runs.load(Ordering::Relaxed), run);
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_stream_that_fails_midway_is_not_repeated() {
    let stage = Stage::with(IdempotencyLayer::at_most_once);
    let (body, writer) = stage.stream().await;
    writer.abort(io::Error::other("disk on fire"));
    assert!(body.collect().await.is_err());
    stage.assert_refuses(Rejection::OutcomeUnknown).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_lease_is_lost_ends_with_an_error() {
    let stage = Stage::new();
    let (mut body, mut writer) = stage.stream().await;
    write(&mut writer, "one").await;
    assert_eq!(data(&mut body).await, "one");
    stage.backend.on(Command::Renew).always(Fault::LoseRequest);
    sleep(2 * LEASE).await;
    let (key, other) = (Key::new("", "k-1"), Fingerprint::of("another"));
    let successor = stage.backend.inner().claim(&key, Token::random(), &other, LEASE).await;
    assert_eq!(successor.unwrap(), Claim::Acquired);
    drop(writer);
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("lost its idempotency key"), "{error}");
}

/// The head is out, so the trailers have to say it.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_record_is_not_answered_says_so_in_its_trailers() {
    let stage = Stage::new();
    let (body, mut writer) = stage.stream().await;
    stage.backend.on(Command::Complete).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    write(&mut writer, "one").await;
    drop(writer);
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers("idempotency-stored", "false")));
    assert_eq!(collected.to_bytes(), "one");
    stage.backend.clear();
    sleep(LEASE).await;
    stage.assert_replays("one", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_tombstone_is_not_answered_says_so_in_its_trailers() {
    for end in [None, Some(trailers("etag", "\"1\""))] {
        let stage = Stage::new();
        let (body, mut writer) = stage.stream().await;
        stage.backend.on(Command::Complete).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
        write(&mut writer, "more than ten").await;
        let mut expected = end.clone().unwrap_or_default();
        expected.extend(trailers("idempotency-stored", "false"));
        if let Some(end) = end {
            writer.send_trailers(end).await.unwrap();
        }
        drop(writer);
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&expected));
        assert_eq!(collected.to_bytes(), "more than ten");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_recorded_for_max_run_and_no_longer() {
    let stage = Stage::with(|layer| layer.max_run(3 * LEASE));
    let (mut body, mut writer) = stage.stream().await;
    write(&mut writer, "one").await;
    assert_eq!(data(&mut body).await, "one");
    sleep(4 * LEASE).await;
    stage.assert_refuses(Rejection::NotKept).await;
    write(&mut writer, "two").await;
    drop(writer);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "two");
}

/// A body that always has an empty frame.
struct Empties;

impl Body for Empties {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

/// No limit counts its bytes; its thread goes on with other tasks, and its client's memory does not grow.
#[tokio::test(start_paused = true)]
async fn a_stream_of_empty_frames_ends_with_max_run_and_holds_nobody_up() {
    let handler =
        tower::service_fn(|_: Request<RequestBody<Full<Bytes>>>| async { Ok::<_, Infallible>(Response::new(Empties)) });
    let service = IdempotencyLayer::new(MemoryBackend::new()).max_run(LEASE / 2).layer(handler);
    let request = || Request::post("http://localhost/").header("idempotency-key", "k-1").body(Full::default()).unwrap();
    let mut body = service.clone().oneshot(request()).await.unwrap().into_body();
    yield_now().await;
    let sent = pin!(body.frame()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(sent.is_pending(), "there is nothing to send");
    advance(LEASE / 2).await;
    while service.clone().oneshot(request()).await.unwrap().extensions().get() != Some(&Rejection::NotKept) {
        yield_now().await;
    }
}

/// A client of HTTP/2 may send such frames.
#[tokio::test(start_paused = true)]
async fn a_request_of_empty_frames_times_out_and_holds_nobody_up() {
    for by_body in [false, true] {
        let handler = tower::service_fn(|_: Request<RequestBody<Empties>>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let layer = IdempotencyLayer::new(MemoryBackend::new());
        let layer = if by_body { layer.or_body_hash(BodyHash::any_caller(LEASE)) } else { layer };
        let request = Request::post("http://localhost/");
        let request = if by_body { request } else { request.header("idempotency-key", "k-1") };
        let answer = tokio::spawn(layer.layer(handler).oneshot(request.body(Empties).unwrap()));
        yield_now().await;
        advance(Duration::from_secs(31)).await;
        let expected = if by_body { StatusCode::OK } else { StatusCode::REQUEST_TIMEOUT };
        assert_eq!(answer.await.unwrap().unwrap().status(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn events_flow_untouched_and_leave_a_tombstone() {
    let stage = Stage::new();
    stage.next_is("text/event-stream; charset=utf-8");
    let (mut body, mut writer) = stage.stream().await;
    write(&mut writer, "data: 1\n\n").await;
    assert_eq!(data(&mut body).await, "data: 1\n\n");
    stage.assert_refuses(Rejection::NotKept).await;
    drop(body);
    assert!(writer.send_data(Bytes::from("x")).await.is_err(), "events are produced without a listener");
}

mod grpc {
    use super::*;

    const RELEASED: [&str; 8] = ["1", "2", "4", "8", "10", "13", "14", "16"];
    const RECORDED: [&str; 9] = ["0", "3", "5", "6", "7", "9", "11", "12", "15"];

    /// Answers a call with one message and the given trailers.
    async fn call(stage: &Stage, end: Option<HeaderMap>) -> Option<HeaderMap> {
        stage.next_is("application/grpc");
        let (body, mut writer) = stage.stream().await;
        write(&mut writer, "message").await;
        if let Some(end) = end {
            writer.send_trailers(end).await.unwrap();
        }
        drop(writer);
        body.collect().await.unwrap().trailers().cloned()
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_in_the_trailers_decides() {
        for status in RECORDED {
            let (stage, end) = (Stage::new(), Some(trailers("grpc-status", status)));
            assert_eq!(call(&stage, end.clone()).await, end);
            stage.assert_replays("message", end).await;
        }
        for status in RELEASED {
            let (stage, end) = (Stage::new(), Some(trailers("grpc-status", status)));
            assert_eq!(call(&stage, end.clone()).await, end);
            stage.assert_runs_again().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_ends_without_a_status_has_failed() {
        let stage = Stage::new();
        assert_eq!(call(&stage, None).await, None);
        stage.assert_runs_again().await;
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_once_every_status_is_recorded() {
        for status in RELEASED {
            let stage = Stage::with(IdempotencyLayer::at_most_once);
            let end = Some(trailers("grpc-status", status));
            call(&stage, end.clone()).await;
            stage.assert_replays("message", end).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_responses_of_trailers_only() {
        let stage = Stage::new();
        let first = stage.send_as("application/grpc+proto").await;
        let refusal = stage.send_as("application/grpc+proto").await;
        assert_eq!(refusal.status(), StatusCode::OK);
        assert_eq!(refusal.headers()["content-type"], "application/grpc");
        assert_eq!(refusal.headers()["grpc-status"], "10");
        assert!(refusal.headers()["grpc-message"].to_str().unwrap().contains("being executed"));
        assert!(refusal.body().is_end_stream());
        assert_eq!(refusal.extensions().get(), Some(&Rejection::InProgress));
        drop(first);
    }

    /// The trailers of gRPC-Web are in its body: only the HTTP status can be read.
    #[tokio::test(start_paused = true)]
    async fn grpc_web_is_recorded_by_its_http_status() {
        let stage = Stage::new();
        stage.next_is("application/grpc-web+proto");
        let (body, mut writer) = stage.stream().await;
        write(&mut writer, "all").await;
        drop(writer);
        body.collect().await.unwrap();
        stage.assert_replays("all", None).await;
    }
}

/// A body that is not `Unpin` can be recorded as well.
#[tokio::test(start_paused = true)]
async fn bodies_need_not_be_unpin() {
    struct Pinned(std::marker::PhantomPinned);

    impl Body for Pinned {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }

    let inner = tower::service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
        Ok::<_, Infallible>(Response::new(Pinned(std::marker::PhantomPinned)))
    });
    let service = IdempotencyLayer::new(MemoryBackend::new()).layer(inner);
    let request = Request::post("/").header("idempotency-key", "k-1").body(Full::default()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(Box::pin(response.into_body()).collect().await.unwrap().to_bytes(), "");
}
