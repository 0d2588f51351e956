//! The backend of the guide `docs/guide/backend.md`: it keeps the laws, and the guide shows it as it is.
#![cfg(feature = "test-util")]

#[allow(unreachable_pub, reason = "the guide shows a library")]
#[path = "../examples/custom_backend/sqlite.rs"]
mod sqlite;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlite::SqliteBackend;
use tower_idempotency::{
    Backend, BackendError, Claim, Entry, Fingerprint, Key, Ownership, Record, Token, testing::conformance,
};

/// A folder of its own for each test: a database is three files.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        // A disk that others use may take longer to write than a lease lives: in memory, where there is a place for it.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
        let folder = place.join(format!("tower_idempotency_{test}_{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn open(&self) -> SqliteBackend {
        SqliteBackend::open(self.0.join("idempotency.db")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_laws() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("idempotency.db");
    tower_idempotency::testing::conformance(|| async { SqliteBackend::open(&file).unwrap() }).await;
}

const GUIDE: &str = include_str!("../docs/guide/backend.md");

/// The Rust in the guide, block by block.
fn blocks() -> Vec<&'static str> {
    let open = |text: &'static str| text.split_once("\n```\n").expect("a block ends").0;
    GUIDE.split("```rust\n").skip(1).map(open).collect()
}

#[test]
fn the_guide_shows_the_backend_and_its_test_line_by_line() {
    let blocks = blocks();
    let [backend @ .., test] = &blocks[..] else { panic!("the guide has code") };
    let example = include_str!("../examples/custom_backend/sqlite.rs");
    for (number, (shown, is)) in (1..).zip(backend.join("\n\n").lines().zip(example.lines())) {
        assert_eq!(shown, is, "line {number} of sqlite.rs");
    }
    assert_eq!(backend.join("\n\n") + "\n", example);
    assert!(
        include_str!("custom_backend.rs").contains(&format!("\n{test}\n")),
        "the test in the guide is not this one"
    );
}

#[test]
fn an_empty_file_becomes_a_backend_that_keeps_the_laws_in_120_lines() {
    let lines = blocks().join("\n\n").lines().count();
    assert!(lines <= 120, "{lines} lines");
}

/// Commands go round over several backends on one file, as they do when several processes share it: what
/// excludes each other in the store are connections.
struct Shared(Vec<SqliteBackend>, AtomicUsize);

impl Shared {
    fn next(&self) -> &SqliteBackend {
        &self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()]
    }
}

impl Backend for Shared {
    async fn claim(
        &self,
        key: &Key,
        token: Token,
        fingerprint: &Fingerprint,
        lease: Duration,
    ) -> Result<Claim, BackendError> {
        self.next().claim(key, token, fingerprint, lease).await
    }

    async fn renew(&self, key: &Key, token: Token, lease: Duration) -> Result<Ownership, BackendError> {
        self.next().renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: &Key,
        token: Token,
        record: &Record,
        retention: Duration,
    ) -> Result<Ownership, BackendError> {
        self.next().complete(key, token, record, retention).await
    }

    async fn release(&self, key: &Key, token: Token) -> Result<(), BackendError> {
        self.next().release(key, token).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, BackendError> {
        self.next().get(key).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, BackendError> {
        self.next().remove(key).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_backends_on_one_file_keep_the_laws_together() {
    let folder = Folder::new("shared");
    conformance(|| async { Shared((0..3).map(|_| folder.open()).collect(), AtomicUsize::new(0)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_can_be_opened_by_many_at_once() {
    let folder = Arc::new(Folder::new("opening"));
    let opening = (0..32).map(|_| {
        let folder = Arc::clone(&folder);
        tokio::task::spawn_blocking(move || folder.open())
    });
    for backend in opening.collect::<Vec<_>>() {
        assert_eq!(backend.await.unwrap().get(&Key::new("", "k")).await.unwrap(), None);
    }
}
