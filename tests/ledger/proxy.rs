//! A proxy between one process and the server, which knows the steps of a run by the statements that pass, and strikes.

use std::{io, process::Command, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    select,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    LEASE,
    field::Field,
    messages::{Messages, Prepared, read_one, read_rest, read_until},
    process::Process,
    server::Server,
    step::{Blow, Moment, Point, Step},
};

/// How long a connection is silent, before it breaks.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a process stands still: another one takes its keys over, and books them.
const STALL: Duration = LEASE.saturating_mul(2);

/// What a proxy can strike.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) field: Arc<Field>,
    pub(crate) process: Arc<Process>,
    pub(crate) server: Arc<Server>,
}

/// Passes what comes from `listener` on to the server, for as long as the test runs.
pub(crate) async fn serve(listener: TcpListener, targets: Targets) {
    while let Ok((client, _)) = listener.accept().await {
        let targets = targets.clone();
        // An error closes both connections, which is all there is to do.
        tokio::spawn(async move { Connection::open(client, targets).await?.relay().await });
    }
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// The process of the server that serves this connection.
    server_process: u32,
    prepared: Prepared,
    targets: Targets,
}

impl Connection {
    async fn open(mut client: TcpStream, targets: Targets) -> io::Result<Self> {
        let mut server = TcpStream::connect(("127.0.0.1", targets.server.port())).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        // The first message has no type.
        let startup = read_rest(&mut client, Vec::new()).await?;
        server.write_all(&startup).await?;
        let mut server_process = 0;
        // One by one: a server that is not up says why, and closes.
        loop {
            let message = read_one(&mut server).await?.bytes;
            client.write_all(&message).await?;
            match message[0] {
                b'K' => server_process = u32::from_be_bytes(message[5..9].try_into().unwrap()),
                b'Z' => break,
                _ => {}
            }
        }
        Ok(Self { client, server, server_process, prepared: Prepared::default(), targets })
    }

    /// Until one side closes, or the connection is struck.
    async fn relay(mut self) -> io::Result<()> {
        let (mut reply, mut request) = ([0], [0]);
        loop {
            select! {
                // What nobody has asked for: notices.
                _ = self.server.peek(&mut reply) => {
                    let message = read_one(&mut self.server).await?;
                    self.client.write_all(&message.bytes).await?;
                }
                _ = self.client.peek(&mut request) => {
                    let request = read_until(&mut self.client, b"SQX").await?;
                    let step = self.prepared.statement(&request).and_then(|statement| Step::of(&statement));
                    if let Some(blow) = self.pass(&request, step).await? {
                        return self.deal(blow).await;
                    }
                }
            }
        }
    }

    /// Passes a request and its reply, up to the moment at which a blow falls.
    async fn pass(&mut self, request: &Messages, step: Option<Step>) -> io::Result<Option<Blow>> {
        if let Some(blow) = self.blow(Moment::Before, step).await {
            return Ok(Some(blow));
        }
        self.server.write_all(&request.bytes).await?;
        if let Some(blow) = self.blow(Moment::During, step).await {
            return Ok(Some(blow));
        }
        let reply = read_until(&mut self.server, b"Z").await?;
        if let Some(blow) = self.blow(Moment::After, step).await {
            return Ok(Some(blow));
        }
        self.client.write_all(&reply.bytes).await?;
        Ok(None)
    }

    /// The blow that falls now, and ends the connection.
    async fn blow(&self, moment: Moment, step: Option<Step>) -> Option<Blow> {
        let Targets { field, process, .. } = &self.targets;
        // What a process has sent before it died may still pass.
        process.address()?;
        let blow = field.blow_at(Point::At(moment, step?))?;
        if blow != Blow::Stall {
            return Some(blow);
        }
        process.pause();
        sleep(STALL).await;
        process.resume();
        field.has_fallen();
        None
    }

    /// When this returns, both sides are closed.
    async fn deal(mut self, blow: Blow) -> io::Result<()> {
        let Targets { field, process, server } = self.targets;
        match blow {
            Blow::Process => process.kill(),
            Blow::Connection | Blow::Silence | Blow::Stall => {}
            Blow::ServerProcess => kill(self.server_process),
            Blow::Server => spawn_blocking(move || server.kill()).await?,
            Blow::Shutdown => spawn_blocking(move || server.shut_down()).await?,
        }
        field.has_fallen();
        if blow == Blow::Silence {
            // Longer than anybody waits for a reply. For so long the server keeps the transaction, and its locks.
            let _ = timeout(SILENCE, copy(&mut self.client, &mut sink())).await;
        }
        Ok(())
    }
}

/// Its connection is open, so that the id is still its own.
fn kill(process: u32) {
    let killed = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status().unwrap();
    assert!(killed.success(), "a process of the server cannot be killed");
}
