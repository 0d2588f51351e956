//! One real `PgBouncer` in front of a server.

use std::{fs, path::PathBuf, process::Command};

use tower_idempotency::sqlx::{PgPool, postgres::PgPoolOptions};

use super::server::{Server, address_at, as_server_user};
use crate::servers::{Supervisor, free_port, fresh_directory, wait_until};

/// A pooler that ends when this is dropped, or with the test process.
#[derive(Debug)]
pub(crate) struct Bouncer {
    _supervisor: Supervisor,
    port: u16,
    directory: PathBuf,
}

impl Bouncer {
    /// A pooler in front of `server` whose clients share a connection by turns of one transaction. `ignored` are
    /// parameters of clients that it drops.
    pub(crate) fn of_transactions(server: &Server, ignored: &str) -> Self {
        let minor = minor_version();
        assert!(
            minor >= 21,
            "PgBouncer 1.{minor} forgets which statements its clients have prepared. Install 1.21 or later, or leave this \
            out: --skip poolers::of_transactions"
        );
        Self::start(server, "pool_mode = transaction\nmax_prepared_statements = 100", ignored)
    }

    /// A pooler in front of `server` whose clients have a connection each for as long as they are there.
    pub(crate) fn of_sessions(server: &Server) -> Self {
        Self::start(server, "pool_mode = session", "extra_float_digits")
    }

    fn start(server: &Server, mode: &str, ignored: &str) -> Self {
        let (directory, port) = (fresh_directory(), free_port());
        let configuration = directory.join("pgbouncer.ini");
        let lines = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
            listen_port = {port}\nunix_socket_dir =\nauth_type = any\nignore_startup_parameters = {ignored}\n\
            max_client_conn = 1000\n{mode}\n",
            server.port()
        );
        fs::write(&configuration, lines).unwrap();
        let mut command = as_server_user();
        command.extend([program().into(), configuration.into()]);
        let mut supervisor = Supervisor::new(&directory, "KILL", &command);
        supervisor.order("start");
        let bouncer = Self { _supervisor: supervisor, port, directory };
        wait_until("PgBouncer is up", || bouncer.output().contains("process up"));
        bouncer
    }

    /// What it has said.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.directory.join("output")).unwrap_or_default()
    }

    /// A pool of up to `connections`.
    pub(crate) fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(address_at(self.port))
    }
}

/// Debian keeps it where only root's path leads.
fn program() -> PathBuf {
    let is_in_path = Command::new("pgbouncer").arg("--version").output().is_ok();
    if is_in_path { "pgbouncer" } else { "/usr/sbin/pgbouncer" }.into()
}

/// The second number of the version, of which the first is 1.
fn minor_version() -> u32 {
    let version = Command::new(program()).arg("--version").output();
    let version = version.expect("these tests need PgBouncer: `tests/run` installs it").stdout;
    let version = String::from_utf8_lossy(&version);
    let minor = version.strip_prefix("PgBouncer 1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.unwrap_or_else(|| panic!("{version} is not a version that is known here"))
}
