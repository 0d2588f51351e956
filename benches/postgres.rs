//! What the Postgres backend costs on its client, beside the same statements on another one; and what a replay costs that
//! a cache in front of it has in memory, beside one from `MemoryBackend`. The sides of each ratio take turns in one run,
//! so that a busy machine slows all of them.
//!
//! ```console
//! cargo bench --bench postgres --features postgres
//! ```

#[allow(dead_code, reason = "a bench needs less of a server than the tests do")]
#[path = "../tests/postgres/support/server.rs"]
mod server;
#[path = "../tests/servers/supervisor.rs"]
mod servers;

use std::{
    error::Error,
    future::Future,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::post};
use bytes::{BufMut, Bytes, BytesMut};
use deadpool_postgres::{Manager, Pool};
use http::Request;
use http_body_util::BodyExt;
use server::Server;
use tokio::{runtime::Builder, task::JoinSet, time::timeout};
use tokio_postgres::{
    NoTls, Row,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use tower::ServiceExt;
use tower_idempotency::{
    Backend, CachedBackend, Claim, Fingerprint, IdempotencyLayer, Key, MemoryBackend, Ownership, PostgresBackend,
    Record, Token,
    sqlx::{PgPool, postgres::PgPoolOptions, query_scalar},
};

/// Each ratio is the median of so many.
const ROUNDS: u64 = 9;
/// How many requests one client makes in one round.
const AMOUNT: u64 = 480;
/// How often each of them is replayed.
const REPLAYS: u64 = 3;
/// The connections of a pool. Those who hold a claim have half as many of their own.
const CONNECTIONS: u32 = 16;

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

fn main() {
    // What is answered has to be on the disk, as where payments are made.
    let server = Server::start(&["fsync = on", "shared_buffers = 256MB", "track_activity_query_size = 16kB"]);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clients = Clients::new(&server).await;
        for tasks in [1, 16] {
            clients.compare(tasks).await;
        }
    });
    Builder::new_current_thread().enable_all().build().unwrap().block_on(cached(&server));
}

/// The clients that take turns, each on the same table.
struct Clients {
    sqlx: PostgresBackend,
    /// Without a round trip before each command, by which it finds out whether a connection still lives.
    sqlx_untested: PostgresBackend,
    tokio_postgres: TokioPostgres,
    control: PgPool,
}

impl Clients {
    async fn new(server: &Server) -> Self {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS);
        let untested = options.clone().test_before_acquire(false).connect_lazy_with(server.address());
        let sqlx = PostgresBackend::new(options.connect_lazy_with(server.address()));
        sqlx.migrate().await.unwrap();
        let control = server.pool(1);
        let tokio_postgres = TokioPostgres::with_statements_of(&sqlx, &control, server).await;
        Self { sqlx, sqlx_untested: PostgresBackend::new(untested), tokio_postgres, control }
    }

    /// Compares the throughput of so many tasks.
    async fn compare(&self, tasks: usize) {
        let mut rates: [[Vec<f64>; 3]; 3] = Default::default();
        // The first round opens connections.
        for round in 0..=ROUNDS {
            for turn in round..round + 3 {
                let client = usize::try_from(turn % 3).unwrap();
                let measured = match client {
                    0 => self.measure(&self.sqlx, tasks).await,
                    1 => self.measure(&self.sqlx_untested, tasks).await,
                    _ => self.measure(&self.tokio_postgres, tasks).await,
                };
                for (rates, rate) in rates.iter_mut().zip(measured).filter(|_| round > 0) {
                    rates[client].push(rate);
                }
            }
        }
        println!("\n{tasks} task(s), thousands a second: sqlx, without tests of its connections, tokio-postgres");
        for (what, [sqlx, untested, other]) in ["claim", "claim and complete", "replay"].iter().zip(rates) {
            let beside = |rates: &[f64]| median(rates.iter().zip(&other).map(|(one, other)| one / other).collect());
            let ratios = (beside(&sqlx), beside(&untested));
            let [sqlx, untested, other] = [sqlx, untested, other].map(|rates| median(rates) / 1000.0);
            println!("    {what}: {sqlx:.1}, {untested:.1}, {other:.1}; of the last: {:.2}, {:.2}", ratios.0, ratios.1);
        }
    }

    /// Claims, first requests and replays a second, over an empty table.
    async fn measure(&self, client: &impl Client, tasks: usize) -> [f64; 3] {
        let truncate = tower_idempotency::sqlx::query("TRUNCATE idempotency");
        truncate.execute(&self.control).await.unwrap();
        let claims = crowd(tasks, client, 0..AMOUNT, claim).await;
        let firsts = crowd(tasks, client, AMOUNT..2 * AMOUNT, first).await;
        let replays = crowd(tasks, client, (0..REPLAYS).flat_map(|_| AMOUNT..2 * AMOUNT), replay).await;
        [claims, firsts, replays]
    }
}

