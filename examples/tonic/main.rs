//! A gRPC service that is safe to retry, and a client for it. It prints the commands that show it.
//!
//! ```console
//! cargo run --example tonic
//! ```

mod payments;

use std::error::Error;

use payments::{Payments, PaymentsClient};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

const USAGE: &str = "usage: tonic [--port N] | tonic pay URL KEY AMOUNT | tonic history URL KEY";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(0).await,
        ["--port", port] => serve(port.parse().map_err(|_| USAGE)?).await,
        ["pay", url, key, amount] => pay(url, key, amount.parse().map_err(|_| USAGE)?).await,
        ["history", url, key] => history(url, key).await,
        _ => Err(USAGE.into()),
    }
}

async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let program = std::env::current_exe()?;
    println!("listening on {url}");
    println!();
    println!("# Send this twice: the second answer is the first one, replayed");
    println!("{} pay {url} k-1 1200", program.display());
    println!("# The same key for another amount is refused");
    println!("{} pay {url} k-1 1300", program.display());
    println!("# A stream, which is replayed as it was");
    println!("{} history {url} k-2", program.display());

    Server::builder()
        // The one line that makes calls with a key safe to retry.
        .layer(IdempotencyLayer::new(MemoryBackend::new()))
        .add_service(Payments::default())
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}

async fn pay(url: &str, key: &str, amount: u64) -> Result<(), Box<dyn Error>> {
    match PaymentsClient::connect(url.to_owned()).await?.pay(key, amount).await {
        Ok(response) => {
            println!("{:?} {}", response.get_ref(), how(response.metadata()));
        }
        Err(status) => println!("{:?}: {}", status.code(), status.message()),
    }
    Ok(())
}

async fn history(url: &str, key: &str) -> Result<(), Box<dyn Error>> {
    let response = PaymentsClient::connect(url.to_owned()).await?.history(key).await?;
    println!("{}", how(response.metadata()));
    let mut payments = response.into_inner();
    while let Some(payment) = payments.message().await? {
        println!("{payment:?}");
    }
    Ok(())
}

fn how(metadata: &tonic::metadata::MetadataMap) -> &'static str {
    if metadata.contains_key("idempotent-replayed") { "replayed" } else { "executed" }
}
