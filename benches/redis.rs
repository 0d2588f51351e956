//! What the Redis backend costs, beside what its server and its client cost alone: throughput, the CPU time of both, and
//! round trips. The two sides of each ratio take turns in one run, so that a busy machine slows both.
//!
//! ```console
//! cargo bench --bench redis --features redis
//! ```

#[allow(dead_code, reason = "a bench needs less of a server than the tests do")]
#[path = "../tests/redis/support/server.rs"]
mod server;
#[path = "../tests/servers/supervisor.rs"]
mod servers;

use std::{
    convert::Infallible,
    future::{Future, ready},
    hint::spin_loop,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use redis::{Client, IntoConnectionInfo, aio::MultiplexedConnection, cmd};
use rustix::time::{ClockId, clock_gettime};
use server::Server;
use tokio::{runtime::Builder, task::JoinSet};
use tower::{Layer, Service, service_fn};
use tower_idempotency::{
    Backend, Claim, Fingerprint, IdempotencyLayer, Key, Ownership, Record, RedisBackend, RedisConnection, ResponseBody,
    Token,
};

/// Each ratio is the median of so many.
const ROUNDS: u64 = 21;
/// What is done in one round.
const AMOUNT: u64 = 25_600;
/// The same where few are done at a time.
const FEW: usize = 3200;
/// How many requests are measured one by one.
const SINGLE: u64 = 4000;

/// The way to a server on another machine of the same site.
const FAR: Duration = Duration::from_micros(100);

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The length of a claim in Redis, and that of a record of 300 bytes, so that the bare commands carry as much.
const CLAIM: [u8; 70] = [b'p'; 70];
const RECORD: [u8; 322] = [b'c'; 322];

fn main() {
    let server = Server::start(&[]);
    let info: String = server.ask("INFO server");
    println!("{}", info.lines().find(|line| line.starts_with("redis_version")).unwrap_or_default());
    // The server takes a core for itself.
    let crowded = |workers| Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    for workers in [2, 1] {
        println!("\nclaims, 256 at a time, {workers} worker thread(s)");
        crowded(workers).block_on(throughput(&server));
    }
    println!("\nclient CPU per claim, 2 worker threads; beside it SET NX PX with TCP_NODELAY, and the ratio");
    for width in [1, 2, 4, 16, 64, 256] {
        crowded(2).block_on(client_time(&server, width));
    }
    crowded(2).block_on(server_time(&server, 256));
    crowded(2).block_on(server_time(&server, 1));
    let single = Builder::new_current_thread().enable_all().build().unwrap();
    single.block_on(round_trips(&server, "loopback", server.url()));
    single.block_on(round_trips(&server, "with 100 µs each way", far(&server)));
}

/// The client as it comes leaves it to the kernel to send small packets together, at the price of a wait for the
/// acknowledgement of the one before; the backend does not.
async fn throughput(server: &Server) {
    let backend = backend(server).await;
    let (bare, prompt) = (bare(server, false).await, bare(server, true).await);
    let [mut rates, mut ratios, mut prompt_ratios] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let bare = crowd(256, &bare, numbers(round).map(name), bare_claim).await;
        server.ask::<()>("FLUSHALL");
        let time = crowd(256, &backend, numbers(round).map(request), claim).await;
        server.ask::<()>("FLUSHALL");
        let prompt = crowd(256, &prompt, numbers(round).map(name), bare_claim).await;
        server.ask::<()>("FLUSHALL");
        rates.push(AMOUNT as f64 / time.as_secs_f64());
        ratios.push(bare.div_duration_f64(time));
        prompt_ratios.push(prompt.div_duration_f64(time));
    }
    println!("    per second: {:.0}", median(rates));
    println!("    of bare SET NX PX: {:.2} (goal: 0.80 or more)", median(ratios));
    println!("    of bare SET NX PX with TCP_NODELAY: {:.2}", median(prompt_ratios));
}

