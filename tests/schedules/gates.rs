//! Where commands and replies wait until the schedule lets one of them go on.

use std::sync::{Arc, Mutex, MutexGuard};

use rand::{RngExt, rngs::StdRng};
use tokio::sync::oneshot;

use crate::way::Way;

/// Where everything waits that the schedule orders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

impl Gates {
    fn lock(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// Waits for its turn.
    pub(crate) async fn pass(self) {
        let (opener, open) = oneshot::channel();
        self.lock().push(opener);
        // Gates live as long as their schedule.
        let _ = open.await;
    }

    /// Lets one of those go on that wait, if any does.
    pub(crate) fn open_one(&self, dice: &mut StdRng) -> bool {
        let mut gates = self.lock();
        gates.retain(|gate| !gate.is_closed());
        if gates.is_empty() {
            return false;
        }
        let chosen = dice.random_range(0..gates.len());
        gates.swap_remove(chosen).send(()).is_ok()
    }
}

/// A command passes on its way, and its reply.
impl Way for Gates {
    async fn there_and_back<T: Send>(&self, command: impl Future<Output = T> + Send) -> T {
        self.clone().pass().await;
        let answer = command.await;
        self.clone().pass().await;
        answer
    }
}
