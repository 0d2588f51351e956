//! What happens in one world, all of it drawn from one seed.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How long a claim lives.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// How long a service waits for the store in one step.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(200);
/// From then on nothing fails any more.
pub(crate) const HEALED: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) services: usize,
    pub(crate) clients: Vec<Vec<Order>>,
    /// How long services let duplicates wait.
    pub(crate) wait: Option<Duration>,
    pub(crate) latency: Duration,
    /// How probable it is that a message breaks its link, and that the next one mends it.
    pub(crate) loss: Option<(f64, f64)>,
    pub(crate) faults: Vec<Fault>,
}

/// What a client orders, again and again until it has an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) after: Duration,
    pub(crate) key: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    /// The service dies, and starts anew.
    ServiceCrashes(usize),
    StoreCrashes,
    /// Messages between the service and the store are dropped.
    StoreCut(usize),
    /// Those in one direction.
    StoreDeaf(usize),
    StoreMute(usize),
    /// They all arrive when it is over.
    StoreHeld(usize),
    ClientCut(usize, usize),
    ClientHeld(usize, usize),
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let services = dice.random_range(2..=3);
        let keys = dice.random_range(1..=3);
        let clients: Vec<_> = (0..dice.random_range(2..=4)).map(|_| orders(dice, keys)).collect();
        let fault = |dice: &mut StdRng| Fault::draw(dice, services, clients.len());
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..dice.random_range(0..=5) {
            let fault = fault(dice);
            // A link takes one kind of fault at a time.
            if !faults.iter().any(|other| other.what.is_about(fault.what)) {
                faults.push(fault);
            }
        }
        Self {
            seed,
            services,
            wait: dice.random_bool(0.4).then(|| millis(dice, 100, 4_000)),
            latency: millis(dice, 2, 40),
            loss: dice.random_bool(0.2).then(|| (dice.random_range(0.0..0.01), dice.random_range(0.02..0.3))),
            faults,
            clients,
        }
    }

    /// When something kept a service from the store, or ended it.
    pub(crate) fn disturbances(&self, service: usize) -> impl Iterator<Item = (Duration, Duration)> {
        let faults = self.faults.iter().filter(move |fault| fault.what.disturbs(service));
        let loss = self.loss.map(|_| (Duration::ZERO, HEALED));
        faults.map(|fault| (fault.from, fault.to)).chain(loss)
    }
}

fn orders(dice: &mut StdRng, keys: usize) -> Vec<Order> {
    let order = |dice: &mut StdRng| Order { after: millis(dice, 0, 3_000), key: dice.random_range(0..keys) };
    (0..dice.random_range(1..=3)).map(|_| order(dice)).collect()
}

impl Fault {
    fn draw(dice: &mut StdRng, services: usize, clients: usize) -> Self {
        let (service, client) = (dice.random_range(0..services), dice.random_range(0..clients));
        let what = match dice.random_range(0..12) {
            0..4 => What::ServiceCrashes(service),
            4 => What::StoreCrashes,
            5 | 6 => What::StoreCut(service),
            7 => What::StoreDeaf(service),
            8 => What::StoreMute(service),
            9 => What::StoreHeld(service),
            10 => What::ClientCut(client, service),
            _ => What::ClientHeld(client, service),
        };
        let from = millis(dice, 0, 8_000);
        Self { from, to: HEALED.min(from + millis(dice, 50, 5_000)), what }
    }
}

impl What {
    pub(crate) fn disturbs(self, service: usize) -> bool {
        match self {
            Self::ServiceCrashes(at)
            | Self::StoreCut(at)
            | Self::StoreDeaf(at)
            | Self::StoreMute(at)
            | Self::StoreHeld(at) => at == service,
            Self::StoreCrashes => true,
            Self::ClientCut(..) | Self::ClientHeld(..) => false,
        }
    }

    fn is_about(self, other: Self) -> bool {
        let link = |what| match what {
            Self::ServiceCrashes(service) => (0, service, 0),
            Self::StoreCrashes => (1, 0, 0),
            Self::StoreCut(at) | Self::StoreDeaf(at) | Self::StoreMute(at) | Self::StoreHeld(at) => (2, at, 0),
            Self::ClientCut(client, service) | Self::ClientHeld(client, service) => (3, client, service),
        };
        link(self) == link(other)
    }
}

pub(crate) fn millis(dice: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.random_range(from..=to))
}
