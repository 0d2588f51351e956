//! The table in `src/docs/senders.md`, row by row: each source serves requests as their senders send them.
#![cfg(all(feature = "json", feature = "memory", feature = "test-util"))]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_idempotency::{
    BodyHash, FingerprintPolicy, Idempotency, IdempotencyLayer, KeySource, MemoryBackend, Outcome,
    testing::InnerService,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PAGE: &str = include_str!("../src/docs/senders.md");

const FIRST: Option<Outcome> = Some(Outcome::Executed);
const DUPLICATE: Option<Outcome> = Some(Outcome::Replayed);
const NO_KEY: Option<Outcome> = None;

/// The expression, which has to stand in the row of the sender.
macro_rules! row {
    ($sender:literal, $source:expr) => {{
        assert_row($sender, stringify!($source));
        $source
    }};
}

fn assert_row(sender: &str, source: &str) {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {sender}"))).expect("a row for the sender");
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    assert!(plain(row).contains(&format!("`{}`", plain(source))), "{row} does not name {source}");
}

/// An API or a receiver of webhooks.
struct Receiver(Idempotency<InnerService, Arc<MemoryBackend>>);

type Lines<'a> = &'a [(&'a str, &'a str)];

impl Receiver {
    fn behind(layer: &IdempotencyLayer<Arc<MemoryBackend>>) -> Self {
        Self(layer.layer(InnerService::new()))
    }

    /// An API with keys from `source`.
    fn api(source: KeySource) -> Self {
        Self::behind(&layer().key(source))
    }

    /// A receiver of webhooks with ids from `source`.
    fn webhooks(source: KeySource) -> Self {
        let fingerprint = FingerprintPolicy::none();
        Self::behind(&layer().key(source).fingerprint(fingerprint).wait(Duration::from_secs(10)))
    }

    async fn post(&self, target: &str, headers: Lines<'_>, body: &str) -> Option<Outcome> {
        let request = Request::post(format!("http://api.example{target}")).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        self.0.clone().oneshot(request).await.unwrap().extensions().get().copied()
    }
}

fn layer() -> IdempotencyLayer<Arc<MemoryBackend>> {
    IdempotencyLayer::new(Arc::new(MemoryBackend::new()))
}

#[tokio::test]
async fn clients_made_for_stripe_are_served() {
    let api = Receiver::api(row!("clients made for Stripe", KeySource::default()));
    let charge = async |key, amount| {
        let headers = [("authorization", "Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc"), ("idempotency-key", key)];
        api.post("/v1/charges", &headers, amount).await
    };
    assert_eq!(charge("KG5LxwFBepaKHyUD", "amount=2000&currency=usd").await, FIRST);
    assert_eq!(charge("KG5LxwFBepaKHyUD", "amount=2000&currency=usd").await, DUPLICATE);
    assert_eq!(charge("KG5LxwFBepaKHyUD", "amount=2100&currency=usd").await, Some(Outcome::Mismatch));
    assert_eq!(charge("stainless-python-retry-8e03978e", "amount=2000&currency=usd").await, FIRST);
}

