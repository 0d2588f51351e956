//! The one subscription of a backend in a process to the notices of keys that are no longer in progress.

use std::{future::Future, sync::Weak, time::Duration};

use tokio::time::{sleep, timeout};

use super::board::Board;

/// Pause after a subscription has failed; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long one attempt to subscribe takes at most.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Where notices come from.
pub(super) trait Source: Send + Sync + 'static {
    type Subscription: Subscription;

    /// Subscribes, if that is possible now.
    fn open(&self) -> impl Future<Output = Option<Self::Subscription>> + Send;
}

/// A connection on which notices arrive.
pub(super) trait Subscription: Send {
    /// Tells `board` of every notice, until no more of them can come.
    fn pass_on(self, board: &Weak<Board>) -> impl Future<Output = ()> + Send;
}

/// Passes notices on to `board`, over one subscription after another, until the board is gone.
pub(super) async fn subscribe(board: Weak<Board>, source: impl Source) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Some(subscription)) = timeout(ATTEMPT, source.open()).await {
            pause = FIRST_PAUSE;
            let _listening = Listening::to(&board);
            subscription.pass_on(&board).await;
        }
        sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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