async fn client_time(server: &Server, width: u64) {
    let (bare, backend) = (bare(server, true).await, backend(server).await);
    let [mut bare_times, mut times, mut ratios] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let numbers = || numbers(round).take(FEW);
        let (names, requests): (Vec<_>, Vec<_>) = (numbers().map(name).collect(), numbers().map(request).collect());
        let start = own_cpu_time();
        crowd(width, &bare, names.into_iter(), bare_claim).await;
        let middle = own_cpu_time();
        crowd(width, &backend, requests.into_iter(), claim).await;
        let end = own_cpu_time();
        server.ask::<()>("FLUSHALL");
        ratios.push((end - middle) / (middle - start));
        bare_times.push((middle - start) * 1e6 / FEW as f64);
        times.push((end - middle) * 1e6 / FEW as f64);
    }
    println!("    {width:3} at a time: {:5.2} µs; {:5.2} µs; {:.2}", median(times), median(bare_times), median(ratios));
}

async fn server_time(server: &Server, width: u64) {
    let (bare, backend) = (bare(server, false).await, backend(server).await);
    let [mut bare_times, mut times, mut ratios] = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let start = cpu_time(server);
        crowd(width, &bare, numbers(round).map(name), bare_first).await;
        let middle = cpu_time(server);
        crowd(width, &backend, numbers(round).map(request), first).await;
        let end = cpu_time(server);
        server.ask::<()>("FLUSHALL");
        ratios.push((end - middle) / (middle - start));
        bare_times.push((middle - start) * 1e6 / AMOUNT as f64);
        times.push((end - middle) * 1e6 / AMOUNT as f64);
    }
    println!("\nserver CPU per first request, {width} at a time: {:.2} µs", median(times));
    println!(
        "    SET NX PX and SET PX: {:.2} µs; ratio {:.2} (goal: 2.00 or less)",
        median(bare_times),
        median(ratios)
    );
}

/// Round trips of a request, on one connection: as commands of the backend, and as requests to a layer.
async fn round_trips(server: &Server, wire: &str, url: String) {
    let client = Client::open(url).unwrap();
    let locate = client.clone();
    let connection = RedisConnection::new(move || ready(Ok(locate.clone())));
    // With the notice to those who wait.
    let backend = Arc::new(RedisBackend::new(connection.clone(), connection.clone()).wake_by(client));
    let handler = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::from(&[b'y'; 200][..]))));
    let service = IdempotencyLayer::new(Arc::clone(&backend)).layer(handler);

    let mut times = [const { Vec::new() }; 5];
    for number in 0..SINGLE {
        let request = request(number);
        times[0].push(timed(ping(connection.clone())).await);
        times[1].push(timed(first(backend.clone(), request.clone())).await);
        times[2].push(timed(replay(backend.clone(), request)).await);
        times[3].push(timed(post(service.clone(), number, false)).await);
        times[4].push(timed(post(service.clone(), number, true)).await);
    }
    server.ask::<()>("FLUSHALL");
    let [ping, first, replay, layer_first, layer_replay] = times.map(median);
    println!("\nround trip of a PING, {wire}: {:.1} µs", ping * 1e6);
    println!("    first request: {:.2}; through a layer {:.2} (goal: 2.20 or less)", first / ping, layer_first / ping);
    println!("    replay: {:.2}; through a layer {:.2} (goal: 1.20 or less)", replay / ping, layer_replay / ping);
}

async fn timed(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs_f64()
}

/// A way to the server for one connection, on which everything takes `FAR` longer. The address is a Redis URL.
fn far(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (listener.local_addr().unwrap(), server.port());
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || relay(ends.0, ends.1));
        relay(server, client);
    });
    format!("redis://{address}/")
}

