//! A proxy in front of a server, for what a network does to statements and replies.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, sink},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tower_idempotency::sqlx::{
    PgPool,
    postgres::{PgPoolOptions, PgSslMode},
};

use super::{
    messages::{Prepared, read_rest, read_until},
    server::{Server, address_at},
};

/// What becomes of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is executed, and its reply returned.
    Pass,
    /// It is executed; the connection is closed in place of a reply.
    LoseReply,
    /// It is executed; its connection stays open, and no reply ever comes on it again.
    FallSilent,
    /// It is lost, and its connection is closed.
    Lose,
    /// It is executed so much later, and its reply returned.
    Delay(Duration),
}

/// A proxy on a loopback port of its own. It ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    seen: Seen,
}

/// The statements that have come, in order.
type Seen = Arc<Mutex<Vec<String>>>;
type Plan = dyn Fn(&str) -> Fate + Send + Sync;

impl Proxy {
    /// Puts a proxy in front of `server`. `plan` decides on each statement as it comes.
    pub(crate) async fn start(server: &Server, plan: impl Fn(&str) -> Fate + Send + Sync + 'static) -> Self {
        Self::connecting_in(Duration::ZERO, server, plan).await
    }

    /// Puts a proxy in front of `server` through which it takes `delay` to connect.
    pub(crate) async fn connecting_in(
        delay: Duration,
        server: &Server,
        plan: impl Fn(&str) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, plan): (Seen, Arc<Plan>) = (Arc::default(), Arc::new(plan));
        let proxy = Self { port, seen: Arc::clone(&seen) };
        let server = server.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, plan) = (Arc::clone(&seen), Arc::clone(&plan));
                // An error closes both connections, which is all there is to do.
                tokio::spawn(async move {
                    sleep(delay).await;
                    relay(client, server, &seen, &*plan).await
                });
            }
        });
        proxy
    }

    pub(crate) fn pool(&self, connections: u32) -> PgPool {
        let address = address_at(self.port).ssl_mode(PgSslMode::Disable);
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(address)
    }

    /// How many statements have come of which `matches` is true.
    pub(crate) fn count(&self, matches: impl Fn(&str) -> bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|statement| matches(statement)).count()
    }
}

/// Passes what one client sends on, up to each point at which it waits for the server.
async fn relay(mut client: TcpStream, server: u16, seen: &Mutex<Vec<String>>, plan: &Plan) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // The first message has no type.
    let startup = read_rest(&mut client, Vec::new()).await?;
    server.write_all(&startup).await?;
    client.write_all(&read_until(&mut server, b"Z").await?.bytes).await?;
    let mut prepared = Prepared::default();
    loop {
        let request = read_until(&mut client, b"SQX").await?;
        let fate = prepared.statement(&request).map(|statement| {
            let fate = plan(&statement);
            seen.lock().unwrap().push(statement);
            fate
        });
        match fate {
            Some(Fate::Lose) => return Ok(()),
            Some(Fate::Delay(delay)) => sleep(delay).await,
            _ => {}
        }
        server.write_all(&request.bytes).await?;
        let reply = read_until(&mut server, b"Z").await?;
        match fate {
            Some(Fate::LoseReply) => return Ok(()),
            Some(Fate::FallSilent) => return tokio::io::copy(&mut client, &mut sink()).await.map(drop),
            _ => client.write_all(&reply.bytes).await?,
        }
    }
}
