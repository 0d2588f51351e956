//! One key, two callers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::IntoResponse,
};
use http::{Response, StatusCode};
use tower_idempotency::{FingerprintPolicy, IdempotencyLayer, MemoryBackend, Rejection};

use crate::{
    layer, order,
    support::{Client, Handler, created, serve},
    user,
};

const ALICE: &[(&str, &str)] = &[("user", "alice"), ("authorization", "Bearer alice")];
const MALLORY: &[(&str, &str)] = &[("user", "mallory"), ("authorization", "Bearer mallory")];

async fn payments(layer: IdempotencyLayer<MemoryBackend>) -> (Handler, Client) {
    let handler = Handler::payments();
    let server = serve(handler.router().layer(layer)).await;
    (handler, Client::http1(server))
}

/// The limit of what can be known: the documentation says so, and a warning does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_differ_by_neither_scope_nor_authorization_are_one() {
    for lines in [&[("cookie", "session=bob")], &[("x-api-key", "bob")]] {
        let (handler, client) = payments(layer()).await;
        client.ask(order(&[("cookie", "session=alice"), ("x-api-key", "alice")], "12")).await.assert_is_first_of(1);
        client.ask(order(lines, "12")).await.assert_is_replay_of(1);
        client.ask(order(&[], "12")).await.assert_is_replay_of(1);
        // Not even then an answer to another request.
        client.ask(order(lines, "13")).await.assert_is(Rejection::Mismatch);
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scope_or_a_fingerprint_that_reads_it_tells_callers_apart_by_any_header() {
    for name in ["cookie", "x-api-key"] {
        let (alice, bob) = ([(name, "alice")], [(name, "bob")]);
        let (handler, client) = payments(layer().scope(move |parts| parts.headers.get(name).cloned())).await;
        client.ask(order(&alice, "12")).await.assert_is_first_of(1);
        client.ask(order(&bob, "12")).await.assert_is_first_of(2);
        client.ask(order(&alice, "12")).await.assert_is_replay_of(1);
        client.ask(order(&[], "12")).await.assert_is(Rejection::ScopeMissing);
        assert_eq!(handler.runs(), 2);

        let reading = FingerprintPolicy::default().header(name);
        let (handler, client) = payments(layer().fingerprint(reading)).await;
        client.ask(order(&alice, "12")).await.assert_is_first_of(1);
        client.ask(order(&bob, "12")).await.assert_is(Rejection::Mismatch);
        client.ask(order(&[], "12")).await.assert_is(Rejection::Mismatch);
        assert_eq!(handler.runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_a_scope_is_set_nobody_can_occupy_the_key_of_another() {
    for body in ["12", "666"] {
        let (handler, client) = payments(layer().scope(user)).await;
        client.ask(order(MALLORY, body)).await.assert_is_first_of(1);
        client.ask(order(ALICE, "12")).await.assert_is_first_of(2);
        client.ask(order(MALLORY, body)).await.assert_is_replay_of(1);
        assert_eq!(handler.runs(), 2);
    }

    let handler = Handler::held_payments();
    let client = Client::http1(serve(handler.router().layer(layer().scope(user))).await);
    let ask = |lines| {
        let client = client.clone();
        tokio::spawn(async move { client.ask(order(lines, "12")).await })
    };
    let mallory = ask(MALLORY);
    handler.entered(1).await;
    let alice = ask(ALICE);
    handler.entered(2).await;
    handler.open();
    mallory.await.unwrap().assert_is_first_of(1);
    alice.await.unwrap().assert_is_first_of(2);
}

/// Where there is none, whoever guesses a key can use it up, and no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_scope_whoever_comes_first_answers_for_nobody_else() {
    for (body, rejection) in [("12", Rejection::CredentialsDiffer), ("666", Rejection::Mismatch)] {
        let (handler, client) = payments(layer()).await;
        client.ask(order(MALLORY, body)).await.assert_is_first_of(1);
        client.ask(order(ALICE, "12")).await.assert_is(rejection);
        assert_eq!(handler.runs(), 1);

        let handler = Handler::held_payments();
        let client = Client::http1(serve(handler.router().layer(layer())).await);
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.ask(order(MALLORY, body)).await }
        });
        handler.entered(1).await;
        client.ask(order(ALICE, "12")).await.assert_is(rejection);
        handler.open();
        first.await.unwrap().assert_is_first_of(1);
        assert_eq!(handler.runs(), 1);
    }
}

