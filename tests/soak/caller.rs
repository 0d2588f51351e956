//! A client with connections of its own, which are kept alive until it hangs up, or is dropped.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

/// How long the real world may take for what has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Caller {
    client: Client<HttpConnector, Body>,
    server: SocketAddr,
}

/// An answer that was read to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) replayed: bool,
}

/// There is none: a server that has not read a request to its end closes the connection behind the answer, perhaps before
/// that has been read, or while the next request is sent.
const LOST: Answer = Answer { status: StatusCode::IM_A_TEAPOT, replayed: false };

impl Answer {
    /// The handler's own answer.
    pub(crate) fn has_run(self) -> bool {
        self.status.is_success() && !self.replayed
    }
}

impl Caller {
    /// Over HTTP/2 hanging up resets a stream, over HTTP/1 it closes the connection.
    pub(crate) fn new(server: SocketAddr, http2: bool) -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = client.http2_only(http2).pool_timer(TokioTimer::new()).build(connector);
        Self { client, server }
    }

    /// Sends a request, and returns as soon as there is a head.
    pub(crate) async fn send(
        &self,
        path: &str,
        key: Option<&str>,
        body: impl Into<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let request = Request::post(format!("http://{}/{path}", self.server));
        let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
        self.client.request(request.body(body.into()).unwrap()).await
    }

    /// Sends a request, and reads its answer to the end.
    pub(crate) async fn ask(&self, path: &str, key: Option<&str>, body: impl Into<Body>) -> Answer {
        let answer = async {
            let (head, body) = self.send(path, key, body).await?.into_parts();
            let whole = body.collect().await.is_ok();
            let status = if whole { head.status } else { LOST.status };
            Ok(Answer { status, replayed: head.headers.contains_key("idempotent-replayed") })
        };
        let answer: Result<_, Error> = timeout(PATIENCE, answer).await.expect("an answer or an error");
        answer.unwrap_or(LOST)
    }

    /// Sends a request, and hangs up after so many milliseconds. Whether there was no answer until then.
    pub(crate) async fn hang_up_after(&self, milliseconds: u64, path: &str, key: &str, body: impl Into<Body>) -> bool {
        timeout(Duration::from_millis(milliseconds), self.send(path, Some(key), body)).await.is_err()
    }

    /// Sends a request, reads one frame of the answer, and hangs up. Whether there was one.
    pub(crate) async fn hang_up_in_answer(&self, path: &str, key: &str) -> bool {
        let Ok(mut response) = self.send(path, Some(key), Body::empty()).await else { return false };
        timeout(PATIENCE, response.body_mut().frame()).await.expect("a frame or an end").is_some()
    }
}

/// A body that stalls after its first bytes.
pub(crate) fn stalling() -> Body {
    Body::new(Stalling(Some(Bytes::from_static(b"the first bytes"))))
}

/// A body whose length is not declared.
pub(crate) fn undeclared(length: usize) -> Body {
    Body::from_stream(tokio_stream::iter((0..length).step_by(1024).map(|_| Ok::<_, std::io::Error>(vec![b'u'; 1024]))))
}

struct Stalling(Option<Bytes>);

impl http_body::Body for Stalling {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}
