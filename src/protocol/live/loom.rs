//! The order of live runs, under every interleaving of those that begin, end and renew them.

use ::loom::{future::block_on, model, thread};

use super::*;

const TERM: Duration = Duration::from_secs(30);

fn run(number: u8, sent: Instant) -> Arc<LiveRun> {
    let key = Key::from_bytes([number; Key::LEN]);
    Arc::new(LiveRun::new(key, Token::from_bytes([number; Token::LEN]), Fingerprint::of([number]), sent, TERM))
}

/// The layer's runs and a moment, for each of several threads.
fn shared() -> (Arc<LiveRuns>, Instant) {
    (Arc::default(), Instant::now())
}

#[test]
fn a_run_that_ends_while_it_is_renewed_is_not_put_back() {
    model(|| {
        let (runs, now) = shared();
        let run = run(0, now);
        assert!(runs.insert(&run, now));
        let renewer = thread::spawn({
            let runs = Arc::clone(&runs);
            move || {
                for run in runs.take_due(now) {
                    runs.insert(&run, now + TERM);
                }
            }
        });
        runs.remove(&run);
        renewer.join().unwrap();
        assert!(runs.lock().runs.is_empty());
    });
}

#[test]
fn one_of_two_runs_that_begin_starts_the_renewer() {
    model(|| {
        let (runs, now) = shared();
        let begin = |number| {
            let runs = Arc::clone(&runs);
            thread::spawn(move || runs.insert(&run(number, now), now + TERM))
        };
        let starts = [begin(0), begin(1)].map(|begin| begin.join().unwrap());
        assert_ne!(starts[0], starts[1]);
        assert_eq!(runs.lock().runs.len(), 2);
    });
}

/// What is due before the renewer means to look again is either seen by it before it lies down, or wakes it.
#[test]
fn a_run_that_is_due_earlier_wakes_the_renewer() {
    model(|| {
        let (runs, now) = shared();
        assert!(runs.insert(&run(0, now), now + TERM));
        let renewer = thread::spawn({
            let runs = Arc::clone(&runs);
            move || {
                while runs.lie_down(now + TERM) > now {
                    block_on(runs.earlier.notified());
                }
                runs.take_due(now).len()
            }
        });
        assert!(!runs.insert(&run(1, now), now));
        assert_eq!(renewer.join().unwrap(), 1);
    });
}

#[test]
fn a_layer_that_is_dropped_wakes_its_renewer() {
    model(|| {
        let (runs, now) = shared();
        let renewer = thread::spawn({
            let runs = Arc::clone(&runs);
            move || {
                runs.lie_down(now + TERM);
                block_on(runs.earlier.notified());
            }
        });
        runs.wake_renewer();
        renewer.join().unwrap();
    });
}

#[test]
fn a_lost_lease_is_news_once() {
    model(|| {
        let run = run(0, Instant::now());
        let lose = |run: &Arc<LiveRun>| {
            let run = Arc::clone(run);
            thread::spawn(move || run.lose())
        };
        let news = [lose(&run), lose(&run)].map(|lose| lose.join().unwrap());
        assert_ne!(news[0], news[1]);
        assert!(run.is_lost());
    });
}

#[test]
fn the_word_that_counts_is_one_that_was_said() {
    model(|| {
        let run = run(0, Instant::now());
        let say = |word| {
            let run = Arc::clone(&run);
            thread::spawn(move || run.say(word))
        };
        let (keep, release) = (say(Word::Keep), say(Word::Release));
        assert!(!matches!(run.word(), Some(Word::KeepWithoutBody)));
        keep.join().unwrap();
        release.join().unwrap();
        assert!(matches!(run.word(), Some(Word::Keep | Word::Release)));
    });
}

/// A renewal moves the deadline while another thread asks whether the run may go on: it is told one of the two.
#[test]
fn a_lease_that_is_renewed_is_not_taken_for_over() {
    model(|| {
        let now = Instant::now();
        let run = run(0, now);
        let renewal = thread::spawn({
            let run = Arc::clone(&run);
            move || run.extend(now + TERM / 3)
        });
        assert!(run.is_entitled(now + TERM / 2));
        renewal.join().unwrap();
        assert!(run.is_entitled(now + TERM));
    });
}
