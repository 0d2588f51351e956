//! What a request that the layer has nothing to do with costs: no allocation.
#![cfg(feature = "memory")]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service};
use tower_idempotency::{BodyHash, IdempotencyLayer, MemoryBackend};

/// A service that allocates nothing itself.
#[derive(Clone)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::from("done"))))
    }
}

/// Calls `service` once and counts the allocations of the call itself, not those of making the request.
fn allocations<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
{
    let mut response = None;
    let counted = allocation_counter::measure(|| {
        let mut future = pin!(service.call(request));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) => response = Some(ready),
            Poll::Pending => {}
        }
    });
    assert!(response.is_some(), "the call did not finish at once");
    counted.count_total
}

fn post(key: Option<&str>) -> Request<Full<Bytes>> {
    let request = Request::post("http://localhost/payments").header("content-type", "application/json");
    let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
    request.body(Full::from(r#"{"amount":1200}"#)).unwrap()
}

/// The least that a request with a key costs, over many keys: the store has hundreds of tables, which grow now and then.
fn least<S, B>(service: &mut S, keys: &str) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
{
    (0..2_000).map(|key| allocations(service, post(Some(&format!("{keys}-{key}"))))).min().unwrap()
}

fn layer() -> IdempotencyLayer<MemoryBackend> {
    IdempotencyLayer::new(MemoryBackend::new())
}

#[tokio::test]
async fn a_bypassed_request_allocates_nothing() {
    let mut service = layer().layer(Bare);
    assert!(allocations(&mut service, post(Some("k-1"))) > 0, "the counter counts");
    assert_eq!(allocations(&mut service, post(None)), 0, "no key");
    let mut get = post(Some("k-1"));
    *get.method_mut() = http::Method::GET;
    assert_eq!(allocations(&mut service, get), 0, "a method that is not covered");
    let mut service = layer().cover(|parts| parts.uri.path() != "/payments").layer(Bare);
    assert_eq!(allocations(&mut service, post(Some("k-1"))), 0, "a path that is not covered");
    let hash = BodyHash::per_caller(Duration::from_secs(1));
    let mut service = layer().or_body_hash(hash).layer(Bare);
    assert_eq!(allocations(&mut service, post(None)), 0, "nobody to tell from others");
}

/// A layer that meets its own key claimed further out adds nothing.
#[tokio::test]
async fn the_inner_one_of_two_layers_allocates_nothing() {
    let layer = layer();
    let mut once = layer.clone().layer(Bare);
    let mut twice = layer.clone().layer(layer.layer(Bare));
    assert_eq!(least(&mut twice, "twice"), least(&mut once, "once"));
}

/// Figures to hold: they may go down, and go up only with a reason. Three each are for the `Outcome`.
#[tokio::test]
async fn a_guarded_request_allocates_little() {
    let mut service = layer().layer(Bare);
    let first = least(&mut service, "k");
    let replay = least(&mut service, "k");
    println!("allocations: first {first}, replay {replay}");
    assert!(first <= 12, "a first request allocates {first} times");
    assert!(replay <= 9, "a replay allocates {replay} times");
}

/// Also while everything is logged and counted. What a guarded request takes then is up to recorder and subscriber.
#[cfg(all(feature = "metrics", feature = "tracing"))]
#[tokio::test]
async fn a_bypassed_request_allocates_nothing_under_observation() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(std::io::sink);
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let hash = BodyHash::per_caller(Duration::from_secs(1));
    let mut service = layer().or_body_hash(hash).layer(Bare);
    allocations(&mut service, post(None)); // which warns
    assert_eq!(allocations(&mut service, post(None)), 0);
    println!("allocations under observation: first {}, replay {}", least(&mut service, "k"), least(&mut service, "k"));
}
