use tokio::time::{Instant, advance, timeout};

use super::*;
use crate::BackendErrorKind;

const LEASE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);

/// Claims are kept, the rest is answered as if nothing was there.
#[derive(Debug, Default)]
struct Claims(Mutex<Vec<Token>>);

impl Backend for Claims {
    async fn claim(&self, _: &Key, token: Token, _: &Fingerprint, _: Duration) -> Result<Claim, BackendError> {
        self.0.lock().unwrap().push(token);
        Ok(Claim::Acquired)
    }

    async fn renew(&self, _: &Key, _: Token, _: Duration) -> Result<Ownership, BackendError> {
        Ok(Ownership::Held)
    }

    async fn complete(&self, _: &Key, _: Token, _: &Record, _: Duration) -> Result<Ownership, BackendError> {
        Ok(Ownership::Held)
    }

    async fn release(&self, _: &Key, _: Token) -> Result<(), BackendError> {
        Ok(())
    }

    async fn get(&self, _: &Key) -> Result<Option<Entry>, BackendError> {
        Ok(None)
    }

    async fn remove(&self, _: &Key) -> Result<bool, BackendError> {
        Ok(false)
    }
}

type Faulty = FaultyBackend<Claims>;

fn faulty() -> Faulty {
    FaultyBackend::new(Claims::default())
}

fn key() -> Key {
    Key::new("", "key")
}

async fn claim(faulty: &Faulty) -> Result<Claim, BackendError> {
    faulty.claim(&key(), Token::from_bytes([1; 16]), &Fingerprint::of("request"), LEASE).await
}

fn spawn_claim(faulty: &Faulty) -> tokio::task::JoinHandle<Result<Claim, BackendError>> {
    let faulty = faulty.clone();
    tokio::spawn(async move { claim(&faulty).await })
}

fn counts(faulty: &Faulty) -> (usize, usize) {
    (faulty.sent(Command::Claim), faulty.executed(Command::Claim))
}

