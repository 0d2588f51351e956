use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    task::{JoinHandle, yield_now},
    time::sleep,
};

use super::*;
use crate::{BackendErrorKind, Claim, Fingerprint, Ownership, Record, Token};

/// A backend that holds one value under every key, and counts who reads it.
#[derive(Clone, Default)]
struct Held(Arc<State>);

#[derive(Default)]
struct State {
    board: Arc<Board>,
    entry: Mutex<Option<Entry>>,
    reads: AtomicUsize,
    fails: Mutex<Option<BackendErrorKind>>,
}

impl Held {
    fn holds(&self, entry: Option<Entry>) {
        *self.0.entry.lock().unwrap() = entry;
    }

    fn fails(&self, kind: Option<BackendErrorKind>) {
        *self.0.fails.lock().unwrap() = kind;
    }

    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }
}

impl Backend for Held {
    async fn claim(&self, _: &Key, _: Token, _: &Fingerprint, _: Duration) -> Result<Claim, BackendError> {
        unreachable!("waiters only read")
    }

    async fn renew(&self, _: &Key, _: Token, _: Duration) -> Result<Ownership, BackendError> {
        unreachable!("waiters only read")
    }

    async fn complete(&self, _: &Key, _: Token, _: &Record, _: Duration) -> Result<Ownership, BackendError> {
        unreachable!("waiters only read")
    }

    async fn release(&self, _: &Key, _: Token) -> Result<(), BackendError> {
        unreachable!("waiters only read")
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, BackendError> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        // As a server at some distance does.
        yield_now().await;
        match *self.0.fails.lock().unwrap() {
            Some(kind) => Err(BackendError::new(kind)),
            None => Ok(self.0.entry.lock().unwrap().clone()),
        }
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        unreachable!("waiters only read")
    }

    async fn wait(&self, key: &Key, deadline: Instant) -> Result<Option<Entry>, BackendError> {
        super::wait(self, key, deadline).await
    }
}

