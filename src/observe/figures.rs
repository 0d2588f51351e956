//! [`Figures`]: what is counted and measured. Their table is in `docs/observability.md`.

use std::{sync::Once, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, SharedString, Unit, with_recorder};

use super::{Kind, outcome::OUTCOMES};

const REQUESTS: &str = "idempotency_requests_total";
const UNPROTECTED: &str = "idempotency_unprotected_total";
const LEASES_LOST: &str = "idempotency_leases_lost_total";
const CLAIM: &str = "idempotency_claim_seconds";
const COMPLETE: &str = "idempotency_complete_seconds";
const WAIT: &str = "idempotency_wait_seconds";
const RECORD: &str = "idempotency_record_bytes";
const RUNS: &str = "idempotency_runs";
const WAITERS: &str = "idempotency_waiters";

static METADATA: Metadata<'static> = Metadata::new("tower_idempotency", Level::INFO, Some(module_path!()));

/// The figures of one layer or deduplicator.
///
/// What is kept is their names with their labels, so that a figure takes no allocation here. The recorder is asked each
/// time: it may be installed late, and forget a figure that was idle.
#[derive(Debug)]
pub(super) struct Figures {
    at_service: Once,
    at_request: Once,
    /// By outcome.
    requests: Vec<(&'static str, Key)>,
    unprotected: Key,
    leases_lost: Key,
    claim: Key,
    complete: Key,
    wait: Key,
    record: Key,
    runs: Key,
    waiters: Key,
}

impl Figures {
    pub(super) fn new(kind: Kind, namespace: &str) -> Self {
        let kind = match kind {
            Kind::Http => "http",
            Kind::Message => "message",
        };
        let namespace = SharedString::from_shared(namespace.into());
        let labels = vec![Label::from_static_parts("kind", kind), Label::new("namespace", namespace)];
        let key = |name| Key::from_parts(name, labels.clone());
        let outcome = |outcome| vec![Label::from_static_parts("outcome", outcome)];
        Self {
            at_service: Once::new(),
            at_request: Once::new(),
            requests: OUTCOMES.map(|word| (word, key(REQUESTS).with_extra_labels(outcome(word)))).into(),
            unprotected: key(UNPROTECTED),
            leases_lost: key(LEASES_LOST),
            claim: key(CLAIM),
            complete: key(COMPLETE),
            wait: key(WAIT),
            record: key(RECORD),
            runs: key(RUNS),
            waiters: key(WAITERS),
        }
    }

    /// The first service is made.
    pub(super) fn serves(&self) {
        self.at_service.call_once(|| self.announce());
    }

    /// The first request has come. Meanwhile a recorder may have been installed, and a deduplicator makes no service.
    pub(super) fn first_request(&self) {
        self.at_request.call_once(|| self.announce());
    }

    /// Tells the recorder what the figures mean, and that nothing was counted yet: of a counter that begins to exist with
    /// its first event, `rate` and `increase` do not see that event.
    fn announce(&self) {
        describe();
        let by_outcome = self.requests.iter().map(|(_, key)| key);
        by_outcome.chain([&self.unprotected, &self.leases_lost]).for_each(|key| counter(key).increment(0));
        [&self.runs, &self.waiters].into_iter().for_each(|key| gauge(key).increment(0));
    }

    pub(super) fn request(&self, outcome: &'static str) {
        if let Some((_, key)) = self.requests.iter().find(|(word, _)| *word == outcome) {
            counter(key).increment(1);
        }
    }

    pub(super) fn unprotected(&self) {
        counter(&self.unprotected).increment(1);
    }

    pub(super) fn lease_lost(&self) {
        counter(&self.leases_lost).increment(1);
    }

    pub(super) fn claimed(&self, after: Duration) {
        histogram(&self.claim).record(after);
    }

    pub(super) fn completed(&self, after: Duration, size: usize) {
        histogram(&self.complete).record(after);
        histogram(&self.record).record(size as f64); // exact up to 2^53 bytes
    }

    pub(super) fn run_begins(&self) {
        gauge(&self.runs).increment(1);
    }

    pub(super) fn run_ends(&self) {
        gauge(&self.runs).decrement(1);
    }

    pub(super) fn wait_begins(&self) {
        gauge(&self.waiters).increment(1);
    }

    pub(super) fn wait_ends(&self, after: Duration) {
        gauge(&self.waiters).decrement(1);
        histogram(&self.wait).record(after);
    }
}

fn counter(key: &Key) -> Counter {
    with_recorder(|recorder| recorder.register_counter(key, &METADATA))
}

fn gauge(key: &Key) -> Gauge {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
}

fn histogram(key: &Key) -> Histogram {
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    describe_counter!(REQUESTS, Unit::Count, "Requests with a key, or messages, by what became of them");
    describe_counter!(UNPROTECTED, Unit::Count, "Requests with a key that ran without a claim");
    describe_counter!(LEASES_LOST, Unit::Count, "Runs whose claim may have gone to another run");
    describe_histogram!(CLAIM, Unit::Seconds, "From sending a claim until it is answered or given up");
    describe_histogram!(
        COMPLETE,
        Unit::Seconds,
        "From sending a record until it is answered or left to the background"
    );
    describe_histogram!(WAIT, Unit::Seconds, "How long a request waited for a run of another");
    describe_histogram!(RECORD, Unit::Bytes, "Size of a record that was sent to the backend");
    describe_gauge!(RUNS, Unit::Count, "Runs that hold a claim now");
    describe_gauge!(WAITERS, Unit::Count, "Requests that wait for the run of another now");
}
