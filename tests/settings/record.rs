//! What is recorded: `record`.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower_idempotency::{RecordPolicy, testing::InnerService};

use crate::{around, layer, payment};

/// A handler that answers with the status and the header lines that the request's body names.
pub(crate) fn obedient() -> InnerService {
    InnerService::answering(|_, body| {
        let status = std::str::from_utf8(&body).unwrap().parse::<u16>().unwrap();
        let response = Response::builder().status(status).header("set-cookie", "a=1").header("set-cookie", "b=2");
        let response = response.header("date", "today").header("x-total", "1").header("etag", "e");
        response.header("connection", "x-hop").header("x-hop", "1").body(Full::from(body)).unwrap()
    })
}

pub(crate) fn answering(status: &'static str) -> Request<Full<Bytes>> {
    payment(&[("idempotency-key", status)], status)
}

#[tokio::test]
async fn a_record_policy_decides_which_responses_are_final() {
    let not_404 = RecordPolicy::when(|parts| parts.status != StatusCode::NOT_FOUND);
    let released: [(RecordPolicy, &[&str]); 3] = [
        (RecordPolicy::default(), &["401", "408", "425", "429", "500", "503", "599"]),
        (RecordPolicy::everything(), &[]),
        (not_404, &["404"]),
    ];
    for (policy, released) in released {
        let subject = around(&layer().record(policy), obedient());
        for status in ["200", "201", "302", "400", "401", "404", "408", "409", "425", "429", "500", "503", "599"] {
            subject.runs(answering(status)).await;
            if released.contains(&status) {
                subject.runs(answering(status)).await;
            } else {
                assert_eq!(subject.replays(answering(status)).await.status.as_str(), status);
            }
        }
    }
}

#[tokio::test]
async fn at_most_once_outweighs_the_record_policy() {
    let subject = around(&layer().at_most_once().record(RecordPolicy::when(|_| false)), obedient());
    subject.runs(answering("500")).await;
    subject.replays(answering("500")).await;
}

#[tokio::test]
async fn headers_are_kept_and_dropped_as_the_policy_says() {
    let names = ["set-cookie", "date", "x-total", "etag", "x-hop", "connection"];
    let policies = [
        (RecordPolicy::default(), ["etag", "x-total"].as_slice()),
        (RecordPolicy::default().keep_header("Set-Cookie").drop_header("ETag"), &["set-cookie", "x-total"]),
        (RecordPolicy::everything().keep_header("date").keep_header("x-hop"), &["date", "etag", "x-total"]),
        (RecordPolicy::default().drop_header("etag").keep_header("etag"), &["etag", "x-total"]),
    ];
    for (policy, kept) in policies {
        let subject = around(&layer().record(policy), obedient());
        let first = subject.runs(answering("200")).await;
        assert!(names.iter().all(|name| first.headers.contains_key(*name)), "the first response is whole");
        let replay = subject.replays(answering("200")).await;
        for name in names {
            assert_eq!(replay.headers.contains_key(name), kept.contains(&name), "{name}");
        }
        let cookies: Vec<_> = replay.headers.get_all("set-cookie").iter().collect();
        assert!(cookies.is_empty() || cookies == ["a=1", "b=2"]);
    }
}