#[tokio::test(start_paused = true)]
async fn without_faults_every_command_passes() {
    let faulty = faulty();
    let (key, token, fingerprint) = (key(), Token::from_bytes([2; 16]), Fingerprint::of("request"));
    assert_eq!(faulty.claim(&key, token, &fingerprint, LEASE).await.unwrap(), Claim::Acquired);
    assert_eq!(faulty.renew(&key, token, LEASE).await.unwrap(), Ownership::Held);
    let record = Record::tombstone(&fingerprint);
    assert_eq!(faulty.complete(&key, token, &record, LEASE).await.unwrap(), Ownership::Held);
    faulty.release(&key, token).await.unwrap();
    assert_eq!(faulty.get(&key).await.unwrap(), None);
    assert!(!faulty.remove(&key).await.unwrap());
    assert_eq!(faulty.wait(&key, Instant::now() + LEASE).await.unwrap(), None);

    use Command::{Claim as C, Complete, Get, Release, Remove, Renew, Wait};
    let sent = |command| Sent { command, key, token: Some(token) };
    let plain = |command| Sent { command, key, token: None };
    let expected = [sent(C), sent(Renew), sent(Complete), sent(Release), plain(Get), plain(Remove), plain(Wait)];
    assert_eq!(faulty.log(), expected);
    for Sent { command, .. } in expected {
        assert_eq!((faulty.sent(command), faulty.executed(command)), (1, 1), "{command:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_never_executed_nor_answered() {
    let faulty = faulty();
    faulty.on(Command::Claim).next(Fault::LoseRequest);
    assert!(timeout(LEASE * 100, claim(&faulty)).await.is_err());
    assert_eq!(counts(&faulty), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_belongs_to_a_command_that_was_executed() {
    let faulty = faulty();
    faulty.on(Command::Claim).next(Fault::LoseReply);
    assert!(timeout(LEASE * 100, claim(&faulty)).await.is_err());
    assert_eq!(counts(&faulty), (1, 1));
    assert_eq!(faulty.inner().0.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_is_executed_after_its_caller_has_given_up() {
    let faulty = faulty();
    faulty.on(Command::Claim).next(Fault::DelayRequest(SOON * 2));
    assert!(timeout(SOON, claim(&faulty)).await.is_err());
    assert_eq!(counts(&faulty), (1, 0));
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(counts(&faulty), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_reply_belongs_to_a_command_that_was_executed() {
    let faulty = faulty();
    faulty.on(Command::Claim).next(Fault::DelayReply(SOON));
    let started = Instant::now();
    let caller = spawn_claim(&faulty);
    tokio::time::sleep(SOON / 2).await;
    assert_eq!(counts(&faulty), (1, 1));
    assert_eq!(caller.await.unwrap().unwrap(), Claim::Acquired);
    assert_eq!(started.elapsed(), SOON);
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_before_or_after_execution() {
    let faulty = faulty();
    faulty.on(Command::Claim).next(Fault::ErrorBefore(BackendErrorKind::Full));
    faulty.on(Command::Claim).next(Fault::ErrorAfter(BackendErrorKind::TimedOut));
    assert_eq!(claim(&faulty).await.unwrap_err().kind(), BackendErrorKind::Full);
    assert_eq!(counts(&faulty), (1, 0));
    assert_eq!(claim(&faulty).await.unwrap_err().kind(), BackendErrorKind::TimedOut);
    assert_eq!(counts(&faulty), (2, 1));
    assert_eq!(claim(&faulty).await.unwrap(), Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_standing_fault_follows_the_queue_and_can_be_cleared() {
    let faulty = faulty();
    faulty.on(Command::Claim).always(Fault::ErrorBefore(BackendErrorKind::Unavailable));
    faulty.on(Command::Claim).next(Fault::Pass);
    faulty.release(&key(), Token::random()).await.unwrap();
    claim(&faulty).await.unwrap();
    claim(&faulty).await.unwrap_err();
    claim(&faulty).await.unwrap_err();
    faulty.on(Command::Claim).clear();
    claim(&faulty).await.unwrap();
    faulty.on(Command::Claim).next(Fault::LoseRequest);
    faulty.clear();
    claim(&faulty).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_held_command_is_executed_when_the_test_says_so() {
    let faulty = faulty();
    let held = faulty.hold(Command::Claim);
    let caller = spawn_claim(&faulty);
    held.arrived().await;
    held.arrived().await;
    assert_eq!(counts(&faulty), (1, 0));
    // Only one is held.
    claim(&faulty).await.unwrap();
    assert_eq!(counts(&faulty), (2, 1));
    held.open();
    assert_eq!(caller.await.unwrap().unwrap(), Claim::Acquired);
    assert_eq!(counts(&faulty), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_held_command_survives_its_caller() {
    let faulty = faulty();
    let held = faulty.hold(Command::Claim);
    let caller = spawn_claim(&faulty);
    held.arrived().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    held.open();
    tokio::time::sleep(SOON).await;
    assert_eq!(counts(&faulty), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_held_reply_belongs_to_a_command_that_was_executed() {
    let faulty = faulty();
    let held = faulty.hold_reply(Command::Claim);
    let caller = spawn_claim(&faulty);
    held.arrived().await;
    assert_eq!(counts(&faulty), (1, 1));
    assert!(!caller.is_finished());
    held.open();
    assert_eq!(caller.await.unwrap().unwrap(), Claim::Acquired);
}

#[tokio::test(start_paused = true)]
async fn a_held_command_is_lost_with_what_holds_it() {
    let faulty = faulty();
    let held = faulty.hold(Command::Claim);
    let caller = spawn_claim(&faulty);
    held.arrived().await;
    drop(held);
    assert!(timeout(LEASE, caller).await.is_err());
    assert_eq!(counts(&faulty), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gate_opened_early_lets_its_command_pass() {
    let faulty = faulty();
    faulty.hold(Command::Claim).open();
    claim(&faulty).await.unwrap();
    assert_eq!(counts(&faulty), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_everything_until_it_is_over() {
    let faulty = faulty();
    faulty.stall();
    let caller = spawn_claim(&faulty);
    assert!(timeout(SOON, faulty.get(&key())).await.is_err());
    advance(LEASE).await;
    assert_eq!((counts(&faulty), faulty.sent(Command::Get), faulty.executed(Command::Get)), ((1, 0), 1, 0));
    faulty.resume();
    assert_eq!(caller.await.unwrap().unwrap(), Claim::Acquired);
    // Its caller gave up long ago.
    tokio::time::sleep(SOON).await;
    assert_eq!(faulty.executed(Command::Get), 1);
    claim(&faulty).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_draw_equal_faults() {
    let odds = Odds {
        lose_request: 0.2,
        lose_reply: 0.2,
        delay_request: 0.1,
        delay_reply: 0.1,
        error_before: 0.1,
        error_after: 0.1,
        longest_delay: SOON,
    };
    let run = async |seed| {
        let faulty = faulty();
        faulty.random(seed, odds);
        let mut story = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            let answer = timeout(SOON * 2, claim(&faulty)).await;
            story.push((answer.map(|claim| claim.map_err(|error| error.kind())), started.elapsed(), counts(&faulty)));
        }
        story
    };
    let story = run(7).await;
    assert_eq!(story, run(7).await);
    assert_ne!(story, run(8).await);
    let count = |matches: fn(&Result<Result<Claim, BackendErrorKind>, _>) -> bool| {
        story.iter().filter(|(answer, ..)| matches(answer)).count()
    };
    // 200 draws at 0.4, 0.1 and 0.1: five standard deviations to each side.
    assert!((45..=115).contains(&count(Result::is_err)), "{story:?}");
    assert!((1..=42).contains(&count(|answer| matches!(answer, Ok(Err(BackendErrorKind::Unavailable))))));
    assert!((1..=42).contains(&count(|answer| matches!(answer, Ok(Err(BackendErrorKind::TimedOut))))));
}