impl Watched for Held {
    fn board(&self) -> &Arc<Board> {
        &self.0.board
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn listen(&self) {}
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

/// A backend with a claim.
fn claimed() -> Held {
    let backend = Held::default();
    backend.holds(Some(in_progress()));
    backend
}

/// The run that holds the claim completes. Nobody is told.
fn complete(backend: &Held) {
    backend.holds(Some(completed()));
}

fn waiter(backend: &Held, patience: Duration) -> JoinHandle<Result<Option<Entry>, BackendError>> {
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
    let backend = claimed();
    backend.board().set_listening(true);
    let waiter = waiter(&backend, LONG);
    settle().await;
    let before = (Instant::now(), backend.reads());

    complete(&backend);
    backend.board().notice(&KEY);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    assert_eq!((Instant::now(), backend.reads()), (before.0, before.1 + 1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_served_by_one_read() {
    let backend = claimed();
    backend.board().set_listening(true);
    let waiters: Vec<_> = (0..1024).map(|_| waiter(&backend, LONG)).collect();
    settle().await;
    let before = backend.reads();

    complete(&backend);
    backend.board().notice(&KEY);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    }
    assert_eq!(backend.reads(), before + 1);
    assert!(before < 20, "{before} reads for waiters that came together");
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_reads_seldom_and_yet_learns_of_a_crash() {
    let backend = claimed();
    backend.board().set_listening(true);
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_secs(10)).await;
    // A pause of 250 to 500 milliseconds each.
    assert!((20..=45).contains(&backend.reads()), "{} reads in ten seconds", backend.reads());

    backend.holds(None);
    let crashed = Instant::now();
    assert_eq!(waiter.await.unwrap().unwrap(), None);
    assert!(crashed.elapsed() <= LONGEST_PAUSE, "{:?}", crashed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_listen_polls() {
    let backend = claimed();
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_millis(100)).await;
    // After 10, 20, 40 and 80 milliseconds, or up to twice as often.
    assert!((4..=8).contains(&backend.reads()), "{} reads", backend.reads());
    complete(&backend);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_to_listen_looks_again() {
    let backend = claimed();
    let waiter = waiter(&backend, LONG);
    settle().await;
    let before = Instant::now();
    // Between the read and the subscription, so that no notice is heard.
    complete(&backend);
    backend.board().set_listening(true);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn polling_begins_when_the_subscription_ends() {
    let backend = claimed();
    backend.board().set_listening(true);
    let waiter = waiter(&backend, LONG);
    sleep(Duration::from_secs(1)).await;
    backend.board().set_listening(false);
    settle().await;
    let before = Instant::now();
    complete(&backend);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
    // The clock of timers counts in milliseconds, and rounds up.
    assert!(before.elapsed() <= FIRST_PAUSE + Duration::from_millis(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_waiter_leaves_at_its_own_deadline() {
    let backend = claimed();
    backend.board().set_listening(true);
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
    let backend = claimed();
    let first = backend.board().join(KEY, Waiter { deadline: Instant::now() + LONG, answer: oneshot::channel().0 });
    let watch = first.expect("the first waiter starts the watch");
    let taken = watch.take();
    // The watcher reads now: whatever comes back was there before this one joined.
    let late = waiter(&backend, LONG);
    settle().await;
    tell(taken, &Ok(None), |_| true);
    settle().await;
    assert!(!late.is_finished());

    let reads = backend.reads();
    tokio::spawn(read_for(backend.clone(), watch));
    settle().await;
    assert!(backend.reads() > reads && !late.is_finished());
    complete(&backend);
    backend.board().notice(&KEY);
    assert_eq!(late.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_makes_the_watcher_look() {
    let backend = claimed();
    backend.board().set_listening(true);
    let first = waiter(&backend, LONG);
    settle().await;
    let before = Instant::now();
    complete(&backend);
    assert_eq!(waiter(&backend, LONG).await.unwrap().unwrap(), Some(completed()));
    assert_eq!(first.await.unwrap().unwrap(), Some(completed()));
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn errors_that_pass_do_not_end_a_wait() {
    let backend = claimed();
    let waiter = waiter(&backend, LONG);
    settle().await;
    backend.fails(Some(BackendErrorKind::Unavailable));
    sleep(backend.patience() / 2).await;
    backend.fails(None);
    complete(&backend);
    assert_eq!(waiter.await.unwrap().unwrap(), Some(completed()));
}

#[tokio::test(start_paused = true)]
async fn errors_that_stay_end_a_wait_after_the_time_out() {
    let backend = claimed();
    let waiters = [waiter(&backend, LONG), waiter(&backend, LONG)];
    settle().await;
    backend.fails(Some(BackendErrorKind::Unavailable));
    let began = Instant::now();
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        let text = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(text.as_deref(), Some("idempotency backend unavailable"));
    }
    assert!(
        (backend.patience()..=backend.patience() + LONGEST_PAUSE).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_read_ends_a_wait_at_once() {
    let backend = claimed();
    backend.fails(Some(BackendErrorKind::Corrupt));
    let error = backend.wait(&KEY, Instant::now() + LONG).await.unwrap_err();
    assert_eq!((error.kind(), backend.reads()), (BackendErrorKind::Corrupt, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_reads_for_waiters_that_are_gone() {
    let backend = claimed();
    let waiters = [waiter(&backend, LONG), waiter(&backend, LONG)];
    settle().await;
    waiters.iter().for_each(JoinHandle::abort);
    sleep(LONGEST_PAUSE).await;
    let reads = backend.reads();
    sleep(LONGEST_PAUSE * 10).await;
    assert_eq!(backend.reads(), reads);
    // The next one starts anew.
    complete(&backend);
    assert_eq!(waiter(&backend, LONG).await.unwrap().unwrap(), Some(completed()));
}

/// A runtime that ends takes its tasks with it, those included that read for waiters elsewhere.
#[test]
fn a_wait_outlives_the_runtime_that_read_for_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let backend = claimed();
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
        complete(&backend);
        assert_eq!(backend.wait(&KEY, Instant::now() + LONG).await.unwrap(), Some(completed()));
    });
}

/// As with a runtime for each thread, one of which has a handler that blocks it.
#[tokio::test]
async fn a_wait_ends_at_its_deadline_though_the_runtime_of_the_watcher_stands_still() {
    let (backend, (begun, begins)) = (claimed(), tokio::sync::oneshot::channel());
    let (ends, end) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn({
        let backend = backend.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let _first = waiter(&backend, LONG);
                while backend.reads() == 0 {
                    yield_now().await;
                }
                begun.send(()).unwrap();
                let _ = end.recv(); // blocks the runtime
            });
        }
    });
    begins.await.unwrap();
    let left = timeout_at(Instant::now() + LONG, waiter(&backend, Duration::from_millis(10))).await;
    assert_eq!(left.expect("an answer").unwrap().unwrap(), Some(in_progress()));
    drop(ends);
    other.join().unwrap();
}
