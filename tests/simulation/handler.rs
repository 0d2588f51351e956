//! The handlers: they play the script of the request that runs, and write down the truth in a ledger.

use std::{
    collections::VecDeque,
    panic,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tower_idempotency::Run;

use crate::history::{End, History, LIMIT, Leaves, Response};

/// What handlers and their bodies fail with, and panic with.
#[derive(Debug)]
pub(crate) struct Own;

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the handler's own failure")
    }
}

impl std::error::Error for Own {}

/// Everything that handlers have done, in order.
#[derive(Debug)]
pub(crate) struct Ledger {
    begin: Instant,
    ticks: usize,
    pub(crate) runs: Vec<Entry>,
}

/// A moment: what comes first when the clock stands still is told by the tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    tick: usize,
    pub(crate) time: Duration,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) request: usize,
    pub(crate) key: usize,
    pub(crate) body: usize,
    pub(crate) start: Moment,
    pub(crate) end: Option<Moment>,
    pub(crate) leaves: Leaves,
    /// What it was live beside when it started, and whether that one knew then that its lease is lost.
    pub(crate) beside: Vec<(usize, bool)>,
    pub(crate) handle: Run,
}

pub(crate) type Shared = Arc<Mutex<Ledger>>;

pub(crate) fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("nothing panics under this lock")
}

impl Ledger {
    pub(crate) fn open() -> Shared {
        Arc::new(Mutex::new(Self { begin: Instant::now(), ticks: 0, runs: Vec::new() }))
    }

    pub(crate) fn now(&mut self) -> Moment {
        self.ticks += 1;
        Moment { tick: self.ticks, time: self.begin.elapsed() }
    }

    fn start(&mut self, history: &History, number: usize, handle: Run) -> usize {
        let request = &history.requests[number];
        let live = self.runs.iter().enumerate().filter(|(_, run)| run.key == request.key && run.end.is_none());
        let beside = live.map(|(number, run)| (number, run.handle.lease_lost())).collect();
        let start = self.now();
        let (key, body, leaves) = (request.key, request.body, request.script.leaves(history.at_most_once));
        self.runs.push(Entry { request: number, key, body, start, end: None, leaves, beside, handle });
        self.runs.len() - 1
    }
}

/// Ends its run in the ledger, at the latest when it is dropped.
#[derive(Debug)]
struct Open(Shared, usize);

impl Open {
    fn end(&self) {
        let mut ledger = lock(&self.0);
        let now = ledger.now();
        ledger.runs[self.1].end.get_or_insert(now);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end();
    }
}

/// The text of a run's response: no two runs answer alike.
pub(crate) fn text(run: usize, response: &Response) -> Vec<u8> {
    format!("{run}.").into_bytes().into_iter().cycle().take(response.pauses.len() * response.chunk).collect()
}

pub(crate) fn trailers(run: usize) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-trailer"), HeaderValue::from(run))])
}

/// The handler.
pub(crate) async fn handle(
    history: Arc<History>,
    ledger: Shared,
    run: Run,
    request: usize,
) -> Result<http::Response<Played>, Own> {
    let number = lock(&ledger).start(&history, request, run);
    let open = Open(ledger, number);
    let script = &history.requests[request].script;
    sleep(script.thinks).await;
    match &script.ends {
        End::Error => Err(Own),
        End::Panic => panic::panic_any(Own),
        End::Response(response) => {
            let leaves = script.leaves(history.at_most_once);
            let mut answer = http::Response::new(Played::new(open, response, leaves));
            *answer.status_mut() = response.status;
            answer.headers_mut().insert("x-run", HeaderValue::from(number));
            Ok(answer)
        }
    }
}

/// The body of a response, as the script has it.
#[derive(Debug)]
pub(crate) struct Played {
    frames: VecDeque<(Duration, Result<Frame<Bytes>, Own>)>,
    pause: Option<Pin<Box<Sleep>>>,
    sized: bool,
    left: u64,
    sent: usize,
    open: Open,
}

impl Played {
    fn new(open: Open, response: &Response, leaves: Leaves) -> Self {
        let text = Bytes::from(text(open.1, response));
        let chunks = text.chunks(response.chunk).map(|chunk| Ok(Frame::data(text.slice_ref(chunk))));
        let mut frames: VecDeque<_> = response.pauses.iter().copied().zip(chunks).collect();
        if response.breaks {
            frames.push_back((Duration::ZERO, Err(Own)));
        } else if response.trailers {
            frames.push_back((Duration::ZERO, Ok(Frame::trailers(trailers(open.1)))));
        }
        let given_back = leaves == Leaves::Nothing && response.is_passing();
        // A run that is given back ends at its head, and so does one whose response is known to be over the limit.
        if given_back || response.sized && text.len() > LIMIT || frames.is_empty() {
            open.end();
        }
        Self { frames, pause: None, sized: response.sized, left: text.len() as u64, sent: 0, open }
    }
}

impl Body for Played {
    type Data = Bytes;
    type Error = Own;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Own>>> {
        let Some(&(pause, _)) = self.frames.front() else { return Poll::Ready(None) };
        if !pause.is_zero() {
            let timer = self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(timer.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = self.frames.pop_front().map(|(_, frame)| frame);
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let length = data.len();
            self.left -= length as u64;
            self.sent += length;
        }
        // What comes over the limit is delivery; its run is over.
        if self.frames.is_empty() || self.sent > LIMIT {
            self.open.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}
