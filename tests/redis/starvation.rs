//! A crowd of duplicates, and the heartbeats of the run that they repeat.

use std::{thread, time::Duration};

use http::StatusCode;
use tokio::{runtime::Runtime, time::Instant};
use tower_idempotency::Rejection;

use crate::{
    behaviour::support::{Client, until_some},
    servers::processes::{one_crowd_at_a_time, rounds, send},
    support::{Command, Fate, Node, Proxy, SHARED, Terms, fresh_name, order, runs_of},
};

const LEASE: Duration = Duration::from_millis(600);

/// Without optimisation a runtime needs longer than the lease to get once through the tasks of 10,000 requests, and no
/// heartbeat could overtake them.
const DUPLICATES: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

/// The process is busy with a crowd of duplicates for three leases, one crowd after the other, while its handler runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_does_not_starve_heartbeats() {
    let _alone = one_crowd_at_a_time().await;
    // A connection that delivers one command after the other, so that those of a crowd take longer than the lease. By
    // threads that have nothing else to do.
    let threads = Runtime::new().unwrap();
    let slow = |_: &Command| {
        thread::sleep(Duration::from_micros(200));
        Fate::Pass
    };
    let proxy = threads.spawn(Proxy::start(&SHARED, slow)).await.unwrap();
    for round in 0..rounds() {
        let terms = Terms {
            place: proxy.url(),
            name: fresh_name(),
            lease: LEASE,
            timeout: Duration::from_secs(1),
            run: Duration::ZERO,
        };
        let nodes = [Node::start(&terms)];
        let first = nodes[0].hold("order-1").await;
        let end = Instant::now() + 3 * LEASE;
        while Instant::now() < end {
            for answer in send(&nodes, &vec!["order-1".to_owned(); DUPLICATES]).await {
                // Whoever the busy process has no time for is told so. Nobody runs.
                let refused = answer.status == StatusCode::SERVICE_UNAVAILABLE;
                answer.assert_is(if refused { Rejection::BackendUnavailable } else { Rejection::InProgress });
            }
        }
        nodes[0].open().await;
        let first = first.await.unwrap().unwrap();
        assert_eq!((first.status, first.is_replay()), (StatusCode::CREATED, false), "round {round}: {first:?}");
        let replay = until_some("the crowd's claims are through", async || {
            let answer = Client::http1(nodes[0].address).ask(order("order-1")).await;
            (answer.status != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        });
        replay.await.assert_replays(&first);
        assert_eq!(runs_of(&nodes).await["order-1"], 1, "round {round}");
    }
    threads.shutdown_background();
}
