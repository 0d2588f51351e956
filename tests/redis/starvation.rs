//! A crowd of duplicates, and the heartbeats of the run that they repeat.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tower_idempotency::Rejection;

use crate::{
    behaviour::support::Client,
    processes::{one_crowd_at_a_time, rounds, send, start},
    support::{order, runs_of},
};

const LEASE: Duration = Duration::from_millis(600);

/// The process is busy with 10,000 duplicates at a time for three leases, while its handler runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_does_not_starve_heartbeats() {
    let _alone = one_crowd_at_a_time().await;
    for round in 0..rounds() {
        let nodes = start(1, LEASE, Duration::from_secs(1));
        let first = nodes[0].hold("order-1").await;
        let end = Instant::now() + 3 * LEASE;
        while Instant::now() < end {
            for answer in send(&nodes, &vec!["order-1".to_owned(); 10_000]).await {
                // Whoever the busy process has no time for is told so. Nobody runs.
                let refused = [Rejection::InProgress, Rejection::BackendUnavailable];
                let refused = refused.into_iter().find(|rejection| rejection.status() == answer.status);
                answer.assert_is(refused.expect("a refusal"));
            }
        }
        nodes[0].open().await;
        let first = first.await.unwrap().unwrap();
        assert_eq!((first.status, first.is_replay()), (StatusCode::CREATED, false), "round {round}: {first:?}");
        Client::http1(nodes[0].address).ask(order("order-1")).await.assert_replays(&first);
        assert_eq!(runs_of(&nodes).await["order-1"], 1, "round {round}");
    }
}
