//! The way of a message: claim (or wait) -> run -> record.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    answer::{Processed, RunError, completed, refused},
    message::Identity,
};
use crate::{
    Backend, Record, Rejection, Run,
    future::Client,
    panics::{catch_panic, unwind},
    protocol::{Lease, Protocol, Refusal, Word},
};

/// Runs the handler of a message that can be told from others, under the eyes of the operator.
pub(super) async fn process<B, V, E, H, F>(
    protocol: Arc<Protocol<B>>,
    identity: Option<Identity>,
    wait: Option<Duration>,
    handler: H,
    client: Client,
) -> Result<Processed, RunError<E>>
where
    B: Backend,
    V: AsRef<[u8]>,
    H: FnOnce(Run) -> F,
    F: Future<Output = Result<V, E>>,
{
    let observer = protocol.observer();
    let Some(identity) = identity else {
        observer.refused(Rejection::KeyMissing);
        return Err(RunError::KeyMissing);
    };
    observer.request(identity.key, &client, run(&protocol, identity, wait, handler, &client)).await
}

/// Tells the story of one message.
async fn run<B, V, E, H, F>(
    protocol: &Arc<Protocol<B>>,
    identity: Identity,
    wait: Option<Duration>,
    handler: H,
    client: &Client,
) -> Result<Processed, RunError<E>>
where
    B: Backend,
    V: AsRef<[u8]>,
    H: FnOnce(Run) -> F,
    F: Future<Output = Result<V, E>>,
{
    let lease = match claim(protocol, &identity, wait, client).await {
        Ok(lease) => lease,
        Err(refusal) => return refused(refusal),
    };
    let (run, fingerprint) = (Run::new(identity.text, identity.hashed, &lease, None), identity.fingerprint);
    let handled = async { handler(run).await.map(|value| Record::value(&fingerprint, value.as_ref())) };
    match catch_panic(|| handled).await {
        Ok(Ok(record)) => conclude(lease, record).await,
        Ok(Err(error)) => {
            lease.fail().await;
            Err(RunError::Failed(error))
        }
        Err(panic) => unwind(lease, client.has_left(), panic).await,
    }
}

/// Claims the key of a message. Where the message is in progress, waits for as long as `wait` says.
async fn claim<B: Backend>(
    protocol: &Arc<Protocol<B>>,
    identity: &Identity,
    wait: Option<Duration>,
    client: &Client,
) -> Result<Lease<B>, Refusal> {
    let Identity { key, fingerprint, .. } = identity;
    let until = Instant::now() + wait.unwrap_or_default();
    loop {
        client.may_leave();
        let claimed = protocol.claim(key, fingerprint).await;
        // Once the caller has gone nobody waits for the answer.
        if !matches!(claimed, Err(Refusal::InProgress)) || client.has_left() || Instant::now() >= until {
            return claimed;
        }
        client.takes_request_along();
        Box::pin(protocol.until_free(key, fingerprint, until)).await?;
    }
}

/// Ends the run of a handler that has returned what `record` holds.
async fn conclude<B: Backend, E>(lease: Lease<B>, record: Record) -> Result<Processed, RunError<E>> {
    let value = record.as_value().unwrap_or_default();
    let record = match lease.run().word() {
        // What is committed cannot be given back.
        Some(Word::Release) if !lease.run().is_committed() => {
            lease.release().await;
            return Ok(Processed::Released(value));
        }
        Some(Word::KeepWithoutBody) => Record::tombstone(&lease.fingerprint()),
        Some(Word::Keep | Word::Release) | None => record,
    };
    completed(lease.complete(record).await, value)
}
