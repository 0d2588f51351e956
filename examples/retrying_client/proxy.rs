//! A network that loses what the plan says.

use std::{collections::VecDeque, io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// What becomes of one connection, which carries one attempt.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    /// The server does not hear of it.
    RequestLost,
    /// The server has done it, and its client does not hear of that.
    AnswerLost,
    Passed,
}

/// Lays each connection's fate in turn on those that come; the rest pass.
pub(crate) async fn lose(listener: TcpListener, server: SocketAddr, plan: impl Into<VecDeque<Fate>>) -> io::Result<()> {
    let mut plan = plan.into();
    loop {
        let (client, _) = listener.accept().await?;
        let fate = plan.pop_front().unwrap_or(Fate::Passed);
        tokio::spawn(async move {
            if let Err(error) = carry(client, server, fate).await {
                println!("the proxy has lost a connection that it should not: {error}");
            }
        });
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, fate: Fate) -> io::Result<()> {
    let request = head(&mut client).await?;
    let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or("none").to_owned();
    if let Fate::RequestLost = fate {
        println!("key {key}: the request is lost");
        return Ok(());
    }
    let answer = ask(&mut client, server, request.as_bytes()).await?;
    let status = answer.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ");
    let how = if answer.contains("\r\nidempotent-replayed: true\r\n") { " (replayed)" } else { "" };
    let lost = if let Fate::AnswerLost = fate { ", and the answer is lost" } else { "" };
    println!("key {key}: {status}{how}{lost}");
    match fate {
        Fate::Passed => client.write_all(answer.as_bytes()).await,
        _ => Ok(()),
    }
}

/// The first bytes, up to the end of the head at least.
async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut request = String::new();
    while !request.contains("\r\n\r\n") {
        let mut piece = [0; 1024];
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request += &String::from_utf8_lossy(&piece[..length]);
    }
    Ok(request)
}

/// The whole answer, as the server closes the connection behind it.
async fn ask(client: &mut TcpStream, server: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut server = TcpStream::connect(server).await?;
    let (mut from_server, mut to_server) = server.split();
    to_server.write_all(request).await?;
    let mut answer = String::new();
    tokio::select! {
        ended = copy(client, &mut to_server) => Err(ended.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())),
        read = from_server.read_to_string(&mut answer) => read.map(|_| answer),
    }
}
