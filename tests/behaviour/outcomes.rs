//! Which outcomes of a run are recorded, and which give the key back.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body};
use http::{Response, StatusCode};
use tower::{ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::support::{Client, Handler, created, payment, serve, serve_tower};

fn with_status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::from("no payment")).unwrap()
}

/// Fails in the first run of each key, which the test sees to be odd.
fn panicking_in_odd_runs() -> Handler {
    Handler::new(|run, _| if run % 2 == 1 { panic!("odd runs fail") } else { created(run) })
}

fn catching(handler: &Handler, layer: IdempotencyLayer<BoxBackend>) -> Router {
    handler.router().layer(layer).layer(CatchPanicLayer::new())
}

pub(crate) async fn a_panic_releases_its_key(backend: BoxBackend) {
    let handler = panicking_in_odd_runs();
    let server = serve(catching(&handler, IdempotencyLayer::new(backend))).await;

    for (key, client) in ["order-1", "order-2"].into_iter().zip(Client::both(server).await) {
        let runs = handler.runs();
        assert_eq!(client.ask(payment(key)).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        client.ask(payment(key)).await.assert_is_first_of(runs + 2);
        client.ask(payment(key)).await.assert_is_replay_of(runs + 2);
        assert_eq!(handler.runs(), runs + 2);
    }
}

pub(crate) async fn a_failure_that_passes_is_not_recorded(backend: BoxBackend) {
    let layer = IdempotencyLayer::new(backend);
    for status in [500, 501, 502, 503, 504, 599, 401, 408, 425, 429] {
        let status = StatusCode::from_u16(status).unwrap();
        let handler = Handler::new(move |run, _| if run < 3 { with_status(status) } else { created(run) });
        let client = Client::http1(serve(handler.router().layer(layer.clone())).await);
        for _ in 0..2 {
            let failure = client.ask(payment(status.as_str())).await;
            assert_eq!((failure.status, &failure.body[..]), (status, &b"no payment"[..]));
            assert!(!failure.is_replay(), "{failure:?}");
        }
        client.ask(payment(status.as_str())).await.assert_is_first_of(3);
        client.ask(payment(status.as_str())).await.assert_is_replay_of(3);
        assert_eq!(handler.runs(), 3, "{status}");
    }
}

pub(crate) async fn a_final_answer_is_recorded(backend: BoxBackend) {
    let layer = IdempotencyLayer::new(backend);
    for status in [200, 201, 202, 300, 302, 307, 400, 402, 403, 404, 409, 410, 413, 418, 422, 451] {
        let status = StatusCode::from_u16(status).unwrap();
        let handler = Handler::new(move |_, _| with_status(status));
        let client = Client::http1(serve(handler.router().layer(layer.clone())).await);
        let first = client.ask(payment(status.as_str())).await;
        assert_eq!((first.status, &first.body[..]), (status, &b"no payment"[..]));
        assert!(!first.is_replay(), "{first:?}");
        client.ask(payment(status.as_str())).await.assert_replays(&first);
        assert_eq!(handler.runs(), 1, "{status}");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Declined(usize);

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} was declined", self.0)
    }
}

impl Error for Declined {}

/// Serves a tower service that returns an error in its first run, below `layer`. The errors that come out are noted.
async fn declining(layer: IdempotencyLayer<BoxBackend>) -> (Handler, Arc<Mutex<Vec<Declined>>>, std::net::SocketAddr) {
    let (handler, errors) = (Handler::payments(), Arc::default());
    let (inner, noted) = (handler.clone(), Arc::clone(&errors));
    let service = ServiceBuilder::new()
        .map_err(move |error: Declined| {
            let text = error.to_string();
            let noted: &Mutex<Vec<Declined>> = &noted;
            noted.lock().unwrap().push(error);
            text
        })
        .layer(layer)
        .service(service_fn(move |request: http::Request<_>| {
            let handler = inner.clone();
            async move {
                let response = handler.clone().run(request.map(Body::new)).await;
                if handler.runs() == 1 { Err(Declined(1)) } else { Ok(response) }
            }
        }));
    (handler, errors, serve_tower(service).await)
}

pub(crate) async fn an_error_of_the_service_passes_unchanged_and_releases_its_key(backend: BoxBackend) {
    let (handler, errors, server) = declining(IdempotencyLayer::new(backend)).await;
    let client = Client::http1(server);

    assert!(client.send(payment("order-1")).await.is_err(), "an error of the service ends the connection");
    assert_eq!(*errors.lock().unwrap(), [Declined(1)]);
    client.ask(payment("order-1")).await.assert_is_first_of(2);
    client.ask(payment("order-1")).await.assert_is_replay_of(2);
    assert_eq!(handler.runs(), 2);
}

pub(crate) async fn at_most_once_a_failure_is_recorded(backend: BoxBackend) {
    let layer = IdempotencyLayer::new(backend).at_most_once();
    for status in [500, 503, 401, 408, 425, 429] {
        let status = StatusCode::from_u16(status).unwrap();
        let handler = Handler::new(move |_, _| with_status(status));
        let client = Client::http1(serve(handler.router().layer(layer.clone())).await);
        let first = client.ask(payment(status.as_str())).await;
        assert_eq!((first.status, first.is_replay()), (status, false));
        client.ask(payment(status.as_str())).await.assert_replays(&first);
        assert_eq!(handler.runs(), 1, "{status}");
    }
}

pub(crate) async fn at_most_once_a_panic_keeps_its_key(backend: BoxBackend) {
    let handler = panicking_in_odd_runs();
    let server = serve(catching(&handler, IdempotencyLayer::new(backend).at_most_once())).await;
    let client = Client::http1(server);

    assert_eq!(client.ask(payment("order-1")).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    for client in Client::both(server).await {
        client.ask(payment("order-1")).await.assert_is(Rejection::OutcomeUnknown);
    }
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn at_most_once_an_error_of_the_service_keeps_its_key(backend: BoxBackend) {
    let (handler, errors, server) = declining(IdempotencyLayer::new(backend).at_most_once()).await;
    let client = Client::http1(server);

    assert!(client.send(payment("order-1")).await.is_err(), "an error of the service ends the connection");
    assert_eq!(*errors.lock().unwrap(), [Declined(1)]);
    client.ask(payment("order-1")).await.assert_is(Rejection::OutcomeUnknown);
    assert_eq!(handler.runs(), 1);
}
