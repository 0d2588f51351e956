//! The layer among other layers: tower's contract, axum's routers, hyper's server.
#![cfg(feature = "memory")]

use std::{
    convert::Infallible,
    fmt::Debug,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    middleware::{self, Next},
    routing::post,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{catch_panic::CatchPanicLayer, map_request_body::MapRequestBodyLayer, timeout::TimeoutLayer};
use tower_idempotency::{
    BackendFailure, BodyHash, BoxBackend, FingerprintPolicy, Idempotency, IdempotencyLayer, KeySource, MemoryBackend,
    Outcome, RecordPolicy, Rejection, RequestBody, ResponseBody, ResponseFuture,
};

/// How often a handler ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn layer() -> IdempotencyLayer<MemoryBackend> {
    IdempotencyLayer::new(MemoryBackend::new())
}

/// A handler for any body, so that it fits behind any other layer.
fn handler<B>(
    runs: &Runs,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
+ use<B>
where
    B: Body<Data = Bytes, Error: Debug> + Send + 'static,
{
    let runs = runs.clone();
    service_fn(move |request: Request<B>| {
        let runs = runs.clone();
        async move {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            let answer = format!("run {} of {}", runs.add(), String::from_utf8_lossy(&sent));
            Ok(Response::builder().status(StatusCode::CREATED).body(Full::from(answer)).unwrap())
        }
    })
}

fn request(key: Option<&str>, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::post("http://localhost/payments");
    let request = key.into_iter().fold(request, |request, key| request.header("x-idempotency-key", key));
    request.body(Full::from(body)).unwrap()
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: StatusCode,
    replayed: bool,
    body: String,
}

async fn send<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug>,
    B: Body<Data = Bytes, Error: Debug>,
{
    let response = service.ready().await.unwrap().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        replayed: parts.headers.contains_key("idempotent-replayed"),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    }
}

/// What a user relies on, through whatever stack: run, replay, mismatch, refusal, another key, and no key at all. The
/// same service is used throughout, so that readiness which is not given back would show.
async fn exercise<S, B>(mut service: S, runs: &Runs)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug>,
    B: Body<Data = Bytes, Error: Debug>,
{
    for _ in 0..3 {
        let first = send(&mut service, request(Some("k-1"), "one")).await;
        assert_eq!((first.status, &*first.body), (StatusCode::CREATED, "run 1 of one"));
        assert_eq!(send(&mut service, request(Some("k-1"), "two")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(send(&mut service, request(Some("not valid"), "one")).await.status, StatusCode::BAD_REQUEST);
    }
    assert!(send(&mut service, request(Some("k-1"), "one")).await.replayed);
    assert_eq!(send(&mut service, request(Some("k-2"), "one")).await.body, "run 2 of one");
    assert_eq!(send(&mut service, request(None, "one")).await.body, "run 3 of one");
    assert_eq!(send(&mut service, request(None, "one")).await.body, "run 4 of one");
    assert_eq!(runs.count(), 4);
}

/// Bounded, so that readiness which is lost fails a test instead of hanging it.
async fn within_ten_seconds<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("the stack hangs")
}

macro_rules! stacks {
    ($($name:ident: $outside:expr, $inside:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let runs = Runs::default();
            let service = ServiceBuilder::new().layer($outside).layer(layer()).layer($inside).service(handler(&runs));
            within_ten_seconds(exercise(service, &runs)).await;
        }
    )*};
}

/// No layer at all, in the place of one.
fn nothing() -> tower::layer::util::Identity {
    tower::layer::util::Identity::new()
}

stacks! {
    alone: nothing(), nothing();
    concurrency_limit_inside: nothing(), tower::limit::ConcurrencyLimitLayer::new(1);
    concurrency_limit_outside: tower::limit::ConcurrencyLimitLayer::new(1), nothing();
    load_shed_inside: nothing(), tower::load_shed::LoadShedLayer::new();
    load_shed_outside: tower::load_shed::LoadShedLayer::new(), nothing();
    load_shed_over_a_concurrency_limit_inside: nothing(), ServiceBuilder::new().load_shed().concurrency_limit(1).into_inner();
    buffer_inside: nothing(), tower::buffer::BufferLayer::new(1);
    buffer_outside: tower::buffer::BufferLayer::new(1), nothing();
    tower_timeout_inside: nothing(), tower::timeout::TimeoutLayer::new(Duration::from_secs(5));
    tower_timeout_outside: tower::timeout::TimeoutLayer::new(Duration::from_secs(5)), nothing();
    http_timeout_outside:
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5)), nothing();
    http_timeout_inside:
        nothing(), TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5));
    catch_panic_outside: CatchPanicLayer::new(), nothing();
    catch_panic_inside: nothing(), CatchPanicLayer::new();
    the_layer_twice_in_two_namespaces: layer().namespace("other"), nothing();
}

