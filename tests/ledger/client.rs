//! A client that sends a payment until it has a final answer.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    audit::Violation,
    step::{Blow, Point},
    world::World,
};

/// How long a client waits for one answer: not as long as a process may stand still, so that another one gets its payment.
const PATIENCE: Duration = Duration::from_millis(500);

/// After that long a payment is stuck: a lease is one second.
const STUCK: Duration = Duration::from_secs(60);

/// Sends payment `number` to one process after the other until one has an answer that is final.
pub(crate) async fn pay(world: &World, number: usize, random: &mut StdRng) -> Result<(), Violation> {
    let deadline = Instant::now() + STUCK;
    while Instant::now() < deadline {
        let hurry =
            if random.random_ratio(1, 20) { Duration::from_millis(random.random_range(1..20)) } else { PATIENCE };
        let process = world.processes.choose(random).expect("there are processes");
        let answer = match process.address() {
            Some(address) => timeout(hurry, ask(world, process, address, number)).await,
            None => Ok(Err(io::ErrorKind::ConnectionRefused.into())),
        };
        world.figures.sent();
        match answer {
            Ok(Ok(answer)) if answer.status() == "201" => return world.answered(number, answer.comparable()),
            Ok(Ok(answer)) if answer.says_to_come_back() => world.figures.refused(),
            Ok(Ok(answer)) => return Err(Violation::Refused(number, answer.comparable())),
            // Gone, cut short, or too slow for this client.
            Ok(Err(_)) | Err(_) => world.figures.unanswered(),
        }
        sleep(Duration::from_millis(random.random_range(2..40))).await;
    }
    Err(Violation::Stuck(number))
}

/// Sends one request on a connection of its own, and reads to the end.
async fn ask(
    world: &World,
    process: &crate::process::Process,
    address: SocketAddr,
    number: usize,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let body = format!(r#"{{"amount":{number},"currency":"eur"}}"#);
    let head = format!(
        "POST /payments HTTP/1.1\r\nhost: shop.example\r\nidempotency-key: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        key(number),
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut text = Vec::new();
    while stream.read_buf(&mut text).await? > 0 {
        let aimed_at = text.starts_with(b"HTTP/1.1 201") && process.address() == Some(address);
        if aimed_at && let Some(Blow::Process) = world.field.blow_at(Point::Response) {
            process.kill();
            world.field.has_fallen();
        }
    }
    Answer::whole(&text).ok_or(io::ErrorKind::UnexpectedEof.into())
}

/// The key under which a payment is sent.
pub(crate) fn key(number: usize) -> String {
    format!("order-{number}")
}

/// An answer as it came.
struct Answer {
    head: Vec<String>,
    body: String,
}

impl Answer {
    /// `None`: its end is missing.
    fn whole(text: &[u8]) -> Option<Self> {
        let (head, body) = std::str::from_utf8(text).ok()?.split_once("\r\n\r\n")?;
        let head: Vec<_> = head.lines().map(str::to_owned).collect();
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "))?;
        (length.parse() == Ok(body.len())).then(|| Self { head, body: body.to_owned() })
    }

    fn status(&self) -> &str {
        self.head[0].split(' ').nth(1).unwrap_or_default()
    }

    /// A run is in progress, or the database does not answer.
    fn says_to_come_back(&self) -> bool {
        let comes_back = self.head.iter().any(|line| line.starts_with("retry-after: "));
        self.status() == "503" || self.status() == "409" && comes_back
    }

    /// All that has to be the same in each answer: every byte but those of the date and of the layer's marks.
    fn comparable(self) -> String {
        let differs = ["date: ", "idempotent-replayed: ", "idempotency-stored: "];
        let head = self.head.iter().filter(|line| !differs.iter().any(|name| line.starts_with(name)));
        head.map(|line| format!("{line}\n")).collect::<String>() + "\n" + &self.body
    }
}
