//! What makes two requests the same: `fingerprint`.

use tower_idempotency::{FingerprintPolicy, Rejection};

use crate::{keyed, layer, over, payment};

/// Sends `first`, and then each of the others with the same key: those that are the same request, and those that are not.
async fn compare(
    policy: FingerprintPolicy,
    first: &(&[(&str, &str)], &'static str),
    same: &[(&[(&str, &str)], &'static str)],
    others: &[(&[(&str, &str)], &'static str)],
) {
    let request = |(lines, body): &(&[(&str, &str)], &'static str)| {
        payment(&[&[("idempotency-key", "k-1")], *lines].concat(), body)
    };
    let subject = over(&layer().fingerprint(policy));
    subject.runs(request(first)).await;
    for retry in same {
        subject.replays(request(retry)).await;
    }
    for other in others {
        subject.rejects(request(other), Rejection::Mismatch).await;
    }
}

#[tokio::test]
async fn chosen_headers_count_as_well() {
    let policy = FingerprintPolicy::default().header("Api-Version").header("tenant");
    let first: (&[(&str, &str)], _) = (&[("api-version", "1"), ("tenant", "a")], "order");
    let same: &[(&[(&str, &str)], _)] = &[
        (&[("tenant", "a"), ("api-version", "1")], "order"),
        (&[("api-version", "1"), ("tenant", "a"), ("x-attempt", "2")], "order"),
    ];
    let others: &[(&[(&str, &str)], _)] = &[
        (&[("api-version", "2"), ("tenant", "a")], "order"),
        (&[("api-version", "a"), ("tenant", "1")], "order"),
        (&[("api-version", "1")], "order"),
        (&[("api-version", "1"), ("api-version", "a")], "order"),
        (&[("api-version", "1"), ("api-version", "1"), ("tenant", "a")], "order"),
        (&[("api-version", "1"), ("tenant", "a")], "another order"),
    ];
    compare(policy, &first, same, others).await;
}

#[tokio::test]
async fn without_a_fingerprint_the_key_decides_among_the_requests_of_one_caller() {
    let subject = over(&layer().fingerprint(FingerprintPolicy::none()));
    let mut elsewhere = payment(&[("idempotency-key", "k-1")], "another order");
    *elsewhere.uri_mut() = "http://localhost/refunds".parse().unwrap();
    subject.runs(keyed("k-1")).await;
    subject.replays(elsewhere).await;
    let stranger = payment(&[("idempotency-key", "k-1"), ("authorization", "stranger")], "order");
    subject.rejects(stranger, Rejection::CredentialsDiffer).await;
}

#[tokio::test]
async fn a_closure_decides_what_is_the_same() {
    let policy = FingerprintPolicy::by(|parts, body| [parts.uri.path().as_bytes(), &body[..5]].concat());
    compare(policy, &(&[], "order at 12:00"), &[(&[], "order at 12:01")], &[(&[], "refund")]).await;
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_bodies_that_mean_the_same_are_the_same() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
    const EVENT: &[(&str, &str)] = &[("content-type", "application/cloudevents+json")];
    const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

    let first = (JSON, r#"{"amount":100,"to":"A"}"#);
    let same = [(JSON, r#"{ "to": "\u0041", "amount": 1e2 }"#), (EVENT, r#"{"to":"A","amount":100.0}"#)];
    let others = [
        (JSON, r#"{"amount":"100","to":"A"}"#),
        (JSON, r#"{"amount":101,"to":"A"}"#),
        (JSON, r#"{"amount":100,"to":"A""#),
        (TEXT, r#"{"to":"A","amount":100}"#),
        (&[], r#"{"to":"A","amount":100}"#),
    ];
    compare(FingerprintPolicy::canonical_json(), &first, &same, &others).await;

    // RFC 8785 would round both to one number.
    let (account, another) = (r#"{"to":9007199254740992}"#, r#"{"to":9007199254740993}"#);
    compare(FingerprintPolicy::canonical_json(), &(JSON, account), &[(JSON, account)], &[(JSON, another)]).await;
    compare(FingerprintPolicy::canonical_json(), &(TEXT, "1"), &[(TEXT, "1")], &[(TEXT, "1.0")]).await;
}