#[tokio::test]
async fn the_layer_twice_runs_once() {
    let runs = Runs::default();
    let layer = layer();
    let service = ServiceBuilder::new().layer(layer.clone()).layer(layer).service(handler(&runs));
    within_ten_seconds(exercise(service, &runs)).await;
}

/// The claim of the outermost is found behind that of the layer between.
#[tokio::test]
async fn the_layer_twice_runs_once_with_another_between() {
    let runs = Runs::default();
    let layer = layer();
    let between = layer.clone().namespace("other");
    let service = ServiceBuilder::new().layer(layer.clone()).layer(between).layer(layer).service(handler(&runs));
    within_ten_seconds(exercise(service, &runs)).await;
}

#[tokio::test]
async fn axum_layer_route_layer_and_nest() {
    let routers: [fn(Runs) -> Router; 4] = [
        |runs| Router::new().route_service("/payments", handler(&runs)).layer(layer()),
        |runs| Router::new().route_service("/payments", handler(&runs)).route_layer(layer()),
        |runs| Router::new().nest_service("/payments", ServiceBuilder::new().layer(layer()).service(handler(&runs))),
        |runs| {
            let inner = Router::new().route_service("/", handler(&runs)).layer(layer());
            Router::new().nest("/payments", inner)
        },
    ];
    for router in routers {
        let runs = Runs::default();
        within_ten_seconds(exercise(router(runs.clone()), &runs)).await;
    }
}

#[tokio::test]
async fn axum_method_router_with_a_layer_of_its_own() {
    let runs = Runs::default();
    let counted = runs.clone();
    let pay = post(|body: String| async move { (StatusCode::CREATED, format!("run {} of {body}", counted.add())) });
    let app: Router = Router::new().route("/payments", pay.layer(layer()));
    within_ten_seconds(exercise(app, &runs)).await;
}

/// What takes no body but axum's may stand on either side, as the documentation says.
#[tokio::test]
async fn axum_middleware_outside_and_inside() {
    async fn pass(request: axum::extract::Request, next: Next) -> axum::response::Response {
        next.run(request).await
    }

    let stacks: [fn(Router) -> Router; 3] = [
        |app| app.layer(ServiceBuilder::new().layer(middleware::from_fn(pass)).layer(layer())),
        |app| {
            let bodies = MapRequestBodyLayer::new(axum::body::Body::new);
            app.layer(ServiceBuilder::new().layer(layer()).layer(bodies).layer(middleware::from_fn(pass)))
        },
        |app| app.layer(middleware::from_fn(pass)).layer(layer()),
    ];
    for stack in stacks {
        let runs = Runs::default();
        let app = Router::new().route_service("/payments", handler(&runs));
        within_ten_seconds(exercise(stack(app), &runs)).await;
    }
}

/// Whoever does not run gives the inner service's readiness back at once, also when its own service is kept.
#[tokio::test]
async fn a_refused_request_keeps_no_permit_of_the_inner_service() {
    let runs = Runs::default();
    let inner = tower::limit::ConcurrencyLimitLayer::new(1);
    let service = ServiceBuilder::new().layer(layer()).layer(inner).service(handler(&runs));
    for (key, body, status) in [
        ("k-1", "one", StatusCode::CREATED),
        ("k-1", "one", StatusCode::CREATED),
        ("k-1", "two", StatusCode::UNPROCESSABLE_ENTITY),
        ("not valid", "one", StatusCode::BAD_REQUEST),
    ] {
        let mut kept = service.clone();
        assert_eq!(send(&mut kept, request(Some(key), body)).await.status, status);
        within_ten_seconds(service.clone().ready()).await.unwrap();
        drop(kept);
    }
    assert_eq!(runs.count(), 1);
}

