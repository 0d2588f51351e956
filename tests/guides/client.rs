//! The client of the guide, against a server that answers what the guide's table names.

#[path = "../../examples/retrying_client/client.rs"]
mod retrying;

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::RETRY_AFTER};
use http_body_util::Full;
use tower::ServiceExt;

use crate::shell::Guide;

/// The keys of the attempts.
type Keys = Arc<Mutex<Vec<String>>>;

/// Answers the first attempt with a status, and all later ones with 200.
async fn serve(status: u16, retry_after: bool) -> (String, Keys) {
    let answer = async move |State(keys): State<Keys>, headers: HeaderMap| {
        let mut keys = keys.lock().unwrap();
        keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
        let answer = Response::builder().status(if keys.len() == 1 { status } else { 200 });
        if retry_after { answer.header(RETRY_AFTER, "0") } else { answer }.body(String::new()).unwrap()
    };
    let keys = Keys::default();
    let app = Router::new().route("/", post(answer)).with_state(Arc::clone(&keys));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    (url, keys)
}

/// The status that the client returns, and how often it has sent the request.
async fn ask(status: u16, retry_after: bool) -> (u16, usize) {
    let (url, keys) = serve(status, retry_after).await;
    let request = Request::post(url).body(Full::<Bytes>::from("12")).unwrap();
    let answer = retrying::client().oneshot(request).await.unwrap();
    let keys = keys.lock().unwrap();
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 36), "one key for all attempts: {keys:?}");
    (answer.status().as_u16(), keys.len())
}

#[tokio::test]
async fn the_client_of_the_guide_sends_again_what_its_table_says() {
    for status in [500, 502, 503, 504, 408, 425, 429] {
        assert_eq!(ask(status, false).await, (200, 2), "after {status}");
    }
    assert_eq!(ask(409, true).await, (200, 2));
    for status in [409, 422, 400, 401, 404, 413, 200, 201] {
        assert_eq!(ask(status, false).await, (status, 1));
    }
}

#[tokio::test]
async fn the_client_of_the_guide_gives_up_on_a_server_that_never_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::time::pause(); // whatever waits for time has it at once
    let request = Request::post(url).body(Full::<Bytes>::from("12")).unwrap();
    let error = retrying::client().oneshot(request).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
}

/// `tests/examples.rs` runs it.
#[test]
fn the_guide_shows_the_client_of_its_example() {
    let guide = Guide(include_str!("../../docs/guide/client.md"));
    guide.shows_in_pieces(include_str!("../../examples/retrying_client/client.rs"));
}
