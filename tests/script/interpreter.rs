//! Reads bytes as a script of requests, handlers and clients, plays it against a layer over a `MemoryBackend`, and
//! checks what the crate promises. Shared by `tests/script.rs` and the fuzz target `layer`.
//!
//! A scripted panic is raised with `resume_unwind`, which no panic hook sees: whatever a hook sees is a bug.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Outcome, Rejection, RequestBody, Run};

/// More bytes than this of a request or response are over the layer's limits.
const LIMIT: usize = 48;
/// Longer than anything in a script, in virtual time: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);
const RUN: HeaderName = HeaderName::from_static("x-run");

/// The payload of a panic that the script asked for.
struct Scripted;

/// What is left of a script; at its end all bytes are 0.
struct Bytecode<'a>(&'a [u8]);

impl Bytecode<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    fn bytes(&mut self, end: u8) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.byte()).collect()
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()].clone()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    Panic,
    /// Not ready once.
    Pause,
    /// Never ready again.
    Stall,
}

/// A body that takes these steps, and perhaps says its length beforehand.
#[derive(Debug, Clone)]
struct Scenes {
    steps: VecDeque<Step>,
    says_length: bool,
}

impl Scenes {
    fn read(code: &mut Bytecode<'_>, worst: &Step) -> Self {
        let says_length = code.below(2) == 1;
        let mut steps = VecDeque::new();
        for _ in 0..code.below(5) {
            steps.push_back(match code.below(16) {
                0..=8 => Step::Data(Bytes::from(code.bytes(24))),
                9..=11 => Step::Pause,
                12 => Step::Fail,
                13 => worst.clone(),
                _ => {
                    // Nothing comes after trailers.
                    let line = (header::ETAG, value(&code.bytes(4)));
                    steps.push_back(Step::Trailers(HeaderMap::from_iter([line])));
                    break;
                }
            });
        }
        Self { steps, says_length }
    }

    fn data(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|step| if let Step::Data(data) = step { &data[..] } else { &[] }).copied().collect()
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        self.steps.iter().find_map(|step| if let Step::Trailers(lines) = step { Some(lines) } else { None })
    }

    fn breaks(&self) -> bool {
        self.steps.contains(&Step::Fail) || self.steps.contains(&Step::Panic)
    }
}

impl Body for Scenes {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(lines)) => Some(Ok(Frame::trailers(lines))),
            Some(Step::Fail) => Some(Err(io::Error::other("scripted"))),
            Some(Step::Panic) => resume_unwind(Box::new(Scripted)),
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Stall) => {
                self.steps.push_front(Step::Stall);
                return Poll::Pending;
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        if self.says_length { SizeHint::with_exact(self.data().len() as u64) } else { SizeHint::default() }
    }
}

/// What the handler does with a request.
#[derive(Debug, Clone)]
struct Behaviour {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Scenes,
    /// In milliseconds.
    takes: u64,
    /// 0 to 2: keep, keep without body, release.
    word: u8,
    panics: bool,
}

impl Behaviour {
    fn read(code: &mut Bytecode<'_>) -> Self {
        let status = code.one_of(&[200, 200, 201, 204, 404, 409, 500, 503, 429, 401, 304]);
        let names = [header::LOCATION, header::LINK, header::CONTENT_LENGTH, header::SET_COOKIE, header::CONTENT_TYPE];
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: (0..code.below(3)).map(|_| (code.one_of(&names), value(&code.bytes(4)))).collect(),
            body: Scenes::read(code, &Step::Panic),
            takes: u64::from(code.below(4)) * 10,
            word: code.below(24),
            panics: code.below(16) == 15,
        }
    }

    /// Whether another run may follow.
    fn may_release(&self) -> bool {
        let passes = self.status.is_server_error() || matches!(self.status.as_u16(), 401 | 408 | 425 | 429);
        let short = self.headers.iter().any(|(name, _)| name == header::CONTENT_LENGTH);
        self.word == 2 || self.word > 2 && (self.panics || passes || short || self.body.breaks())
    }

    fn response(self, run: usize) -> Response<Scenes> {
        if self.panics {
            resume_unwind(Box::new(Scripted));
        }
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response.headers_mut().insert(RUN, HeaderValue::from(run));
        response
    }
}

