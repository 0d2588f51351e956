//! [`Run`]: one execution under a claim, as the handler sees it.

use std::{fmt, sync::Arc};

use http::Extensions;

#[cfg(feature = "postgres")]
use crate::recorder::Recorder;
use crate::{
    Backend, Key, Token,
    header_key::KeyText,
    protocol::{Lease, LiveRun, Word},
    settings::Settings,
};

/// One execution under a claim. The layer puts it into the extensions of a guarded request; a bypassed request has
/// none. [`Deduplicator::run_with`](crate::Deduplicator::run_with) hands it to the handler of a message.
///
/// With the feature `axum` it is an extractor: a handler takes a `Run`, or an `Option<Run>` if its requests may be
/// bypassed. Elsewhere it is found in `request.extensions()`. Clones are the same run.
///
/// # A unique effect
///
/// The layer makes runs rare, not effects unique: an attempt that was killed may have had its effect before. In a
/// transaction of the handler's own a key under a UNIQUE constraint makes the effect unique as well:
///
/// ```
/// use tower_idempotency::Run;
///
/// const PAY: &str = "INSERT INTO payments (id, amount) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
///
/// fn parameters(run: &Run, amount: i64) -> (String, i64) {
///     (run.derive(["payment"]), amount) // no row inserted: an earlier attempt has done it
/// }
/// ```
///
/// Take [`derive`](Self::derive) for it, which tells apart equal keys of two principals or namespaces, or
/// [`key`](Self::key) together with the principal.
///
/// A request that is [known by its body](Self::is_known_by_body) has no key but the digest of what it says, which is the
/// same after its window as within. Under such a constraint the same order, given again a day later, would not be
/// booked.
///
/// Where the claims are in PostgreSQL, `PostgresBackend::commit` commits effects and record in one transaction.
#[derive(Clone)]
pub struct Run {
    text: KeyText,
    by_body: bool,
    live: Arc<LiveRun>,
    /// That of an idempotency layer further out, under another key.
    outer: Option<Arc<Self>>,
    /// For backends with transactions.
    #[cfg(feature = "postgres")]
    recorder: Recorder,
}

impl Run {
    /// The run under `lease`. That of a request has the `settings` of its layer.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables, reason = "commits alone need the settings"))]
    pub(crate) fn new<B: Backend>(
        text: KeyText,
        by_body: bool,
        lease: &Lease<B>,
        settings: Option<&Arc<Settings>>,
    ) -> Self {
        Self {
            text,
            by_body,
            live: Arc::clone(lease.run()),
            outer: None,
            #[cfg(feature = "postgres")]
            recorder: Recorder::new(settings, lease.retention()),
        }
    }