/// Busy while it waits: a timer would be late.
fn relay(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).unwrap();
    let mut buffer = [0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let arrival = Instant::now() + FAR;
        while Instant::now() < arrival {
            spin_loop();
        }
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// The client, which has a time-out for each command, as the backend has.
async fn bare(server: &Server, nodelay: bool) -> MultiplexedConnection {
    let info = server.url().into_connection_info().unwrap();
    let settings = info.tcp_settings().clone().set_nodelay(nodelay);
    let client = Client::open(info.set_tcp_settings(settings)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn backend(server: &Server) -> Arc<RedisBackend> {
    Arc::new(RedisBackend::connect(server.url()).await.unwrap())
}

/// Runs `work` on `on` once for each of `arguments`, which are made before the clock starts, `width` at a time.
async fn crowd<C, A, F>(width: u64, on: &C, arguments: impl Iterator<Item = A>, work: fn(C, A) -> F) -> Duration
where
    C: Clone + Send + 'static,
    A: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut shares: Vec<Vec<A>> = (0..width).map(|_| Vec::new()).collect();
    for (number, argument) in arguments.enumerate() {
        let share = number % shares.len();
        shares[share].push(argument);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for share in shares {
        let on = on.clone();
        tasks.spawn(async move {
            for argument in share {
                work(on.clone(), argument).await;
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}

async fn bare_claim(mut connection: MultiplexedConnection, name: String) {
    let claim = cmd("SET").arg(&name).arg(&CLAIM).arg("NX").arg("PX").arg(30_000).query_async(&mut connection).await;
    assert_eq!(claim, Ok(Some("OK".to_owned())));
}

async fn bare_first(mut connection: MultiplexedConnection, name: String) {
    bare_claim(connection.clone(), name.clone()).await;
    let record = cmd("SET").arg(&name).arg(&RECORD).arg("PX").arg(86_400_000).query_async(&mut connection).await;
    assert_eq!(record, Ok("OK".to_owned()));
}

/// A key and a record for it.
type FirstRequest = (Key, Record);

async fn claim(backend: Arc<RedisBackend>, (key, record): FirstRequest) {
    let answer = backend.claim(&key, Token::random(), &record.fingerprint(), LEASE).await;
    assert_eq!(answer.unwrap(), Claim::Acquired);
}

async fn first(backend: Arc<RedisBackend>, (key, record): FirstRequest) {
    let token = Token::random();
    let answer = backend.claim(&key, token, &record.fingerprint(), LEASE).await;
    assert_eq!(answer.unwrap(), Claim::Acquired);
    let answer = backend.complete(&key, token, &record, RETENTION).await;
    assert_eq!(answer.unwrap(), Ownership::Held);
}

async fn replay(backend: Arc<RedisBackend>, (key, record): FirstRequest) {
    let answer = backend.claim(&key, Token::random(), &record.fingerprint(), LEASE).await;
    assert_eq!(answer.unwrap(), Claim::Completed(record));
}

async fn ping(mut connection: RedisConnection) {
    cmd("PING").exec_async(&mut connection).await.unwrap();
}

/// A request of 100 bytes, and its answer of 200, which has to be a replay or not.
async fn post<S>(mut service: S, number: u64, is_replay: bool)
where
    S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody<Full<Bytes>>>, Error = Infallible>,
{
    let request = Request::post("http://localhost/payments").header("x-idempotency-key", format!("k-{number}"));
    let response = service.call(request.body(Full::from(&[b'x'; 100][..])).unwrap()).await.unwrap();
    assert_eq!(response.headers().contains_key("idempotent-replayed"), is_replay);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 200);
}

fn numbers(round: u64) -> impl Iterator<Item = u64> {
    round * AMOUNT..(round + 1) * AMOUNT
}

/// A name as long as those that the backend makes.
fn name(number: u64) -> String {
    format!("idempotency:{number:064}")
}

/// The record is as long in Redis as the bare one.
fn request(number: u64) -> FirstRequest {
    let fingerprint = Fingerprint::of("a request");
    (Key::new("bench", number.to_be_bytes()), Record::value(&fingerprint, &[7; 250]))
}

/// The server's time on all cores so far, in seconds.
fn cpu_time(server: &Server) -> f64 {
    let info: String = server.ask("INFO cpu");
    let value = |name| info.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<f64>().unwrap();
    value("used_cpu_user:") + value("used_cpu_sys:")
}

/// The time of this process on all cores so far, in seconds.
fn own_cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
