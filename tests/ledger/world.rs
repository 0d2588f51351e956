//! Processes of the application over one server, clients, and blows that fall among them.

use std::{
    collections::HashMap,
    ffi::OsString,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    net::TcpListener,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tower_idempotency::{Key, sqlx::PgPool};

use crate::{
    audit::{Books, Violation},
    client::{self, pay},
    field::Field,
    figures::Figures,
    process::Process,
    proxy::{self, Targets},
    server::Server,
    step::{Aim, Blow},
};

/// How many processes serve.
const PROCESSES: usize = 3;

/// How many clients pay at the same time.
const CLIENTS: usize = 24;

/// How many answers clients get from one blow to the next, at least.
const BETWEEN_BLOWS: usize = 20;

pub(crate) struct World {
    seed: u64,
    server: Arc<Server>,
    pool: PgPool,
    pub(crate) field: Arc<Field>,
    pub(crate) processes: Vec<Arc<Process>>,
    /// What the payments that were begun are called in the store. Their numbers begin with 1.
    keys: Mutex<Vec<Key>>,
    /// The first answer to each payment.
    answers: Mutex<HashMap<usize, String>>,
    violations: Mutex<Vec<Violation>>,
    pub(crate) figures: Figures,
}

impl World {
    /// Processes that are started by the commands of `application`, which takes the address of its database.
    pub(crate) async fn new(seed: u64, application: impl Fn(&str) -> Vec<OsString>) -> Arc<Self> {
        let server = Arc::new(Server::start(&[]));
        let mut world = Self {
            seed,
            pool: server.pool(2),
            server,
            field: Arc::default(),
            processes: Vec::new(),
            keys: Mutex::default(),
            answers: Mutex::default(),
            violations: Mutex::default(),
            figures: Figures::default(),
        };
        for _ in 0..PROCESSES {
            let process = world.add(&application).await;
            process.start().await;
        }
        Arc::new(world)
    }

    async fn add(&mut self, application: &impl Fn(&str) -> Vec<OsString>) -> Arc<Process> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let database = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
        let process = Arc::new(Process::new(&application(&database)));
        let (field, server) = (Arc::clone(&self.field), Arc::clone(&self.server));
        tokio::spawn(proxy::serve(listener, Targets { field, process: Arc::clone(&process), server }));
        self.processes.push(Arc::clone(&process));
        process
    }

    /// Lets blows fall, one after the other, while clients pay. Stops at the first thing that is wrong, and returns what
    /// is wrong.
    pub(crate) async fn stand(self: &Arc<Self>, aims: impl IntoIterator<Item = Aim>) -> Vec<Violation> {
        let mut clients: JoinSet<()> = (0..CLIENTS).map(|client| Arc::clone(self).pay_on(client)).collect();
        for aim in aims {
            let answers = self.figures.answers();
            let fallen = timeout(Duration::from_secs(60), self.field.strike(aim)).await;
            assert!(fallen.is_ok(), "nothing came to where it was aimed, {aim}: {:?}", self.violations());
            self.heal(aim.blow).await;
            self.audit().await;
            if !self.violations().is_empty() {
                break;
            }
            // Blows fall on a service that works.
            while self.figures.answers() < answers + BETWEEN_BLOWS && self.violations().is_empty() {
                sleep(Duration::from_millis(2)).await;
            }
        }
        // Some payments are left in the middle.
        clients.shutdown().await;
        if self.violations().is_empty() {
            self.settle().await;
        }
        self.violations()
    }

    /// Starts again what was killed.
    async fn heal(&self, blow: Blow) {
        if matches!(blow, Blow::Server | Blow::Shutdown) {
            let server = Arc::clone(&self.server);
            spawn_blocking(move || server.restart()).await.unwrap();
        }
        for process in &self.processes {
            process.start().await;
        }
    }

    /// One client, who makes one payment after the other, some of them twice at once, and asks for each again.
    async fn pay_on(self: Arc<Self>, client: usize) {
        let mut random = self.random(client);
        loop {
            let number = self.begin();
            let mut twin = StdRng::seed_from_u64(random.random());
            let paid = if random.random_ratio(1, 3) {
                let (one, other) = tokio::join!(pay(&self, number, &mut random), pay(&self, number, &mut twin));
                one.and(other)
            } else {
                pay(&self, number, &mut random).await
            };
            let paid = match paid {
                Ok(()) => pay(&self, number, &mut random).await,
                error => error,
            };
            self.note(paid);
            sleep(Duration::from_millis(random.random_range(0..100))).await;
        }
    }

    /// The number of a new payment.
    fn begin(&self) -> usize {
        let mut keys = self.keys.lock().unwrap();
        let number = keys.len() + 1;
        keys.push(Key::new("", client::key(number)));
        number
    }

    /// A last retry of every payment. Then each is in the ledger once.
    async fn settle(self: &Arc<Self>) {
        let last = self.keys.lock().unwrap().len();
        let retries: JoinSet<()> = (0..CLIENTS)
            .map(|client| {
                let world = Arc::clone(self);
                async move {
                    let mut random = world.random(CLIENTS + client);
                    for number in (1 + client..=last).step_by(CLIENTS) {
                        world.note(pay(&world, number, &mut random).await);
                    }
                }
            })
            .collect();
        retries.join_all().await;
        self.audit().await;
        if self.violations().is_empty() {
            let (answers, booked) = (self.answers.lock().unwrap().len(), self.figures.booked());
            assert_eq!((answers, booked), (last, last), "each payment is answered, and in the ledger");
        }
    }

    /// Looks into the books, while the clients go on.
    async fn audit(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answers = self.answers.lock().unwrap().clone();
            if let Some(books) = Books::read(&self.pool).await {
                let wrong = books.audit(&self.keys.lock().unwrap(), &answers);
                self.violations.lock().unwrap().extend(wrong);
                self.figures.books_hold(books.len());
                return;
            }
            assert!(Instant::now() < deadline, "the server does not come back: {}", self.server.output());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client has a final answer.
    pub(crate) fn answered(&self, number: usize, answer: String) -> Result<(), Violation> {
        self.figures.answered();
        let mut answers = self.answers.lock().unwrap();
        let first = answers.entry(number).or_insert_with(|| answer.clone());
        if *first == answer { Ok(()) } else { Err(Violation::Changed(number, first.clone(), answer)) }
    }

    /// What chance has for this client.
    fn random(&self, client: usize) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(client as u64))
    }

    fn note(&self, paid: Result<(), Violation>) {
        self.violations.lock().unwrap().extend(paid.err());
    }

    fn violations(&self) -> Vec<Violation> {
        self.violations.lock().unwrap().clone()
    }
}
