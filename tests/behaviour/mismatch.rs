//! One key, two requests.

use axum::body::Body;
use http::{HeaderValue, Method, Request, header};
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Client, Handler, request, serve};

/// An order as the first client sends it.
fn order(key: &str) -> Request<Body> {
    let mut order = request(Method::POST, "/payments?to=alice", key, r#"{"amount":100}"#);
    order.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    order.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer alice"));
    order
}

/// A change to the order, and what the layer says of it.
type Variant = (&'static str, fn(&mut Request<Body>), Rejection);

const VARIANTS: [Variant; 12] = [
    ("body", |order| *order.body_mut() = Body::from(r#"{"amount":101}"#), Rejection::Mismatch),
    ("blank", |order| *order.body_mut() = Body::from(r#"{"amount": 100}"#), Rejection::Mismatch),
    ("empty", |order| *order.body_mut() = Body::empty(), Rejection::Mismatch),
    ("path", |order| *order.uri_mut() = "/refunds?to=alice".parse().unwrap(), Rejection::Mismatch),
    ("slash", |order| *order.uri_mut() = "/payments/?to=alice".parse().unwrap(), Rejection::Mismatch),
    ("query", |order| *order.uri_mut() = "/payments?to=bob".parse().unwrap(), Rejection::Mismatch),
    ("no-query", |order| *order.uri_mut() = "/payments".parse().unwrap(), Rejection::Mismatch),
    ("method", |order| *order.method_mut() = Method::PATCH, Rejection::Mismatch),
    ("authority", |order| insert(order, "host", "example.org"), Rejection::Mismatch),
    ("port", |order| insert(order, "host", "example.com:8080"), Rejection::Mismatch),
    ("authorization", |order| insert(order, "authorization", "Bearer bob"), Rejection::CredentialsDiffer),
    ("anonymous", |order| drop(order.headers_mut().remove("authorization")), Rejection::CredentialsDiffer),
];

fn insert(order: &mut Request<Body>, name: &'static str, value: &'static str) {
    order.headers_mut().insert(name, HeaderValue::from_static(value));
}

fn changed(key: &str, change: fn(&mut Request<Body>)) -> Request<Body> {
    let mut order = order(key);
    change(&mut order);
    order
}

pub(crate) async fn another_request_with_a_completed_key_is_refused(backend: BoxBackend) {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let mut runs = 0;
    for client in Client::both(server).await {
        for (what, change, rejection) in VARIANTS {
            runs += 1;
            let key = format!("{what}-{runs}");
            client.ask(order(&key)).await.assert_is_first_of(runs);
            client.ask(changed(&key, change)).await.assert_is(rejection);
            client.ask(order(&key)).await.assert_is_replay_of(runs);
            assert_eq!(handler.runs(), runs, "{what}");
        }
    }
}

pub(crate) async fn another_request_with_a_key_in_progress_is_refused(backend: BoxBackend) {
    let layer = IdempotencyLayer::new(backend);
    for (what, change, rejection) in VARIANTS {
        let handler = Handler::held_payments();
        let server = serve(handler.router().layer(layer.clone())).await;
        let clients = Client::both(server).await;

        let [client, _] = clients.clone();
        let first = tokio::spawn(async move { client.ask(order(what)).await });
        handler.entered(1).await;
        for client in &clients {
            client.ask(changed(what, change)).await.assert_is(rejection);
            client.ask(order(what)).await.assert_is(Rejection::InProgress);
        }
        handler.open();
        first.await.unwrap().assert_is_first_of(1);
        for client in &clients {
            client.ask(changed(what, change)).await.assert_is(rejection);
            client.ask(order(what)).await.assert_is_replay_of(1);
        }
        assert_eq!(handler.runs(), 1, "{what}");
    }
}

pub(crate) async fn spellings_of_one_authority_are_one_authority(backend: BoxBackend) {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let clients = Client::both(server).await;

    clients[0].ask(order("order-1")).await.assert_is_first_of(1);
    for client in clients {
        for host in ["Example.com:80", "EXAMPLE.COM", "example.com"] {
            let mut again = order("order-1");
            insert(&mut again, "host", host);
            client.ask(again).await.assert_is_replay_of(1);
        }
    }
    assert_eq!(handler.runs(), 1);
}

/// `nest` strips its prefix from what the layer inside sees.
#[cfg(feature = "axum")]
pub(crate) async fn nested_routers_with_one_key_do_not_share_a_record(backend: BoxBackend) {
    let handler = Handler::payments();
    let layer = IdempotencyLayer::new(backend);
    let nested = || handler.router().layer(layer.clone());
    let server = serve(axum::Router::new().nest("/a", nested()).nest("/b", nested())).await;

    for (runs, client) in (1..).zip(Client::both(server).await) {
        let key = format!("order-{runs}");
        let ask = async |path| client.ask(request(Method::POST, path, &key, "")).await;
        ask("/a/x").await.assert_is_first_of(runs);
        ask("/b/x").await.assert_is(Rejection::Mismatch);
        ask("/a/x").await.assert_is_replay_of(runs);
        assert_eq!(handler.runs(), runs);
    }
}
