//! A client: sends each order until it is told that it is done.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::{
    plan::{Order, Plan, millis},
    service::{Answer, Ledger, PORT},
};

pub(crate) async fn order(plan: &Plan, number: usize, ledger: Ledger) -> turmoil::Result {
    let dice = &mut StdRng::seed_from_u64(plan.seed + 1 + number as u64);
    for order in &plan.clients[number] {
        sleep(order.after).await;
        let answer = insist(*order, plan.services, dice).await;
        ledger.lock().answers.push(answer);
    }
    Ok(())
}

/// Repeats the order, with pauses and patience as they come, at any service.
async fn insist(order: Order, services: usize, dice: &mut StdRng) -> Answer {
    loop {
        let (service, patience) = (dice.random_range(0..services), millis(dice, 200, 8_000));
        let sent = timeout(patience, send(order, service)).await;
        if let Ok(Ok(answer)) = sent
            && answer.status() == StatusCode::CREATED
        {
            let run = std::str::from_utf8(answer.body()).ok().and_then(|text| text.parse().ok());
            let stored = !answer.headers().contains_key("idempotency-stored");
            return Answer { key: order.key, run: run.expect("a number"), stored };
        }
        sleep(millis(dice, 20, 700)).await;
    }
}

async fn send(order: Order, service: usize) -> io::Result<Response<Bytes>> {
    let stream = TcpStream::connect((format!("service-{service}"), PORT)).await?;
    let (mut sender, connection): (http1::SendRequest<Full<Bytes>>, _) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let _connection = Task(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::post("/orders")
        .header("host", "orders")
        .header("idempotency-key", key(order.key))
        .body(Full::from(Bytes::from_static(b"an order")))
        .expect("a request");
    let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

pub(crate) fn key(number: usize) -> String {
    format!("order-{number}")
}

/// The connection ends with the request, so that a client that loses its patience hangs up.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Longer than any client takes once all is well: a lease that has to end, the longest run, and its own patience.
pub(crate) const LONGEST: Duration = Duration::from_secs(90);
