//! A pooler between the backend and its server.

use tower_idempotency::{Entry, Key, PostgresBackend, testing::conformance};

use crate::{
    behaviour::support::until_some,
    servers::runs::{claim, complete, record, wait},
    support::{Bouncer, SHARED, Server, backend_at, fresh_name, patient},
};

/// What `PgBouncer` must drop of what the client says when it connects.
const IGNORED: &str = "extra_float_digits";

async fn backend_behind(bouncer: &Bouncer, table: &str) -> PostgresBackend {
    patient(backend_at(bouncer.pool(8), table).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_laws_are_kept_behind_a_pooler_of_sessions() {
    let bouncer = Bouncer::of_sessions(&SHARED);
    let backend = backend_behind(&bouncer, &fresh_name()).await;
    conformance(|| async { backend.clone() }).await;
}

/// These take `PgBouncer` 1.21; `tests/run` leaves them out where the system has an older one.
mod of_transactions {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_laws_are_kept() {
        let bouncer = Bouncer::of_transactions(&SHARED, IGNORED);
        let table = fresh_name();
        conformance(|| backend_behind(&bouncer, &table)).await;
    }

    /// The notices would go to whoever has the connection when they come, whose command would fail of them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_waits_polls_and_subscribes_to_nothing() {
        // The pooler refuses to make a connection special, or does as if it had done so.
        let dropped = format!("{IGNORED}, options");
        let refusals = ["unsupported startup parameter", "unrecognized configuration parameter"];
        for (ignored, refusal) in [IGNORED, &dropped].into_iter().zip(refusals) {
            let server = Server::start(&["log_statement = all"]);
            let bouncer = Bouncer::of_transactions(&server, ignored);
            let (node, key) = (backend_behind(&bouncer, "poolers").await, Key::new("", "order-1"));
            let token = claim(&node, key).await;
            let waiter = wait(&node, key);
            let refusals = || (bouncer.output() + &server.output()).matches(refusal).count();
            until_some("it has tried to subscribe twice", async || (refusals() >= 2).then_some(())).await;
            complete(&node, key, token).await;
            assert_eq!(waiter.await.unwrap(), Some(Entry::Completed(record())));
            assert!(!server.output().contains("LISTEN \""), "{}", server.output());
        }
    }
}
