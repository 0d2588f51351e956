//! A Redis Cluster of three servers without replicas.

use std::collections::BTreeSet;

use redis::{cluster::ClusterClient, cluster_async::ClusterConnection};
use tower_idempotency::RedisBackend;

use super::server::Server;
use crate::servers::{free_port, wait_until};

/// Three servers; each serves a third of the slots.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: [Server; 3],
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let nodes = [0, 1, 2].map(|number| {
            let node = Server::start_as(&[], |port| {
                [
                    "save \"\"",
                    "cluster-enabled yes",
                    "cluster-node-timeout 15000",
                    &format!("port {port}"),
                    &format!("cluster-port {}", free_port()),
                ]
                .map(str::to_owned)
                .to_vec()
            });
            node.ask::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
            let (first, last) = (first_slot(number), first_slot(number + 1) - 1);
            node.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            node
        });
        let [one, others @ ..] = &nodes;
        for other in others {
            let bus: Vec<String> = other.ask("CONFIG GET cluster-port");
            one.ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {}", other.port(), bus[1]));
        }
        let cluster = Self { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// A backend over two connections to the cluster.
    pub(crate) async fn backend(&self, prefix: &str) -> RedisBackend<ClusterConnection> {
        let client = ClusterClient::new(self.nodes.iter().map(Server::url)).unwrap();
        let connect = || async { client.get_async_connection().await.unwrap() };
        RedisBackend::new(connect().await, connect().await).prefix(prefix)
    }

    /// Moves `slot` from one node to another, key by key, the way operators do it: first each key is at one of two
    /// places, then everybody is told.
    pub(crate) fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let [source_id, target_id] = [source, target].map(|node| node.ask::<String>("CLUSTER MYID"));
        target.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}"));
        source.ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}"));
        loop {
            let keys: Vec<String> = source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
            let [key] = &keys[..] else { break };
            source.ask::<String>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", target.port()));
        }
        for node in [target, source, &self.nodes[3 - from - to]] {
            node.ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {target_id}"));
        }
        self.settle();
    }

    /// Waits until all nodes know the same of each other. One that does not know yet how young the new owner's claim to a
    /// slot is would take an older one for the better, and delete the keys that it should move.
    fn settle(&self) {
        let view = |node: &Server| -> BTreeSet<String> {
            let nodes: String = node.ask("CLUSTER NODES");
            let lines = nodes.lines().map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let slots = words[8..].iter().filter(|slots| !slots.starts_with('['));
                format!("{} of epoch {} serves {:?}", words[0], words[6], slots.collect::<Vec<_>>())
            });
            lines.collect()
        };
        wait_until("the nodes agree", || {
            let [one, others @ ..] = self.nodes.each_ref().map(view);
            others.iter().all(|other| *other == one)
        });
    }

    /// The slot that `key` belongs to.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        self.nodes[0].ask(&format!("CLUSTER KEYSLOT {key}"))
    }

    /// The number of the node that serves `slot` at first.
    pub(crate) fn first_owner(slot: u16) -> usize {
        (0..2).find(|&node| slot < first_slot(node + 1)).unwrap_or(2)
    }

    fn wait_until_whole(&self) {
        let whole = |node: &Server| {
            let info: String = node.ask("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        wait_until("the nodes of the cluster meet", || self.nodes.iter().all(whole));
        self.settle();
    }
}

/// The first slot of the node with this number, counted from 0.
fn first_slot(node: usize) -> u16 {
    u16::try_from(16_384 * node / 3).expect("there are three nodes")
}
