//! Many clients that play all scenarios, each beginning with another one.

use std::{
    collections::BTreeMap,
    panic,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    caller::Caller,
    scenario::{Player, scenarios},
    service::{Own, Service},
};

/// Clients at the same time: half of them over HTTP/2.
const PLAYERS: usize = 32;

/// How often each scenario was played, and how often it went as its name says.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<&'static str, [u64; 2]>>);

impl Tally {
    fn add(&self, name: &'static str, as_named: bool) {
        let mut tally = self.0.lock().unwrap();
        let [played, went] = tally.entry(name).or_default();
        *played += 1;
        *went += u64::from(as_named);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.lock().unwrap().values().map(|[played, _]| played).sum()
    }

    /// Says what was played, and holds that there is nothing that never went as it should.
    pub(crate) fn conclude(&self) {
        let tally = self.0.lock().unwrap();
        for (name, [played, went]) in &*tally {
            println!("{played:>9} of {name}, {went} as named");
        }
        let never: Vec<_> =
            scenarios().filter(|(name, _)| tally.get(name).is_none_or(|&[_, went]| went == 0)).collect();
        assert!(
            never.is_empty(),
            "never went as their names say: {:?}",
            never.iter().map(|it| it.0).collect::<Vec<_>>()
        );
    }
}

/// Plays for as long as `length`. Returns when no client is left.
pub(crate) async fn load(service: &Service, tally: &Arc<Tally>, length: Duration) {
    let end = Instant::now() + length;
    let mut players = JoinSet::new();
    for number in 0..PLAYERS {
        let caller = Caller::new(service.address, number % 2 == 0);
        let player = Player { caller, messages: service.messages.clone() };
        players.spawn(play(player, number, end, Arc::clone(tally)));
    }
    while let Some(played) = players.join_next().await {
        played.expect("no player panics");
    }
}

async fn play(player: Player, number: usize, end: Instant, tally: Arc<Tally>) {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    for (name, play) in scenarios().cycle().skip(number) {
        if Instant::now() >= end {
            return;
        }
        let key = format!("k-{}", KEYS.fetch_add(1, Ordering::Relaxed));
        tally.add(name, play(&player, &key).await);
    }
}

/// Keeps the panics quiet that handlers are meant to have.
pub(crate) fn quiet_own_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Own>() {
                usual(info);
            }
        }));
    });
}