/// Refuses whoever has no valid token; tokens can be revoked.
fn authenticated(router: Router, revoked: &Arc<AtomicBool>) -> Router {
    let revoked = Arc::clone(revoked);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let valid = request.headers().contains_key("authorization") && !revoked.load(Ordering::SeqCst);
        async move { if valid { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() } }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_authentication_refuses_occupies_no_key() {
    let (handler, revoked) = (Handler::payments(), Arc::default());
    for router in [
        authenticated(handler.router(), &revoked).layer(layer()),
        authenticated(handler.router().layer(layer()), &revoked),
    ] {
        let runs = handler.runs();
        let client = Client::http1(serve(router).await);
        assert_eq!(client.ask(order(&[], "12")).await.status, StatusCode::UNAUTHORIZED);
        client.ask(order(ALICE, "12")).await.assert_is_first_of(runs + 1);
        assert!(client.ask(order(&[], "12")).await.status.is_client_error());
        assert_eq!(handler.runs(), runs + 1);
    }
}

/// A replay is an answer: authentication belongs outside of the layer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoked_token_gets_no_replay_where_authentication_is_outside() {
    let (handler, revoked) = (Handler::payments(), Arc::default());
    let client = Client::http1(serve(authenticated(handler.router().layer(layer()), &revoked)).await);
    client.ask(order(ALICE, "12")).await.assert_is_first_of(1);
    client.ask(order(ALICE, "12")).await.assert_is_replay_of(1);
    revoked.store(true, Ordering::SeqCst);
    let refused = client.ask(order(ALICE, "12")).await;
    assert_eq!((refused.status, refused.body.len()), (StatusCode::UNAUTHORIZED, 0));

    revoked.store(false, Ordering::SeqCst);
    let client = Client::http1(serve(authenticated(handler.router(), &revoked).layer(layer())).await);
    client.ask(order(ALICE, "12")).await.assert_is_first_of(2);
    revoked.store(true, Ordering::SeqCst);
    client.ask(order(ALICE, "12")).await.assert_is_replay_of(2);
}

/// Cookies and the like are made for one user.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn credentials_in_a_response_are_not_replayed() {
    let handler = Handler::new(|run, _| {
        let mut response: Response<Body> = created(run);
        for (name, value) in [
            ("set-cookie", "session=alice"),
            ("authentication-info", "nextnonce=1"),
            ("www-authenticate", "Basic"),
            ("proxy-authenticate", "Basic"),
            ("x-kept", "1"),
        ] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    });
    let backend = MemoryBackend::new();
    let client = Client::http1(serve(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await);
    let first = client.ask(order(ALICE, "12")).await;
    assert_eq!(first.headers["set-cookie"], "session=alice");
    let replay = client.ask(order(ALICE, "12")).await;
    replay.assert_is_replay_of(1);
    let names = ["set-cookie", "authentication-info", "www-authenticate", "proxy-authenticate"];
    assert!(names.iter().all(|name| !replay.headers.contains_key(*name)), "{replay:?}");
    assert_eq!(replay.headers["x-kept"], "1");
    // Nor do they, or those of the request, lie in the store.
    let stored = crate::store::bytes_under(&backend, "order-1").await;
    for secret in ["alice", "nextnonce", "Bearer"] {
        assert!(!crate::store::contains(&stored, secret), "{secret}: {}", stored.escape_ascii());
    }
    assert!(crate::store::contains(&stored, "x-kept"));
}