/// axum calls `Layer::layer` for each route and each fallback: all of them share the layer's state.
#[tokio::test]
async fn routes_of_one_layer_share_their_claims() {
    let runs = Runs::default();
    let mut app = Router::new()
        .route_service("/payments", handler(&runs))
        .route_service("/refunds", handler(&runs))
        .layer(layer());
    assert_eq!(send(&mut app, request(Some("k-1"), "one")).await.status, StatusCode::CREATED);
    let mut other = request(Some("k-1"), "one");
    *other.uri_mut() = "http://localhost/refunds".parse().unwrap();
    assert_eq!(send(&mut app, other).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_hyper_server_without_axum() {
    let runs = Runs::default();
    let service = ServiceBuilder::new().layer(layer()).service(handler(&runs));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await.map_err(|error| error.to_string())
            });
        }
    });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = service_fn(move |mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = format!("http://{address}/payments").parse().unwrap();
        client.request(request)
    });
    within_ten_seconds(exercise(client, &runs)).await;
    server.abort();
}

/// The backend can be chosen at run time, shared by `Arc`, and be told from its neighbours by a namespace.
#[tokio::test]
async fn backends_behind_pointers() {
    let runs = Runs::default();
    let backend = BoxBackend::new(MemoryBackend::new());
    let service = ServiceBuilder::new().layer(IdempotencyLayer::new(backend.clone())).service(handler(&runs));
    within_ten_seconds(exercise(service, &runs)).await;

    let again = Runs::default();
    let elsewhere = IdempotencyLayer::new(Arc::new(backend)).namespace("elsewhere");
    let service = ServiceBuilder::new().layer(elsewhere).service(handler(&again));
    within_ten_seconds(exercise(service, &again)).await;
}

/// A layer that is changed after it was cloned leaves the clone as it was.
#[tokio::test]
async fn changing_a_setting_leaves_clones_alone() {
    let runs = Runs::default();
    let lax = layer();
    let strict = lax.clone().require_key();
    let mut lax = lax.layer(handler(&runs));
    let mut strict = strict.layer(handler(&runs));
    assert_eq!(send(&mut lax, request(None, "one")).await.status, StatusCode::CREATED);
    assert_eq!(send(&mut strict, request(None, "one")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(runs.count(), 1);
}

/// Outer layers can see why the layer answered itself.
#[tokio::test]
async fn a_rejection_is_found_in_the_extensions() {
    let runs = Runs::default();
    let service = layer().layer(handler(&runs));
    let response = service.oneshot(request(Some("not valid"), "one")).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Rejection::KeyInvalid));
    assert_eq!(runs.count(), 0);
}

/// The error type is the inner service's, and the inner service's errors pass.
/// Who sent it, its connection, and what a layer outside has found out about it.
#[tokio::test]
async fn nothing_that_was_noted_of_a_request_is_in_the_response_to_its_duplicate() {
    #[derive(Debug, Clone, PartialEq)]
    struct Principal(&'static str);
    let mut service = layer().layer(handler(&Runs::default()));
    for (body, outcome) in [
        ("one", Outcome::Executed), // the handler's own extensions
        ("one", Outcome::Replayed),
        ("another", Outcome::Mismatch),
    ] {
        let mut request = request(Some("k-1"), body);
        request.extensions_mut().insert(Principal("ann"));
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&outcome));
        assert_eq!(response.extensions().get::<Principal>(), None, "{outcome:?}");
    }
}

#[tokio::test]
async fn service_errors_pass_and_release_the_key() {
    #[derive(Debug, PartialEq)]
    struct Broken(usize);

    let runs = Runs::default();
    let counted = runs.clone();
    let service = service_fn(move |_: Request<RequestBody<Empty<Bytes>>>| {
        let run = counted.add();
        async move { Err::<Response<Full<Bytes>>, _>(Broken(run)) }
    });
    let mut service = layer().layer(service);
    for run in 1..=3 {
        let request = Request::post("/").header("idempotency-key", "k-1").body(Empty::new()).unwrap();
        assert_eq!(service.ready().await.unwrap().call(request).await.err(), Some(Broken(run)));
    }
    assert_eq!(runs.count(), 3);
}

