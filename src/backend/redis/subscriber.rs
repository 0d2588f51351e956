//! The one subscription of a process to the notices of keys that are no longer in progress.

use std::{future::poll_fn, pin::Pin, sync::Weak, time::Duration};

use futures_core::Stream;
use redis::{Msg, RedisResult, aio::PubSub};
use tokio::time::{sleep, timeout};

use super::{
    board::{Board, Source},
    socket::client,
};
use crate::Key;

/// Pause after a subscription has failed; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long one attempt to subscribe takes at most.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Passes notices on to `board`, over one subscription after another, until the board is gone.
pub(super) async fn subscribe(board: Weak<Board>, source: Source) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Ok(subscription)) = timeout(ATTEMPT, open(&source)).await {
            pause = FIRST_PAUSE;
            listen(&board, subscription).await;
        }
        sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn open(source: &Source) -> RedisResult<PubSub> {
    let mut subscription = client(&source.locate).await?.get_async_pubsub().await?;
    subscription.subscribe(&source.channel).await?;
    Ok(subscription)
}

/// Says that notices arrive, for as long as they do.
struct Listening<'a>(&'a Weak<Board>);

impl<'a> Listening<'a> {
    fn to(board: &'a Weak<Board>) -> Self {
        board.upgrade().inspect(|board| board.set_listening(true));
        Self(board)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.upgrade().inspect(|board| board.set_listening(false));
    }
}

async fn listen(board: &Weak<Board>, subscription: PubSub) {
    let _listening = Listening::to(board);
    let mut messages = subscription.into_on_message();
    while let Some(message) = next(&mut messages).await {
        if let (Some(board), Some(key)) = (board.upgrade(), key(&message)) {
            board.notice(&key);
        }
    }
}

async fn next(messages: &mut (impl Stream<Item = Msg> + Unpin)) -> Option<Msg> {
    poll_fn(|cx| Pin::new(&mut *messages).poll_next(cx)).await
}

/// Anybody can publish anything.
fn key(message: &Msg) -> Option<Key> {
    message.get_payload_bytes().try_into().ok().map(Key::from_bytes)
}
