//! `Run` as an argument of axum handlers.
#![cfg(all(feature = "axum", feature = "memory"))]

use axum::{Router, body::Body, routing::post};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, MemoryBackend, Run};

async fn strict(run: Run) -> String {
    run.key().to_owned()
}

async fn lenient(run: Option<Run>) -> String {
    run.map_or_else(|| "bypassed".to_owned(), |run| run.key().to_owned())
}

async fn ask(app: &Router, path: &str, key: Option<&str>) -> (StatusCode, String) {
    let request = Request::post(format!("http://localhost{path}"));
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn handlers() -> Router {
    Router::new().route("/strict", post(strict)).route("/lenient", post(lenient))
}

#[tokio::test]
async fn a_guarded_handler_gets_its_run() {
    let app = handlers().layer(IdempotencyLayer::new(MemoryBackend::new()));
    assert_eq!(ask(&app, "/strict", Some("k-1")).await, (StatusCode::OK, "k-1".to_owned()));
    assert_eq!(ask(&app, "/lenient", Some("k-2")).await, (StatusCode::OK, "k-2".to_owned()));
}

#[tokio::test]
async fn a_bypassed_handler_gets_none_or_says_what_is_wrong() {
    for app in [handlers().layer(IdempotencyLayer::new(MemoryBackend::new())), handlers()] {
        assert_eq!(ask(&app, "/lenient", None).await, (StatusCode::OK, "bypassed".to_owned()));
        let (status, text) = ask(&app, "/strict", None).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("takes a `Run`") && text.contains("`Option<Run>`"), "{text}");
    }
}
