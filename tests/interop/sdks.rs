//! SDKs of payment providers, sent to a server of ours in place of the provider's.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;
use tower_idempotency::{
    Outcome::{Conflict, Executed, Mismatch, Replayed},
    Rejection,
};

use crate::{
    client::{lines, sdk},
    server::Server,
};

const MERCADOPAGO: [&str; 2] = ["pay_with_mercadopago.py", "pay_with_mercadopago.cjs"];
const STRIPE: [&str; 2] = ["pay_with_stripe.py", "pay_with_stripe.cjs"];

/// What `client` prints of its payments with these `keys`, one after the other. `own`: the SDK makes one.
async fn pay(client: &str, server: &Server, keys: &[&str]) -> Vec<String> {
    lines(sdk(client).arg(&server.url).args(keys)).await
}

#[tokio::test]
async fn every_sdk_sends_a_key_of_its_own_with_each_payment() {
    for client in [MERCADOPAGO, STRIPE].concat() {
        let server = Server::start().await;
        assert_eq!(pay(client, &server, &["own", "own"]).await, ["201 pay_1", "201 pay_2"], "{client}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1, 1], vec![Executed; 2]), "{client}");
    }
}

#[tokio::test]
async fn a_key_that_is_sent_twice_runs_once() {
    for client in [MERCADOPAGO, STRIPE].concat() {
        let server = Server::start().await;
        assert_eq!(pay(client, &server, &["k-1", "k-1"]).await, ["201 pay_1"; 2], "{client}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Replayed]), "{client}");
    }
}

/// Sends a payment, and the same again while it runs. Returns what the second client says.
async fn pay_while_it_runs(client: &str, server: &Server, meanwhile: impl AsyncFnOnce() -> Vec<String>) -> Vec<String> {
    server.close_gate();
    let (first, second) = tokio::join!(pay(client, server, &["k-1"]), async {
        server.first_run_has_started().await;
        let second = meanwhile().await;
        server.open_gate();
        second
    });
    assert_eq!(first, ["201 pay_1"], "{client}");
    assert_eq!(server.runs(), [1], "{client}");
    second
}

#[tokio::test]
async fn stripe_repeats_a_409_by_itself_and_gets_the_first_response() {
    for client in STRIPE {
        let server = Server::start().await;
        server.open_gate_at_first_conflict();
        let second = pay_while_it_runs(client, &server, async || pay(client, &server, &["k-1"]).await).await;
        assert_eq!(second, ["201 pay_1"], "{client}");
        let mut outcomes = server.outcomes();
        outcomes.sort_by_key(|outcome| *outcome as u8);
        assert_eq!(outcomes, [Executed, Replayed, Conflict], "{client}");
    }
}

#[tokio::test]
async fn mercadopago_hands_a_409_to_its_caller() {
    for client in MERCADOPAGO {
        let server = Server::start().await;
        let second = pay_while_it_runs(client, &server, async || pay(client, &server, &["k-1"]).await).await;
        assert_eq!(second, ["409 -"], "{client}");
        assert_eq!(server.outcomes(), [Conflict, Executed], "{client}");
    }
}

/// What `.wait()` is for.
#[tokio::test]
async fn mercadopago_gets_the_first_response_where_duplicates_wait() {
    for client in MERCADOPAGO {
        let server = Server::start_with(|layer| layer.wait(Duration::from_secs(60))).await;
        server.close_gate();
        let (first, second) = tokio::join!(pay(client, &server, &["k-1"]), async {
            server.first_run_has_started().await;
            tokio::join!(pay(client, &server, &["k-1"]), async { server.open_gate() }).0
        });
        assert_eq!([first, second].concat(), ["201 pay_1"; 2], "{client}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Replayed]), "{client}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_replayed_to_the_sdk_that_asks_again() {
    // All but one ask again by themselves, with the same key.
    for client in [MERCADOPAGO[1], STRIPE[0], STRIPE[1]] {
        let server = Server::start().await;
        server.lose_next_answer();
        assert_eq!(pay(client, &server, &["own"]).await, ["201 pay_1"], "{client}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Replayed]), "{client}");
    }
    let server = Server::start().await;
    server.lose_next_answer();
    assert_eq!(pay(MERCADOPAGO[0], &server, &["k-1", "k-1"]).await, ["connection lost", "201 pay_1"]);
    assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Replayed]));
}

#[tokio::test]
async fn a_key_that_is_used_for_another_payment_is_refused() {
    for client in MERCADOPAGO {
        let server = Server::start().await;
        assert_eq!(pay(client, &server, &["k-1", "k-1:more"]).await, ["201 pay_1", "422 -"], "{client}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Mismatch]), "{client}");
    }
}

/// Stripe's SDK for JavaScript takes a body without `error` for a success, whatever its status. Who has it for a client
/// words rejections as Stripe does.
#[tokio::test]
async fn rejections_can_be_worded_so_that_an_sdk_knows_them() {
    for client in STRIPE {
        let server = Server::start_with(|layer| layer.on_rejection(as_stripe_says_it)).await;
        let said = pay(client, &server, &["k-1", "k-1:more"]).await;
        assert_eq!(said[0], "201 pay_1", "{client}");
        assert!(["400 IdempotencyError", "400 StripeIdempotencyError"].contains(&&*said[1]), "{client}: {said:?}");
        assert_eq!((server.runs(), server.outcomes()), (vec![1], vec![Executed, Mismatch]), "{client}");
    }
}

fn as_stripe_says_it(rejection: Rejection, answer: Response<Bytes>) -> Response<Bytes> {
    let kind = match rejection {
        Rejection::Mismatch | Rejection::CredentialsDiffer => "idempotency_error",
        _ => "invalid_request_error",
    };
    let body = json!({ "error": { "type": kind, "message": "see the documentation" } }).to_string();
    let (mut head, _) = answer.into_parts();
    if kind == "idempotency_error" {
        head.status = StatusCode::BAD_REQUEST;
    }
    Response::from_parts(head, body.into())
}
