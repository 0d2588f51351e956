//! A layer at a desk: its backend notes what it is asked and answers as it is told, and so does its inner service.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response};
use http_body_util::{BodyExt, Full, combinators::WithTrailers};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_idempotency::{
    Backend, BackendError, Claim, Entry, Fingerprint, IdempotencyLayer, Key, Ownership, Record, Rejection, RequestBody,
    ResponseBody, Token,
};

type Whole = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;
type Service = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody<Whole>>, Infallible>;

/// What the desk says to a claim.
#[derive(Debug, Clone, Default)]
pub(super) enum Says {
    /// The key is completed, and no response was kept.
    #[default]
    NotKept,
    /// The key is completed with this record, put under the fingerprint that is asked for.
    Completed(Vec<u8>),
    /// The key is free.
    Acquired,
}

#[derive(Debug, Default)]
struct Notes {
    says: Says,
    /// What the handler answers.
    response: Option<Answer>,
    claimed: Option<(Key, Fingerprint)>,
    recorded: Option<Record>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Notepad(Arc<Mutex<Notes>>);

impl Notepad {
    fn with<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A response that has been read to its end.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(super) fn rejection(&self) -> Option<Rejection> {
        self.head.extensions.get().copied()
    }
}

/// What became of a request, and of what the layer asked its backend for it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) claim: Option<(Key, Fingerprint)>,
    pub(super) answer: Answer,
    pub(super) recorded: Option<Record>,
}

pub(super) struct Desk {
    notes: Notepad,
    service: Service,
    runtime: Runtime,
}

impl Desk {
    /// A layer with the settings that `set` makes.
    pub(super) fn new(set: impl FnOnce(IdempotencyLayer<Notepad>) -> IdempotencyLayer<Notepad>) -> Self {
        let notes = Notepad::default();
        let layer = set(IdempotencyLayer::new(notes.clone()).cover(|_| true).retention(Duration::from_secs(1 << 30)));
        let handler = notes.clone();
        let inner = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            let answer = handler.with(|notes| notes.response.take());
            ready(Ok::<_, Infallible>(answer.map_or_else(|| Response::new(whole(Bytes::new(), None)), written)))
        });
        let service = BoxCloneSyncService::new(layer.layer(inner));
        Self {
            notes,
            service,
            runtime: Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
        }
    }

    /// What the layer asks for `request`, of a backend that has completed it.
    pub(super) fn ask(&self, request: Request<Full<Bytes>>) -> Asked {
        self.play(request, Says::NotKept, None)
    }

    /// What a client gets to whom `record` is replayed.
    pub(super) fn replay(&self, record: &[u8]) -> Asked {
        self.play(order(), Says::Completed(record.to_vec()), None)
    }

    /// What is recorded of `response`.
    pub(super) fn record(&self, response: Answer) -> Asked {
        self.play(order(), Says::Acquired, Some(response))
    }

    fn play(&self, request: Request<Full<Bytes>>, says: Says, response: Option<Answer>) -> Asked {
        self.notes.with(|notes| *notes = Notes { says, response, claimed: None, recorded: None });
        let service = self.service.clone();
        let answer = self.runtime.block_on(async move {
            let (head, body) = service.oneshot(request).await.unwrap().into_parts();
            let body = body.collect().await.expect("no body here breaks");
            let trailers = body.trailers().cloned();
            Answer { head, body: body.to_bytes(), trailers }
        });
        self.notes.with(|notes| Asked { claim: notes.claimed.take(), answer, recorded: notes.recorded.take() })
    }
}

fn order() -> Request<Full<Bytes>> {
    Request::post("/").header("idempotency-key", "order-1").body(Full::default()).unwrap()
}

fn written(answer: Answer) -> Response<Whole> {
    Response::from_parts(answer.head, whole(answer.body, answer.trailers))
}

fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Whole {
    Full::new(data).with_trailers(ready(trailers.map(Ok)))
}

impl Backend for Notepad {
    async fn claim(&self, key: &Key, _: Token, of: &Fingerprint, _: Duration) -> Result<Claim, BackendError> {
        let says = self.with(|notes| {
            notes.claimed = Some((*key, *of));
            notes.says.clone()
        });
        Ok(match says {
            Says::NotKept => Claim::Completed(Record::tombstone(of)),
            Says::Completed(mut record) => {
                record[2..2 + Fingerprint::LEN].copy_from_slice(&of.to_bytes());
                Claim::Completed(Record::from_bytes(record.into()).map_err(BackendError::corrupt)?)
            }
            Says::Acquired => Claim::Acquired,
        })
    }

    async fn renew(&self, _: &Key, _: Token, _: Duration) -> Result<Ownership, BackendError> {
        Ok(Ownership::Held)
    }

    async fn complete(&self, _: &Key, _: Token, record: &Record, _: Duration) -> Result<Ownership, BackendError> {
        self.with(|notes| notes.recorded = Some(record.clone()));
        Ok(Ownership::Held)
    }

    async fn release(&self, _: &Key, _: Token) -> Result<(), BackendError> {
        Ok(())
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, BackendError> {
        Ok(None)
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        Ok(false)
    }

    fn is_local(&self) -> bool {
        true
    }
}