/// The commands that are measured.
trait Client: Clone + Send + Sync + 'static {
    fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint) -> impl Future<Output = Claim> + Send;
    fn complete(&self, key: &Key, token: Token, record: &Record) -> impl Future<Output = bool> + Send;
}

impl Client for PostgresBackend {
    async fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint) -> Claim {
        Backend::claim(self, key, token, fingerprint, LEASE).await.unwrap()
    }

    async fn complete(&self, key: &Key, token: Token, record: &Record) -> bool {
        Backend::complete(self, key, token, record, RETENTION).await.unwrap() == Ownership::Held
    }
}

/// The same statements, pools and time-outs, on another client.
#[derive(Clone)]
struct TokioPostgres {
    claims: Pool,
    owner: Pool,
    claim: String,
    complete: String,
}

impl TokioPostgres {
    /// With the statements that the server has got from `backend`.
    async fn with_statements_of(backend: &PostgresBackend, control: &PgPool, server: &Server) -> Self {
        first(backend.clone(), 0).await;
        let sent = async |begin: &str| -> String {
            let sent = "SELECT query FROM pg_stat_activity WHERE query LIKE $1 || '%'";
            query_scalar(sent).bind(begin).fetch_one(control).await.unwrap()
        };
        let pool = |connections| {
            let mut address = tokio_postgres::Config::new();
            address.host("127.0.0.1").port(server.port()).user("postgres").dbname("postgres");
            Pool::builder(Manager::new(address, NoTls)).max_size(connections).build().unwrap()
        };
        let connections = CONNECTIONS as usize;
        Self {
            claims: pool(connections),
            owner: pool(connections / 2),
            claim: sent("WITH live").await,
            complete: sent("WITH changed AS (INSERT").await,
        }
    }

    async fn ask(pool: &Pool, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Option<Row> {
        let answer = async {
            let connection = pool.get().await.unwrap();
            let statement = connection.prepare_cached(sql).await.unwrap();
            connection.query_opt(&statement, parameters).await.unwrap()
        };
        timeout(Duration::from_secs(1), answer).await.unwrap()
    }
}

impl Client for TokioPostgres {
    async fn claim(&self, key: &Key, token: Token, fingerprint: &Fingerprint) -> Claim {
        let (key, written) = (key.as_bytes().as_slice(), fingerprint.to_bytes());
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&key, &token.as_bytes().as_slice(), &written.as_slice(), &Interval(LEASE)];
        let row = Self::ask(&self.claims, &self.claim, &parameters).await.expect("nobody claims at the same time");
        let holder: &[u8] = row.get("token");
        let fingerprint: &[u8] = row.get("fingerprint");
        match row.get::<_, Option<&[u8]>>("record") {
            Some(record) => Claim::Completed(Record::from_bytes(Bytes::copy_from_slice(record)).unwrap()),
            None if holder == token.as_bytes() => Claim::Acquired,
            None => Claim::InProgress { fingerprint: Fingerprint::from_bytes(fingerprint.try_into().unwrap()) },
        }
    }

    async fn complete(&self, key: &Key, token: Token, record: &Record) -> bool {
        let (key, fingerprint, bytes) = (key.as_bytes(), record.fingerprint().to_bytes(), record.to_bytes());
        // What the backend takes as the number of the lock of those who wait.
        let lock = i64::from_be_bytes(*key.first_chunk().unwrap());
        let (key, token) = (key.as_slice(), token.as_bytes().as_slice());
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&key, &lock, &token, &fingerprint.as_slice(), &&*bytes, &Interval(RETENTION)];
        Self::ask(&self.owner, &self.complete, &parameters).await.is_some()
    }
}

