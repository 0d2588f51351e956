//! Requests that wait for the one that they repeat.

use std::time::Duration;

use http::StatusCode;
use tower_idempotency::{BoxBackend, IdempotencyLayer, Rejection};

use super::{
    concurrency::{MANY, send_many},
    support::{Client, Handler, Visits, created, payment, serve, until},
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

async fn until_inside(visits: &Visits, requests: usize) {
    let visits = visits.clone();
    until("all wait", move || visits.inside() == requests).await;
}

pub(crate) async fn a_thousand_waiters_get_one_answer(backend: BoxBackend) {
    let (handler, visits) = (Handler::held_payments(), Visits::default());
    let server = serve(visits.around(handler.router().layer(IdempotencyLayer::new(backend).wait(LONG)))).await;

    let answers = send_many(server, |_| payment("order-1")).await;
    until_inside(&visits, MANY).await;
    assert_eq!(handler.runs(), 1);
    handler.open();

    let (replays, first): (Vec<_>, Vec<_>) =
        answers.join_all().await.into_iter().partition(super::support::Answer::is_replay);
    assert_eq!((first.len(), replays.len()), (1, MANY - 1));
    first[0].assert_is_first_of(1);
    replays.iter().for_each(|replay| replay.assert_replays(&first[0]));
    assert_eq!((handler.runs(), visits.inside()), (1, 0));
}

pub(crate) async fn a_waiter_takes_over_from_a_run_that_fails(backend: BoxBackend) {
    let handler = Handler::held(|run, _| {
        let mut response = created(run);
        if run == 1 {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    });
    let visits = Visits::default();
    let server = serve(visits.around(handler.router().layer(IdempotencyLayer::new(backend).wait(LONG)))).await;

    let answers = send_many(server, |_| payment("order-1")).await;
    until_inside(&visits, MANY).await;
    handler.open();

    let answers = answers.join_all().await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(StatusCode::INTERNAL_SERVER_ERROR), count(StatusCode::CREATED)), (1, MANY - 1));
    assert_eq!(answers.iter().filter(|answer| answer.is_replay()).count(), MANY - 2);
    answers.iter().filter(|answer| answer.is_replay()).for_each(|answer| answer.assert_is_replay_of(2));
    assert_eq!((handler.runs(), visits.inside()), (2, 0));
}

pub(crate) async fn waiters_that_hang_up_are_gone(backend: BoxBackend) {
    let (handler, visits) = (Handler::held_payments(), Visits::default());
    let server = serve(visits.around(handler.router().layer(IdempotencyLayer::new(backend).wait(LONG)))).await;

    let first = tokio::spawn({
        let client = Client::http1(server);
        async move { client.ask(payment("order-1")).await }
    });
    handler.entered(1).await;
    let mut waiters = send_many(server, |_| payment("order-1")).await;
    until_inside(&visits, MANY + 1).await;
    waiters.shutdown().await;
    until_inside(&visits, 1).await;

    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    Client::http1(server).ask(payment("order-1")).await.assert_is_replay_of(1);
    assert_eq!(handler.runs(), 1);
}

pub(crate) async fn a_wait_that_takes_too_long_is_refused(backend: BoxBackend) {
    let handler = Handler::held_payments();
    let layer = IdempotencyLayer::new(backend).wait(Duration::from_millis(200));
    let server = serve(handler.router().layer(layer)).await;

    let first = tokio::spawn({
        let client = Client::http1(server);
        async move { client.ask(payment("order-1")).await }
    });
    handler.entered(1).await;
    for client in Client::both(server).await {
        client.ask(payment("order-1")).await.assert_is(Rejection::InProgress);
    }
    handler.open();
    first.await.unwrap().assert_is_first_of(1);
    assert_eq!(handler.runs(), 1);
}
