use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use redis::{Cmd, Pipeline, RedisFuture, Value};
use tokio::{
    task::{JoinHandle, yield_now},
    time::sleep,
};

use super::*;
use crate::{Fingerprint, Record, Token, backend::redis::value};

/// A server that holds one value under every key, and counts who reads it.
#[derive(Clone, Default)]
struct Server(Arc<Held>);

#[derive(Default)]
struct Held {
    value: Mutex<Value>,
    reads: AtomicUsize,
    fails: AtomicBool,
}

impl Server {
    fn holds(&self, value: Value) {
        *self.0.value.lock().unwrap() = value;
    }

    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }
}

impl ConnectionLike for Server {
    fn req_packed_command<'a>(&'a mut self, _: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async {
            self.0.reads.fetch_add(1, Ordering::SeqCst);
            if self.0.fails.load(Ordering::SeqCst) {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
            }
            Ok(self.0.value.lock().unwrap().clone())
        })
    }

    fn req_packed_commands<'a>(&'a mut self, _: &'a Pipeline, _: usize, _: usize) -> RedisFuture<'a, Vec<Value>> {
        unreachable!("the backend sends single commands")
    }

    fn get_db(&self) -> i64 {
        0
    }
}

const KEY: Key = Key::from_bytes([7; 32]);
const LONG: Duration = Duration::from_secs(60);

fn fingerprint() -> Fingerprint {
    Fingerprint::of("a request")
}

fn in_progress() -> Entry {
    Entry::InProgress { fingerprint: fingerprint() }
}

fn completed() -> Entry {
    Entry::Completed(Record::value(&fingerprint(), b"done"))
}

/// A server with a claim, and a backend over it.
fn claimed() -> (Server, RedisBackend<Server>) {
    let server = Server::default();
    server.holds(Value::BulkString(value::claim(Token::random(), &fingerprint()).to_vec()));
    (server.clone(), RedisBackend::new(server.clone(), server))
}

/// The run that holds the claim completes. Nobody is told.
fn complete(server: &Server) {
    let mut command = Cmd::new();
    value::write_completed(&mut command, Token::random(), &Record::value(&fingerprint(), b"done"));
    let Some(redis::Arg::Simple(record)) = command.args_iter().next() else { panic!("one argument") };
    server.holds(Value::BulkString(record.to_vec()));
}

fn waiter(backend: &RedisBackend<Server>, patience: Duration) -> JoinHandle<Result<Option<Entry>, BackendError>> {
    let (backend, deadline) = (backend.clone(), Instant::now() + patience);
    tokio::spawn(async move { backend.wait(&KEY, deadline).await })
}

