//! A proxy on loopback: between an application and the store, or between the clients and an application.
//!
//! It passes one request after the other, so that it can say when each step is about to happen, happens, and has
//! happened, and does what networks do to some of them.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncWriteExt, BufReader, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    clock::{LATE, nanos, now},
    dialect::{Dialect, Request, Requests, Step, reply},
    fault::{FaultLog, Kind, Target},
    network::{Fate, SILENCE, fate_of_command, fate_of_request},
};

/// Where a step is when a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The command has left the application, and does not reach the store before the fault.
    Before,
    /// It is at the store.
    During,
    /// The store has answered, and the answer does not reach the application before the fault.
    After,
}

/// Somebody waits for a step, and holds it by what it is sent until the fault has hit.
type Ambush = (Step, Point, oneshot::Sender<oneshot::Sender<()>>);

#[derive(Debug)]
pub(crate) struct Proxy {
    dialect: Dialect,
    pub(crate) port: u16,
    /// Where requests go to, and where a second copy of one goes to.
    to: u16,
    others: Vec<u16>,
    /// The application on this way to the store.
    pub(crate) process: AtomicU32,
    /// Whether it is no more than a wire.
    pub(crate) calm: AtomicBool,
    dice: Mutex<StdRng>,
    ambush: Mutex<Option<Ambush>>,
    log: Arc<FaultLog>,
}

impl Proxy {
    pub(crate) async fn start(
        dialect: Dialect,
        to: u16,
        others: Vec<u16>,
        seed: u64,
        log: &Arc<FaultLog>,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Arc::new(Self {
            dialect,
            port: listener.local_addr().unwrap().port(),
            to,
            others,
            process: AtomicU32::new(0),
            calm: AtomicBool::new(false),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            ambush: Mutex::default(),
            log: Arc::clone(log),
        });
        let this = Arc::clone(&proxy);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let this = Arc::clone(&this);
                // An error closes both connections, which is all there is to do.
                tokio::spawn(async move { this.relay(client).await });
            }
        });
        proxy
    }

    /// Waits until a request comes to this point of this step. It is held there until what is returned is dropped.
    /// `None`: none came in time.
    pub(crate) async fn ambush(&self, step: Step, point: Point, patience: Duration) -> Option<oneshot::Sender<()>> {
        let (told, tells) = oneshot::channel();
        *self.ambush.lock().unwrap() = Some((step, point, told));
        let held = timeout(patience, tells).await;
        *self.ambush.lock().unwrap() = None;
        held.ok()?.ok()
    }

    async fn pass(&self, step: Option<Step>, point: Point) {
        let matches = |ambush: &mut Ambush| step == Some(ambush.0) && point == ambush.1;
        let hit = self.ambush.lock().unwrap().take_if(matches);
        if let Some((_, _, told)) = hit {
            let (hold, gone) = oneshot::channel();
            if told.send(hold).is_ok() {
                let _ = gone.await;
            }
        }
    }

    async fn relay(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.to)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let requests = Requests::new(self.dialect, from_client);
        let mut line = Line { requests, to_client, to_server, from_server: BufReader::new(from_server) };
        while let Some(request) = line.requests.next().await? {
            if !self.exchange(&mut line, request).await? {
                break;
            }
        }
        Ok(())
    }

    /// Passes a request on, and its reply back. `false`: the connection is of no more use.
    async fn exchange(&self, line: &mut Line, request: Request) -> io::Result<bool> {
        let (fate, begun, step) = (self.fate(), now(), request.step);
        self.pass(step, Point::Before).await;
        match fate {
            Fate::Lose => return Ok(false),
            Fate::Delay(length) => sleep(length).await,
            Fate::Duplicate => self.send_again(&request),
            _ => {}
        }
        let sent = now();
        line.to_server.write_all(&request.bytes).await?;
        self.pass(step, Point::During).await;
        if let (Fate::Silence, Dialect::Http) = (fate, self.dialect) {
            let while_it_runs = Duration::from_millis(self.dice.lock().unwrap().random_range(0..40));
            sleep(while_it_runs).await;
            return Ok(false);
        }
        let reply = tokio::select! {
            reply = reply(self.dialect, &mut line.from_server) => reply?,
            // An application hears when its client has left.
            () = line.requests.end(), if self.dialect == Dialect::Http => return Ok(false),
        };
        if self.dialect != Dialect::Http && now() - sent > nanos(LATE) {
            self.log.note(Kind::Slow, self.target(), begun, now());
        }
        self.pass(step, Point::After).await;
        match fate {
            Fate::LoseReply => return Ok(false),
            Fate::Silence => sleep(SILENCE).await,
            _ => line.to_client.write_all(&reply).await?,
        }
        Ok(!matches!(fate, Fate::Silence))
    }

    fn target(&self) -> Target {
        Target::Process(self.process.load(Ordering::SeqCst))
    }

    /// Draws what becomes of a request, and logs it.
    fn fate(&self) -> Fate {
        if self.calm.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        let dice = &mut *self.dice.lock().unwrap();
        if self.dialect == Dialect::Http {
            fate_of_request(dice, &self.log)
        } else {
            fate_of_command(dice, self.target(), &self.log)
        }
    }

    /// Sends a copy of a request to another application, and lets its answer go.
    fn send_again(&self, request: &Request) {
        let other = self.others[self.dice.lock().unwrap().random_range(0..self.others.len())];
        let bytes = request.bytes.clone();
        tokio::spawn(timeout(Duration::from_secs(10), async move {
            let mut copy = TcpStream::connect(("127.0.0.1", other)).await?;
            copy.write_all(&bytes).await?;
            tokio::io::copy(&mut copy, &mut sink()).await
        }));
    }
}

struct Line {
    requests: Requests,
    to_client: OwnedWriteHalf,
    to_server: OwnedWriteHalf,
    from_server: BufReader<OwnedReadHalf>,
}