/// What makes two requests one.
#[derive(Debug, Clone, PartialEq)]
struct Meaning {
    head: (Method, String, Option<HeaderValue>),
    body: Vec<u8>,
}

/// All runs, and the last one of each key.
#[derive(Default)]
struct Ledger {
    runs: Vec<(Meaning, Behaviour)>,
    last: HashMap<String, (usize, bool)>,
}

/// Tells the ledger that a handler has ended, however it did.
struct Live(Arc<Mutex<Ledger>>, String);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.lock().unwrap().last.get_mut(&self.1).unwrap().1 = false;
    }
}

impl Ledger {
    /// A run begins: none with its key is live, and each before it may have given the key back.
    fn begin(&mut self, key: Option<String>, meaning: Meaning, behaviour: Behaviour) -> usize {
        let run = self.runs.len();
        self.runs.push((meaning, behaviour));
        if let Some((before, live)) = key.and_then(|key| self.last.insert(key, (run, true))) {
            assert!(!live, "two runs at once: {:?} and {:?}", self.runs[before], self.runs[run]);
            assert!(
                self.runs[before].1.may_release(),
                "a second run: {:?} and {:?}",
                self.runs[before],
                self.runs[run]
            );
        }
        run
    }
}

async fn handle(
    ledger: Arc<Mutex<Ledger>>,
    request: Request<RequestBody<Scenes>>,
) -> Result<Response<Scenes>, Infallible> {
    let (parts, body) = request.into_parts();
    let (meaning, behaviour) = parts.extensions.get::<(Meaning, Behaviour)>().unwrap().clone();
    let guard = parts.extensions.get::<Run>();
    let run = ledger.lock().unwrap().begin(guard.map(|run| run.key().to_owned()), meaning.clone(), behaviour.clone());
    let _live = guard.map(|run| Live(ledger.clone(), run.key().to_owned()));
    if let Some(run) = guard {
        assert!(body.collect().await.unwrap().to_bytes() == meaning.body, "the handler gets another body");
        match behaviour.word {
            0 => run.keep(),
            1 => run.keep_without_body(),
            2 => run.release(),
            _ => {}
        }
    }
    sleep(Duration::from_millis(behaviour.takes)).await;
    Ok(behaviour.response(run))
}

/// Any bytes that HTTP allows in a header.
fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).unwrap_or(HeaderValue::from_static("4"))
}

fn request(code: &mut Bytecode<'_>) -> Request<Scenes> {
    let mut request = Request::new(Scenes::read(code, &Step::Stall));
    *request.method_mut() = code.one_of(&[Method::POST, Method::POST, Method::POST, Method::PATCH, Method::GET]);
    *request.uri_mut() = code.one_of(&["/", "/", "/", "/a?b", "*"]).parse().unwrap();
    let key = HeaderName::from_static("x-idempotency-key");
    request.headers_mut().insert(key.clone(), HeaderValue::from_static(code.one_of(&["a", "a", "b", "\"a\""])));
    let names =
        [header::CONTENT_LENGTH, header::AUTHORIZATION, header::HOST, header::UPGRADE, header::CONTENT_TYPE, key];
    for _ in 0..code.below(8).saturating_sub(4) {
        request.headers_mut().append(code.one_of(&names), value(&code.bytes(8)));
    }
    if code.below(16) == 15 {
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }
    let (headers, body) = (request.headers(), request.body().data());
    let head = (request.method().clone(), request.uri().to_string(), headers.get(header::AUTHORIZATION).cloned());
    let behaviour = Behaviour::read(code);
    request.extensions_mut().insert((Meaning { head, body }, behaviour));
    request
}