    /// The key as the client means it: 1 to 255 visible ASCII characters, without the quotes it may have sent.
    ///
    /// A request that is known by a [`BodyHash`](crate::BodyHash), and one whose key was not found in a header and has
    /// another form, has `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.as_str()
    }

    /// Whether nothing but the body tells this request from others: a [`BodyHash`](crate::BodyHash) took the place of a
    /// key, or the message is one [of its payload](crate::Message::of_payload).
    ///
    /// Then [`key`](Self::key) and [`derive`](Self::derive) return the same again once the record has expired and an
    /// equal request runs, which may well be meant.
    #[must_use]
    pub fn is_known_by_body(&self) -> bool {
        self.by_body
    }

    /// The token of this run: another one for each execution of the same key. It can tell attempts apart in a log.
    #[must_use]
    pub fn token(&self) -> Token {
        self.live.token
    }

    /// Whether the claim may have gone to another run, because this one stalled past its lease or could not renew it.
    ///
    /// A handler that has not yet done anything irreversible should stop then. If another run has taken the key by the
    /// time it answers, its response is withheld: the client gets that run's, or 409.
    ///
    /// It tells what this node knows, without asking the backend, and does not go back to `false`.
    #[must_use]
    pub fn lease_lost(&self) -> bool {
        self.live.is_lost()
    }

    /// A key for a call to another service: the same in every run of this key, another one for other `parts`.
    ///
    /// It lets an attempt after a failed one repeat its calls safely, as the other service sees the same key again:
    ///
    /// ```
    /// # #[cfg(all(feature = "axum", feature = "memory"))]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use axum::{Router, body::Body, http::{Request, StatusCode}, routing::post};
    /// use tower::ServiceExt;
    /// use tower_idempotency::{IdempotencyLayer, MemoryBackend, Run};
    ///
    /// async fn pay(run: Run) -> (StatusCode, String) {
    ///     let charge = run.derive(["stripe", "charge"]);
    ///     assert_ne!(charge, run.derive(["stripe", "refund"]));
    ///     (StatusCode::BAD_GATEWAY, charge) // fails: the next attempt runs again
    /// }
    ///
    /// let app: Router = Router::new()
    ///     .route("/payments", post(pay))
    ///     .layer(IdempotencyLayer::new(MemoryBackend::new()).namespace("orders"));
    /// for _attempt in 0..2 {
    ///     let order = Request::post("/payments").header("Idempotency-Key", "k-1").body(Body::empty()).unwrap();
    ///     let response = app.clone().oneshot(order).await.unwrap();
    ///     let charge = axum::body::to_bytes(response.into_body(), 36).await.unwrap();
    ///     assert_eq!(charge, "4fcf8ffe-b7a5-855c-a2c3-945fa7025c39");
    /// }
    /// # }
    /// # #[cfg(not(all(feature = "axum", feature = "memory")))] fn main() {}
    /// ```
    ///
    /// The text is a UUID of version 8 (RFC 9562, section 5.8), 36 characters: 122 bits of the SHA-256 of namespace,
    /// scope, the client's key and `parts`. It does not change between versions of this crate.
    #[must_use]
    pub fn derive<P: AsRef<[u8]>>(&self, parts: impl IntoIterator<Item = P>) -> String {
        self.live.key.derive(parts)
    }

    /// Keeps the key completed, whatever comes of this run: for a handler that is about to do what must not be done
    /// twice.
    ///
    /// The response is recorded as usual, also if its status would give the key back. After a panic, an error of the
    /// service or a response body that fails, what is recorded is that the outcome is unknown: duplicates get 409,
    /// [`Rejection::OutcomeUnknown`](crate::Rejection::OutcomeUnknown), until the retention is over. A node that dies
    /// leaves nothing: its lease ends. For that there is
    /// [`at_most_once`](crate::IdempotencyLayer::at_most_once).
    ///
    /// Of `keep`, [`keep_without_body`](Self::keep_without_body) and [`release`](Self::release) the last call counts
    /// that is made before the response is returned or, if its length is unknown, before its body ends.
    /// Where several layers guard the request each of them hears it.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_idempotency::Run;
    ///
    /// async fn transfer(run: Run, balance: u64, amount: u64) -> StatusCode {
    ///     if balance < amount {
    ///         run.release(); // nothing was done: the same request may succeed later
    ///         return StatusCode::CONFLICT;
    ///     }
    ///     run.keep(); // from here on not twice, whatever happens
    ///     // .. the call that moves the money ..
    ///     StatusCode::CREATED
    /// }
    /// ```
    pub fn keep(&self) {
        self.say(Word::Keep);
    }

    /// Keeps the key completed like [`keep`](Self::keep), but not the response: its client gets it, and duplicates get
    /// 409, [`Rejection::NotKept`](crate::Rejection::NotKept). For responses that hold a secret.
    pub fn keep_without_body(&self) {
        self.say(Word::KeepWithoutBody);
    }

    /// Gives the key back when this run ends, however it ends, also at most once: its client gets the response, and the
    /// next request with the key runs. For a handler that has done nothing.
    pub fn release(&self) {
        self.say(Word::Release);
    }

    /// Says it of the runs further out as well: the same handler answers them.
    fn say(&self, word: Word) {
        self.live.say(word);
        self.outer.iter().for_each(|outer| outer.say(word));
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn live(&self) -> &LiveRun {
        &self.live
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Puts the run among what is known of its request, where it takes the place of that of a layer further out.
    pub(crate) fn attach(self, request: &mut Extensions) {
        if let Some(outer) = request.insert(self)
            && let Some(run) = request.get_mut::<Self>()
        {
            run.outer = Some(Arc::new(outer));
        }
    }

    /// Whether `key` is claimed for this run or for one further out.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.live.key == *key || self.outer.as_ref().is_some_and(|outer| outer.holds(key))
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a key does not belong in a log.
        f.debug_struct("Run")
            .field("key", &self.live.key)
            .field("token", &self.live.token)
            .field("lease_lost", &self.lease_lost())
            .finish()
    }
}
