//! Those who wait for a key, and the one who reads for them, in every order.

use std::time::Duration;

use ::loom::{future::block_on, model, thread};

use super::*;

fn key() -> Key {
    Key::from_bytes([0; Key::LEN])
}

fn waiter() -> (Waiter, oneshot::Receiver<Answer>) {
    let (answer, receiver) = oneshot::channel();
    (Waiter { deadline: Instant::now() + Duration::from_secs(60), answer }, receiver)
}

/// Joins, and says whether that takes a watcher of its own.
fn join(board: &Arc<Board>) -> (Option<Watch>, oneshot::Receiver<Answer>) {
    let (waiter, receiver) = waiter();
    (board.join(key(), waiter), receiver)
}

#[test]
fn who_joins_as_the_last_one_leaves_has_a_watcher() {
    model(|| {
        let board = Arc::<Board>::default();
        let (watch, receiver) = join(&board);
        drop(receiver);
        let watcher = thread::spawn(move || {
            let mut watch = watch.unwrap();
            let waiting = watch.take();
            let goes_on = watch.put_back(waiting).is_some();
            (goes_on, watch)
        });
        let (own, _receiver) = join(&board);
        let (goes_on, _watch) = watcher.join().unwrap();
        assert_ne!(own.is_some(), goes_on);
    });
}

#[test]
fn nobody_waits_for_a_watcher_that_is_gone() {
    model(|| {
        let board = Arc::<Board>::default();
        let (watch, _receiver) = join(&board);
        let watcher = thread::spawn(move || drop(watch));
        let (own, receiver) = join(&board);
        watcher.join().unwrap();
        if own.is_none() {
            assert!(block_on(receiver).is_err());
        }
        drop(own);
        assert!(lock(&board.keys).is_empty());
    });
}

/// The end of a run comes before its notice: whoever has looked before it is woken.
#[test]
fn a_notice_is_not_missed() {
    model(|| {
        let (board, ended) = (Arc::<Board>::default(), Arc::new(AtomicBool::new(false)));
        let (watch, _receiver) = join(&board);
        let holder = thread::spawn({
            let (board, ended) = (Arc::clone(&board), Arc::clone(&ended));
            move || {
                ended.store(true, Ordering::Release);
                board.notice(&key());
            }
        });
        let mut watch = watch.unwrap();
        loop {
            let waiting = watch.take();
            if ended.load(Ordering::Acquire) {
                break;
            }
            assert!(watch.put_back(waiting).is_some());
            block_on(watch.look.notified());
        }
        holder.join().unwrap();
    });
}

/// Notices do not arrive any more: whoever counts on them looks again, or sees that before.
#[test]
fn who_counts_on_notices_hears_that_they_have_ended() {
    model(|| {
        let board = Arc::<Board>::default();
        board.set_listening(true);
        let (watch, _receiver) = join(&board);
        let subscriber = thread::spawn({
            let board = Arc::clone(&board);
            move || board.set_listening(false)
        });
        let watch = watch.unwrap();
        while board.is_listening() {
            block_on(watch.look.notified());
        }
        subscriber.join().unwrap();
    });
}
