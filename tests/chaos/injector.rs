//! What kills and stalls processes, at the steps that the plan names.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use tokio::{sync::oneshot, task::spawn_blocking, time::sleep};

use crate::{
    clock::{Nanos, now},
    fault::{FaultLog, Kind, Target},
    fleet::{Application, StoreServer},
    plan::{AIMS, Blow, Plan},
    proxy::Proxy,
};

/// How long a fault waits for its step before it hits wherever it is.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often a fault hit at each of [`AIMS`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hits {
    pub(crate) applications: [u64; AIMS.len()],
    pub(crate) stores: [u64; AIMS.len()],
}

pub(crate) struct Injector {
    pub(crate) plan: Plan,
    pub(crate) applications: Vec<Arc<Application>>,
    /// The way of each application to the store.
    pub(crate) links: Vec<Arc<Proxy>>,
    pub(crate) store: Arc<StoreServer>,
    pub(crate) log: Arc<FaultLog>,
    pub(crate) hits: Mutex<Hits>,
    pub(crate) stop: AtomicBool,
}

impl Injector {
    /// Hits one application again and again.
    pub(crate) async fn trouble_application(self: Arc<Self>, at: usize, mut dice: StdRng) {
        while let Some(blow) = self.next(&mut dice, |dice| self.plan.blow_to_application(dice)).await {
            let (hit, held) = self.aim(&self.links[at], blow.aim).await;
            self.hits.lock().unwrap().applications[hit] += 1;
            let application = &self.applications[at];
            let target = Target::Process(application.process());
            let from = now();
            if blow.kills {
                blocking(application, |application| application.signal("KILL")).await;
                self.log.note(Kind::ServerKilled, target, from, Nanos::MAX);
                drop(held);
                sleep(blow.length).await;
                let process = blocking(application, Application::start).await;
                self.links[at].process.store(process, Ordering::SeqCst);
            } else {
                blocking(application, |application| application.signal("STOP")).await;
                drop(held);
                sleep(blow.length).await;
                blocking(application, |application| application.signal("CONT")).await;
                self.log.note(Kind::ServerStalled, target, from, now());
            }
        }
    }

    /// Hits the store again and again, when a step of any application comes to it.
    pub(crate) async fn trouble_store(self: Arc<Self>, mut dice: StdRng) {
        while let Some(blow) = self.next(&mut dice, Plan::blow_to_store).await {
            let link = &self.links[dice.random_range(0..self.links.len())];
            let (hit, held) = self.aim(link, blow.aim).await;
            self.hits.lock().unwrap().stores[hit] += 1;
            let from = now();
            let kind = if blow.kills {
                blocking(&self.store, StoreServer::kill).await;
                drop(held);
                sleep(blow.length).await;
                blocking(&self.store, StoreServer::restart).await;
                Kind::StoreKilled
            } else {
                blocking(&self.store, StoreServer::pause).await;
                drop(held);
                sleep(blow.length).await;
                blocking(&self.store, StoreServer::resume).await;
                Kind::StoreStalled
            };
            self.log.note(kind, Target::Store, from, now());
        }
    }

    /// The next fault, after its pause. `None`: there are to be no more.
    async fn next(&self, dice: &mut StdRng, draw: impl Fn(&mut StdRng) -> Blow) -> Option<Blow> {
        let blow = draw(dice);
        sleep(blow.pause).await;
        (!self.stop.load(Ordering::SeqCst)).then_some(blow)
    }

    /// Waits for the step that a fault is meant for, and returns where it hits: there, or anywhere if none comes.
    async fn aim(&self, link: &Proxy, aim: usize) -> (usize, Option<oneshot::Sender<()>>) {
        let anywhere = AIMS.len() - 1;
        let Some((step, point)) = AIMS[aim].1 else { return (anywhere, None) };
        let held = link.ambush(step, point, PATIENCE).await;
        (if held.is_some() { aim } else { anywhere }, held)
    }
}

/// Does what takes a process some time.
async fn blocking<P: Send + Sync + 'static, T: Send + 'static>(
    process: &Arc<P>,
    act: impl FnOnce(&P) -> T + Send + 'static,
) -> T {
    let process = Arc::clone(process);
    spawn_blocking(move || act(&process)).await.unwrap()
}
