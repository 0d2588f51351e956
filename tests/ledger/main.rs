//! The proof of `PostgresBackend::commit`: what `examples/axum_postgres.rs` books is in its ledger once, and answered in
//! one way, whatever dies.
//!
//! Processes of the example serve over one real PostgreSQL, each behind a proxy that knows the steps of a run by their
//! statements. Clients send each payment until they have a final answer. At every step a process is killed, and at some
//! a connection is cut or falls silent, or the server is killed. After each blow the ledger, the records and the answers
//! are compared: there is no moment at which they may differ.
//!
//! `LEDGER_KILLS` is the number of processes to kill, 60 if it is not set; `LEDGER_SEED` chooses where.

mod audit;
mod client;
mod field;
mod figures;
#[path = "../postgres/support/messages.rs"]
mod messages;
mod process;
mod proxy;
#[allow(dead_code, reason = "these tests need less of a server than its own")]
#[path = "../postgres/support/server.rs"]
mod server;
#[path = "../servers/supervisor.rs"]
mod servers;
mod step;
mod world;
mod wrong;

use std::{env, iter::repeat_with, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use self::{
    audit::Violation,
    step::{Aim, Blow, Moment, Step},
    world::World,
    wrong::Way,
};

/// How long the processes' leases are: as long as a key is blocked by a process that was killed.
const LEASE: Duration = Duration::from_secs(1);

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn seed() -> u64 {
    let seed = number("LEDGER_SEED").unwrap_or_else(rand::random);
    println!("LEDGER_SEED={seed}");
    seed
}

/// Rounds of blows, until so many processes are killed.
fn aims(seed: u64, kills: u64) -> Vec<Aim> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut killed = 0;
    let rounds = repeat_with(|| step::round(&mut random)).take_while(|round| {
        let is_due = killed < kills;
        killed += round.iter().filter(|aim| aim.blow == Blow::Process).count() as u64;
        is_due
    });
    rounds.flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_payment_is_in_the_ledger_once_whatever_is_killed() {
    let seed = seed();
    let example = |database: &str| {
        let arguments = ["--database", database, "--wait", "300", "--lease", "1000"];
        [process::example()].into_iter().chain(arguments.map(Into::into)).collect()
    };
    let world = World::new(seed, example).await;
    let wrong = world.stand(aims(seed, number("LEDGER_KILLS").unwrap_or(60))).await;
    for (aim, blows) in world.field.blows() {
        println!("{blows:4}  {aim}");
    }
    println!("{:?}", world.figures);
    assert_eq!(wrong, [], "LEDGER_SEED={seed}");
}

/// Kills a process of an application that pays in this way, again and again where it hurts.
async fn violations_of(way: Way, moment: Moment, step: Step) -> Vec<Violation> {
    let application = move |database: &str| wrong::application(way, database);
    let world = World::new(seed(), application).await;
    world.stand([Aim::at(Blow::Process, moment, step); 10]).await
}

#[test]
fn applications_that_do_it_otherwise_are_found_out() {
    wrong::serve_as_application(); // where this process is one

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(violations_of(Way::BookOutside, Moment::After, Step::Insert));
    assert!(found.iter().any(|found| matches!(found, Violation::BookedWithoutRecord(_))), "{found:?}");
    let found = runtime.block_on(violations_of(Way::RecordFirst, Moment::Before, Step::Insert));
    assert!(found.iter().any(|found| matches!(found, Violation::RecordedWithoutBooking(_))), "{found:?}");
    let found = runtime.block_on(violations_of(Way::LeaveItToTheLayer, Moment::Before, Step::Record));
    assert!(found.iter().any(|found| matches!(found, Violation::BookedWithoutRecord(_))), "{found:?}");
}
