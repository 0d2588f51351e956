//! Effects and records that are committed in one transaction: both, or neither.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::{sync::Semaphore, time::sleep};
use tower_idempotency::{
    Backend, BodyHash, Claim, CommitError, Deduplicator, Fingerprint, IdempotencyLayer, Key, PostgresBackend,
    Processed, RecordPolicy, Rejection, Run, RunError, Token,
    sqlx::{Connection, Executor, PgConnection, PgPool, query, query_scalar},
};

use crate::{
    behaviour::support::{Answer, Client, created, payment, serve, until_some},
    servers::order,
    support::{Fate, LONG, Proxy, SHARED, Server, backend_at, fresh_name},
};

/// A bank that books each payment in a ledger, in the transaction that records the response.
#[derive(Clone)]
struct Bank {
    pool: PgPool,
    backend: PostgresBackend,
    ledger: String,
    runs: Arc<AtomicUsize>,
    errors: Arc<Mutex<Vec<CommitError>>>,
    /// What a run answers.
    answer: Arc<dyn Fn(usize) -> Response<Body> + Send + Sync>,
    /// What a run does before it commits.
    before: Arc<Step>,
    /// What a run does after it has committed.
    after: Arc<Step>,
}

type Step = dyn Fn(Run) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

fn nothing() -> Arc<Step> {
    Arc::new(|_| Box::pin(async {}))
}

fn step<F: Future<Output = ()> + Send + 'static>(step: impl Fn(Run) -> F + Send + Sync + 'static) -> Arc<Step> {
    Arc::new(move |run| Box::pin(step(run)))
}

impl Bank {
    /// A bank whose connections are those of `pool`, which leads to the shared server.
    async fn over(pool: PgPool) -> Self {
        Self::at(pool, SHARED.pool(1)).await
    }

    /// A bank whose connections are those of `pool`. Its tables are made through `direct`.
    async fn at(pool: PgPool, direct: PgPool) -> Self {
        let (keys, ledger) = (fresh_name(), fresh_name());
        backend_at(direct.clone(), &keys).await;
        direct.execute(&*format!("CREATE TABLE {ledger} (entry text)")).await.unwrap();
        Self {
            backend: PostgresBackend::new(pool.clone()).table(&keys),
            pool,
            ledger,
            runs: Arc::default(),
            errors: Arc::default(),
            answer: Arc::new(created),
            before: nothing(),
            after: nothing(),
        }
    }

    async fn shared() -> Self {
        Self::over(SHARED.pool(5)).await
    }

    fn answering(self, answer: impl Fn(usize) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), ..self }
    }

    fn layer(&self) -> IdempotencyLayer<PostgresBackend> {
        IdempotencyLayer::new(self.backend.clone()).lease(LONG)
    }

    async fn book(&self, run: &Run) -> Result<Response<Body>, CommitError> {
        let count = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let mut transaction = self.pool.begin().await?;
        let book = format!("INSERT INTO {} VALUES ($1)", self.ledger);
        query(&book).bind(run.key()).execute(&mut *transaction).await?;
        (self.before)(run.clone()).await;
        let response = self.backend.commit(transaction, run, (self.answer)(count)).await?;
        (self.after)(run.clone()).await;
        Ok(response.map(Body::new))
    }

    async fn open(&self) -> Client {
        self.open_behind(self.layer()).await
    }

    async fn open_behind(&self, layer: IdempotencyLayer<PostgresBackend>) -> Client {
        let bank = self.clone();
        let pay = move |run: Run| async move {
            bank.book(&run).await.unwrap_or_else(|error| {
                bank.errors.lock().unwrap().push(error);
                Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(Body::empty()).unwrap()
            })
        };
        Client::http1(serve(Router::new().route("/payments", post(pay)).layer(layer)).await)
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// What the ledger says, by another connection.
    async fn entries(&self) -> i64 {
        query_scalar(&format!("SELECT count(*) FROM {}", self.ledger)).fetch_one(&SHARED.pool(1)).await.unwrap()
    }

    /// Takes the key from its holder, as if its lease had ended.
    async fn take_over(&self, key: &Key) {
        assert!(self.backend.remove(key).await.unwrap());
    }

    fn the_error(&self) -> CommitError {
        let mut errors = self.errors.lock().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }
}

