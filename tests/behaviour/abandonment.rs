//! Clients that leave before they have their answer.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::channel::{Channel, Sender};
use tokio::{io::AsyncWriteExt, sync::mpsc};
use tower_http::timeout::TimeoutLayer;
use tower_idempotency::{BoxBackend, IdempotencyLayer, OnDisconnect, Rejection};

use super::support::{Answer, Client, Counting, Handler, Visits, connect, payment, serve, until, until_some};

/// The order of `payment("order-1")`, byte by byte.
fn raw_payment(server: SocketAddr) -> Vec<u8> {
    format!(
        "POST /payments?to=alice HTTP/1.1\r\nhost: {server}\r\nx-idempotency-key: order-1\r\n\
         content-length: 14\r\n\r\n{{\"amount\":100}}"
    )
    .into_bytes()
}

/// A payment service whose requests are seen from outside the layer.
async fn watched(service: Router) -> (Visits, SocketAddr) {
    let visits = Visits::default();
    let server = serve(visits.around(service)).await;
    (visits, server)
}

async fn until_abandoned(visits: &Visits) {
    let visits = visits.clone();
    until("the server notices that the client has left", move || visits.abandoned() == 1).await;
}

/// The run of `order-1` has lost its client: it goes on, holds its key meanwhile, and is recorded.
async fn assert_run_goes_on(handler: &Handler, server: SocketAddr) {
    let clients = Client::both(server).await;
    for client in &clients {
        client.ask(payment("order-1")).await.assert_is(Rejection::InProgress);
    }
    assert_eq!((handler.runs(), handler.ended()), (1, 0));
    handler.open();
    until_some("the run is recorded", async || {
        let answer = clients[0].ask(payment("order-1")).await;
        if answer.status == StatusCode::CREATED {
            return Some(answer);
        }
        answer.assert_is(Rejection::InProgress);
        None
    })
    .await
    .assert_is_replay_of(1);
    clients[1].ask(payment("order-1")).await.assert_is_replay_of(1);
    assert_eq!((handler.runs(), handler.ended()), (1, 1));
}

