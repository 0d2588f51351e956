use std::future::poll_fn;

use tokio::{task::JoinHandle, time::Duration};

use super::*;

fn request() -> Request<Full<Bytes>> {
    Request::new(Full::from("request"))
}

async fn ready<R: 'static>(inner: &mut InnerService<R>) {
    poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(inner, cx)).await.unwrap();
}

async fn run(inner: &mut InnerService) -> Result<Bytes, InnerError> {
    ready(inner).await;
    let response = inner.call(request()).await?;
    Ok(response.into_body().collect().await.unwrap().to_bytes())
}

/// Calls a clone of `inner` in a task of its own.
fn spawn_run(inner: &InnerService) -> JoinHandle<Result<Bytes, InnerError>> {
    let mut inner = inner.clone();
    tokio::spawn(async move { run(&mut inner).await })
}

/// What a middleware that clones in `call` does.
#[tokio::test]
#[should_panic(expected = "a clone is another instance")]
async fn clone_then_call_is_caught() {
    let mut inner = InnerService::new();
    ready(&mut inner).await;
    drop(inner.clone().call(request()));
}

#[tokio::test]
async fn a_caught_violation_stays_on_record() {
    let mut inner = InnerService::new();
    let probe = inner.probe();
    ready(&mut inner).await;
    let mut clone = inner.clone();
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(clone.call(request()))));
    assert!(called.is_err());
    let counts = probe.counts();
    assert_eq!((counts.calls, counts.clones, counts.violations, counts.live), (1, 1, 1, 0));
    // The instance that was ready still is.
    assert_eq!(counts.ready, 1);
    drop(inner.call(request()));
}

#[tokio::test]
#[should_panic(expected = "without being ready")]
async fn one_ready_is_not_enough_for_two_calls() {
    let mut inner = InnerService::new();
    ready(&mut inner).await;
    inner.call(request()).await.unwrap();
    drop(inner.call(request()));
}

#[tokio::test]
async fn readiness_is_given_back_by_call_and_by_drop() {
    let mut inner = InnerService::new();
    let probe = inner.probe();
    let mut clone = inner.clone();
    ready(&mut inner).await;
    ready(&mut inner).await;
    ready(&mut clone).await;
    assert_eq!(probe.counts().ready, 2);
    drop(clone);
    assert_eq!(probe.counts().ready, 1);
    drop(inner.call(request()));
    assert_eq!(probe.counts().ready, 0);
}

#[tokio::test]
async fn the_default_answer_is_the_number_of_the_run() {
    let mut inner = InnerService::new();
    assert_eq!(run(&mut inner).await.unwrap(), "1");
    assert_eq!(run(&mut inner).await.unwrap(), "2");
    assert_eq!(run(&mut inner.clone()).await.unwrap(), "3");
}

#[tokio::test]
async fn a_closure_answers_with_what_was_sent() {
    let answer = |parts: Parts, body: Bytes| Response::builder().status(201).body((parts.method, body)).unwrap();
    let mut inner = InnerService::answering(answer);
    ready(&mut inner).await;
    let response = inner.call(request()).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.into_body(), (http::Method::GET, Bytes::from("request")));
}

#[tokio::test]
async fn a_held_handler_waits_for_the_test() {
    let inner = InnerService::new();
    let probe = inner.probe();
    probe.hold();
    let (first, second) = (spawn_run(&inner), spawn_run(&inner));
    probe.arrived(2).await;
    let third = spawn_run(&inner);
    probe.arrived(3).await;
    assert_eq!((probe.counts().held, probe.counts().finished), (3, 0));
    probe.open_one();
    assert_eq!(first.await.unwrap().unwrap(), "1");
    assert_eq!(probe.counts().held, 2);
    probe.open_all();
    assert_eq!(second.await.unwrap().unwrap(), "2");
    assert_eq!(third.await.unwrap().unwrap(), "3");
    assert_eq!(spawn_run(&inner).await.unwrap().unwrap(), "4");
}

#[tokio::test]
async fn the_gate_skips_handlers_that_were_dropped() {
    let inner = InnerService::new();
    let probe = inner.probe();
    probe.hold();
    let first = spawn_run(&inner);
    probe.arrived(1).await;
    let second = spawn_run(&inner);
    probe.arrived(2).await;
    first.abort();
    let counts = probe.when(|counts| counts.dropped == 1).await;
    assert_eq!((counts.held, counts.live, counts.started), (1, 1, 2));
    probe.open_one();
    assert_eq!(second.await.unwrap().unwrap(), "1");
}

#[tokio::test]
#[should_panic(expected = "no handler waits")]
async fn opening_for_nobody_is_a_mistake_of_the_test() {
    InnerService::new().probe().open_one();
}

#[tokio::test]
async fn calls_fail_and_panic_as_scripted() {
    let inner = InnerService::new();
    let probe = inner.probe();
    probe.next(Reaction::Fail);
    probe.next(Reaction::Panic);
    let error = spawn_run(&inner).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the inner service was told to fail");
    assert!(spawn_run(&inner).await.unwrap_err().is_panic());
    assert_eq!(spawn_run(&inner).await.unwrap().unwrap(), "1");
    probe.always(Reaction::Fail);
    spawn_run(&inner).await.unwrap().unwrap_err();
    spawn_run(&inner).await.unwrap().unwrap_err();
    let counts = probe.counts();
    assert_eq!((counts.calls, counts.finished, counts.panicked, counts.answers), (5, 4, 1, 1));
}

#[tokio::test]
async fn a_future_that_is_never_polled_is_dropped_but_not_started() {
    let mut inner = InnerService::new();
    ready(&mut inner).await;
    let handler = inner.call(request());
    assert_eq!(inner.probe().counts().live, 1);
    drop(handler);
    let counts = inner.probe().counts();
    assert_eq!((counts.live, counts.started, counts.dropped), (0, 0, 1));
}

#[tokio::test]
async fn a_broken_request_body_is_an_error() {
    let body = http_body_util::Limited::new(Full::<Bytes>::from("request"), 3);
    let mut inner = InnerService::new();
    ready(&mut inner).await;
    let error = inner.call(Request::new(body)).await.unwrap_err();
    assert!(error.source().is_some());
    assert_eq!((inner.probe().counts().finished, inner.probe().counts().answers), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_busy_service_is_pending_until_it_is_not() {
    let mut inner = InnerService::new();
    let probe = inner.probe();
    probe.set_busy(true);
    assert!(tokio::time::timeout(Duration::from_secs(1), ready(&mut inner)).await.is_err());
    let waiting = spawn_run(&inner);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(probe.counts().calls, 0);
    probe.set_busy(false);
    assert_eq!(waiting.await.unwrap().unwrap(), "1");
}
