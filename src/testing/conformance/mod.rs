//! [`conformance`]: the laws of [`Backend`], run.

mod cancel;
mod cast;
mod catalogue;
mod check;
mod claims;
mod exact;
mod expiry;
mod law;
mod linearizable;
mod model;
mod storm;
mod table;
mod trial;
mod waiting;

use std::{fmt::Write, future::Future, sync::Arc};

use self::check::Finding;
use crate::Backend;

/// Checks that a backend keeps the laws written on [`Backend`].
///
/// Call it from a test. The factory is called several times; what it returns may share one store, also with other
/// processes, since every check uses fresh random keys. What is left behind under them expires within
/// five minutes.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # async fn test() {
/// use tower_idempotency::{MemoryBackend, testing::conformance};
///
/// conformance(|| async { MemoryBackend::new() }).await;
/// # }
/// ```
///
/// It takes a few seconds of real time, as it waits for short leases to end, and sends about ten thousand commands.
/// Under a multi-thread runtime the concurrent checks find more. A backend that does no I/O can also be checked under
/// tokio's paused clock, in no time.
///
/// A slow machine or store makes it slower, not wrong: an attempt whose short lease may have ended too early is repeated
/// with a longer one. A store that needs 5 ms for each command, one after the other, is judged in two minutes.
///
/// # Panics
///
/// When a law is broken, with a report: for every failed check the law, the commands sent, what was seen, what was
/// expected, and how such a thing is usually fixed. Outside a tokio runtime.
pub async fn conformance<B, F>(factory: impl Fn() -> F)
where
    B: Backend,
    F: Future<Output = B>,
{
    let mut findings = Vec::new();
    // These mostly wait for leases to end, so they run at the same time.
    let backend = Arc::new(factory().await);
    let running =
        catalogue::quiet().into_iter().map(|check| tokio::spawn(check.judge(Arc::clone(&backend)))).collect::<Vec<_>>();
    let quiet = running.len();
    for check in running {
        findings.extend(joined(check.await));
    }
    let busy = catalogue::busy();
    let checks = quiet + busy.len();
    for check in busy {
        if findings.iter().any(|finding| finding.unanswered) {
            break; // a backend that hangs would take its time for each of the others
        }
        let backend = Arc::new(factory().await);
        findings.extend(joined(tokio::spawn(check.judge(backend)).await));
    }
    assert!(findings.is_empty(), "{}", report(checks, &findings));
}

/// A panic of the backend goes on to the caller.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn report(checks: usize, findings: &[Finding]) -> String {
    let mut text = format!("the backend breaks its laws: {} of {checks} checks failed\n", findings.len());
    if findings.len() > 1 {
        text.push_str("Begin with the first: what comes after it often follows from it.\n");
    }
    for finding in findings {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}", finding.text);
    }
    if findings.iter().any(|finding| finding.unanswered) {
        text.push_str("\nCommands went unanswered, so some of the checks were not run.\n");
    }
    text
}
