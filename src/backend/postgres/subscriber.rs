//! The subscription of a process to the notices of keys that are no longer in progress (`LISTEN`).
//!
//! Its connection holds the advisory lock of each key that is waited for, shared. So whoever ends a run can see whether
//! anybody is to be told. The lock is held before the key is read: a run that ends before that is seen by reading, and
//! one that ends later sees the lock.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use sqlx::{
    Error, PgPool,
    postgres::{PgListener, PgNotification},
    query, query_scalar,
};

use super::{command::lock, connection::ask, pool_of, statement::CHANNEL};
use crate::{
    Key, Token,
    backend::{
        board::Board,
        subscription::{Source, Subscription},
    },
    sync::Notify,
};

/// Of how many keys a process holds the locks: a server has room for some 6,400 locks. Those who wait for further ones
/// look every now and then.
const MOST_LOCKS: usize = 256;

/// A setting of the connection that listens, by which it is known on the server.
const NAME: &str = "tower_idempotency.listener";

const LOCK: &str = "SELECT pg_advisory_lock_shared(key) FROM unnest($1) AS key";
const UNLOCK: &str = "SELECT pg_advisory_unlock_shared(key) FROM unnest($1) AS key";

/// Where notices come from.
pub(super) struct Notices {
    claims: PgPool,
}

impl Notices {
    pub(super) fn through(claims: PgPool) -> Self {
        Self { claims }
    }
}

impl Source for Notices {
    type Subscription = Listener;

    /// Behind a pooler of transactions `LISTEN` succeeds, and the notices go to whoever has the connection when they come,
    /// whose own command fails of them. So it first has to have a connection to the server for itself. Then it has to hear
    /// a notice.
    async fn open(&self) -> Option<Listener> {
        let probe = format!("{:?}", Token::random());
        let named = self.claims.connect_options().as_ref().clone().options([(NAME, &probe)]);
        let pool = pool_of(self.claims.options().clone(), 1, named);
        let mut listener = PgListener::connect_with(&pool).await.ok()?;
        listener.eager_reconnect(false);
        // Poolers refuse the setting, or drop it.
        let name: String = query_scalar("SELECT current_setting($1)").bind(NAME).fetch_one(&mut listener).await.ok()?;
        if name != probe {
            return None;
        }
        listener.listen(CHANNEL).await.ok()?;
        let notify = || query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(&probe);
        ask(&self.claims, Duration::from_secs(1), notify).await.ok()?;
        while listener.try_recv().await.ok()??.payload() != probe {}
        Some(Listener { connection: listener, locked: HashSet::new() })
    }
}

/// A connection that hears notices.
pub(super) struct Listener {
    connection: PgListener,
    locked: HashSet<Key>,
}

impl Subscription for Listener {
    async fn pass_on(mut self, board: &Weak<Board>) {
        let Some(changed) = board.upgrade().map(|board| Arc::clone(&board.changed)) else { return };
        while self.lock(board).await.is_ok() {
            match self.notice_or(&changed).await {
                None => {}
                Some(Ok(Some(notice))) => tell(board, notice.payload()),
                Some(Ok(None) | Err(_)) => return,
            }
        }
    }
}

impl Listener {
    /// The next notice, unless `changed` comes before.
    async fn notice_or(&mut self, changed: &Notify) -> Option<Result<Option<PgNotification>, Error>> {
        let (mut notice, mut changed) = (pin!(self.connection.try_recv()), pin!(changed.notified()));
        poll_fn(|cx| match notice.as_mut().poll(cx) {
            Poll::Ready(notice) => Poll::Ready(Some(notice)),
            Poll::Pending => changed.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Holds the locks of the keys that are waited for now, and no others.
    async fn lock(&mut self, board: &Weak<Board>) -> Result<(), Error> {
        let Some(board) = board.upgrade() else { return Err(Error::WorkerCrashed) };
        let keys: HashSet<_> = board.keys(MOST_LOCKS).into_iter().collect();
        let (over, new): (Vec<_>, Vec<_>) =
            (self.locked.difference(&keys).map(lock).collect(), keys.difference(&self.locked).copied().collect());
        if !over.is_empty() {
            query(UNLOCK).bind(over).execute(&mut self.connection).await?;
        }
        if !new.is_empty() {
            let locks: Vec<_> = new.iter().map(lock).collect();
            query(LOCK).bind(locks).execute(&mut self.connection).await?;
        }
        self.locked = keys;
        // Nobody was told of a run that ended before its key was locked.
        new.iter().for_each(|key| board.notice(key));
        Ok(())
    }
}

/// Anybody can notify of anything.
fn tell(board: &Weak<Board>, payload: &str) {
    if let (Some(board), Some(key)) = (board.upgrade(), key(payload)) {
        board.notice(&key);
    }
}

/// A key in hexadecimal digits.
fn key(payload: &str) -> Option<Key> {
    let mut key = [0; Key::LEN];
    let digits = payload.as_bytes();
    if digits.len() != 2 * Key::LEN {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Key::from_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_key() {
        let of = Key::new("", "order-1");
        assert_eq!(key(&of.to_string()), Some(of));
        let foreign = ["", "a", &"x".repeat(64), &"é".repeat(32), &format!("{of}0")];
        assert!(foreign.iter().all(|payload| key(payload).is_none()));
    }
}
