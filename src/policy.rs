//! What is recorded of a response.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode, header, response};

use crate::{closure::Closure, grpc};

/// What is recorded: which responses, and which of their headers.
///
/// If a response is not recorded, the key is released, and the next request runs. By default, temporary failures are
/// not recorded: 5xx, 408, 425, 429 and 401. Everything else is recorded, including other 4xx. For a gRPC call the
/// `grpc-status` in its head or trailers counts as well: `CANCELLED`, `UNKNOWN`, `DEADLINE_EXCEEDED`,
/// `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNAVAILABLE`, `UNAUTHENTICATED`, and a missing status are not
/// recorded. For gRPC-Web only the HTTP status counts.
///
/// All headers are recorded, in their order, including repeated ones and raw bytes, except for those
///
/// * of one connection, which no policy can keep: `connection` and what it names, `keep-alive`, `proxy-connection`,
///   `te`, `transfer-encoding`, `upgrade` (RFC 9110, section 7.6.1);
/// * of one moment or one user: `date`, `www-authenticate`, `authentication-info`, `set-cookie` and `proxy-*`.
///
/// The same goes for trailers.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/send.rs"));
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use axum::{Router, extract::Request, http::StatusCode, routing::post};
/// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Outcome, RecordPolicy};
///
/// // Only what was done is final: after a 404 the next request runs.
/// let policy = RecordPolicy::when(|head| head.status.is_success()).drop_header("x-request-id");
/// let layer = IdempotencyLayer::new(MemoryBackend::new()).record(policy);
/// let pay = async |body: String| if body == "amount=12" { StatusCode::CREATED } else { StatusCode::NOT_FOUND };
/// let app = Router::new().route("/payments", post(pay)).layer(layer);
///
/// // `send` posts a body with headers, and returns the `Outcome`.
/// for outcome in [Outcome::Executed, Outcome::Replayed] {
///     assert_eq!(send(&app, &[("idempotency-key", "k-1")], "amount=12").await, Some(outcome));
///     assert_eq!(send(&app, &[("idempotency-key", "k-2")], "amount=0").await, Some(Outcome::Released));
/// }
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RecordPolicy {
    responses: Responses,
    /// Whether a header belongs into a record, where the user says otherwise than the default.
    headers: Vec<(HeaderName, bool)>,
}

/// Which responses are recorded.
#[derive(Debug, Clone, Default)]
enum Responses {
    /// Those that a retry would not change.
    #[default]
    Final,
    All,
    Chosen(Closure<Choice>),
}

type Choice = dyn Fn(&response::Parts) -> bool + Send + Sync;

impl RecordPolicy {
    /// Records every response, including failures, as Stripe does. Errors of the service and panics are not responses:
    /// their key is released.
    pub fn everything() -> Self {
        Self { responses: Responses::All, ..Self::default() }
    }

    /// Records the responses for whose head `recorded` returns true, instead of the default. The trailers of gRPC calls
    /// do not count then.
    ///
    /// If `recorded` panics, nobody can say what is to become of the run: its client gets the panic, and its key is blocked
    /// until the lease ends.
    pub fn when(recorded: impl Fn(&response::Parts) -> bool + Send + Sync + 'static) -> Self {
        Self { responses: Responses::Chosen(Closure(Arc::new(recorded))), ..Self::default() }
    }

    /// Replays the header `name` as well, if it is not replayed by default. If called several times for one name, the
    /// last call counts.
    ///
    /// If you keep `set-cookie`, set a [`scope`](crate::IdempotencyLayer::scope): a session cookie is replayed to
    /// whoever repeats the request.
    ///
    /// # Panics
    ///
    /// If `name` is not a header name, or belongs to a connection, such as `transfer-encoding`.
    #[track_caller]
    pub fn keep_header(mut self, name: &str) -> Self {
        let name = header_name(name);
        assert!(!belongs_to_a_connection(&name), "the header {name} belongs to one connection: it cannot be replayed");
        self.headers.push((name, true));
        self
    }

    /// Does not replay the header `name`. The first response still has it.
    ///
    /// # Panics
    ///
    /// When `name` is not a header name.
    #[track_caller]
    pub fn drop_header(mut self, name: &str) -> Self {
        self.headers.push((header_name(name), false));
        self
    }

    /// Whether a run that gave this answer has not happened as far as its key is concerned, so that the next request
    /// runs.
    pub(crate) fn releases(&self, response: &response::Parts) -> bool {
        match &self.responses {
            Responses::Final => may_pass(response.status) || grpc::failed(response),
            Responses::All => false,
            Responses::Chosen(recorded) => !recorded(response),
        }
    }

    /// The same for a response that is known to its end: the outcome of a gRPC call is in its trailers.
    pub(crate) fn releases_at_end(&self, head: &response::Parts, trailers: Option<&HeaderMap>) -> bool {
        matches!(self.responses, Responses::Final) && grpc::failed_at_end(head, trailers)
    }

    /// Whether a header or a trailer of the response with these `headers` belongs into its record. What the user said
    /// last counts.
    pub(crate) fn keeps<'a>(&'a self, headers: &'a HeaderMap) -> impl Fn(&HeaderName) -> bool + 'a {
        let connection = headers.contains_key(header::CONNECTION); // mostly not
        move |name| {
            let of_a_connection = belongs_to_a_connection(name) || connection && is_named_by_connection(headers, name);
            let said = self.headers.iter().rev().find(|(said, _)| said == name);
            !of_a_connection && said.map_or_else(|| is_kept_by_default(name), |&(_, kept)| kept)
        }
    }
}

/// `text` as the name of a header.
#[track_caller]
pub(crate) fn header_name(text: &str) -> HeaderName {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a header name"))
}

/// The server failed, or refused for a reason that passes.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
}

/// RFC 9110, 7.6.1.
fn belongs_to_a_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
}

/// Not what is said of one point in time, or to one user.
fn is_kept_by_default(name: &HeaderName) -> bool {
    match name.as_str() {
        "date" | "www-authenticate" | "authentication-info" | "set-cookie" => false,
        other => !other.starts_with("proxy-"),
    }
}

fn is_named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
}
