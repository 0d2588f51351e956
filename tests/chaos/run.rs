//! One run: starts the processes, lets clients and faults loose on them, and brings all of it before the checker.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use crate::{
    application::{Store, Terms},
    checker::{History, check},
    clients::{Clients, wire},
    clock::{nanos, notice_starvation, now},
    dialect::Dialect,
    fault::{FaultLog, Kind, Target},
    fleet::{Application, Directory, StoreServer},
    injector::{Hits, Injector},
    ledger,
    plan::{LEASE, Plan},
    proxy::Proxy,
    report::Report,
    servers::free_port,
    witness::Build,
};

/// What stands between the clients and the store.
struct World {
    injector: Arc<Injector>,
    clients: Arc<Clients>,
    /// The ways of the clients to the applications.
    entrances: Vec<Arc<Proxy>>,
    directory: Directory,
}

/// Carries the plan out.
pub(crate) async fn carry_out(plan: &Plan) -> Report {
    let begun = Instant::now();
    let world = World::start(plan).await;
    let (noticed, log) = (Arc::new(()), Arc::clone(&world.injector.log));
    // The proxies are part of this process.
    notice_starvation(&noticed, move |from| log.note(Kind::Starved, Target::Store, from, now()));
    let (mut orders, mut troubles) = (Vec::new(), Vec::new());
    let wire = wire();
    for client in 0..plan.clients {
        let (clients, wire, dice) = (Arc::clone(&world.clients), wire.clone(), plan.dice(1000 + client as u64));
        orders.push(tokio::spawn(async move { clients.order_again_and_again(wire, dice).await }));
    }
    for at in 0..plan.applications {
        troubles.push(tokio::spawn(Arc::clone(&world.injector).trouble_application(at, plan.dice(100 + at as u64))));
    }
    if plan.kills() {
        troubles.push(tokio::spawn(Arc::clone(&world.injector).trouble_store(plan.dice(99))));
    }
    sleep(plan.length).await;

    world.calm_down(troubles).await;
    world.clients.stop.store(true, Ordering::SeqCst);
    all(orders).await;
    world.clients.settle(&wire, plan.clients).await;
    let in_all = begun.elapsed();
    drop(noticed);
    let mut report = world.judge(plan);
    (report.runs, report.under_faults, report.in_all) = (1, plan.length, in_all);
    report
}

impl World {
    async fn start(plan: &Plan) -> Self {
        let (log, directory) = (Arc::new(FaultLog::default()), Directory::fresh());
        let store = Arc::new(StoreServer::start(plan.store, plan.build).await);
        let dialect = if plan.store == Store::Redis { Dialect::Redis } else { Dialect::Postgres };
        let ports: Vec<u16> = (0..plan.applications).map(|_| free_port()).collect();
        let (mut applications, mut links, mut entrances) = (Vec::new(), Vec::new(), Vec::new());
        for (at, &port) in (0..).zip(&ports) {
            let link = Proxy::start(dialect, store.port(), Vec::new(), plan.seed ^ at, &log).await;
            let terms = Terms {
                port,
                store: plan.store,
                store_port: link.port,
                build: plan.build,
                lease: LEASE,
                ledger: directory.file("ledger"),
            };
            let application = Arc::new(Application::new(&terms, &directory.file(&format!("application-{at}"))));
            let started = Arc::clone(&application);
            let process = spawn_blocking(move || started.start()).await.unwrap();
            link.process.store(process, Ordering::SeqCst);
            entrances.push(Proxy::start(Dialect::Http, port, ports.clone(), plan.seed ^ (at + 50), &log).await);
            applications.push(application);
            links.push(link);
        }
        let clients = Clients::new(entrances.iter().map(|proxy| proxy.port).collect(), plan.impatience());
        let (hits, stop) = (Mutex::new(Hits::default()), AtomicBool::new(false));
        let injector = Injector { plan: *plan, applications, links, store, log, hits, stop };
        Self { injector: Arc::new(injector), clients: Arc::new(clients), entrances, directory }
    }

    /// Ends all faults. Whatever was killed is up again, and what stood still goes on.
    async fn calm_down(&self, troubles: Vec<JoinHandle<()>>) {
        self.injector.stop.store(true, Ordering::SeqCst);
        all(troubles).await;
        for proxy in self.injector.links.iter().chain(&self.entrances) {
            proxy.calm.store(true, Ordering::SeqCst);
        }
    }

    fn judge(&self, plan: &Plan) -> Report {
        let account = ledger::read(&self.directory.file("ledger"));
        for (process, from, to) in account.starved {
            self.injector.log.note(Kind::Starved, Target::Process(process), from, to);
        }
        let history = History {
            lease: nanos(LEASE),
            executions: account.executions,
            faults: self.injector.log.faults(),
            answers: self.clients.answers.lock().unwrap().clone(),
        };
        let mut report = Report {
            requests: self.clients.requests.load(Ordering::Relaxed),
            keys: history.answers.len() as u64,
            executions: history.executions.len() as u64,
            statuses: self.clients.statuses.lock().unwrap().clone().into_iter().collect(),
            unstored: self.clients.unstored.load(Ordering::Relaxed),
            client_faults: self.injector.log.of_clients(),
            hits: *self.injector.hits.lock().unwrap(),
            ..Report::default()
        };
        report.count_faults(&history.faults);
        report.conclude(check(&history));
        if plan.build == Build::Right && !report.is_fine() {
            self.directory.keep();
            report.examples.push(format!("ledger and faults are in {}", self.directory.file("").display()));
            let faults: String = history.faults.iter().map(|fault| format!("{fault:?}\n")).collect();
            fs::write(self.directory.file("faults"), faults).unwrap();
        }
        report
    }
}

async fn all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await.unwrap();
    }
}
