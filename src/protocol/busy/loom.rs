//! Requests that meet in one process, in every order. Nobody waits for ever, and nothing is left behind.

use ::loom::{future::block_on, model, thread};

use super::*;
use crate::{Record, Token};

const PATIENCE: Duration = Duration::from_secs(3600);

fn key() -> Key {
    Key::from_bytes([0; Key::LEN])
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of("a request")
}

fn found() -> News {
    News::Found(Entry::Completed(Record::tombstone(&fingerprint())))
}

fn run() -> Arc<LiveRun> {
    let token = Token::from_bytes([0; Token::LEN]);
    Arc::new(LiveRun::new(key(), token, fingerprint(), Instant::now(), PATIENCE))
}

/// Lives for as long as all threads: a lead borrows it.
fn busy() -> &'static BusyKeys {
    Box::leak(Box::default())
}

fn lead(busy: &'static BusyKeys, patience: Duration) -> Lead<'static> {
    match busy.enter(key(), patience) {
        Turn::Lead(lead) => lead,
        Turn::Follow(_) => panic!("nobody else is there"),
    }
}

/// A request that is led to a record: `true` if it led.
fn request(busy: &'static BusyKeys, lead: impl Fn(Lead<'static>)) -> bool {
    loop {
        match busy.enter(key(), PATIENCE) {
            Turn::Lead(mine) => {
                lead(mine);
                return true;
            }
            Turn::Follow(news) => match block_on(News::of_claim(news)) {
                Some(News::Found(_)) => return false,
                None => {}
                Some(news) => panic!("{news:?}"),
            },
        }
    }
}

#[test]
fn a_shared_claim_is_answered_for_all_who_wait_for_it() {
    model(|| {
        let busy = busy();
        let others = [(); 2].map(|()| thread::spawn(move || request(busy, |lead| lead.tell(found()))));
        let led = others.map(|other| other.join().unwrap());
        assert!(led.contains(&true));
        assert_eq!(busy.lock().keys.len(), 0);
    });
}

#[test]
fn when_the_one_that_claims_is_dropped_another_does() {
    model(|| {
        let busy = busy();
        let dropped = lead(busy, PATIENCE);
        let other = thread::spawn(move || request(busy, |lead| lead.tell(found())));
        drop(dropped);
        assert!(other.join().unwrap());
        assert_eq!(busy.lock().keys.len(), 0);
    });
}

/// Whoever meets a run hears of it or of its record, or finds the key free; and who waits for its end is told of that.
#[test]
fn a_run_that_begins_and_ends_leaves_nobody_waiting() {
    model(|| {
        let (busy, run) = (busy(), run());
        let lead = lead(busy, PATIENCE);
        let other = thread::spawn(move || match busy.enter(key(), PATIENCE) {
            Turn::Lead(_) => {}
            Turn::Follow(news) => {
                let heard = block_on(News::of_claim(news));
                assert!(matches!(heard, None | Some(News::Held(_) | News::Found(_))));
                let end = busy.held(&key()).map(|(_, news)| block_on(News::of_end(news)));
                assert!(matches!(end, None | Some(None | Some(News::Found(_)))));
            }
        });
        lead.hold(&run);
        if let Some(news) = busy.part(&run) {
            news.send_replace(found());
        }
        other.join().unwrap();
        assert_eq!(busy.lock().keys.len(), 0);
    });
}

#[test]
fn a_claim_that_took_too_long_takes_nothing_from_its_successor() {
    model(|| {
        let (busy, run) = (busy(), run());
        let (late, successor) = (lead(busy, Duration::ZERO), lead(busy, PATIENCE));
        let late = thread::spawn(move || late.tell(found()));
        successor.hold(&run);
        late.join().unwrap();
        assert!(busy.held(&key()).is_some());
        drop(busy.part(&run));
        assert_eq!(busy.lock().keys.len(), 0);
    });
}

#[test]
fn a_run_that_is_parted_from_twice_is_parted_from_once() {
    model(|| {
        let (busy, run) = (busy(), run());
        let lead = lead(busy, PATIENCE);
        let Turn::Follow(_news) = busy.enter(key(), PATIENCE) else { panic!("it is led") };
        lead.hold(&run);
        let other = thread::spawn({
            let run = Arc::clone(&run);
            move || busy.part(&run).is_some()
        });
        let parted = busy.part(&run).is_some();
        assert_ne!(parted, other.join().unwrap());
    });
}
