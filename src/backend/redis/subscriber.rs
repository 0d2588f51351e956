//! The subscription of a process to the notices of keys that are no longer in progress.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
};

use futures_core::Stream;
use redis::{Msg, RedisResult, aio::PubSub};

use super::{link::Locate, socket::client};
use crate::{
    Key,
    backend::{
        board::Board,
        subscription::{Source, Subscription},
    },
};

/// Where notices are sent to and come from.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) locate: Locate,
    pub(super) name: Arc<str>,
}

impl Channel {
    async fn subscribe(&self) -> RedisResult<PubSub> {
        let mut subscription = client(&self.locate).await?.get_async_pubsub().await?;
        subscription.subscribe(&*self.name).await?;
        Ok(subscription)
    }
}

impl Source for Channel {
    type Subscription = PubSub;

    async fn open(&self) -> Option<PubSub> {
        self.subscribe().await.ok()
    }
}

impl Subscription for PubSub {
    async fn pass_on(self, board: &Weak<Board>) {
        let mut messages = self.into_on_message();
        while let Some(message) = next(&mut messages).await {
            if let (Some(board), Some(key)) = (board.upgrade(), key(&message)) {
                board.notice(&key);
            }
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
