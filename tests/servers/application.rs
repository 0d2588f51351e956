//! An application in the process of the test: payments behind a layer, over HTTP.

use std::time::Duration;

use axum::{Router, body::Body, routing::post};
use http::{HeaderValue, Request, StatusCode, header};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower_idempotency::{Backend, IdempotencyLayer, Rejection};

use crate::behaviour::support::{Answer, Client, Handler, payment, serve};

/// One node of an application, and a client of it.
#[derive(Debug, Clone)]
pub(crate) struct Application(Client);

impl Application {
    /// Serves `handler` behind `layer`.
    pub(crate) async fn start<B: Backend>(handler: &Handler, layer: IdempotencyLayer<B>) -> Self {
        Self(Client::http1(serve(handler.router().layer(layer)).await))
    }

    /// Serves a handler that counts its runs and fails, each time, with a status that is not recorded.
    pub(crate) async fn failing<B: Backend>(handler: &Handler, layer: IdempotencyLayer<B>) -> Self {
        let handler = handler.clone();
        let fail = move |request| async move {
            let _ = handler.run(request).await;
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self(Client::http1(serve(Router::new().route("/payments", post(fail)).layer(layer)).await))
    }

    /// Sends the payment with this key.
    pub(crate) async fn pay(&self, key: &str) -> Answer {
        self.0.ask(order(key)).await
    }

    /// Sends the payment with this key, in the background.
    pub(crate) fn begin(&self, key: &str) -> JoinHandle<Answer> {
        let (application, key) = (self.clone(), key.to_owned());
        tokio::spawn(async move { application.pay(&key).await })
    }

    /// Sends the payment with no key.
    pub(crate) async fn pay_without_key(&self) -> Answer {
        let mut request: Request<Body> = order("none");
        request.headers_mut().remove("x-idempotency-key");
        self.0.ask(request).await
    }

    /// Sends the payment until it is made or replayed. Until then it is refused as one that may be sent again.
    pub(crate) async fn pay_in_the_end(&self, key: &str) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.pay(key).await;
            if answer.status == StatusCode::CREATED {
                return answer;
            }
            let retry = [StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status);
            assert!(retry && Instant::now() < deadline, "{answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Answer {
    /// This is the answer of the `run`th run, as it goes out when its record is not known to be stored.
    #[track_caller]
    pub(crate) fn assert_is_unstored_of(&self, run: usize) {
        assert_eq!(self.headers["idempotency-stored"], "false", "{self:?}");
        self.assert_is_of(run);
    }

    /// The run of this request lost its lease to the `run`th: its client gets that answer, or is told to come back for it.
    #[track_caller]
    pub(crate) fn assert_has_lost_to(&self, run: usize) {
        if self.status == StatusCode::CONFLICT {
            self.assert_is(Rejection::InProgress);
        } else {
            self.assert_is_replay_of(run);
        }
    }
}

/// Longer than any test takes: what happens in time does not happen because a lease has ended.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// The same payment, whichever node it is sent to.
pub(crate) fn order(key: &str) -> Request<Body> {
    let mut order = payment(key);
    order.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    order
}
