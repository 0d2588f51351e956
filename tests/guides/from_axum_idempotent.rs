use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header::COOKIE},
    middleware::{Next, from_fn, map_response},
    response::Response,
    routing::post,
};
use tower_idempotency::{BodyHash, IdempotencyLayer, MemoryBackend, RecordPolicy};

static PAYMENTS: AtomicU64 = AtomicU64::new(0);

async fn pay(amount: String) -> (StatusCode, String) {
    let payment = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    let status = if amount == "0" { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
    (status, format!("payment {payment} of {amount}\n"))
}

/// The user of a session, as determined by the session layer.
#[derive(Clone)]
struct User(String);

async fn session(mut request: Request, next: Next) -> Response {
    let cookie = request.headers().get(COOKIE).and_then(|cookie| cookie.to_str().ok());
    if let Some(id) = cookie.and_then(|cookie| cookie.strip_prefix("session=")) {
        let user = User(id.to_owned()); // stands for a query of the session store
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// For clients that look for the old header.
async fn old_name(mut answer: Response) -> Response {
    if answer.headers().contains_key("idempotent-replayed") {
        let old = HeaderName::from_static("idempotency-replayed");
        answer.headers_mut().insert(old, HeaderValue::from_static("true"));
    }
    answer
}

fn app() -> Router {
    let idempotency = IdempotencyLayer::new(MemoryBackend::new())
        .or_body_hash(BodyHash::per_caller(Duration::from_secs(5 * 60)))
        .scope(|parts| parts.extensions.get::<User>().map(|user| user.0.clone()))
        .record(RecordPolicy::when(|answer| {
            let status = answer.status.as_u16();
            !matches!(status, 400 | 401 | 403 | 405 | 408 | 411 | 413..=415 | 422 | 429 | 431 | 500 | 502..=504)
        }));
    Router::new().route("/payments", post(pay)).layer(idempotency).layer(map_response(old_name)).layer(from_fn(session))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
