//! Which requests are guarded: `cover` and `require_key`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use tower_idempotency::{KeySource, Rejection};

use crate::{keyed, layer, over, payment};

#[tokio::test]
async fn a_predicate_covers_in_place_of_the_default() {
    let subject = over(&layer().cover(|parts| parts.uri.path() == "/payments"));
    let mut get = keyed("get");
    *get.method_mut() = Method::GET;
    subject.runs(get.clone()).await;
    subject.replays(get).await;

    let mut elsewhere = keyed("elsewhere");
    *elsewhere.uri_mut() = "http://localhost/live".parse().unwrap();
    subject.runs(elsewhere.clone()).await;
    subject.runs(elsewhere).await;
}

/// The connection becomes something that can neither be recorded nor replayed.
#[tokio::test]
async fn an_upgrade_passes_and_an_offer_of_h2c_does_not() {
    let subject = over(&layer());
    let upgrade = |to| payment(&[("idempotency-key", "k-1"), ("upgrade", to)], "order");
    subject.runs(upgrade("websocket")).await;
    subject.runs(upgrade("websocket")).await;
    subject.runs(upgrade("h2c")).await;
    subject.replays(upgrade("h2c")).await;
}

/// Also where it would be in the body, which is read for that.
#[tokio::test]
async fn an_upgrade_does_not_pass_without_a_key_that_is_required() {
    let source = KeySource::by(|_, body| body.strip_prefix(b"key=").map(<[u8]>::to_vec));
    for source in [KeySource::default(), source] {
        let subject = over(&layer().key(source).require_key());
        subject.rejects(payment(&[("upgrade", "websocket")], "order"), Rejection::KeyMissing).await;
        subject.runs(payment(&[("upgrade", "websocket"), ("idempotency-key", "k-1")], "key=k-1")).await;
        subject.runs(payment(&[("upgrade", "websocket"), ("idempotency-key", "k-1")], "key=k-1")).await;
    }
}

/// What follows the head is no longer a body once the connection has become something else.
#[tokio::test]
async fn no_key_is_looked_for_in_what_follows_an_upgrade() {
    for is_required in [false, true] {
        let looks = Arc::new(AtomicUsize::new(0));
        let source = KeySource::by({
            let looks = Arc::clone(&looks);
            move |_, body| {
                looks.fetch_add(1, Ordering::Relaxed);
                Some(body.to_vec())
            }
        });
        let layer = layer().cover(|_| true).key(source);
        let subject = over(&if is_required { layer.require_key() } else { layer });
        let mut connect = payment(&[], "order");
        *connect.method_mut() = Method::CONNECT;
        subject.runs(connect).await;
        if !is_required {
            subject.runs(payment(&[("upgrade", "websocket")], "order")).await;
        }
        assert_eq!(looks.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn connect_passes_even_where_it_is_covered() {
    let subject = over(&layer().cover(|_| true));
    let mut connect = keyed("connect");
    *connect.method_mut() = Method::CONNECT;
    subject.runs(connect.clone()).await;
    subject.runs(connect).await;
}

/// A request that is not covered needs no key where one is required.
#[tokio::test]
async fn a_required_key_is_required_of_covered_requests_only() {
    let subject = over(&layer().require_key().cover(|parts| parts.method == Method::PUT));
    subject.runs(payment(&[], "order")).await;
    let mut put = payment(&[], "order");
    *put.method_mut() = Method::PUT;
    subject.rejects(put, Rejection::KeyMissing).await;
}
