//! Law 1 under random load: commands interleave in every way the runtime and the store allow.

use std::{
    env,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    law::{Broken, Verdict, expect},
    linearizable::{Operation, is_linearizable},
    model::{Party, Seen, Step},
    trial::{LONG, Trial, fresh_key},
};
use crate::{Backend, Key};

/// Replays the random choices of a run; what the scheduler does remains its own.
const SEED: &str = "CONFORMANCE_SEED";

fn seed() -> u64 {
    env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random)
}

/// Several tasks send random commands to one key; some order of them must explain all answers.
pub(super) async fn histories_of_random_commands_are_linearizable<B: Backend>(trial: &Trial<B>) -> Verdict {
    const HISTORIES: u64 = 150;
    let seed = seed();
    trial.note(format!("{TASKS} tasks at once send {STEPS} random commands each to one key, {HISTORIES} times"));
    trial.note(format!("(the choice of commands is repeated by {SEED}={seed})"));
    for round in 0..HISTORIES {
        let (key, mut history) = record_history(trial, seed.wrapping_add(round)).await?;
        history.sort_by_key(|operation| operation.sent);
        if !is_linearizable(&history) {
            return Err(Broken::new(
                format!("on {key:?}, in the order of sending:{}", lines(&history)),
                "answers that some order of these commands explains",
            ));
        }
    }
    Ok(())
}

const TASKS: usize = 5;
const STEPS: usize = 4;
const PARTIES: Party = 3;

async fn record_history<B: Backend>(trial: &Trial<B>, seed: u64) -> Verdict<(Key, Vec<Operation>)> {
    let key = fresh_key();
    let cast = trial.silent().cast(usize::from(PARTIES));
    let clock = Arc::new(AtomicU64::new(0));
    let histories = trial.together(TASKS, |trial, i| {
        let (cast, clock) = (cast.clone(), clock.clone());
        let mut rng = StdRng::seed_from_u64(seed ^ (i as u64) << 56);
        async move {
            let mut history = Vec::with_capacity(STEPS);
            for _ in 0..STEPS {
                let step = random_step(&mut rng);
                let sent = clock.fetch_add(1, Ordering::SeqCst);
                let seen = trial.play(key, &cast, step, LONG).await?;
                history.push(Operation { step, seen, sent, answered: clock.fetch_add(1, Ordering::SeqCst) });
                if rng.random() {
                    tokio::task::yield_now().await;
                }
            }
            Ok(history)
        }
    });
    Ok((key, histories.await?.concat()))
}

fn random_step(rng: &mut StdRng) -> Step {
    let me = rng.random_range(0..PARTIES);
    match rng.random_range(0..20) {
        0..7 => Step::Claim(me),
        7..9 => Step::Renew(me),
        // As for any caller: a token completes with one record, however often it is sent.
        9..12 => Step::Complete(me, me % 2),
        12..15 => Step::Release(me),
        15..18 => Step::Get,
        _ => Step::Remove,
    }
}

fn lines(history: &[Operation]) -> String {
    history.iter().fold(String::new(), |mut text, Operation { step, seen, sent, answered }| {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n    sent at {sent:3}, answered at {answered:3}: {step:?} -> {seen:?}");
        text
    })
}

/// Many tasks claim a few keys again and again; between Acquired and release a holder must be alone.
pub(super) async fn a_storm_has_one_holder_at_a_time<B: Backend>(trial: &Trial<B>) -> Verdict {
    const ROUNDS: usize = 25;
    const KEYS: usize = 4;
    let keys: [Key; KEYS] = std::array::from_fn(|_| fresh_key());
    let holders: Arc<[AtomicUsize; KEYS]> = Arc::default();
    let cast = trial.cast(32);
    trial.note(format!("32 tasks, {ROUNDS} times each: claim one of {KEYS} keys; if Acquired: renew, then release"));
    let storm = trial.together(32, |trial, i| {
        let (cast, holders) = (cast.clone(), holders.clone());
        async move {
            let me = Party::try_from(i).unwrap_or(Party::MAX);
            for round in 0..ROUNDS {
                let (key, holders) = (keys[(i + round) % KEYS], &holders[(i + round) % KEYS]);
                if trial.play(key, &cast, Step::Claim(me), LONG).await? == Seen::Acquired {
                    expect_alone(holders.fetch_add(1, Ordering::SeqCst))?;
                    tokio::task::yield_now().await;
                    expect(trial.play(key, &cast, Step::Renew(me), LONG).await?, Seen::Held)?;
                    expect_alone(holders.fetch_sub(1, Ordering::SeqCst) - 1)?;
                    trial.play(key, &cast, Step::Release(me), LONG).await?;
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    storm.await.map(drop)
}

fn expect_alone(others: usize) -> Verdict {
    if others == 0 {
        Ok(())
    } else {
        Err(Broken::new(format!("{} holders of one key at once", others + 1), "1 holder"))
    }
}