/// Lets all tasks go on until each waits for time to pass.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_wakes_at_once() {
    let (server, backend) = claimed();
    backend.board.set_listening(true);
    let waiter = waiter(&backend, LONG);
    settle().await;
    let before = (Instant::now(), server.reads());

    complete(&server);
    backend.board.notice(&KEY);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    assert_eq!((Instant::now(), server.reads()), (before.0, before.1 + 1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_served_by_one_read() {
    let (server, backend) = claimed();
    backend.board.set_listening(true);
    let waiters: Vec<_> = (0..1024).map(|_| waiter(&backend, LONG)).collect();
    settle().await;
    let before = server.reads();

    complete(&server);
    backend.board.notice(&KEY);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    }
    assert_eq!(server.reads(), before + 1);
    assert!(before < 20, "{before} reads for waiters that came together");
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_reads_seldom_and_yet_learns_of_a_crash() {
    let (server, backend) = claimed();
    backend.board.set_listening(true);
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_secs(10)).await;
    // A pause of 250 to 500 milliseconds each.
    assert!((20..=45).contains(&server.reads()), "{} reads in ten seconds", server.reads());

    server.holds(Value::Nil);
    let crashed = Instant::now();
    assert_eq!(waiter.await.unwrap().unwrap(), None);
    assert!(crashed.elapsed() <= LONGEST_PAUSE, "{:?}", crashed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_listen_polls() {
    let (server, backend) = claimed();
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_millis(100)).await;
    // After 10, 20, 40 and 80 milliseconds, or up to twice as often.
    assert!((4..=8).contains(&server.reads()), "{} reads", server.reads());
    complete(&server);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_listen_looks_again() {
    let (server, backend) = claimed();
    let waiter = waiter(&backend, LONG);
    settle().await;
    let before = Instant::now();
    // Between the read and the subscription, so that no notice is heard.
    complete(&server);
    backend.board.set_listening(true);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn polling_begins_when_the_subscription_ends() {
    let (server, backend) = claimed();
    backend.board.set_listening(true);
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_secs(1)).await;
    backend.board.set_listening(false);
    settle().await;
    let before = Instant::now();
    complete(&server);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    // The clock of timers counts in milliseconds, and rounds up.
    assert!(before.elapsed() <= FIRST_PAUSE + Duration::from_millis(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_waiter_leaves_at_its_own_deadline() {
    let (_server, backend) = claimed();
    backend.board.set_listening(true);
    let started = Instant::now();
    let waiters = [3, 30, 1].map(|seconds| (seconds, waiter(&backend, Duration::from_secs(seconds))));
    for (seconds, waiter) in waiters {
        let left = tokio::spawn(async move { (waiter.await.unwrap().unwrap(), Instant::now()) }).await.unwrap();
        assert_eq!(left.0, Some(in_progress()));
        assert!(left.1 - started >= Duration::from_secs(seconds));
    }
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_during_a_read_is_told_of_a_later_one() {
    let (server, backend) = claimed();
    let first = backend.board.join(KEY, Waiter { deadline: Instant::now() + LONG, answer: oneshot::channel().0 });
    let watch = first.expect("the first waiter starts the watch");
    let taken = watch.take();
    // The watcher reads now: whatever comes back was there before this one joined.
    let late = waiter(&backend, LONG);
    settle().await;
    tell(taken, &Ok(None), |_| true);
    settle().await;
    assert!(!late.is_finished());

    let reads = server.reads();
    tokio::spawn(backend.clone().read_for(watch));
    settle().await;
    assert!(server.reads() > reads && !late.is_finished());
    complete(&server);
    backend.board.notice(&KEY);
    assert_eq!(late.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_makes_the_watcher_look() {
    let (server, backend) = claimed();
    backend.board.set_listening(true);
    let first = waiter(&backend, LONG);
    settle().await;
    let before = Instant::now();
    complete(&server);
    assert_eq!(waiter(&backend, LONG).await.unwrap().unwrap(), Some(completed()));
    assert_eq!(first.await.unwrap().unwrap(), Some(completed()));
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn errors_that_pass_do_not_end_a_wait() {
    let (server, backend) = claimed();
    let waiter = waiter(&backend, LONG);
    settle().await;
    server.0.fails.store(true, Ordering::SeqCst);
    sleep(backend.timeout / 2).await;
    server.0.fails.store(false, Ordering::SeqCst);
    complete(&server);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn errors_that_stay_end_a_wait_after_the_time_out() {
    let (server, backend) = claimed();
    let waiters = [waiter(&backend, LONG), waiter(&backend, LONG)];
    settle().await;
    server.0.fails.store(true, Ordering::SeqCst);
    let began = Instant::now();
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), crate::BackendErrorKind::Unavailable);
        let text = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(text.as_deref(), Some("idempotency backend unavailable"));
    }
    assert!((backend.timeout..=backend.timeout + LONGEST_PAUSE).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_ends_a_wait_at_once() {
    let (server, backend) = claimed();
    server.holds(Value::BulkString(b"foreign".to_vec()));
    let error = backend.wait(&KEY, Instant::now() + LONG).await.unwrap_err();
    assert_eq!((error.kind(), server.reads()), (crate::BackendErrorKind::Corrupt, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_reads_for_waiters_that_are_gone() {
    let (server, backend) = claimed();
    let waiters = [waiter(&backend, LONG), waiter(&backend, LONG)];
    settle().await;
    waiters.iter().for_each(JoinHandle::abort);
    sleep(LONGEST_PAUSE).await;
    let reads = server.reads();
    sleep(LONGEST_PAUSE * 10).await;
    assert_eq!(server.reads(), reads);
    // The next one starts anew.
    complete(&server);
    assert_eq!(waiter(&backend, LONG).await.unwrap().unwrap(), Some(completed()));
}

/// A runtime that ends takes its tasks with it, those included that read for waiters elsewhere.
#[test]
fn a_wait_outlives_the_runtime_that_read_for_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (server, backend) = claimed();
    let (first, second) = (runtime(), runtime());
    first.block_on(async {
        drop(waiter(&backend, LONG));
        settle().await;
    });
    let late = second.spawn({
        let backend = backend.clone();
        async move { backend.wait(&KEY, Instant::now() + LONG).await }
    });
    second.block_on(settle());
    drop(first);
    second.block_on(async {
        assert_eq!(late.await.unwrap().unwrap(), Some(in_progress()));
        complete(&server);
        assert_eq!(backend.wait(&KEY, Instant::now() + LONG).await.unwrap(), Some(completed()));
    });
}
