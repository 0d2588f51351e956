//! The router that benches put the layer in front of, and what they ask of it.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::future::pending;

use axum::{Router, body::Body, extract::Request, http::header, routing::post};
use bytes::Bytes;
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::Outcome;

/// What a request carries in most cases: 100 bytes.
pub(crate) const REQUEST: Bytes = Bytes::from_static(&[b'x'; 100]);
/// What a response carries: 200 bytes.
const RESPONSE: Bytes = Bytes::from_static(&[b'y'; 200]);

pub(crate) fn router() -> Router {
    Router::new().route("/payments", post(|_: Bytes| async { RESPONSE }))
}

/// The same with another response, which its handler has to carry with it.
pub(crate) fn answering(response: Bytes) -> Router {
    Router::new().route("/payments", post(|_: Bytes| async { response }))
}

/// A router whose handler never answers.
pub(crate) fn hanging() -> Router {
    Router::new().route("/payments", post(|_: Bytes| pending::<()>()))
}

pub(crate) fn request(key: Option<&str>, body: Bytes) -> Request {
    let request = Request::post("http://localhost/payments").header(header::CONTENT_TYPE, "application/json");
    let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
    request.body(Body::from(body)).unwrap()
}

/// What the layer makes of a request: so that what is measured is what it is called.
pub(crate) async fn outcome(router: &Router, request: Request) -> Option<Outcome> {
    router.clone().oneshot(request).await.unwrap().extensions().get().copied()
}

/// Sends a request, and reads the whole of its response.
pub(crate) async fn call(router: Router, request: Request) -> Bytes {
    router.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
}
