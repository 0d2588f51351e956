//! The server: payments, made once for each key.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::Response,
    routing::post,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tower::util::MapResponseLayer;
use tower_idempotency::{IdempotencyLayer, MemoryBackend};

#[derive(Clone, Default)]
pub(crate) struct Shop {
    payments: Arc<watch::Sender<Vec<Payment>>>,
    /// How many attempts were refused, as another one was running.
    conflicts: Arc<watch::Sender<usize>>,
}

#[derive(Clone, Serialize)]
pub(crate) struct Payment {
    pub(crate) id: usize,
    pub(crate) amount: u64,
}

#[derive(Deserialize)]
struct Order {
    amount: u64,
    /// Whether the bank is so slow that a retry comes meanwhile.
    #[serde(default)]
    slow: bool,
}

impl Shop {
    pub(crate) fn payments(&self) -> Vec<Payment> {
        self.payments.borrow().clone()
    }

    pub(crate) fn app(&self) -> Router {
        let conflicts = Arc::clone(&self.conflicts);
        let see = move |mut answer: Response| {
            conflicts.send_modify(|count| *count += usize::from(answer.status() == StatusCode::CONFLICT));
            // Each attempt gets a connection of its own, which the proxy can lose.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        };
        Router::new()
            .route("/payments", post(pay))
            .layer(IdempotencyLayer::new(MemoryBackend::new()))
            .layer(MapResponseLayer::new(see))
            .with_state(self.clone())
    }
}

async fn pay(State(shop): State<Shop>, Json(order): Json<Order>) -> (StatusCode, Json<Payment>) {
    if order.slow {
        let mut conflicts = shop.conflicts.subscribe();
        conflicts.wait_for(|&count| count > 0).await.expect("the shop is open");
    }
    let mut payment = Payment { id: 0, amount: order.amount };
    shop.payments.send_modify(|payments| {
        payment.id = payments.len() + 1;
        payments.push(payment.clone());
    });
    (StatusCode::CREATED, Json(payment))
}
