//! curl, and the load generator wrk.

use std::time::Duration;

use tokio::process::Command;
use tower_idempotency::Outcome::{Conflict, Executed, Replayed};

use crate::{
    client::{lines, wrk},
    server::Server,
};

/// Prints the status.
async fn curl(server: &Server, options: &[&str]) -> Vec<String> {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}\n", "-H", "Idempotency-Key: k-1", "-d", "amount=12"]);
    lines(command.args(options).arg(format!("{}/payments", server.url))).await
}

#[tokio::test]
async fn curl_repeats_a_409_when_it_is_told_to_and_gets_the_first_response() {
    let server = Server::start().await;
    server.close_gate();
    server.open_gate_at_first_conflict();
    let (first, second) = tokio::join!(curl(&server, &[]), async {
        server.first_run_has_started().await;
        curl(&server, &["--fail", "--retry", "5", "--retry-all-errors"]).await
    });
    assert_eq!([first, second].concat(), ["201", "201"]);
    assert_eq!(server.runs(), [1]);
    assert_eq!(server.outcomes(), [Conflict, Executed, Replayed]);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_replayed_to_curl() {
    let server = Server::start().await;
    server.lose_next_answer();
    assert_eq!(curl(&server, &["--retry", "5", "--retry-all-errors"]).await, ["201"]);
    assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Replayed]));
}

/// Twenty connections for a second, as fast as they can. None is refused, as duplicates wait.
async fn load(keys: &[&str]) -> Server {
    let server = Server::start_with(|layer| layer.wait(Duration::from_secs(30))).await;
    let said = lines(wrk(&server.url).args(keys)).await;
    assert_eq!(said.last().map(String::as_str), Some("refused: 0, errors: 0"), "{said:?}");
    let outcomes = server.outcomes();
    assert!(outcomes.iter().all(|outcome| [Executed, Replayed].contains(outcome)));
    assert!(outcomes.len() > 100, "only {} were answered", outcomes.len());
    server
}

#[tokio::test]
async fn under_load_one_key_runs_once() {
    assert_eq!(load(&["k-1"]).await.runs(), [1]);
}

#[tokio::test]
async fn under_load_each_of_many_keys_runs_once() {
    let runs = load(&[]).await.runs();
    assert!(runs.len() > 50, "only {} keys", runs.len());
    assert!(runs.iter().all(|&runs| runs == 1), "{runs:?}");
}