async fn pay(client: &Client, key: &str) -> Answer {
    client.ask(order(key)).await
}

fn is_commit(statement: &str) -> bool {
    statement == "COMMIT"
}

fn is_verification(statement: &str) -> bool {
    statement.contains("FOR UPDATE")
}

/// Lets the first COMMIT meet with `fate`.
async fn first_commit(server: &Server, fate: Fate) -> Proxy {
    let commits = AtomicUsize::new(0);
    Proxy::start(server, move |statement: &str| {
        if is_commit(statement) && commits.fetch_add(1, Ordering::SeqCst) == 0 { fate.clone() } else { Fate::Pass }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn effect_and_record_are_committed_in_one_transaction() {
    let proxy = Proxy::start(&SHARED, |_| Fate::Pass).await;
    let bank = Bank::over(proxy.pool(3)).await;
    let client = bank.open().await;
    pay(&client, "order-1").await.assert_is_first_of(1);
    assert_eq!(bank.entries().await, 1);
    let stored = proxy.count(|statement| statement.starts_with("WITH changed"));
    assert_eq!(stored, 1, "the layer has nothing left to store");
    pay(&client, "order-1").await.assert_is_replay_of(1);
    pay(&bank.open().await, "order-1").await.assert_is_replay_of(1);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_has_lost_its_key_has_no_effect() {
    let mut bank = Bank::shared().await;
    let stolen = bank.clone();
    bank.before = step(move |run| {
        let (bank, first) = (stolen.clone(), stolen.runs() == 1);
        async move {
            if first {
                bank.take_over(&Key::new("", run.key())).await;
            }
        }
    });
    let client = bank.open().await;
    assert_eq!(pay(&client, "order-1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(bank.the_error(), CommitError::LeaseLost));
    assert_eq!(bank.entries().await, 0);
    pay(&client, "order-1").await.assert_is_first_of(2);
    pay(&client, "order-1").await.assert_is_replay_of(2);
    assert_eq!(bank.entries().await, 1);
}

/// The old run wakes up while its successor has yet to commit, and after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_runs_of_one_key_one_commits() {
    for first_wakes_first in [true, false] {
        let mut bank = Bank::shared().await;
        let gates: Arc<[Semaphore; 2]> = Arc::new([Semaphore::new(0), Semaphore::new(0)]);
        let begun = Arc::new(AtomicUsize::new(0));
        bank.before = step({
            let (begun, gates) = (Arc::clone(&begun), Arc::clone(&gates));
            move |_| {
                let (run, gates) = (begun.fetch_add(1, Ordering::SeqCst), Arc::clone(&gates));
                async move { gates[run].acquire().await.unwrap().forget() }
            }
        });
        let client = bank.open().await;
        let entered = |runs| {
            let begun = Arc::clone(&begun);
            crate::behaviour::support::until("a run has begun", move || begun.load(Ordering::SeqCst) == runs)
        };
        let begin = || {
            tokio::spawn({
                let client = client.clone();
                async move { pay(&client, "order-1").await }
            })
        };
        let first = begin();
        entered(1).await;
        bank.take_over(&Key::new("", "order-1")).await;
        // In another process: this one knows that the key is held.
        let client = bank.open().await;
        let second = tokio::spawn(async move { pay(&client, "order-1").await });
        entered(2).await;
        if first_wakes_first {
            gates[0].add_permits(1);
            assert_eq!(first.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(bank.entries().await, 0);
            gates[1].add_permits(1);
            second.await.unwrap().assert_is_first_of(2);
        } else {
            gates[1].add_permits(1);
            second.await.unwrap().assert_is_first_of(2);
            gates[0].add_permits(1);
            assert_eq!(first.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert!(matches!(bank.the_error(), CommitError::LeaseLost));
        assert_eq!(bank.entries().await, 1);
        pay(&bank.open().await, "order-1").await.assert_is_replay_of(2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_reply_is_lost_has_happened() {
    for fate in [Fate::LoseReply, Fate::FallSilent] {
        let proxy = first_commit(&SHARED, fate.clone()).await;
        let bank = Bank::over(proxy.pool(3)).await;
        let client = bank.open().await;
        pay(&client, "order-1").await.assert_is_first_of(1);
        assert!(proxy.count(is_verification) > 0, "{fate:?}");
        pay(&client, "order-1").await.assert_is_replay_of(1);
        assert_eq!((bank.runs(), bank.entries().await), (1, 1), "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_is_lost_has_not_happened() {
    let proxy = first_commit(&SHARED, Fate::Lose).await;
    let bank = Bank::over(proxy.pool(3)).await;
    let client = bank.open().await;
    assert_eq!(pay(&client, "order-1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(bank.the_error(), CommitError::RolledBack(_)));
    assert_eq!(bank.entries().await, 0);
    pay(&client, "order-1").await.assert_is_first_of(2);
    assert_eq!(bank.entries().await, 1);
}

/// Whoever looks at the row before then would see a claim, and believe that nothing has happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_is_late_is_waited_for() {
    let proxy = first_commit(&SHARED, Fate::Delay(Duration::from_millis(700))).await;
    let mut bank = Bank::over(proxy.pool(3)).await;
    bank.backend = bank.backend.timeout(Duration::from_millis(200));
    let client = bank.open().await;
    pay(&client, "order-1").await.assert_is_first_of(1);
    assert!(proxy.count(is_verification) > 1);
    pay(&client, "order-1").await.assert_is_replay_of(1);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

/// The record may have expired or been removed, and the key may be another run's, before anybody can ask for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_record_has_gone_is_not_said_to_be_rolled_back() {
    for is_taken_over in [false, true] {
        let table = fresh_name();
        let others = backend_at(SHARED.pool(1), &table).await;
        let (commits, key) = (AtomicUsize::new(0), Key::new("", "order-1"));
        let (sender, mut asks) = tokio::sync::mpsc::unbounded_channel();
        let proxy = Proxy::start(&SHARED, move |statement: &str| {
            if is_commit(statement) && commits.fetch_add(1, Ordering::SeqCst) == 0 {
                return Fate::LoseReply;
            }
            // The first one waits for what happens meanwhile.
            let first = is_verification(statement) && sender.send(()).is_ok();
            if first { Fate::Delay(Duration::from_millis(300)) } else { Fate::Pass }
        })
        .await;
        let mut bank = Bank::over(proxy.pool(3)).await;
        bank.backend = PostgresBackend::new(proxy.pool(3)).table(&table).timeout(LONG);
        let client = bank.open().await;
        let first = tokio::spawn(async move { pay(&client, "order-1").await });
        asks.recv().await.unwrap();
        assert!(others.remove(&key).await.unwrap());
        if is_taken_over {
            let claim = others.claim(&key, Token::random(), &Fingerprint::of("order-1"), LONG).await;
            assert_eq!(claim.unwrap(), Claim::Acquired);
        }
        assert_eq!(first.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(matches!(bank.the_error(), CommitError::Unknown(_)), "{is_taken_over}");
        assert_eq!(bank.entries().await, 1);
    }
}

/// Whatever the handler answers then is not what duplicates will get, should the transaction be committed after all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_in_doubt_is_not_said_to_be_stored() {
    let proxy = first_commit(&SHARED, Fate::Delay(Duration::from_millis(500))).await;
    let bank = Bank::over(proxy.pool(3)).await;
    let impatient = {
        let bank = bank.clone();
        move |run: Run| async move {
            let booked = tokio::time::timeout(Duration::from_millis(200), bank.book(&run)).await;
            booked.map_or_else(|_elapsed| StatusCode::GATEWAY_TIMEOUT.into_response(), Result::unwrap)
        }
    };
    let layer = bank.layer().record(RecordPolicy::everything()).lease(Duration::from_secs(1));
    let client = Client::http1(serve(Router::new().route("/payments", post(impatient)).layer(layer)).await);
    let first = pay(&client, "order-1").await;
    assert_eq!(first.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(first.headers["idempotency-stored"], "false");
    let last = until_some("the commit has arrived", async || {
        let answer = pay(&client, "order-1").await;
        (answer.status == StatusCode::CREATED).then_some(answer)
    });
    last.await.assert_is_replay_of(1);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

/// What nobody knows of the first does not matter any more: it cannot have been committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_after_one_in_doubt_is_said_to_be_stored() {
    let commits = AtomicUsize::new(0);
    let (sender, mut lost) = tokio::sync::mpsc::unbounded_channel();
    let proxy = Proxy::start(&SHARED, move |statement: &str| {
        if is_verification(statement) {
            let _ = sender.send(());
            return Fate::FallSilent;
        }
        if is_commit(statement) && commits.fetch_add(1, Ordering::SeqCst) == 0 { Fate::Lose } else { Fate::Pass }
    })
    .await;
    let bank = Bank::over(proxy.pool(3)).await;
    let messages = Deduplicator::new(bank.backend.clone()).lease(LONG);
    let committed = messages.run_with("order-1", |run| async move {
        let first = bank.pool.begin().await?;
        tokio::select! {
            first = bank.backend.commit_value(first, &run, "first") => panic!("there is no answer: {first:?}"),
            _ = lost.recv() => {}
        }
        bank.backend.commit_value(bank.pool.begin().await?, &run, "second").await
    });
    assert_eq!(committed.await.unwrap(), Processed::Executed(Bytes::from_static(b"second")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_at_the_commit_is_asked_once_it_is_back() {
    let server = Arc::new(Server::start(&[]));
    let killed = Arc::clone(&server);
    let commits = AtomicUsize::new(0);
    let proxy = Proxy::start(&server, move |statement: &str| {
        if is_commit(statement) && commits.fetch_add(1, Ordering::SeqCst) == 0 {
            killed.kill();
            killed.restart();
        }
        Fate::Pass
    })
    .await;
    let bank = Bank::at(proxy.pool(3), server.pool(1)).await;
    let client = bank.open().await;
    // The connection ended with the server, before COMMIT.
    assert_eq!(pay(&client, "order-1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(bank.the_error(), CommitError::RolledBack(_)));
    pay(&client, "order-1").await.assert_is_first_of(2);
    let entries: i64 = query_scalar(&format!("SELECT count(*) FROM {}", bank.ledger))
        .fetch_one(&mut PgConnection::connect_with(&server.address()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(entries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_committed_is_kept_whatever_becomes_of_the_handler() {
    let after: [(&str, Arc<Step>); 3] = [
        ("panics", step(|_| async { panic!("after the commit") })),
        ("releases", step(|run| async move { run.release() })),
        ("keeps without body", step(|run| async move { run.keep_without_body() })),
    ];
    for (what, after) in after {
        let mut bank = Bank::shared().await;
        bank.after = after;
        let client = bank.open().await;
        let first = client.send(order("order-1")).await;
        // A panic ends the connection.
        assert_eq!(first.is_err(), what == "panics");
        pay(&bank.open().await, "order-1").await.assert_is_replay_of(1);
        assert_eq!((bank.runs(), bank.entries().await), (1, 1), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_goes_on_after_the_commit_loses_nothing() {
    let mut bank = Bank::shared().await;
    bank.after = step(|run| async move {
        sleep(Duration::from_millis(1500)).await;
        assert!(!run.lease_lost());
    });
    let client = bank.open_behind(bank.layer().lease(Duration::from_millis(600))).await;
    pay(&client, "order-1").await.assert_is_first_of(1);
    pay(&client, "order-1").await.assert_is_replay_of(1);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_record_is_the_one_that_the_layer_would_make() {
    let bank = Bank::shared().await.answering(|run| {
        let mut response = created(run);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
        response.headers_mut().insert("x-internal", "1".parse().unwrap());
        response.headers_mut().insert("idempotent-replayed", "true".parse().unwrap());
        response
    });
    let client = bank.open_behind(bank.layer().record(RecordPolicy::default().drop_header("x-internal"))).await;
    let first = pay(&client, "order-1").await;
    assert_eq!((first.status, first.is_replay()), (StatusCode::BAD_GATEWAY, false));
    assert_eq!(first.headers["set-cookie"], "a=b");
    let second = pay(&client, "order-1").await;
    assert_eq!((second.status, second.is_replay(), &second.body), (StatusCode::BAD_GATEWAY, true, &first.body));
    assert!(!second.headers.contains_key("set-cookie") && !second.headers.contains_key("x-internal"), "{second:?}");
    assert_eq!((bank.runs(), bank.entries().await), (1, 1), "a status that gives the key back is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_record_lives_as_long_as_the_layer_says() {
    let bank = Bank::shared().await;
    let client = bank.open_behind(bank.layer().retention(Duration::from_millis(300))).await;
    pay(&client, "order-1").await.assert_is_first_of(1);
    sleep(Duration::from_millis(400)).await;
    pay(&client, "order-1").await.assert_is_first_of(2);
    assert_eq!(bank.entries().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_response_that_cannot_be_kept_leaves_a_tombstone() {
    fn streamed(_: usize) -> Response<Body> {
        Response::new(Body::from_stream(tokio_stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")])))
    }
    fn large(_: usize) -> Response<Body> {
        Response::new(Body::from(vec![b'x'; 101]))
    }
    for answer in [streamed, large] {
        let bank = Bank::shared().await.answering(answer);
        let client = bank.open_behind(bank.layer().limits(1000, 100)).await;
        let expected = axum::body::to_bytes(answer(1).into_body(), 1000).await.unwrap();
        let first = pay(&client, "order-1").await;
        assert_eq!((first.status, first.body), (StatusCode::OK, expected));
        pay(&client, "order-1").await.assert_is(Rejection::NotKept);
        assert_eq!((bank.runs(), bank.entries().await), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cookie_is_not_shared_by_those_who_send_the_same_body() {
    let bank = Bank::shared().await.answering(|run| {
        let mut response = created(run);
        response.headers_mut().insert("set-cookie", "a=b".parse().unwrap());
        response
    });
    let by_body = bank.layer().or_body_hash(BodyHash::any_caller(Duration::from_secs(60)));
    let client = bank.open_behind(by_body).await;
    let without_key = || {
        let mut request = payment("none");
        request.headers_mut().remove("x-idempotency-key");
        request
    };
    assert_eq!(client.ask(without_key()).await.headers["set-cookie"], "a=b");
    client.ask(without_key()).await.assert_is(Rejection::NotKept);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_response_whose_body_fails_has_no_effect() {
    let bank = Bank::shared().await.answering(|_| {
        let frames = [Ok(Bytes::from_static(b"one")), Err(std::io::Error::other("broken"))];
        let mut response = Response::new(Body::from_stream(tokio_stream::iter(frames)));
        response.headers_mut().insert("content-length", "6".parse().unwrap());
        response
    });
    let client = bank.open().await;
    assert_eq!(pay(&client, "order-1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(bank.the_error(), CommitError::RolledBack(_)));
    assert_eq!(bank.entries().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_constraint_that_fails_at_the_commit_rolls_back() {
    let bank = Bank::shared().await;
    let unique = format!("ALTER TABLE {} ADD UNIQUE (entry) DEFERRABLE INITIALLY DEFERRED", bank.ledger);
    SHARED.pool(1).execute(&*unique).await.unwrap();
    let book = format!("INSERT INTO {} VALUES ('order-1')", bank.ledger);
    SHARED.pool(1).execute(&*book).await.unwrap();
    let client = bank.open().await;
    assert_eq!(pay(&client, "order-1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(matches!(bank.the_error(), CommitError::RolledBack(_)));
    assert_eq!(bank.backend.get(&Key::new("", "order-1")).await.unwrap(), None, "the key was given back");
    pay(&client, "order-2").await.assert_is_first_of(2);
    assert_eq!(bank.entries().await, 2);
}

/// A renewal changes the row of the claim, which a transaction that wants to see one state of the world must not follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_that_is_given_up_for_another_is_a_conflict() {
    let bank = Bank::shared().await;
    let begin_again = {
        let bank = bank.clone();
        move |run: Run| async move {
            bank.runs.fetch_add(1, Ordering::SeqCst);
            for attempt in 1..=2 {
                let mut transaction = bank.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
                let book = format!("INSERT INTO {} VALUES ('order-1')", bank.ledger);
                query(&book).execute(&mut *transaction).await.unwrap();
                if attempt == 1 {
                    let renewed = bank.backend.renew(&Key::new("", run.key()), run.token(), LONG).await.unwrap();
                    assert_eq!(renewed, tower_idempotency::Ownership::Held);
                }
                match bank.backend.commit(transaction, &run, created(1)).await {
                    Err(CommitError::Conflict(_)) if attempt == 1 => {}
                    committed => return committed.unwrap().map(Body::new),
                }
            }
            unreachable!("the second attempt returns")
        }
    };
    let router = Router::new().route("/payments", post(begin_again)).layer(bank.layer());
    let client = Client::http1(serve(router).await);
    pay(&client, "order-1").await.assert_is_first_of(1);
    pay(&client, "order-1").await.assert_is_replay_of(1);
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_wait_get_what_was_committed() {
    let mut bank = Bank::shared().await;
    let gate = Arc::new(Semaphore::new(0));
    bank.before = step({
        let gate = Arc::clone(&gate);
        move |_| {
            let gate = Arc::clone(&gate);
            async move { gate.acquire().await.unwrap().forget() }
        }
    });
    let waiting = || bank.layer().wait(Duration::from_secs(30));
    let (here, there) = (bank.open_behind(waiting()).await, bank.open_behind(waiting()).await);
    let begin = |client: &Client| {
        tokio::spawn({
            let client = client.clone();
            async move { pay(&client, "order-1").await }
        })
    };
    let first = begin(&here);
    let entered = bank.clone();
    crate::behaviour::support::until("the run has begun", move || entered.runs() == 1).await;
    let waiters: Vec<_> = (0..20).map(|waiter| begin(if waiter % 2 == 0 { &here } else { &there })).collect();
    gate.add_permits(1);
    first.await.unwrap().assert_is_first_of(1);
    for waiter in waiters {
        waiter.await.unwrap().assert_is_replay_of(1);
    }
    assert_eq!((bank.runs(), bank.entries().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_commits_a_value() {
    let bank = Bank::shared().await;
    let deduplicator = Deduplicator::new(bank.backend.clone());
    let deliver = || {
        let bank = bank.clone();
        deduplicator.run_with("message-1", |run| async move {
            let mut transaction = bank.pool.begin().await?;
            query(&format!("INSERT INTO {} VALUES ($1)", bank.ledger))
                .bind(run.key())
                .execute(&mut *transaction)
                .await?;
            if bank.runs.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(CommitError::LeaseLost); // fails before it commits
            }
            bank.backend.commit_value(transaction, &run, "shipped").await
        })
    };
    assert!(matches!(deliver().await, Err(RunError::Failed(CommitError::LeaseLost))));
    assert_eq!(bank.entries().await, 0);
    assert!(matches!(deliver().await, Ok(Processed::Executed(value)) if value == "shipped"));
    assert!(matches!(deliver().await, Ok(Processed::Replayed(Some(value))) if value == "shipped"));
    assert_eq!((bank.runs(), bank.entries().await), (2, 1));
}

/// What a message's handler says before it commits counts for the value, and nothing that it says counts against it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_s_word_keeps_its_value_back_and_does_not_undo_the_commit() {
    let bank = Bank::shared().await;
    let deduplicator = Deduplicator::new(bank.backend.clone());
    let deliver = |message: &'static str, word: fn(&Run)| {
        let bank = bank.clone();
        deduplicator.run_with(message, move |run| async move {
            let transaction = bank.pool.begin().await?;
            word(&run);
            bank.backend.commit_value(transaction, &run, "secret").await
        })
    };
    for (message, word, kept) in
        [("kept back", Run::keep_without_body as fn(&Run), None), ("released", Run::release, Some("secret"))]
    {
        let first = deliver(message, word).await;
        assert!(matches!(&first, Ok(Processed::Executed(value)) if value == "secret"), "{first:?}");
        let second = deliver(message, word).await;
        assert_eq!(second.unwrap(), Processed::Replayed(kept.map(Bytes::from)), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_has_committed_is_not_said_to_be_released() {
    for is_said_before in [true, false] {
        let bank = Bank::shared().await;
        let messages = Deduplicator::new(bank.backend.clone()).lease(LONG);
        let committed = messages.run_with("order-1", move |run| async move {
            if is_said_before {
                run.release(); // an error of what follows gives the key back
            }
            let receipt = bank.backend.commit_value(bank.pool.begin().await?, &run, "receipt").await?;
            run.release();
            Ok::<_, CommitError>(receipt)
        });
        assert_eq!(committed.await.unwrap(), Processed::Executed(Bytes::from_static(b"receipt")));
        let again = messages.run("order-1", async { Ok::<_, CommitError>("again") }).await;
        assert_eq!(again.unwrap(), Processed::Replayed(Some(Bytes::from_static(b"receipt"))));
    }
}