/// A body can panic as well as a handler: the key is released, and layers outside see the panic.
#[tokio::test]
async fn a_panic_in_the_body_of_a_response_releases_the_key() {
    struct Panics;

    impl Body for Panics {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            panic!("no frame")
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(5)
        }
    }

    let runs = Runs::default();
    let counted = runs.clone();
    let service = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        counted.add();
        async { Ok::<_, Infallible>(Response::new(Panics)) }
    });
    let mut service = ServiceBuilder::new().layer(CatchPanicLayer::new()).layer(layer()).service(service);
    for _ in 0..2 {
        let answer = send(&mut service, request(Some("k-1"), "one")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(runs.count(), 2);
}

#[test]
fn types_have_the_auto_traits_that_users_need() {
    fn shareable<T: Send + Sync + Clone + Unpin + Debug + 'static>() {}
    fn sendable<T: Send + Debug>() {}

    type Inner = tower::util::BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, Infallible>;
    type Pending = std::future::Pending<Result<Response<Full<Bytes>>, Infallible>>;
    shareable::<IdempotencyLayer<MemoryBackend>>();
    shareable::<Idempotency<Inner, MemoryBackend>>();
    shareable::<BoxBackend>();
    shareable::<tower_idempotency::Run>();
    sendable::<ResponseFuture<Pending, Full<Bytes>, Infallible>>();
    sendable::<RequestBody<axum::body::Body>>();
    sendable::<ResponseBody<axum::body::Body>>();
}

#[test]
fn impossible_settings_panic_at_the_call() {
    type Setter = fn(IdempotencyLayer<MemoryBackend>, Duration) -> IdempotencyLayer<MemoryBackend>;
    let settings: [Setter; 4] = [
        IdempotencyLayer::lease,
        IdempotencyLayer::retention,
        IdempotencyLayer::max_run,
        IdempotencyLayer::backend_timeout,
    ];
    for set in settings {
        for impossible in [Duration::ZERO, Duration::MAX] {
            assert!(std::panic::catch_unwind(|| drop(set(layer(), impossible))).is_err());
        }
        for possible in [Duration::from_secs(1), Duration::from_secs(60 * 60 * 24 * 365 * 100)] {
            drop(set(layer(), possible));
        }
    }

    let unprotected = || layer().on_backend_failure(BackendFailure::RunUnprotected);
    let at_most_once = || layer().at_most_once();
    assert!(std::panic::catch_unwind(|| unprotected().at_most_once()).is_err());
    assert!(std::panic::catch_unwind(|| at_most_once().on_backend_failure(BackendFailure::RunUnprotected)).is_err());

    for impossible in ["", "two words", "connection", "Transfer-Encoding", "upgrade", "te", "keep-alive"] {
        assert!(std::panic::catch_unwind(|| drop(RecordPolicy::default().keep_header(impossible))).is_err());
    }
    assert!(std::panic::catch_unwind(|| drop(RecordPolicy::default().drop_header("é"))).is_err());
    assert!(std::panic::catch_unwind(|| drop(FingerprintPolicy::default().header("é"))).is_err());
    assert!(std::panic::catch_unwind(|| drop(KeySource::header("é"))).is_err());
    #[cfg(feature = "json")]
    for impossible in [&[][..], &["$.a"], &["/a", "b"], &["/a~2"]] {
        assert!(std::panic::catch_unwind(|| drop(KeySource::json_pointers(impossible.iter().copied()))).is_err());
    }
    for impossible in [Duration::ZERO, Duration::MAX] {
        for hash in [BodyHash::per_caller, BodyHash::any_caller] {
            assert!(std::panic::catch_unwind(|| drop(hash(impossible))).is_err());
        }
    }
    let hash = || BodyHash::any_caller(Duration::from_secs(1));
    assert!(std::panic::catch_unwind(|| layer().or_body_hash(hash()).require_key()).is_err());
    assert!(std::panic::catch_unwind(|| layer().require_key().key(hash())).is_err());
    assert!(std::panic::catch_unwind(|| layer().or_body_hash(hash()).at_most_once()).is_err());
    assert!(std::panic::catch_unwind(|| layer().at_most_once().or_body_hash(hash())).is_err());
}
