//! A client that retries over a network that loses requests and answers, and pays once. It shows each attempt.
//!
//! ```console
//! cargo run --example retrying_client
//! ```

mod client;
mod proxy;
mod shop;

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceExt};

use crate::{client::client, proxy::Fate, shop::Shop};

/// What happens to the first payment on its way.
const PLAN: [Fate; 4] = [Fate::RequestLost, Fate::AnswerLost, Fate::AnswerLost, Fate::Passed];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let shop = Shop::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, shop.app()).into_future());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/payments", listener.local_addr()?);
    tokio::spawn(proxy::lose(listener, server, PLAN));

    let client = client();
    println!("# A request and two answers are lost");
    send(client.clone(), order(&url, r#"{"amount":1200}"#)).await?;

    println!("# Sent twice at once, with a key that was written down with the order: one runs, the other retries");
    let stored = |body: &'static str| {
        let mut order = order(&url, body);
        order.headers_mut().insert("idempotency-key", "order-7".parse().expect("a header value"));
        order
    };
    let slow = r#"{"amount":80,"slow":true}"#;
    tokio::try_join!(send(client.clone(), stored(slow)), send(client.clone(), stored(slow)))?;

    println!("# The same key for another payment is a mistake, which no retry mends");
    send(client, stored(r#"{"amount":9900}"#)).await?;

    let payments: Vec<_> =
        shop.payments().iter().map(|payment| format!("{} of {}", payment.id, payment.amount)).collect();
    println!("payments made: {}", payments.join(", "));
    Ok(())
}

fn order(url: &str, body: &'static str) -> Request<Full<Bytes>> {
    let order = Request::post(url).header(CONTENT_TYPE, "application/json");
    order.body(Full::from(body)).expect("the URL is one")
}

/// Sends a request until it has an answer, and prints that.
async fn send<C>(client: C, request: Request<Full<Bytes>>) -> Result<(), BoxError>
where
    C: Service<Request<Full<Bytes>>, Response = Response<Bytes>, Error = BoxError>,
{
    let answer = client.oneshot(request).await?;
    match answer.status() {
        status if status.is_success() => println!("answer: {status}, {}", String::from_utf8_lossy(answer.body())),
        status => println!("answer: {status}"),
    }
    Ok(())
}
