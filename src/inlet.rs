//! [`Inlet`]: the run's end of a response that is recorded while it is sent.
//!
//! Sending never waits: a client that does not read must not keep a run from being recorded. What waits for it is bounded by
//! the limit of what is recorded. That limit counts bytes, and a handler may make a frame of each, which takes a hundred
//! times as much; so where many pieces wait, the data that follows is joined.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::{
    error::BoxError,
    outlet::Rest,
    sync::{Mutex, MutexGuard},
};

/// How many pieces wait as they were sent.
const APART: usize = 64;

/// What a run hands to its client.
pub(crate) enum Piece<B> {
    Data(Bytes),
    Joined(BytesMut),
    Trailers(HeaderMap),
    /// Nothing more is recorded: the client drives the body from here on.
    Rest(Rest<B>),
    Failed(BoxError),
    End,
}

/// The run's end. When it is dropped before it has sent an end, the response is interrupted.
pub(crate) struct Inlet<B>(Arc<Mutex<State<B>>>);

/// The client's end of the queue.
pub(crate) struct Pieces<B>(Arc<Mutex<State<B>>>);

struct State<B> {
    /// Sent, and not read yet.
    pieces: VecDeque<Piece<B>>,
    /// Wakes the client.
    client: Option<Waker>,
    run_is_over: bool,
    client_has_left: bool,
}

/// Both ends of a queue.
pub(crate) fn queue<B>() -> (Inlet<B>, Pieces<B>) {
    let state = State { pieces: VecDeque::new(), client: None, run_is_over: false, client_has_left: false };
    let state = Arc::new(Mutex::new(state));
    (Inlet(Arc::clone(&state)), Pieces(state))
}

impl<B> Inlet<B> {
    /// Sends `piece`, unless the client has left.
    pub(crate) fn send(&self, piece: Piece<B>) {
        let mut state = lock(&self.0);
        if state.client_has_left {
            drop(state); // a piece may be a body, whose end runs the code of others
            return;
        }
        state.push(piece);
        let client = state.client.take();
        drop(state);
        client.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn client_has_left(&self) -> bool {
        lock(&self.0).client_has_left
    }
}

impl<B> Drop for Inlet<B> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.run_is_over = true;
        let client = state.client.take();
        drop(state);
        client.into_iter().for_each(Waker::wake);
    }
}

impl<B> Pieces<B> {
    /// The next piece. `None`: the run is over.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Piece<B>>> {
        let mut state = lock(&self.0);
        if let Some(piece) = state.pieces.pop_front() {
            return Poll::Ready(Some(piece));
        }
        if state.run_is_over {
            return Poll::Ready(None);
        }
        let before = state.client.replace(cx.waker().clone());
        drop(state); // before the waker that it had, whose end runs the code of others
        drop(before);
        Poll::Pending
    }
}

impl<B> Drop for Pieces<B> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.client_has_left = true;
        let left = (mem::take(&mut state.pieces), state.client.take());
        drop(state);
        drop(left);
    }
}

impl<B> State<B> {
    fn push(&mut self, piece: Piece<B>) {
        let many = self.pieces.len() >= APART;
        match (self.pieces.back_mut(), piece) {
            (Some(Piece::Joined(joined)), Piece::Data(data)) => joined.extend_from_slice(&data),
            (_, Piece::Data(data)) if many => self.pieces.push_back(Piece::Joined(BytesMut::from(data))),
            (_, piece) => self.pieces.push_back(piece),
        }
    }
}

// Nothing that can panic runs under the lock, so a poisoned queue is a whole one.
fn lock<B>(state: &Mutex<State<B>>) -> MutexGuard<'_, State<B>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, idempotency_loom))]
mod loom;

#[cfg(all(test, not(idempotency_loom)))]
mod tests {
    use super::*;

    fn read(pieces: &Pieces<()>) -> Vec<Bytes> {
        let mut read = Vec::new();
        while let Poll::Ready(Some(piece)) = pieces.poll_next(&mut Context::from_waker(Waker::noop())) {
            read.push(match piece {
                Piece::Data(data) => data,
                Piece::Joined(data) => data.freeze(),
                _ => panic!("nothing else was sent"),
            });
        }
        read
    }

    #[test]
    fn data_is_joined_only_where_much_waits() {
        let (run, client) = queue();
        let bytes: Vec<_> = (0..=255).map(|byte| Bytes::from(vec![byte])).collect();
        bytes.iter().for_each(|byte| run.send(Piece::Data(byte.clone())));
        let first = read(&client);
        assert_eq!(first[..APART], bytes[..APART]);
        assert_eq!(first[APART..], [bytes[APART..].concat()]);

        bytes[..APART].iter().for_each(|byte| run.send(Piece::Data(byte.clone())));
        assert_eq!(read(&client), bytes[..APART], "it has caught up");
    }

    #[test]
    fn what_nobody_will_read_is_not_kept() {
        let (run, client) = queue();
        let data = Bytes::from(vec![0; 100]);
        run.send(Piece::<()>::Data(data.clone()));
        assert!(!data.is_unique() && !run.client_has_left());
        drop(client);
        run.send(Piece::Data(data.clone()));
        assert!(data.is_unique() && run.client_has_left());
    }
}
