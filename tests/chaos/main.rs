//! Chaos: real applications over a real store, all of which are killed and stalled at every step, behind networks that
//! drop, delay and duplicate. A ledger says what was executed, and a checker whether it may have been.
//!
//! `CHAOS_SECONDS=3600` makes it an hour, in runs of a minute over Redis and PostgreSQL by turns. `CHAOS_SEED` plays the
//! plan of a seed again; what comes of it also depends on the machine.
#![allow(clippy::print_stdout, reason = "the seed and the figures are the point")]

mod application;
mod checker;
mod clients;
mod clock;
mod dialect;
mod fault;
mod fleet;
mod injector;
mod ledger;
mod network;
mod plan;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "../postgres/support/messages.rs"]
mod postgres_messages;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "../postgres/support/server.rs"]
mod postgres_server;
mod proxy;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "../redis/support/server.rs"]
mod redis_server;
mod report;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "../redis/support/resp.rs"]
mod resp;
mod run;
#[path = "../servers/supervisor.rs"]
mod supervisor;
mod witness;

/// As the servers of the other tests find them.
mod servers {
    pub(crate) use crate::supervisor::{Supervisor, free_port, fresh_directory};
}

use std::{
    env,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, MutexGuard};

use crate::{
    application::{Store, serve_as_application},
    checker::Wrong,
    plan::Plan,
    report::Report,
    run::carry_out,
    witness::Build,
};

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs come one after the other: together they would starve each other.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn seed() -> u64 {
    number("CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

/// The plan of one run: over Redis if its seed is even, over PostgreSQL if it is odd.
fn plan(seed: u64, build: Build, seconds: u64) -> Plan {
    let store = if seed.is_multiple_of(2) { Store::Redis } else { Store::Postgres };
    println!("CHAOS_SEED={seed}: {store:?}, {build:?}, {seconds} s");
    Plan { seed, store, build, length: Duration::from_secs(seconds), applications: 6, clients: 64 }
}

/// The quick form: a run over each store. The long one: as many as there is time for, of about a minute each.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_execution_beyond_the_first_is_explained_by_a_fault() {
    let _alone = alone().await;
    let (begun, long) = (Instant::now(), number("CHAOS_SECONDS").map(Duration::from_secs));
    let length = if long.is_some() { 50 } else { 12 };
    let mut total = Report::default();
    for seed in seed().. {
        let report = carry_out(&plan(seed, Build::Right, length)).await;
        println!("{report}");
        assert!(report.is_fine(), "see above");
        total.add(report);
        if total.runs >= 2 && long.is_none_or(|long| begun.elapsed() >= long) {
            break;
        }
    }
    println!("in all\n{total}");
    assert!(total.requests > total.executions && total.executions >= total.keys);
}

/// Whether the checker has something of this kind against a build that is wrong. On a machine that is very busy one run
/// may come to too little for that.
async fn is_charged_with(build: Build, charge: fn(&Report) -> u64) -> bool {
    let _alone = alone().await;
    for seed in (seed() & !1..).step_by(2).take(3) {
        let report = carry_out(&plan(seed, build, 6)).await;
        println!("{report}");
        if charge(&report) > 0 {
            return true;
        }
    }
    false
}

/// Its holders overwrite each other's records.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_without_fencing_is_caught() {
    assert!(is_charged_with(Build::FencingOff, |report| report.wrong(Wrong::DifferentAnswers)).await);
}

/// Its leases run out under long runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_without_heartbeats_is_caught() {
    assert!(is_charged_with(Build::HeartbeatOff, Report::unexplained).await);
}

/// Its keys run again while the first run goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_that_releases_on_disconnect_is_caught() {
    assert!(is_charged_with(Build::ReleaseOnDisconnect, Report::unexplained).await);
}

/// Which is why the store of all other runs writes to its disk before it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_forgets_is_caught() {
    assert!(is_charged_with(Build::ForgetfulStore, |report| report.wrong(Wrong::AfterTheRecord)).await);
}

/// Also the way in for the applications of the other tests.
#[test]
fn an_application_pays_once_and_replays() {
    serve_as_application();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(async {
        let _alone = alone().await;
        carry_out(&Plan { clients: 4, applications: 1, ..plan(seed() & !1, Build::Right, 1) }).await
    });
    assert!(report.is_fine(), "{report}");
    // Each order was given once more at the end.
    assert!(report.keys > 0 && report.executions >= report.keys && report.requests > report.executions, "{report}");
}