pub(crate) async fn a_run_outlives_an_http1_client_that_closes(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let (visits, server) = watched(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let stream = connect(server, &raw_payment(server)).await;
    handler.entered(1).await;
    drop(stream);
    until_abandoned(&visits).await;
    assert_run_goes_on(&handler, server).await;
}

pub(crate) async fn a_run_outlives_an_http1_client_that_half_closes(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let (visits, server) = watched(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let mut stream = connect(server, &raw_payment(server)).await;
    handler.entered(1).await;
    stream.shutdown().await.unwrap();
    until_abandoned(&visits).await;
    assert_run_goes_on(&handler, server).await;
}

pub(crate) async fn a_run_outlives_an_http2_stream_that_is_reset(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let (visits, server) = watched(handler.router().layer(IdempotencyLayer::new(backend))).await;

    let client = Client::http2(server).await;
    let first = tokio::spawn(async move { client.ask(payment("order-1")).await });
    handler.entered(1).await;
    first.abort();
    until_abandoned(&visits).await;
    assert_run_goes_on(&handler, server).await;
}

pub(crate) async fn a_run_outlives_an_outer_timeout(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let visits = Visits::default();
    let patient = visits.around(handler.router().layer(IdempotencyLayer::new(backend)));
    let impatient = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(500));
    let (timed, server) = (serve(patient.clone().layer(impatient)).await, serve(patient).await);

    let mut order = payment("order-1");
    order.headers_mut().insert(header::HOST, HeaderValue::try_from(server.to_string()).unwrap());
    assert_eq!(Client::http1(timed).ask(order).await.status, StatusCode::GATEWAY_TIMEOUT);
    until_abandoned(&visits).await;
    assert_run_goes_on(&handler, server).await;
}

pub(crate) async fn a_client_that_leaves_a_response_half_read_does_not_lose_it(backend: BoxBackend) {
    let (senders, mut streams) = mpsc::unbounded_channel::<Sender<Bytes, io::Error>>();
    let handler = Handler::new(move |_, _| {
        let (sender, body) = Channel::new(1);
        senders.send(sender).unwrap();
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
        response
    });
    let (visits, server) = watched(handler.router().layer(IdempotencyLayer::new(backend))).await;
    let client = Client::http2(server).await;

    let leaving = client.clone();
    let first = tokio::spawn(async move { leaving.ask(payment("order-1")).await });
    let mut stream = streams.recv().await.unwrap();
    stream.send_data(Bytes::from("one")).await.unwrap();
    first.abort();
    until_abandoned(&visits).await;
    client.ask(payment("order-1")).await.assert_is(Rejection::InProgress);

    stream.send_data(Bytes::from("two")).await.unwrap();
    stream.send_data(Bytes::from("six")).await.unwrap();
    drop(stream);
    let answer = until_some("the response is recorded", async || {
        Some(client.ask(payment("order-1")).await).filter(Answer::is_replay)
    });
    assert_eq!(answer.await.body, "onetwosix");
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_run_can_be_cancelled_when_its_client_leaves(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let layer = IdempotencyLayer::new(backend).on_disconnect(OnDisconnect::Cancel);
    let runs = layer.runs();
    let (visits, server) = watched(handler.router().layer(layer)).await;

    let stream = connect(server, &raw_payment(server)).await;
    handler.entered(1).await;
    drop(stream);
    until_abandoned(&visits).await;
    runs.drain().await;
    assert_eq!((handler.runs(), handler.ended()), (1, 1));
    handler.open();
    Client::http1(server).ask(payment("order-1")).await.assert_is_first_of(2);
    Client::http1(server).ask(payment("order-1")).await.assert_is_replay_of(2);
}

/// Lets a client leave a run that then panics.
async fn abandon_and_panic(handler: &Handler, visits: &Visits, server: SocketAddr) {
    let stream = connect(server, &raw_payment(server)).await;
    handler.entered(1).await;
    drop(stream);
    until_abandoned(visits).await;
    handler.open();
    let handler = handler.clone();
    until("the handler panics", move || handler.ended() == 1).await;
}

fn panicking_first() -> Handler {
    Handler::held(|run, _| if run == 1 { panic!("the first run fails") } else { super::support::created(run) })
}

pub(crate) async fn a_panic_after_the_client_has_left_keeps_the_key(backend: BoxBackend) {
    let (handler, backend) = (panicking_first(), Counting::new(backend));
    let (visits, server) = watched(handler.router().layer(IdempotencyLayer::new(backend.clone()))).await;

    abandon_and_panic(&handler, &visits, server).await;
    for client in Client::both(server).await {
        for _ in 0..10 {
            client.ask(payment("order-1")).await.assert_is(Rejection::InProgress);
        }
    }
    assert_eq!((handler.runs(), backend.releases()), (1, 0));
}

pub(crate) async fn a_panic_after_the_client_has_left_keeps_the_key_until_the_lease_ends(backend: BoxBackend) {
    let (handler, backend) = (panicking_first(), Counting::new(backend));
    let layer = IdempotencyLayer::new(backend.clone()).lease(Duration::from_millis(500));
    let (visits, server) = watched(handler.router().layer(layer)).await;

    abandon_and_panic(&handler, &visits, server).await;
    let client = Client::http1(server);
    let answer = until_some("the lease ends", async || {
        let answer = client.ask(payment("order-1")).await;
        if answer.status == StatusCode::CREATED {
            return Some(answer);
        }
        answer.assert_is(Rejection::InProgress);
        None
    });
    answer.await.assert_is_first_of(2);
    client.ask(payment("order-1")).await.assert_is_replay_of(2);
    assert_eq!((handler.runs(), backend.releases()), (2, 0));
}
