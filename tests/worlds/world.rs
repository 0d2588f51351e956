//! Plays a plan: hosts, their network, and what fails when.

use std::{sync::Arc, time::Duration};

use turmoil::{Builder, Sim};

use crate::{
    client::{self, LONGEST},
    plan::{HEALED, LEASE, Plan, What},
    service::{self, Ledger},
    store::Disk,
};

/// What came of a world.
#[derive(Debug)]
pub(crate) struct Aftermath {
    pub(crate) plan: Arc<Plan>,
    pub(crate) ledger: Ledger,
    /// Keys that are in progress in the end.
    pub(crate) stuck: usize,
}

/// When all clients have their answers and all leases are over.
const REST: Duration = Duration::from_secs(8);

/// The aftermath; an error if not every client was answered.
pub(crate) fn play(plan: Plan) -> Result<Aftermath, String> {
    let plan = Arc::new(plan);
    let (ledger, disk) = (Ledger::open(plan.seed), Disk::default());
    let mut sim = builder(&plan).build();
    people(&mut sim, &plan, &ledger, &disk);
    let mut faults = faults(&plan);
    while !sim.step().map_err(|error| error.to_string())? {
        while faults.last().is_some_and(|(at, ..)| *at <= sim.elapsed()) {
            if let Some((_, what, begins)) = faults.pop() {
                turn(&mut sim, what, begins);
            }
        }
        heal(&mut sim, &plan);
    }
    faults.into_iter().rev().filter(|(_, _, begins)| !begins).for_each(|(_, what, _)| turn(&mut sim, what, false));
    repair_all(&mut sim, &plan);
    let rests = sim.elapsed() + REST;
    while sim.elapsed() < rests {
        sim.step().map_err(|error| error.to_string())?;
    }
    let stuck = disk.in_progress(sim.elapsed());
    Ok(Aftermath { plan, ledger, stuck })
}

fn builder(plan: &Plan) -> Builder {
    let mut builder = Builder::new();
    builder
        .rng_seed(plan.seed)
        .simulation_duration(HEALED + LONGEST + REST)
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(plan.latency)
        // Of a link that was held: turmoil panics when it is exceeded.
        .tcp_capacity(4096);
    if let Some((fail, repair)) = plan.loss {
        builder.fail_rate(fail).repair_rate(repair);
    }
    builder
}

fn people(sim: &mut Sim<'_>, plan: &Arc<Plan>, ledger: &Ledger, disk: &Disk) {
    let disk = disk.clone();
    sim.host("store", move || disk.clone().serve());
    for number in 0..plan.services {
        let (plan, ledger) = (Arc::clone(plan), ledger.clone());
        sim.host(format!("service-{number}"), move || service::serve(Arc::clone(&plan), ledger.clone(), number));
    }
    for number in 0..plan.clients.len() {
        let (plan, ledger) = (Arc::clone(plan), ledger.clone());
        sim.client(format!("client-{number}"), async move { client::order(&plan, number, ledger).await });
    }
}

/// The beginnings and ends of all faults, the last one first.
fn faults(plan: &Plan) -> Vec<(Duration, What, bool)> {
    let ends = |fault: &crate::plan::Fault| [(fault.from, fault.what, true), (fault.to, fault.what, false)];
    let mut faults: Vec<_> = plan.faults.iter().flat_map(ends).collect();
    faults.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    faults
}

/// Begins or ends a fault.
fn turn(sim: &mut Sim<'_>, what: What, begins: bool) {
    let (service, client) = (|number| format!("service-{number}"), |number| format!("client-{number}"));
    match (what, begins) {
        (What::ServiceCrashes(at), true) => sim.crash(service(at)),
        (What::ServiceCrashes(at), false) => sim.bounce(service(at)),
        (What::StoreCrashes, true) => sim.crash("store"),
        (What::StoreCrashes, false) => sim.bounce("store"),
        (What::StoreCut(at), true) => sim.partition(service(at), "store"),
        (What::StoreDeaf(at), true) => sim.partition_oneway(service(at), "store"),
        (What::StoreMute(at), true) => sim.partition_oneway("store", service(at)),
        (What::StoreHeld(at), true) => sim.hold(service(at), "store"),
        (What::StoreHeld(at), false) => sim.release(service(at), "store"),
        (What::StoreCut(at) | What::StoreDeaf(at) | What::StoreMute(at), false) => sim.repair(service(at), "store"),
        (What::ClientCut(from, at), true) => sim.partition(client(from), service(at)),
        (What::ClientCut(from, at), false) => sim.repair(client(from), service(at)),
        (What::ClientHeld(from, at), true) => sim.hold(client(from), service(at)),
        (What::ClientHeld(from, at), false) => sim.release(client(from), service(at)),
    }
}

/// Ends the loss of messages when it is time.
fn heal(sim: &mut Sim<'_>, plan: &Plan) {
    if plan.loss.is_some() && sim.elapsed() >= HEALED && sim.elapsed() < HEALED + LEASE {
        repair_all(sim, plan);
    }
}

fn repair_all(sim: &mut Sim<'_>, plan: &Plan) {
    sim.set_fail_rate(0.0);
    for service in 0..plan.services {
        sim.repair(format!("service-{service}"), "store");
        for client in 0..plan.clients.len() {
            sim.repair(format!("client-{client}"), format!("service-{service}"));
        }
    }
}
