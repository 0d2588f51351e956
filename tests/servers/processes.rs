//! Many processes over one store, written once for every backend. A test target runs all of this with `processes!`, in a
//! module of that name.

use std::{env, net::TcpStream};

use http::StatusCode;
use tokio::sync::{Mutex, MutexGuard};
use tower_idempotency::Rejection;

use super::{
    application::order,
    nodes::{Node, Terms, runs_of},
};
use crate::behaviour::support::{Answer, Client, until_some};

/// Runs the tests over the store of `$terms`, which makes fresh ones of a lease, with the backend that `$connect` makes of
/// them, and with crowds of `$crowd` duplicates.
macro_rules! processes {
    ($terms:expr, $connect:expr, $crowd:expr) => {
        use crate::servers::{LONG, processes, serve_as_node};

        processes! { $terms, $crowd =>
            of_a_crowd_of_duplicates_over_two_processes_one_runs(2, 1);
            of_a_crowd_of_duplicates_over_four_processes_one_runs(4, 1);
            two_hundred_keys_over_two_processes_run_once_each(2, 200);
            two_hundred_keys_over_four_processes_run_once_each(4, 200);
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn a_process_that_is_killed_blocks_its_key_no_longer_than_the_lease() {
            let terms = $terms(std::time::Duration::from_secs(1));
            processes::a_process_that_is_killed_blocks_its_key_no_longer_than_the_lease(&terms).await;
        }

        #[test]
        fn a_node_ends_with_the_process_that_started_it() {
            serve_as_node($connect); // where this process is one
            processes::a_node_ends_with_the_process_that_started_it(&$terms(LONG));
        }
    };
    ($terms:expr, $crowd:expr => $($name:ident($nodes:expr, $keys:expr);)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            processes::assert_that_each_runs_once(&$terms(LONG), $nodes, $keys, $crowd / $keys).await;
        }
    )+};
}

/// How often the crowds come: `CROWD_ROUNDS`, 20 in the long form of the tests.
pub(crate) fn rounds() -> usize {
    env::var("CROWD_ROUNDS").map_or(2, |rounds| rounds.parse().expect("CROWD_ROUNDS is a number"))
}

/// Crowds come one after the other: together they would only wait for each other.
pub(crate) async fn one_crowd_at_a_time() -> MutexGuard<'static, ()> {
    static CROWD: Mutex<()> = Mutex::const_new(());
    CROWD.lock().await
}

/// Processes that share what they store.
fn start(nodes: usize, terms: &Terms) -> Vec<Node> {
    (0..nodes).map(|_| Node::start(terms)).collect()
}

/// Sends an order for each of `keys` at once, each to the next node, over four HTTP/2 connections to each. Returns the
/// answers in the order of the keys.
pub(crate) async fn send(nodes: &[Node], keys: &[String]) -> Vec<Answer> {
    let mut clients = Vec::new();
    for connection in 0..4 * nodes.len() {
        clients.push(Client::http2(nodes[connection % nodes.len()].address).await);
    }
    let sent = keys.iter().zip(clients.iter().cycle()).map(|(key, client)| {
        let (client, order) = (client.clone(), order(key));
        tokio::spawn(async move { client.ask(order).await })
    });
    let mut answers = Vec::new();
    for answer in sent.collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers
}

/// One of the answers is the first, and all that were not told to come back later equal it.
fn assert_one_answer(key: &str, answers: &[&Answer]) {
    let (made, refused): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status == StatusCode::CREATED);
    refused.iter().for_each(|answer| answer.assert_is(Rejection::InProgress));
    assert_eq!(made.iter().filter(|answer| !answer.is_replay()).count(), 1, "{key}: {made:?}");
    assert!(made.iter().all(|answer| answer.body == made[0].body), "{key}: {made:?}");
}

/// Sends `duplicates` of each of so many keys at once, mixed, again and again with other keys.
pub(crate) async fn assert_that_each_runs_once(terms: &Terms, nodes: usize, keys: usize, duplicates: usize) {
    let _alone = one_crowd_at_a_time().await;
    let nodes = start(nodes, terms);
    for round in 0..rounds() {
        // The step has no divisor in common with the numbers of keys and of clients: each key comes to each.
        let key_of = |number: usize| format!("order-{round}-{}", number * 7919 / 16 % keys);
        let sent: Vec<_> = (0..keys * duplicates).map(key_of).collect();
        let answers = send(&nodes, &sent).await;

        let runs = runs_of(&nodes).await;
        assert_eq!(runs.len(), keys * (round + 1));
        assert!(runs.values().all(|&runs| runs == 1), "{runs:?}");
        for key in (0..keys).map(|key| format!("order-{round}-{key}")) {
            let of_key = sent.iter().zip(&answers).filter(|(sent, _)| **sent == key);
            let of_key: Vec<_> = of_key.map(|(_, answer)| answer).collect();
            assert_one_answer(&key, &of_key);
            let first = of_key.iter().find(|answer| !answer.is_replay() && answer.status == StatusCode::CREATED);
            for node in &nodes {
                Client::http1(node.address).ask(order(&key)).await.assert_replays(first.unwrap());
            }
        }
    }
}

pub(crate) async fn a_process_that_is_killed_blocks_its_key_no_longer_than_the_lease(terms: &Terms) {
    let mut nodes = start(2, terms);
    let [killed, other] = &mut nodes[..] else { unreachable!() };
    let first = killed.hold("order-1").await;
    Client::http1(other.address).ask(order("order-1")).await.assert_is(Rejection::InProgress);

    killed.kill();
    assert!(first.await.unwrap().is_err(), "its client gets no answer");
    let client = Client::http1(other.address);
    let answer = until_some("the lease ends", async || {
        let answer = client.ask(order("order-1")).await;
        (answer.status == StatusCode::CREATED).then_some(answer)
    });
    let answer = answer.await;
    assert!(!answer.is_replay(), "{answer:?}");
    client.ask(order("order-1")).await.assert_replays(&answer);
    assert_eq!(runs_of(&nodes[1..]).await["order-1"], 1);
}

pub(crate) fn a_node_ends_with_the_process_that_started_it(terms: &Terms) {
    let mut nodes = start(1, terms);
    nodes[0].leave_alone();
    assert!(TcpStream::connect(nodes[0].address).is_err(), "the node still listens");
}
