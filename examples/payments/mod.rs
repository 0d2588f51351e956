//! What the examples of a payments API share: what clients send, the command line, and the end of the program.

use std::{error::Error, str::FromStr, time::Duration};

use axum::Router;
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_idempotency::Runs;

#[derive(Deserialize)]
pub(crate) struct NewPayment {
    pub(crate) amount: u64,
    pub(crate) currency: String,
}

/// How long the handler takes, as the client wishes.
#[derive(Deserialize)]
pub(crate) struct Delay {
    #[serde(default)]
    pub(crate) delay_ms: u64,
}

/// Serves until Ctrl-C, and lets the runs end whose client has left.
pub(crate) async fn serve(listener: TcpListener, app: Router, runs: Runs) -> Result<(), Box<dyn Error>> {
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // The server has waited for its clients. There may be runs whose client has left.
    println!("stopping, runs left: {}", runs.len());
    runs.drain().await;
    println!("stopped, runs left: {}", runs.len());
    Ok(())
}

/// Two lines to type. `options` are further options of curl.
pub(crate) fn print_what_to_post(url: &str, options: &str, wait: Option<Duration>) {
    let json = format!("-H 'Content-Type: application/json' -d '{{\"amount\":1200,\"currency\":\"eur\"}}'{options}");
    println!("# Send this twice: the second answer is the first one, marked idempotent-replayed: true");
    println!("curl -i {url}/payments -H 'X-Idempotency-Key: k-1' {json}");
    match wait {
        None => println!("# Twenty at once: one runs and gets 201, nineteen get 409"),
        Some(max) => println!("# Twenty at once: one runs, the others wait for it up to {max:?}, all get 201"),
    }
    println!(
        "seq 20 | xargs -P 20 -I {{}} curl -s -o /dev/null -w '%{{http_code}}\\n' '{url}/payments?delay_ms=1000' \
         -H 'X-Idempotency-Key: k-2' {json}"
    );
}

/// The arguments of the program, as pairs of a name and a value.
pub(crate) fn arguments(usage: &str) -> Result<Vec<(String, String)>, String> {
    let mut arguments = std::env::args().skip(1);
    let mut pairs = Vec::new();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value; {usage}"))?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

pub(crate) fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} takes a number, which {value} is not, or it is too large"))
}

/// None for 0.
pub(crate) fn milliseconds(name: &str, value: &str) -> Result<Option<Duration>, String> {
    let milliseconds: u32 = number(name, value)?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds.into())))
}