/// Checks an answer, and reads `frames` of its body.
async fn check<B>(ledger: &Mutex<Ledger>, asked: &Meaning, response: Response<B>, frames: usize)
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (head, body) = response.into_parts();
    if let Some(rejection) = head.extensions.get::<Rejection>() {
        let grpc = head.headers.contains_key("grpc-status");
        let expected = if grpc { StatusCode::OK } else { rejection.status() };
        assert!(head.status == expected && rejection.status().is_client_error(), "{head:?}");
        return;
    }
    let run: usize = head.headers[RUN].to_str().unwrap().parse().unwrap();
    let (meaning, behaviour) = ledger.lock().unwrap().runs[run].clone();
    assert_eq!((head.status, asked), (behaviour.status, &meaning), "run {run} answers another request");
    let replayed = head.extensions.get() == Some(&Outcome::Replayed);
    assert_eq!(head.headers.get("idempotent-replayed").is_some(), replayed);
    assert!(!head.headers.contains_key("idempotency-stored"), "{head:?}");
    for (name, value) in behaviour.headers {
        let dropped = replayed && matches!(name.as_str(), "set-cookie" | "content-length");
        assert!(dropped || head.headers.get_all(&name).iter().any(|sent| sent == value), "{name} is lost");
    }
    let mut body = pin!(body);
    let (mut data, mut trailers) = (Vec::new(), None);
    for _ in 0..frames {
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => data.extend_from_slice(&frame.into_data().unwrap()),
            Some(Ok(frame)) => trailers = frame.into_trailers().ok(),
            // A body that fails is never replayed.
            Some(Err(error)) => return assert!(!replayed && behaviour.body.breaks(), "{error:?}"),
            None if matches!(head.status.as_u16(), 204 | 304) => return,
            None => {
                let (whole, cut) = (behaviour.body.data(), head.headers.contains_key(header::CONTENT_LENGTH));
                let breaks = behaviour.body.breaks() || cut;
                assert!(if breaks { whole.starts_with(&data) } else { data == whole }, "{data:?} is not {whole:?}");
                assert!(cut || trailers.as_ref() == behaviour.body.trailers(), "{trailers:?}");
                return;
            }
        }
    }
}

async fn play(mut code: Bytecode<'_>) {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let layer = IdempotencyLayer::new(MemoryBackend::new()).limits(LIMIT, LIMIT);
    let handler = ledger.clone();
    let layer = if code.below(4) == 3 { layer.wait(Duration::from_millis(15)) } else { layer };
    let service = layer.layer(service_fn(move |request| handle(handler.clone(), request)));
    let mut asking = Vec::new();
    while !code.0.is_empty() && asking.len() < 24 {
        let request = request(&mut code);
        let (frames, yields, client) = (usize::from(code.below(8)), code.below(12), code.below(8));
        let (mut service, ledger) = (service.clone(), ledger.clone());
        let asked = request.extensions().get::<(Meaning, Behaviour)>().unwrap().0.clone();
        let mut call = tokio::spawn(async move {
            let response = service.ready().await.unwrap().call(request).await.unwrap();
            check(&ledger, &asked, response, if frames == 0 { 1 } else { frames * 8 }).await;
        });
        match client {
            // It waits, it leaves, or others come meanwhile.
            0..=2 => settle(timeout(PATIENCE, &mut call).await.expect("a request hangs")),
            3..=4 => {
                for _ in 0..yields {
                    yield_now().await;
                }
                call.abort();
                asking.push(call);
            }
            _ => asking.push(call),
        }
    }
    for call in asking {
        settle(timeout(PATIENCE, call).await.expect("a request hangs"));
    }
    timeout(PATIENCE, layer.runs().drain()).await.expect("a run hangs");
}

/// A request may end by a panic that the script asked for, and by no other.
fn settle(end: Result<(), tokio::task::JoinError>) {
    if let Err(error) = end
        && let Ok(panic) = error.try_into_panic()
        && !<dyn Any>::is::<Scripted>(&*panic)
    {
        resume_unwind(panic);
    }
}

/// Plays the script that `bytes` are.
///
/// # Panics
///
/// When something is not as it should be.
pub(crate) fn run(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(play(Bytecode(bytes)));
}
