//! A proxy in front of a server, for what a network does to commands and replies.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncWriteExt, BufReader, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{
    resp::{Command, read_reply},
    server::Server,
};

/// What becomes of a command.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is delivered, and its reply returned.
    Pass,
    /// It is not delivered, and gets this reply.
    Answer(&'static str),
    /// It is delivered once the gate lets it pass, whoever has hung up by then. What follows on its connection waits.
    Hold(Gate),
    /// It is delivered; the connection is closed in place of a reply.
    LoseReply,
    /// It is delivered; its connection stays open, and no reply ever comes on it again.
    FallSilent,
    /// It is lost, and its connection is closed.
    Lose,
}

/// Where commands are held.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Opens it for good.
    pub(crate) fn open(&self) {
        self.0.add_permits(1 << 20);
    }

    async fn pass(&self) {
        self.0.acquire().await.expect("the gate is never closed").forget();
    }
}

/// A proxy on a loopback port of its own. It ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    seen: Seen,
}

/// The commands that have come, in order.
type Seen = Arc<Mutex<Vec<Command>>>;
type Plan = dyn Fn(&Command) -> Fate + Send + Sync;

impl Proxy {
    /// Puts a proxy in front of `server`. `plan` decides on each command as it comes.
    pub(crate) async fn start(server: &Server, plan: impl Fn(&Command) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, plan): (Seen, Arc<Plan>) = (Arc::default(), Arc::new(plan));
        let proxy = Self { port, seen: Arc::clone(&seen) };
        let server = server.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, plan) = (Arc::clone(&seen), Arc::clone(&plan));
                // An error closes both connections, which is all there is to do.
                tokio::spawn(async move { relay(client, server, &seen, &*plan).await });
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// How many commands have come of which `matches` is true.
    pub(crate) fn count(&self, matches: impl Fn(&Command) -> bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|command| matches(command)).count()
    }
}

/// Passes the commands of one client on, one after the other.
async fn relay(client: TcpStream, server: u16, seen: &Mutex<Vec<Command>>, plan: &Plan) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let (mut from_client, mut from_server) = (BufReader::new(from_client), BufReader::new(from_server));
    while let Some(command) = Command::read(&mut from_client).await? {
        seen.lock().unwrap().push(command.clone());
        let fate = plan(&command);
        match &fate {
            Fate::Answer(reply) => {
                to_client.write_all(reply.as_bytes()).await?;
                continue;
            }
            Fate::Lose => return Ok(()),
            Fate::Hold(gate) => gate.pass().await,
            Fate::Pass | Fate::LoseReply | Fate::FallSilent => {}
        }
        to_server.write_all(&command.bytes).await?;
        if command.name().ends_with("SUBSCRIBE") {
            let mut client = tokio::io::join(from_client, to_client);
            return copy_bidirectional(&mut client, &mut tokio::io::join(from_server, to_server)).await.map(drop);
        }
        let reply = read_reply(&mut from_server).await?;
        match fate {
            Fate::LoseReply => return Ok(()),
            Fate::FallSilent => return tokio::io::copy(&mut from_client, &mut sink()).await.map(drop),
            // Whoever is gone gets nothing, and what is still to come from it is delivered all the same.
            _ => drop(to_client.write_all(&reply).await),
        }
    }
    Ok(())
}