/// A length of time as the server reads it: microseconds, days and months.
#[derive(Debug)]
struct Interval(Duration);

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(i64::try_from(self.0.as_micros())?);
        out.put_i64(0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::INTERVAL
    }

    to_sql_checked!();
}

async fn claim(client: impl Client, number: u64) {
    let (key, record) = request(number);
    assert_eq!(client.claim(&key, Token::random(), &record.fingerprint()).await, Claim::Acquired);
}

async fn first(client: impl Client, number: u64) {
    let (token, (key, record)) = (Token::random(), request(number));
    assert_eq!(client.claim(&key, token, &record.fingerprint()).await, Claim::Acquired);
    assert!(client.complete(&key, token, &record).await);
}

async fn replay(client: impl Client, number: u64) {
    let (key, record) = request(number);
    assert_eq!(client.claim(&key, Token::random(), &record.fingerprint()).await, Claim::Completed(record));
}

/// A key, and a record of 650 bytes for it.
fn request(number: u64) -> (Key, Record) {
    let fingerprint = Fingerprint::of("a request");
    (Key::new("bench", number.to_be_bytes()), Record::value(&fingerprint, &[7; 600]))
}

/// Does `work` for each of `numbers`, `tasks` at a time. Returns how many a second.
async fn crowd<C: Client, F>(tasks: usize, client: &C, numbers: impl Iterator<Item = u64>, work: fn(C, u64) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let numbers: Vec<_> = numbers.collect();
    let amount = numbers.len();
    let start = Instant::now();
    let mut crowd = JoinSet::new();
    for share in numbers.chunks(amount.div_ceil(tasks)).map(<[u64]>::to_vec) {
        let client = client.clone();
        crowd.spawn(async move {
            for number in share {
                work(client.clone(), number).await;
            }
        });
    }
    crowd.join_all().await;
    amount as f64 / start.elapsed().as_secs_f64()
}

/// Replays through a layer in front of an axum router, from memory both.
async fn cached(server: &Server) {
    const TURNS: usize = 201;
    const RECORDS: usize = 1000;
    fn router(backend: impl Backend) -> Router {
        let handler = post(|_: Bytes| async { &[b'y'; 200][..] });
        Router::new().route("/payments", handler).layer(IdempotencyLayer::new(backend))
    }
    let shared = PostgresBackend::new(server.pool(CONNECTIONS)).table("cached");
    shared.migrate().await.unwrap();
    let routers = [router(MemoryBackend::new()), router(CachedBackend::new(MemoryBackend::new(), shared))];
    let [mut memory, mut cached, mut ratios] = [const { Vec::new() }; 3];
    for turn in 0..=TURNS {
        let mut times = [0.0; 2];
        for (router, time) in routers.iter().zip(&mut times) {
            *time = payments(router, RECORDS, turn > 0).await.as_secs_f64() * 1e6 / RECORDS as f64;
        }
        // In the first turn they run.
        if turn > 0 {
            memory.push(times[0]);
            cached.push(times[1]);
            ratios.push(times[1] / times[0]);
        }
    }
    let (memory, cached) = (median(memory), median(cached));
    println!("\nreplay of what a cache has: {cached:.2} µs, from MemoryBackend {memory:.2} µs");
    println!("    ratio {:.2} (goal: 1.20 or less)", median(ratios));
}

/// Sends so many payments, one after the other. The answers have to be replays or not.
async fn payments(router: &Router, amount: usize, are_replays: bool) -> Duration {
    let request = |number| {
        let request = Request::post("http://localhost/payments").header("x-idempotency-key", format!("k-{number}"));
        (router.clone(), request.body(Body::from(&[b'x'; 100][..])).unwrap())
    };
    let requests: Vec<_> = (0..amount).map(request).collect();
    let start = Instant::now();
    for (router, request) in requests {
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.headers().contains_key("idempotent-replayed"), are_replays);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 200);
    }
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
