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
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tower_idempotency::Run;

use crate::{
    history::{History, LIMIT},
    script::{End, Leaves, Response, Say, Script},
    stall::Pulse,
    till::{Deed, Order, Till},
};

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
    /// When its effect was committed together with its record.
    pub(crate) effect: Option<Moment>,
    /// It could not commit, as far as it knows, and says so in place of its response.
    pub(crate) gives_up: bool,
    /// What it was live beside when it started, and whether that one knew then that its lease is lost.
    pub(crate) beside: Vec<(usize, bool)>,
    /// `None`: it runs without a claim.
    pub(crate) handle: Option<Run>,
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

    fn start(&mut self, history: &History, number: usize, handle: Option<Run>) -> usize {
        let request = &history.requests[number];
        let live = self.runs.iter().enumerate().filter(|(_, run)| run.key == request.key && run.end.is_none());
        let claimed = live.filter_map(|(number, run)| Some((number, run.handle.as_ref()?.lease_lost())));
        let beside = if handle.is_some() { claimed.collect() } else { Vec::new() };
        let leaves = match (&handle, request.script.commits) {
            (Some(_), None) => request.script.leaves(history.at_most_once),
            _ => Leaves::Nothing,
        };
        let (start, key, body) = (self.now(), request.key, request.body);
        let (request, end, effect, gives_up) = (number, None, None, false);
        self.runs.push(Entry { request, key, body, start, end, leaves, effect, gives_up, beside, handle });
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

/// A request that has come as far as the handler.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) history: Arc<History>,
    pub(crate) till: Till,
    pub(crate) pulse: Pulse,
    pub(crate) request: usize,
    /// `None`: it runs without a claim.
    pub(crate) run: Option<Run>,
}

impl Call {
    /// The handler.
    pub(crate) async fn handle(self) -> Result<http::Response<Played>, Own> {
        let number = lock(&self.till.ledger).start(&self.history, self.request, self.run.clone());
        let open = Open(Arc::clone(&self.till.ledger), number);
        let script = &self.history.requests[self.request].script;
        sleep(script.thinks).await;
        self.pulse.beats().await;
        self.say(script.says);
        match &script.ends {
            End::Error => Err(Own),
            End::Panic => panic::panic_any(Own),
            End::Response(response) => match script.commits {
                Some(order) if !self.commit(order, number, response).await => Ok(self.give_up(open)),
                _ => Ok(self.answer(open, response, script)),
            },
        }
    }

    fn say(&self, word: Option<Say>) {
        match (&self.run, word) {
            (Some(run), Some(Say::Keep)) => run.keep(),
            (Some(run), Some(Say::KeepWithoutBody)) => run.keep_without_body(),
            (Some(run), Some(Say::Release)) => run.release(),
            _ => {}
        }
    }

    async fn commit(&self, order: Order, number: usize, response: &Response) -> bool {
        let Some(run) = self.run.clone() else { return false };
        self.till.commit(order, Deed { number, run, response: response.clone() }, &self.pulse).await
    }

    /// Says that nothing is known to be done, as handlers are told to.
    fn give_up(&self, open: Open) -> http::Response<Played> {
        lock(&self.till.ledger).runs[open.1].gives_up = true;
        self.say(Some(Say::Release));
        let ends = End::Response(Response::small(StatusCode::SERVICE_UNAVAILABLE));
        let script = Script { thinks: Duration::ZERO, says: Some(Say::Release), commits: None, ends };
        let End::Response(response) = &script.ends else { unreachable!("it is one") };
        self.answer(open, response, &script)
    }

    fn answer(&self, open: Open, response: &Response, script: &Script) -> http::Response<Played> {
        let run = HeaderValue::from(open.1);
        let over = self.run.is_some() && script.ends_at_its_head(self.history.at_most_once);
        let mut answer = http::Response::new(Played::new(open, response, over, self.pulse.clone()));
        *answer.status_mut() = response.status;
        answer.headers_mut().insert("x-run", run);
        answer
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
    pulse: Pulse,
}

impl Played {
    fn new(open: Open, response: &Response, over: bool, pulse: Pulse) -> Self {
        let text = Bytes::from(text(open.1, response));
        let chunks = text.chunks(response.chunk).map(|chunk| Ok(Frame::data(text.slice_ref(chunk))));
        let mut frames: VecDeque<_> = response.pauses.iter().copied().zip(chunks).collect();
        if response.breaks {
            frames.push_back((Duration::ZERO, Err(Own)));
        } else if response.trailers {
            frames.push_back((Duration::ZERO, Ok(Frame::trailers(trailers(open.1)))));
        }
        if over || frames.is_empty() {
            open.end();
        }
        Self { frames, pause: None, sized: response.sized, left: text.len() as u64, sent: 0, open, pulse }
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
        ready!(self.pulse.poll(cx));
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
