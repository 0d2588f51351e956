//! Timers: on a paused clock a runtime that has nothing to do wakes once for each that is left.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::{IdempotencyLayer, MemoryBackend, RequestBody};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The clock moves by coarse steps when it is far from the next timer.
const FEW: u64 = 5;

/// How often the runtime wakes within an hour in which nothing is asked of it.
async fn wakes_in_an_hour() -> u64 {
    let before = Handle::current().metrics().worker_park_count(0);
    sleep(HOUR).await;
    Handle::current().metrics().worker_park_count(0) - before
}

/// Answers after ten minutes, so that every run is renewed.
async fn pay(_: Request<RequestBody<Body>>) -> Result<Response<Body>, Infallible> {
    sleep(Duration::from_secs(600)).await;
    Ok(Response::default())
}

/// One run of a key, a duplicate that waits for it, one that gives up after five minutes, and one that never would.
async fn pay_and_wait<S>(service: S, key: String)
where
    S: tower::Service<Request<Body>, Error = Infallible> + Clone,
{
    let send = || {
        let request = Request::post("/payments").header("x-idempotency-key", &key).body(Body::from("{}"));
        service.clone().oneshot(request.unwrap())
    };
    let leaves = async { timeout(Duration::from_secs(300), send()).await };
    let (first, second, third) = tokio::join!(send(), send(), leaves);
    assert!(first.is_ok() && second.is_ok() && third.is_err());
}

/// Payments at once, to their end. Returns the layer, which is idle.
async fn idle_after(payments: usize) -> IdempotencyLayer<MemoryBackend> {
    let layer = IdempotencyLayer::new(MemoryBackend::new()).wait(2 * HOUR);
    let mut paid = JoinSet::new();
    for number in 0..payments {
        paid.spawn(pay_and_wait(layer.layer(service_fn(pay)), format!("k-{number}")));
    }
    paid.join_all().await;
    layer.runs().drain().await;
    layer
}

#[test]
fn no_timer_is_left_of_requests_that_are_over() {
    let _turn = crate::turn();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(requests_come_and_go());
}

async fn requests_come_and_go() {
    let none = wakes_in_an_hour().await;

    let layer = idle_after(1).await;
    let renewer_alone = wakes_in_an_hour().await;
    drop(layer);
    let layer = idle_after(100).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1, "the renewer");
    let after_load = wakes_in_an_hour().await;
    println!("wakes in an hour: {none} without a layer, {renewer_alone} with its renewer, {after_load} after load");
    assert!(after_load <= renewer_alone + FEW, "{after_load} wakes, of which {renewer_alone} are the renewer's");

    drop(layer);
    assert!(wakes_in_an_hour().await <= none + FEW, "the layer is gone");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}
