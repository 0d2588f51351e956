//! A gRPC client that is not tonic's, against the example with tonic. tonic's own client is in `tests/tonic.rs`.

use crate::{
    client::{lines, sdk},
    example::Example,
};

async fn pay(example: &Example, manner: &str, key: &str, amount: &str, times: &str) -> Vec<String> {
    let address = example.url.trim_start_matches("http://");
    lines(sdk("pay_with_grpc.cjs").args([address, manner, key, amount, times])).await
}

/// Payments are numbered: the id of a new one tells how many there are.
#[tokio::test]
async fn a_call_runs_once_for_each_key() {
    let example = Example::start("tonic", &[], 3);
    assert_eq!(pay(&example, "once", "k-1", "1200", "1").await, ["OK 1"]);
    assert_eq!(pay(&example, "once", "k-1", "1200", "1").await, ["OK 1 replayed"]);
    assert_eq!(pay(&example, "once", "k-1", "1300", "1").await, ["FAILED_PRECONDITION"]);
    assert_eq!(pay(&example, "once", "", "1200", "1").await, ["INVALID_ARGUMENT"]);
    assert_eq!(pay(&example, "once", "k-2", "1200", "1").await, ["OK 2"]);
}

/// Those that are aborted, as the first one runs, are repeated by the client, as its service config says.
#[tokio::test]
async fn twenty_calls_at_once_are_one_payment() {
    let example = Example::start("tonic", &[], 3);
    let mut said = pay(&example, "retrying", "k-1", "1200", "20").await;
    said.sort_unstable();
    assert_eq!(said[0], "OK 1");
    assert_eq!(said[1..], vec!["OK 1 replayed"; 19]);
    assert_eq!(pay(&example, "once", "k-2", "1200", "1").await, ["OK 2"]);
}
