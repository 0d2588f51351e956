//! Redis is down, and comes back.

use std::time::Duration;

use tower_idempotency::{BackendFailure, IdempotencyLayer, Rejection};

use crate::{
    behaviour::support::{Answer, Handler, until_some},
    support::{Application, Server, backend_at, store::durable},
};

/// The time-out of the backend is 1 second; this is when a client would lose its patience.
async fn in_time(answer: impl Future<Output = Answer>) -> Answer {
    tokio::time::timeout(Duration::from_secs(5), answer).await.expect("an answer within the client's time-out")
}

/// A way in which a server can be down.
#[derive(Debug, Clone, Copy)]
enum Outage {
    Killed,
    StandingStill,
}

impl Outage {
    const ALL: [Self; 2] = [Self::Killed, Self::StandingStill];

    fn begin(self, server: &Server) {
        match self {
            Self::Killed => server.kill(),
            Self::StandingStill => server.pause(),
        }
    }

    fn end(self, server: &Server) {
        match self {
            Self::Killed => server.restart(),
            Self::StandingStill => server.resume(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_with_a_key_are_refused_while_redis_is_down() {
    for outage in Outage::ALL {
        let (server, handler) = (Server::start(&[]), Handler::payments());
        let backend = backend_at(&server.url(), "outage:").await;
        let node = Application::start(&handler, IdempotencyLayer::new(backend)).await;

        outage.begin(&server);
        for _ in 0..3 {
            in_time(node.pay("order-1")).await.assert_is(Rejection::BackendUnavailable);
        }
        assert_eq!(handler.runs(), 0, "{outage:?}");
        in_time(node.pay_without_key()).await.assert_is_first_of(1);
        assert_eq!(handler.runs(), 1, "{outage:?}");

        outage.end(&server);
        node.pay_in_the_end("order-2").await.assert_is_first_of(2);
        node.pay("order-2").await.assert_is_replay_of(2);
        assert_eq!(handler.runs(), 2, "{outage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_with_a_key_run_unprotected_where_that_is_wanted() {
    for outage in Outage::ALL {
        let (server, handler) = (Server::start(&[]), Handler::payments());
        let backend = backend_at(&server.url(), "outage:").await;
        let layer = IdempotencyLayer::new(backend).on_backend_failure(BackendFailure::RunUnprotected);
        let node = Application::start(&handler, layer).await;

        outage.begin(&server);
        for run in 1..=2 {
            in_time(node.pay("order-1")).await.assert_is_unstored_of(run);
            assert_eq!(handler.runs(), run, "{outage:?}");
        }

        outage.end(&server);
        let protected = until_some("requests are protected again", async || {
            let answer = node.pay("order-2").await;
            (!answer.headers.contains_key("idempotency-stored")).then_some(answer)
        });
        let runs = protected.await.headers["location"].to_str().unwrap().rsplit('/').next().unwrap().parse().unwrap();
        node.pay("order-2").await.assert_is_replay_of(runs);
        assert_eq!(handler.runs(), runs, "{outage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_begins_before_an_outage_ends_after_it() {
    for outage in Outage::ALL {
        let (server, handler) = (durable(), Handler::held_payments());
        let backend = backend_at(&server.url(), "outage:").await;
        let node = Application::start(&handler, IdempotencyLayer::new(backend)).await;

        let first = node.begin("order-1");
        handler.entered(1).await;
        outage.begin(&server);
        handler.open();
        in_time(async { first.await.unwrap() }).await.assert_is_unstored_of(1);
        outage.end(&server);
        node.pay_in_the_end("order-1").await.assert_is_replay_of(1);
        assert_eq!(handler.runs(), 1, "{outage:?}");
    }
}
