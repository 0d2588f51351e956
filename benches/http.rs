//! What the layer costs end to end: the CPU time per request of a server in a process of its own, which answers over
//! loopback. The cases take turns in every round, so that a busy machine slows all of them; each ratio is one of a round.
//!
//! ```console
//! cargo bench --bench http --features redis
//! ```

#[allow(dead_code, reason = "a bench needs less of a server than the tests do")]
#[path = "../tests/redis/support/server.rs"]
mod server;
#[path = "../tests/servers/supervisor.rs"]
mod servers;

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use axum::{Router, routing::post};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use server::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinSet,
};
use tower::layer::util::Identity;
use tower_idempotency::{IdempotencyLayer, MemoryBackend, RedisBackend};

/// In each round every case has its turn.
const ROUNDS: usize = 61;
/// Requests of a case in one round.
const REQUESTS: usize = 6400;
/// Connections that send them, each one after another.
const CONNECTIONS: usize = 64;
/// The threads of the server, and those of the clients, which have to be faster: then the server is never idle.
const WORKERS: usize = 2;

/// 100 bytes in, 200 bytes out.
const REQUEST: [u8; 100] = [b'x'; 100];
const RESPONSE: &[u8] = &[b'y'; 200];

/// What the server is asked: a case has a router, and keys or none.
struct Case {
    name: &'static str,
    router: usize,
    keys: Keys,
    goal: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    None,
    Fresh,
    Same,
}

/// In the order of [`routers`].
const BARE: usize = 0;
const NO_OP: usize = 1;
const MEMORY: usize = 2;
const REDIS: usize = 3;

const CASES: [Case; 7] = [
    Case { name: "bare", router: BARE, keys: Keys::None, goal: "" },
    Case { name: "no-op layer", router: NO_OP, keys: Keys::None, goal: "" },
    Case { name: "no key", router: MEMORY, keys: Keys::None, goal: "1.02" },
    Case { name: "replay, memory", router: MEMORY, keys: Keys::Same, goal: "1.02" },
    Case { name: "first, memory", router: MEMORY, keys: Keys::Fresh, goal: "1.15" },
    Case { name: "replay, Redis", router: REDIS, keys: Keys::Same, goal: "+8 µs" },
    Case { name: "first, Redis", router: REDIS, keys: Keys::Fresh, goal: "+14 µs" },
];

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    match env::args().nth(1) {
        Some(url) if url.starts_with("redis://") => runtime.block_on(serve(&url)),
        _ => runtime.block_on(measure()),
    }
}

/// The server's side: tells where each router listens, and its CPU time in nanoseconds whenever it is asked.
async fn serve(redis: &str) {
    for router in routers(redis).await {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
    }
    for _ask in io::stdin().lines() {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        println!("{}", time.tv_sec * 1_000_000_000 + time.tv_nsec);
    }
}

async fn routers(redis: &str) -> [Router; 4] {
    let bare = || Router::new().route("/payments", post(|_: Bytes| async { RESPONSE }));
    let redis = RedisBackend::connect(redis).await.unwrap();
    [
        bare(),
        bare().layer(Identity::new()),
        bare().layer(IdempotencyLayer::new(MemoryBackend::new())),
        bare().layer(IdempotencyLayer::new(redis)),
    ]
}

/// The server as the clients see it. It ends with its standard input.
struct Process {
    addresses: Vec<SocketAddr>,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Process {
    fn start(redis: &Server) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(redis.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut process = Self { addresses: Vec::new(), ask, answers, _child: child };
        process.addresses = (0..4).map(|_| process.answer().parse().unwrap()).collect();
        process
    }

    /// Its CPU time so far, in microseconds.
    fn cpu_time(&mut self) -> f64 {
        self.ask.write_all(b"\n").unwrap();
        self.answer().parse::<f64>().unwrap() / 1e3
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

async fn measure() {
    let redis = Server::start(&[]);
    let mut process = Process::start(&redis);
    let mut clients = Vec::new();
    for case in &CASES {
        clients.push(connect(process.addresses[case.router]).await);
    }
    let mut times = [const { Vec::new() }; CASES.len()];
    for round in 0..=ROUNDS {
        // Each case comes after each other one as often.
        for turn in 0..CASES.len() {
            let index = (turn + round) % CASES.len();
            let first = round * REQUESTS;
            let start = process.cpu_time();
            clients[index] = run(std::mem::take(&mut clients[index]), CASES[index].keys, first).await;
            let time = process.cpu_time() - start;
            // The first round makes what is replayed, and warms up.
            if round > 0 {
                times[index].push(time / REQUESTS as f64);
            }
        }
    }
    report(&times);
}

/// The fastest rounds beside the medians: while a neighbour works on the other thread of a core, the same work takes up to
/// twice as much CPU time.
fn report(times: &[Vec<f64>; CASES.len()]) {
    println!(
        "server CPU per request, {CONNECTIONS} connections, {WORKERS} worker threads, {ROUNDS} rounds of {REQUESTS}"
    );
    println!("{:14} | fastest round: µs, of bare | by rounds: of bare (quartiles), µs more (quartiles) | goal", "");
    let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let bare = &times[BARE];
    for (case, own) in CASES.iter().zip(times) {
        let by_round = |compare: fn(f64, f64) -> f64| {
            let [low, median, high] = quartiles(own.iter().zip(bare).map(|(own, bare)| compare(*own, *bare)));
            format!("{median:.2} ({low:.2} to {high:.2})")
        };
        let (best, ratio, more) = (fastest(own), by_round(|own, bare| own / bare), by_round(|own, bare| own - bare));
        let of_bare = best / fastest(bare);
        println!("{:14} | {best:5.2} {of_bare:5.2} | {ratio:20} {more:20} | {}", case.name, case.goal);
    }
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

async fn connect(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    streams
}

/// Sends the requests from number `first` on, and returns the connections.
async fn run(streams: Vec<TcpStream>, keys: Keys, first: usize) -> Vec<TcpStream> {
    let mut tasks = JoinSet::new();
    for (connection, mut stream) in streams.into_iter().enumerate() {
        tasks.spawn(async move {
            for number in (first + connection..first + REQUESTS).step_by(CONNECTIONS) {
                exchange(&mut stream, keys, number, first > 0).await;
            }
            stream
        });
    }
    tasks.join_all().await
}

/// Sends one request, and reads its answer, which has to be a replay or not.
async fn exchange(stream: &mut TcpStream, keys: Keys, number: usize, is_warm: bool) {
    let key = match keys {
        Keys::None => String::new(),
        Keys::Fresh => format!("x-idempotency-key: k-{number:012}\r\n"),
        Keys::Same => format!("x-idempotency-key: s-{:012}\r\n", number % REQUESTS),
    };
    let head =
        "POST /payments HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n";
    let request = [head.as_bytes(), key.as_bytes(), b"\r\n", &REQUEST].concat();
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::with_capacity(1024);
    while !answer.ends_with(RESPONSE) {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the server has closed a connection");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let marker = b"idempotent-replayed: true\r\n";
    let is_replay = answer.windows(marker.len()).any(|window| window == marker);
    assert_eq!(is_replay, keys == Keys::Same && is_warm);
}
