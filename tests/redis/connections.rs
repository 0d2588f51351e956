//! How a backend comes to its connections, and keeps them.

use std::{
    error::Error,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::{Client, RedisError};
use tower_idempotency::{
    Backend, BackendError, BackendErrorKind, Claim, Fingerprint, Key, RedisBackend, RedisConnection, Token,
    testing::conformance,
};

use crate::{
    behaviour::support::Handler,
    stores::lost_replies::{first, layer_over},
    support::{Application, Command, Fate, LONG, SHARED, Server, backend_at, fresh_name},
};

async fn claim(backend: &impl Backend, text: &str) -> Result<Claim, BackendError> {
    backend.claim(&Key::new("", text), Token::random(), &Fingerprint::of(text), LONG).await
}

fn cause(error: &BackendError) -> String {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<RedisError>());
    cause.expect("an error of the client").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_starts_without_redis() {
    let server = Server::start(&[]);
    server.kill();
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    assert_eq!(backend.ping().await.unwrap_err().kind(), BackendErrorKind::Unavailable);
    assert_eq!(claim(&backend, "order-1").await.unwrap_err().kind(), BackendErrorKind::Unavailable);

    server.restart();
    backend.ping().await.unwrap();
    assert_eq!(claim(&backend, "order-1").await.unwrap(), Claim::Acquired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_does_not_fail_for_a_connection_that_broke_while_it_was_idle() {
    let server = Server::start(&[]);
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    server.kill();
    server.restart();
    backend.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_does_not_help_against_is_said_at_the_start() {
    let server = Server::start(&[]);
    server.ask::<()>("CONFIG SET requirepass secret");
    let url = |password: &str| server.url().replace("redis://", &format!("redis://:{password}@"));
    for address in [server.url(), url("wrong"), "http://127.0.0.1/".to_owned()] {
        let error = RedisBackend::connect(address.as_str()).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{address}");
        assert!(!cause(&error).is_empty());
    }
    let backend = RedisBackend::connect(url("secret")).await.unwrap();
    assert_eq!(claim(&backend, "order-1").await.unwrap(), Claim::Acquired);
    assert!(!format!("{backend:?}").contains("secret"));
}

/// Two connections that follow `servers[current]`.
fn following(servers: &[Server; 2], current: &Arc<AtomicUsize>) -> RedisBackend {
    let clients = servers.each_ref().map(|server| Client::open(server.url()).unwrap());
    let current = Arc::clone(current);
    let connection = RedisConnection::new(move || ready(Ok(clients[current.load(Ordering::SeqCst)].clone())));
    RedisBackend::new(connection.clone(), connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_has_become_a_replica_is_left() {
    let servers = [Server::start(&[]), Server::start(&[])];
    let current = Arc::default();
    let backend = following(&servers, &current);
    assert_eq!(claim(&backend, "order-1").await.unwrap(), Claim::Acquired);

    servers[0].ask::<()>(&format!("REPLICAOF 127.0.0.1 {}", servers[1].port()));
    current.store(1, Ordering::SeqCst);
    let error = claim(&backend, "order-2").await.unwrap_err();
    assert!(cause(&error).contains("read only"), "{error:?}");
    assert_eq!(claim(&backend, "order-2").await.unwrap(), Claim::Acquired);
    assert_eq!(servers[1].ask::<usize>("DBSIZE"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_more_clients_is_asked_again() {
    let server = Server::start(&[]);
    let mut control = server.connect().unwrap();
    let mut limit = |clients: usize| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxclients").arg(clients).exec(&mut control).unwrap();
    };
    limit(1);
    let backend = RedisBackend::connect(server.url()).await.unwrap();
    let error = claim(&backend, "order-1").await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error:?}");
    limit(100);
    assert_eq!(claim(&backend, "order-1").await.unwrap(), Claim::Acquired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_are_kept_over_the_third_protocol() {
    let backend = backend_at(&format!("{}?protocol=resp3", SHARED.url()), &fresh_name()).await;
    conformance(|| async { backend.clone() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_falls_silent_is_replaced() {
    let handler = Handler::payments();
    let proxy = first(1, Command::is_claim, Fate::FallSilent).await;
    let node = Application::start(&handler, layer_over(&proxy).await).await;

    node.pay_in_the_end("order-1").await.assert_is_first_of(1);
    node.pay("order-1").await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}
