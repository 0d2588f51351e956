//! A master, a replica, and the sentinel that watches them.

use super::{server::Server, wait_until};

pub(crate) const MASTER: &str = "payments";

/// Two servers and their sentinel.
#[derive(Debug)]
pub(crate) struct Sentinel {
    sentinel: Server,
    servers: [Server; 2],
}

impl Sentinel {
    pub(crate) fn start() -> Self {
        let master = Server::start(&["repl-diskless-sync-delay 0"]);
        let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", master.port())]);
        let sentinel = Server::start_as(&["--sentinel"], |port| {
            vec![
                format!("port {port}"),
                format!("sentinel monitor {MASTER} 127.0.0.1 {} 1", master.port()),
                format!("sentinel down-after-milliseconds {MASTER} 500"),
                format!("sentinel failover-timeout {MASTER} 5000"),
            ]
        });
        let servers = Self { sentinel, servers: [master, replica] };
        wait_until("the replica follows", || {
            let replication: String = servers.servers[1].ask("INFO replication");
            let masters: Vec<Vec<(String, String)>> = servers.sentinel.ask("SENTINEL MASTERS");
            let known = masters[0].iter().any(|(name, value)| name == "num-slaves" && value == "1");
            known && replication.contains("master_link_status:up")
        });
        servers
    }

    pub(crate) fn url(&self) -> String {
        self.sentinel.url()
    }

    /// Waits until the replica has all that the master has answered.
    pub(crate) fn catch_up(&self) {
        let offset = |server: &Server| {
            let replication: String = server.ask("INFO replication");
            let offset = replication.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            offset.and_then(|offset| offset.parse::<u64>().ok()).expect("every server has one")
        };
        let [master, replica] = &self.servers;
        let reached = offset(master);
        wait_until("the replica catches up", || offset(replica) >= reached);
    }

    /// Kills the master, and waits until the replica has taken its place.
    pub(crate) fn fail_over(&self) {
        self.servers[0].kill();
        wait_until("the replica is promoted", || {
            let address: (String, u16) = self.sentinel.ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER}"));
            // A sentinel that promotes a replica ends the replica's connections, and so perhaps this one.
            let role = self.servers[1].try_ask::<String>("INFO replication");
            address.1 == self.servers[1].port() && role.is_ok_and(|role| role.contains("role:master"))
        });
    }
}
