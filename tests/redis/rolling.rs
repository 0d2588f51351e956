//! A release is replaced by the next one, process by process, under load.
//!
//! The two sides are one build while there is one format. `OLD_BUILD` names the program of this suite as another release has
//! built it (`target/debug/deps/redis-*`), whose nodes then are the old side.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{sync::RwLock, task::JoinSet};
use tower_idempotency::Rejection;

use crate::{
    behaviour::support::{Client, until},
    support::{LONG, Node, SHARED, Terms, fresh_name, order, runs_of},
};

/// How many nodes serve, and how many clients ask.
const NODES: usize = 2;
const CLIENTS: usize = 4;

/// How many keys have to be asked for before each step of the upgrade, and after the last.
const KEYS_PER_STEP: usize = 100;

/// The nodes that requests are sent to, as a load balancer knows them, and what they have answered.
#[derive(Debug, Default)]
struct Service {
    /// Whoever has requests under way holds it: a node leaves when none are.
    nodes: RwLock<Vec<SocketAddr>>,
    answers: Mutex<HashMap<String, Bytes>>,
    keys: AtomicUsize,
    stopped: AtomicBool,
}

impl Service {
    /// Sends the payment to all nodes at once, twice to each. All who get an answer get the same one.
    async fn pay_everywhere(&self, key: &str) {
        let nodes = self.nodes.read().await;
        let mut asked = JoinSet::new();
        for node in nodes.iter().chain(nodes.iter()) {
            let (client, order) = (Client::http1(*node), order(key));
            asked.spawn(async move { client.ask(order).await });
        }
        let mut paid = 0;
        while let Some(answer) = asked.join_next().await {
            let answer = answer.unwrap();
            if answer.status != StatusCode::CREATED {
                answer.assert_is(Rejection::InProgress);
                continue;
            }
            paid += 1;
            let mut answers = self.answers.lock().unwrap();
            let first = answers.entry(key.to_owned()).or_insert_with(|| answer.body.clone());
            assert_eq!(*first, answer.body, "{key} has two answers");
        }
        assert!(paid > 0, "nobody answers {key}");
    }

    /// Asks for one key after the other, and for earlier ones again: its own, which no other client is still paying.
    async fn be_asked(self: Arc<Self>) {
        let mut paid = Vec::new();
        while !self.stopped.load(Ordering::SeqCst) {
            paid.push(self.keys.fetch_add(1, Ordering::SeqCst));
            for number in [paid[paid.len() - 1], paid[paid.len() / 2]] {
                self.pay_everywhere(&format!("order-{number}")).await;
            }
        }
    }

    /// Waits until the clients have gone on for a while.
    async fn keeps_answering(self: &Arc<Self>) {
        let (service, so_far) = (Arc::clone(self), self.keys.load(Ordering::SeqCst));
        until("keys are asked for", move || service.keys.load(Ordering::SeqCst) >= so_far + KEYS_PER_STEP).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_upgrade_runs_no_key_twice_and_refuses_none() {
    let (place, name, run) = (SHARED.url(), fresh_name(), Duration::from_millis(5));
    let terms = Terms { place, name, lease: LONG, timeout: LONG, run };
    let old_build = env::var_os("OLD_BUILD").map(PathBuf::from);
    let old_build = old_build.unwrap_or_else(|| env::current_exe().unwrap());
    let mut old: Vec<_> = (0..NODES).map(|_| Node::start_build(&old_build, &terms)).collect();
    let service = Arc::new(Service::default());
    service.nodes.write().await.extend(old.iter().map(|node| node.address));
    let mut clients = JoinSet::new();
    (0..CLIENTS).for_each(|_| drop(clients.spawn(Arc::clone(&service).be_asked())));
    service.keeps_answering().await;

    let (mut new, mut runs) = (Vec::new(), HashMap::<String, usize>::new());
    while let Some(leaving) = old.pop() {
        let node = Node::start(&terms);
        service.nodes.write().await.push(node.address);
        service.keeps_answering().await;
        // A run of the old side, that the new side hears of, and the other way round.
        for (holder, other, key) in [(&leaving, &node, "held by old"), (&node, &leaving, "held by new")] {
            let key = &format!("{key} {}", old.len()).replace(' ', "-");
            let held = holder.hold(key).await;
            Client::http1(other.address).ask(order(key)).await.assert_is(Rejection::InProgress);
            holder.open().await;
            let first = held.await.unwrap().unwrap();
            Client::http1(other.address).ask(order(key)).await.assert_replays(&first);
        }
        service.nodes.write().await.retain(|address| *address != leaving.address);
        runs_of(std::slice::from_ref(&leaving))
            .await
            .into_iter()
            .for_each(|(key, count)| *runs.entry(key).or_default() += count);
        drop(leaving);
        new.push(node);
        service.keeps_answering().await;
    }
    service.stopped.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    // What the old side has recorded is what the new side answers.
    let answers = service.answers.lock().unwrap().clone();
    for (key, first) in &answers {
        let answer = Client::http1(new[0].address).ask(order(key)).await;
        assert!(answer.is_replay() && answer.body == *first, "{key}: {answer:?}");
    }
    runs_of(&new).await.into_iter().for_each(|(key, count)| *runs.entry(key).or_default() += count);
    assert!(runs.values().all(|count| *count == 1), "{runs:?}");
    assert_eq!(runs.len(), answers.len() + 2 * NODES);
    assert!(answers.len() > 4 * KEYS_PER_STEP, "only {} keys", answers.len());
}
