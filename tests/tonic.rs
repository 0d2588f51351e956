//! The layer in front of a tonic server, over a socket, with tonic's own client.
#![cfg(all(feature = "memory", feature = "test-util"))]

#[path = "../examples/tonic/payments.rs"]
mod payments;

use payments::{Payment, Payments, PaymentsClient};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code, Response,
    service::LayerExt,
    transport::{Server, server::TcpIncoming},
};
use tower_idempotency::{
    BackendErrorKind, IdempotencyLayer, MemoryBackend,
    testing::{Command, Fault, FaultyBackend},
};

struct Stage {
    backend: FaultyBackend<MemoryBackend>,
    payments: Payments,
    client: PaymentsClient,
    url: String,
    server: JoinHandle<()>,
}

impl Stage {
    async fn new() -> Self {
        let (backend, payments) = (FaultyBackend::new(MemoryBackend::new()), Payments::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().layer(IdempotencyLayer::new(backend.clone())).add_service(payments.clone());
        let server = tokio::spawn(async { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
        let client = PaymentsClient::connect(url.clone()).await.unwrap();
        Self { backend, payments, client, url, server }
    }

    /// How many payments were executed.
    fn runs(&self) -> usize {
        self.payments.executed().len()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn is_replay<T>(response: &Response<T>) -> bool {
    response.metadata().contains_key("idempotent-replayed")
}

#[tokio::test]
async fn a_unary_call_is_replayed() {
    let mut stage = Stage::new().await;
    let first = stage.client.pay("k-1", 1200).await.unwrap();
    assert_eq!(first.get_ref(), &Payment { id: 1, amount: 1200 });
    assert!(!is_replay(&first));
    for _ in 0..3 {
        let replay = stage.client.pay("k-1", 1200).await.unwrap();
        assert_eq!(replay.get_ref(), first.get_ref());
        assert!(is_replay(&replay));
    }
    assert_eq!(stage.client.pay("k-2", 1200).await.unwrap().get_ref().id, 2);
    assert_eq!(stage.runs(), 2);
}

#[tokio::test]
async fn a_service_has_a_layer_of_its_own() {
    let payments = Payments::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let guarded = IdempotencyLayer::new(MemoryBackend::new()).named_layer(payments.clone());
    let server = Server::builder().add_service(guarded).serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);
    let mut client = PaymentsClient::connect(url).await.unwrap();
    for replayed in [false, true] {
        assert_eq!(is_replay(&client.pay("k-1", 1200).await.unwrap()), replayed);
    }
    assert_eq!(payments.executed().len(), 1);
    server.abort();
}

#[tokio::test]
async fn a_final_error_is_replayed() {
    let mut stage = Stage::new().await;
    for _ in 0..3 {
        let status = stage.client.pay("k-1", 0).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "an amount of 0 cannot be paid"));
    }
    assert_eq!(stage.backend.sent(Command::Complete), 1);
}

#[tokio::test]
async fn an_error_that_passes_runs_again() {
    let mut stage = Stage::new().await;
    for runs in 1..=3 {
        let status = stage.client.pay("k-1", 13).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the bank is closed"));
        assert_eq!(stage.runs(), runs);
    }
}

#[tokio::test]
async fn the_same_key_with_another_message_is_a_failed_precondition() {
    let mut stage = Stage::new().await;
    stage.client.pay("k-1", 1200).await.unwrap();
    let status = stage.client.pay("k-1", 1300).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("another method, target or body"), "{status}");
    assert!(is_replay(&stage.client.pay("k-1", 1200).await.unwrap()));
    assert_eq!(stage.runs(), 1);
}

#[tokio::test]
async fn a_call_in_progress_aborts_its_duplicates() {
    let mut stage = Stage::new().await;
    let complete = stage.backend.hold(Command::Complete);
    let mut other = PaymentsClient::connect(stage.url.clone()).await.unwrap();
    let first = tokio::spawn(async move { other.pay("k-1", 1200).await });
    complete.arrived().await;
    let status = stage.client.pay("k-1", 1200).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("being executed"), "{status}");
    complete.open();
    assert_eq!(first.await.unwrap().unwrap().get_ref().id, 1);
    assert_eq!(stage.client.pay("k-1", 1200).await.unwrap().get_ref().id, 1);
    assert_eq!(stage.runs(), 1);
}

#[tokio::test]
async fn a_backend_that_is_down_is_unavailable() {
    let mut stage = Stage::new().await;
    stage.backend.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    let status = stage.client.pay("k-1", 1200).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(stage.runs(), 0);
    stage.backend.clear();
    stage.client.pay("k-1", 1200).await.unwrap();
}

#[tokio::test]
async fn an_invalid_key_is_an_invalid_argument() {
    let mut stage = Stage::new().await;
    let status = stage.client.pay("not valid", 1200).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!((stage.runs(), stage.backend.sent(Command::Claim)), (0, 0));
}

/// The head says nothing of the error: it is in the trailers.
#[tokio::test]
async fn an_error_at_the_end_of_a_stream_is_replayed() {
    let mut stage = Stage::new().await;
    for replayed in [false, true] {
        let response = stage.client.history("h-1").await.unwrap();
        assert_eq!(is_replay(&response), replayed);
        let status = response.into_inner().message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "nothing was paid yet"));
    }
    assert_eq!(stage.backend.executed(Command::Complete), 1);
}

#[tokio::test]
async fn a_server_stream_is_replayed_as_it_was() {
    async fn history(stage: &mut Stage, key: &str) -> (bool, Vec<Payment>) {
        let response = stage.client.history(key).await.unwrap();
        let replayed = is_replay(&response);
        let (mut stream, mut payments) = (response.into_inner(), Vec::new());
        while let Some(payment) = stream.message().await.unwrap() {
            payments.push(payment);
        }
        assert!(stream.trailers().await.unwrap().is_some(), "the status is in the trailers");
        (replayed, payments)
    }

    let mut stage = Stage::new().await;
    for amount in [100, 200, 300] {
        stage.client.pay(&format!("k-{amount}"), amount).await.unwrap();
    }
    let (replayed, first) = history(&mut stage, "h-1").await;
    assert_eq!((replayed, first.len()), (false, 3));
    stage.client.pay("k-400", 400).await.unwrap();
    assert_eq!(history(&mut stage, "h-1").await, (true, first));
    assert_eq!(history(&mut stage, "h-2").await.1.len(), 4);
}
