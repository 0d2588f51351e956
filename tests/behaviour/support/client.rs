//! Clients over HTTP/1 and HTTP/2, and what they make of an answer.

use std::net::SocketAddr;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower_idempotency::Rejection;

use super::{PATIENCE, created};

/// A client of one server. Dropping the future of a request hangs up: HTTP/1 closes, HTTP/2 resets the stream.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    /// A connection for each request.
    Http1(SocketAddr),
    /// One connection for all requests.
    Http2(SocketAddr, http2::SendRequest<Body>),
}

impl Client {
    pub(crate) fn http1(server: SocketAddr) -> Self {
        Self::Http1(server)
    }

    pub(crate) async fn http2(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(server, sender)
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(..))
    }

    /// Both, for what must not depend on the protocol.
    pub(crate) async fn both(server: SocketAddr) -> [Self; 2] {
        [Self::http1(server), Self::http2(server).await]
    }

    /// Sends `request`, to the authority that its `Host` names, else to the server's address.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let (Self::Http1(server) | Self::Http2(server, _)) = self;
        let host = request.headers_mut().remove(header::HOST);
        let host = host.unwrap_or_else(|| HeaderValue::try_from(server.to_string()).unwrap());
        match self {
            Self::Http1(server) => {
                request.headers_mut().insert(header::HOST, host);
                let stream = TcpStream::connect(server).await.unwrap();
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            Self::Http2(_, sender) => {
                let uri = format!("http://{}{}", host.to_str().unwrap(), request.uri());
                *request.uri_mut() = uri.parse().unwrap();
                sender.clone().send_request(request).await
            }
        }
    }

    /// Sends `request`, and reads its answer to the end.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let answer = async { Answer::read(self.send(request).await?).await };
        tokio::time::timeout(PATIENCE * 6, answer).await.expect("no answer").expect("a whole answer")
    }
}

/// A request with a key in the header `x-idempotency-key`.
pub(crate) fn request(method: Method, path: &'static str, key: &str, body: &'static str) -> Request<Body> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(path);
    request.headers_mut().insert("x-idempotency-key", HeaderValue::try_from(key).unwrap());
    request
}

/// The same payment order each time.
pub(crate) fn payment(key: &str) -> Request<Body> {
    request(Method::POST, "/payments?to=alice", key, r#"{"amount":100}"#)
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Self { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|marker| marker == "true")
    }

    /// This is the answer that the payment handler gave in its `run`th run, as it went out first.
    #[track_caller]
    pub(crate) fn assert_is_first_of(&self, run: usize) {
        assert!(!self.headers.contains_key("idempotent-replayed"), "{self:?}");
        assert!(!self.headers.contains_key("idempotency-stored"), "{self:?}");
        self.assert_is_of(run);
    }

    /// This is the answer that the payment handler gave in its `run`th run, replayed.
    #[track_caller]
    pub(crate) fn assert_is_replay_of(&self, run: usize) {
        assert!(self.is_replay(), "{self:?}");
        self.assert_is_of(run);
    }

    #[track_caller]
    pub(crate) fn assert_is_of(&self, run: usize) {
        let expected = created(run);
        assert_eq!(self.status, expected.status(), "{self:?}");
        assert_eq!(self.headers[header::LOCATION], expected.headers()[header::LOCATION]);
        assert_eq!(self.headers[header::CONTENT_TYPE], expected.headers()[header::CONTENT_TYPE]);
        assert_eq!(self.body, format!(r#"{{"payment":{run}}}"#));
    }

    /// This replays `first`: nothing differs but the marker and the date.
    #[track_caller]
    pub(crate) fn assert_replays(&self, first: &Self) {
        assert!(self.is_replay(), "{self:?}");
        assert_eq!(self.status, first.status);
        assert_eq!(self.comparable(), first.comparable());
        assert_eq!(self.body, first.body);
        assert_eq!(self.trailers, first.trailers);
    }

    fn comparable(&self) -> Vec<(&HeaderName, &HeaderValue)> {
        self.headers.iter().filter(|(name, _)| *name != header::DATE && *name != "idempotent-replayed").collect()
    }

    /// This is the problem document of `rejection`.
    #[track_caller]
    pub(crate) fn assert_is(&self, rejection: Rejection) {
        assert_eq!(self.status, rejection.status(), "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(!self.headers.contains_key("idempotent-replayed"), "{self:?}");
        let waits = matches!(rejection, Rejection::InProgress | Rejection::BackendUnavailable);
        assert_eq!(self.headers.get(header::RETRY_AFTER).map(HeaderValue::as_bytes), waits.then_some(&b"1"[..]));
        let document: serde_json::Value = serde_json::from_slice(&self.body).expect("a JSON document");
        let kind = document["type"].as_str().unwrap().rsplit("#variant.").next().unwrap();
        assert_eq!(kind, format!("{rejection:?}"));
        assert_eq!(document["status"], rejection.status().as_u16());
        assert_eq!(document["retryable"], rejection.is_retryable());
    }
}