#[tokio::test]
async fn clients_made_for_mercadopago_are_served() {
    let api = Receiver::api(row!("clients made for Mercado Pago", KeySource::default()));
    let pay = async |key| {
        let headers = [("authorization", "Bearer APP_USR-1"), ("x-idempotency-key", key)];
        api.post("/v1/payments", &headers, r#"{"transaction_amount": 700.50, "installments": 1}"#).await
    };
    assert_eq!(pay("0d5020ed-1af6-469c-ae06-c3bec19954bb").await, FIRST);
    assert_eq!(pay("0d5020ed-1af6-469c-ae06-c3bec19954bb").await, DUPLICATE);
    assert_eq!(pay("77e1c83b-7bb0-437b-bc50-a7a58e5660ac").await, FIRST);
}

#[tokio::test]
async fn clients_made_for_paypal_are_served_also_with_a_fresh_access_token() {
    let source = row!("clients made for PayPal", KeySource::header("paypal-request-id"));
    // Stands for the merchant that an outer layer has found behind the token.
    let api = Receiver::behind(&layer().key(source).scope(|parts| parts.headers.get("x-merchant").cloned()));
    let capture = async |id, token, merchant| {
        let headers = [("paypal-request-id", id), ("authorization", token), ("x-merchant", merchant)];
        let body = r#"{"amount": {"value": "10.99", "currency_code": "USD"}, "final_capture": true}"#;
        api.post("/v2/payments/authorizations/0VF52814937998046/capture", &headers, body).await
    };
    let (one, other) = ("123e4567-e89b-12d3-a456-426655440010", "123e4567-e89b-12d3-a456-426655440011");
    assert_eq!(capture(one, "Bearer A21AAF", "ann").await, FIRST);
    assert_eq!(capture(one, "Bearer A21AAG", "ann").await, DUPLICATE);
    assert_eq!(capture(one, "Bearer A21AAH", "bob").await, FIRST);
    assert_eq!(capture(other, "Bearer A21AAG", "ann").await, FIRST);
}

#[tokio::test]
async fn clients_made_for_square_are_served() {
    let api = Receiver::api(row!("clients made for Square", KeySource::json_pointer("/idempotency_key")));
    let pay = async |key: &str| {
        let body = format!(
            r#"{{"idempotency_key": {key}, "source_id": "ccof:1", "amount_money": {{"amount": 1000, "currency": "USD"}}}}"#
        );
        api.post("/v2/payments", &[("square-version", "2026-01-22")], &body).await
    };
    assert_eq!(pay(r#""7b0f3ec5-086a-4871-8f13-3c81b3875218""#).await, FIRST);
    assert_eq!(pay(r#""7b0f3ec5-086a-4871-8f13-3c81b3875218""#).await, DUPLICATE);
    assert_eq!(pay(r#""4935a656-a929-4792-b97c-8848be85c27c""#).await, FIRST);
    assert_eq!(pay("null").await, NO_KEY);
}

#[tokio::test]
async fn aws_sdks_are_served_although_they_sign_each_attempt_anew() {
    let source = row!("AWS SDKs", KeySource::json_pointer("/ClientToken").or(KeySource::json_pointer("/clientToken")));
    // AWS4-HMAC-SHA256 Credential=<access key id>/<date>/<region>/<service>/aws4_request, SignedHeaders=.., Signature=..
    let access_key = |parts: &http::request::Parts| {
        let signed = parts.headers.get("authorization")?.to_str().ok()?;
        Some(signed.split_once("Credential=")?.1.split_once('/')?.0.to_owned())
    };
    let api = Receiver::behind(&layer().key(source).scope(access_key));
    let create = async |account: &str, signature: &str, body: &str| {
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential={account}/20261121/us-east-1/config/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let headers = [("authorization", &signed[..]), ("x-amz-target", "StarlingDoveService.StartResourceEvaluation")];
        api.post("/", &headers, body).await
    };
    let token = r#"{"ClientToken": "0e1d2c3b-4a59-4868-8776-95a4b3c2d1e0", "EvaluationMode": "PROACTIVE"}"#;
    assert_eq!(create("AKIDEXAMPLE", "5d67", token).await, FIRST);
    assert_eq!(create("AKIDEXAMPLE", "9f02", token).await, DUPLICATE);
    assert_eq!(create("AKIDOTHER", "11aa", token).await, FIRST);
    let rest_json = r#"{"clientToken": "f0e1d2c3-b4a5-4968-8776-95a4b3c2d1e0", "name": "listener"}"#;
    assert_eq!(create("AKIDEXAMPLE", "77b1", rest_json).await, FIRST);
    assert_eq!(create("AKIDEXAMPLE", "77b2", rest_json).await, DUPLICATE);
}

#[tokio::test]
async fn clients_of_apis_by_aip_155_are_served() {
    let source = row!(
        "clients of APIs by Google's AIP-155",
        KeySource::json_pointer("/requestId").or(KeySource::json_pointer("/request_id"))
    );
    // Where the body is the resource, the other fields of the request are in the query.
    let in_query = KeySource::by(|parts, _| {
        let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        let id = pairs.into_iter().find(|(name, _)| ["requestId", "request_id"].contains(name))?.1;
        Some(id.to_owned())
    });
    let api = Receiver::api(source.or(in_query));
    let (one, other) = ("2b3c4d5e-6f70-4182-93a4-b5c6d7e8f901", "3c4d5e6f-7081-4293-a4b5-c6d7e8f90123");
    for name in ["requestId", "request_id"] {
        let create = async |id: &str| {
            let body = format!(r#"{{"{name}": "{id}", "book": {{"title": "Momo"}}}}"#);
            api.post(&format!("/v1/{name}:create"), &[("authorization", "Bearer ya29")], &body).await
        };
        let id = if name == "requestId" { one } else { other };
        assert_eq!(create(id).await, FIRST);
        assert_eq!(create(id).await, DUPLICATE);
    }
    let create = async |query: &str| api.post(&format!("/v1/books?{query}"), &[], r#"{"title": "Momo"}"#).await;
    assert_eq!(create("alt=json&requestId=4d5e6f70-8192-43a4-b5c6-d7e8f9012345").await, FIRST);
    assert_eq!(create("alt=json&requestId=4d5e6f70-8192-43a4-b5c6-d7e8f9012345").await, DUPLICATE);
    assert_eq!(create("alt=json").await, NO_KEY);
}

/// Deliveries of a webhook: each attempt has a time and a signature of its own.
async fn assert_served(receiver: &Receiver, id: &str, time: &str, signature: &str, event: &str) {
    let deliver = async |message, at, signed| {
        receiver.post("/hooks", &[(id, message), (time, at), (signature, signed)], event).await
    };
    assert_eq!(deliver("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "1674087231", "v1,K5oZ").await, FIRST);
    assert_eq!(deliver("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "1674087236", "v1,9qTd").await, DUPLICATE);
    assert_eq!(deliver("msg_2KWPBgLlAfxdpx2AI54pPJ85f4X", "1674087231", "v1,hnO3").await, FIRST);
    assert_eq!(receiver.post("/hooks", &[(time, "1674087231")], event).await, NO_KEY);
}

const CONTACT: &str =
    r#"{"type": "contact.created", "timestamp": "2026-11-03T20:26:10.344522Z", "data": {"id": "1f81"}}"#;

#[tokio::test]
async fn standard_webhooks_are_served() {
    let receiver = Receiver::webhooks(row!("Standard Webhooks", KeySource::header("webhook-id")));
    assert_served(&receiver, "webhook-id", "webhook-timestamp", "webhook-signature", CONTACT).await;
}

#[tokio::test]
async fn webhooks_sent_by_svix_are_served() {
    let receiver = Receiver::webhooks(row!("Svix", KeySource::header("svix-id")));
    assert_served(&receiver, "svix-id", "svix-timestamp", "svix-signature", CONTACT).await;
}

#[tokio::test]
async fn githubs_webhooks_are_served_and_redeliveries_are_duplicates() {
    let receiver = Receiver::webhooks(row!("GitHub's webhooks", KeySource::header("x-github-delivery")));
    let deliver = async |id| {
        let headers = [("x-github-event", "push"), ("x-github-delivery", id), ("x-hub-signature-256", "sha256=d57c")];
        receiver.post("/github", &headers, r#"{"ref": "refs/heads/main", "after": "6113728f"}"#).await
    };
    assert_eq!(deliver("72d3162e-cc78-11e3-81ab-4c9367dc0958").await, FIRST);
    assert_eq!(deliver("72d3162e-cc78-11e3-81ab-4c9367dc0958").await, DUPLICATE);
    assert_eq!(deliver("72d3162e-cc78-11e3-81ab-4c9367dc0959").await, FIRST);
}

/// As it stands on the page.
fn shopify() -> KeySource {
    KeySource::by(|parts, _body| {
        let header = |name| parts.headers.get(name).map(HeaderValue::as_bytes);
        Some([header("x-shopify-topic")?, header("x-shopify-event-id")?].join(&b':'))
    })
}

#[tokio::test]
async fn shopifys_webhooks_are_served_topic_by_topic() {
    let (_, code) = PAGE.split_once("fn shopify()").expect("the closure stands on the page");
    let (code, _) = code.split_once("\n}\n").unwrap();
    assert!(include_str!("senders.rs").contains(code));

    let receiver = Receiver::webhooks(shopify());
    let deliver = async |topic, event| {
        let headers = [
            ("x-shopify-topic", topic),
            ("x-shopify-shop-domain", "momo.myshopify.com"),
            ("x-shopify-event-id", event),
            ("x-shopify-hmac-sha256", "XWmrwMey6OsLMeiZKwP4FppHH3cmAiiJJAweH5Jo4bM="),
        ];
        receiver.post("/shopify", &headers, r#"{"id": 820982911946154508}"#).await
    };
    assert_eq!(deliver("orders/create", "98880550-7158-44d4-b7cd-2c97c8a091b5").await, FIRST);
    assert_eq!(deliver("orders/create", "98880550-7158-44d4-b7cd-2c97c8a091b5").await, DUPLICATE);
    assert_eq!(deliver("orders/paid", "98880550-7158-44d4-b7cd-2c97c8a091b5").await, FIRST);
    assert_eq!(deliver("orders/create", "98880550-7158-44d4-b7cd-2c97c8a091b6").await, FIRST);
}

#[tokio::test]
async fn stripes_webhooks_are_served_although_their_bodies_change() {
    let receiver = Receiver::webhooks(row!("Stripe's webhooks", KeySource::json_pointer("/id")));
    let deliver = async |id: &str, pending: u8| {
        let event = format!(
            r#"{{"id": "{id}", "object": "event", "type": "charge.succeeded", "pending_webhooks": {pending}}}"#
        );
        receiver.post("/stripe", &[("stripe-signature", "t=1492774577,v1=5257a869")], &event).await
    };
    assert_eq!(deliver("evt_1NG8Du2eZvKYlo2CUI79vXWy", 2).await, FIRST);
    assert_eq!(deliver("evt_1NG8Du2eZvKYlo2CUI79vXWy", 1).await, DUPLICATE);
    assert_eq!(deliver("evt_1NG8Du2eZvKYlo2CUI79vXWz", 1).await, FIRST);
}

/// Two hooks for one object within a microsecond, which differ in what nobody cares about.
#[tokio::test]
async fn an_action_on_an_object_runs_once() {
    let source = row!("senders that name what they did", KeySource::json_pointers(["/action", "/order/id"]));
    let receiver = Receiver::webhooks(source);
    let tell = async |action: &str, order: u32, sent: &str| {
        let event = format!(r#"{{"action": "{action}", "order": {{"id": {order}}}, "sent": "{sent}"}}"#);
        receiver.post("/orders", &[], &event).await
    };
    let both = tokio::join!(tell("shipped", 7, "12:00:00.000001"), tell("shipped", 7, "12:00:00.000002"));
    assert_eq!(both, (FIRST, DUPLICATE));
    assert_eq!(tell("cancelled", 7, "12:00:01").await, FIRST);
    assert_eq!(tell("shipped", 8, "12:00:02").await, FIRST);
    assert_eq!(receiver.post("/orders", &[], r#"{"action": "changed"}"#).await, NO_KEY);
}

#[tokio::test(start_paused = true)]
async fn equal_bodies_are_one_within_the_window_and_two_after_it() {
    let receiver = Receiver::api(row!("senders of neither", KeySource::from(BodyHash::any_caller(MINUTE))));
    let measure = async |celsius| receiver.post("/sensor", &[], celsius).await;
    assert_eq!(measure("celsius 21.5").await, FIRST);
    assert_eq!(measure("celsius 21.6").await, FIRST);
    // Whichever minute the clock shows.
    for _ in 0..5 {
        advance(MINUTE / 6).await;
        assert_eq!(measure("celsius 21.5").await, DUPLICATE);
    }
    advance(MINUTE / 6).await;
    assert_eq!(measure("celsius 21.5").await, FIRST);
}

#[tokio::test]
async fn each_consumer_runs_an_event_once() {
    let backend = Arc::new(MemoryBackend::new());
    let consumer = |name: &str| {
        let layer = IdempotencyLayer::new(Arc::clone(&backend)).namespace(name);
        Receiver::behind(&layer.key(KeySource::header("webhook-id")).fingerprint(FingerprintPolicy::none()))
    };
    for consumer in [consumer("billing"), consumer("mail")] {
        for outcome in [FIRST, DUPLICATE] {
            assert_eq!(consumer.post("/hooks", &[("webhook-id", "msg_1")], CONTACT).await, outcome);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_on_two_routes_keep_their_records_for_two_retentions() {
    let backend = Arc::new(MemoryBackend::new());
    let route = |namespace: &str, retention| {
        Receiver::behind(&IdempotencyLayer::new(Arc::clone(&backend)).namespace(namespace).retention(retention))
    };
    let (payments, hooks) = (route("payments", DAY), route("hooks", 7 * DAY));
    let both = async || {
        let key = [("idempotency-key", "k-1")];
        (payments.post("/payments", &key, "12").await, hooks.post("/hooks", &key, "12").await)
    };
    assert_eq!(both().await, (FIRST, FIRST));
    assert_eq!(both().await, (DUPLICATE, DUPLICATE));
    advance(DAY).await;
    assert_eq!(both().await, (FIRST, DUPLICATE));
    advance(6 * DAY).await;
    assert_eq!(both().await, (FIRST, FIRST));
}

#[test]
fn every_row_has_its_test() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| who sends")).count();
    let tests = include_str!("senders.rs");
    let tested = tests.matches("row!(\"").count() + tests.matches("row!(\n").count();
    assert_eq!(rows, tested + 1, "Shopify's is a closure of several lines");
}
