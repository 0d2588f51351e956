//! Laws 1 and 2 under competition: one winner, and a loser that can do no harm.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    cast::Cast,
    law::{Broken, Law, Verdict, expect},
    model::{Party, Seen, Step},
    trial::{LONG, PATIENCE, Trial, fresh_key},
};
use crate::{Backend, Key};

const CROWD: u8 = 64;
const ROUNDS: usize = 10;

pub(super) async fn one_of_many_concurrent_claims_is_acquired<B: Backend>(trial: &Trial<B>) -> Verdict {
    for _ in 0..ROUNDS {
        one_wins(trial, fresh_key(), LONG).await?;
    }
    Ok(())
}

/// `CROWD` concurrent claims of `key`, exactly one of which must be acquired, and its fingerprint shown to the others.
pub(super) async fn one_wins<B: Backend>(trial: &Trial<B>, key: Key, lease: Duration) -> Verdict {
    trial.note(format!("{CROWD} tasks at once: claim({key:?}, each its own token, lease {lease:?})"));
    let cast = trial.cast(usize::from(CROWD));
    let claims = trial.together(usize::from(CROWD), |trial, i| {
        let cast = cast.clone();
        async move {
            let me = Party::try_from(i).unwrap_or(Party::MAX);
            trial.play(key, &cast, Step::Claim(me), lease).await
        }
    });
    let answers = claims.await?;
    let acquired: Vec<_> = (0..CROWD).filter(|&i| answers[usize::from(i)] == Seen::Acquired).collect();
    let &[winner] = acquired.as_slice() else {
        return Err(Broken::new(format!("{} of {CROWD} claims acquired", acquired.len()), "exactly 1 acquired"));
    };
    match answers.into_iter().find(|&seen| seen != Seen::Acquired && seen != Seen::InProgress(winner)) {
        None => Ok(()),
        Some(seen @ Seen::InProgress(_)) => Err(Broken::under(
            Law::Exact,
            format!("a loser was shown {seen:?}"),
            format!("the winner's fingerprint: {:?}", Seen::InProgress(winner)),
        )),
        Some(seen) => Err(Broken::new(format!("{seen:?}"), format!("{:?}", Seen::InProgress(winner)))),
    }
}

pub(super) async fn concurrent_retries_of_one_claim_are_all_acquired<B: Backend>(trial: &Trial<B>) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(1);
    trial.note(format!("{CROWD} tasks at once: claim({key:?}, A, lease {LONG:?})"));
    let claims = trial.together(usize::from(CROWD), |trial, _| {
        let cast = cast.clone();
        async move { trial.play(key, &cast, Step::Claim(0), LONG).await }
    });
    expect(claims.await?, vec![Seen::Acquired; usize::from(CROWD)])
}

/// A holder stalls until its lease is over and another one has taken its place.
pub(super) async fn a_stalled_holder_cannot_touch_its_successor<B: Backend>(trial: &Trial<B>) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(2);
    expect(trial.play(key, &cast, Step::Claim(0), trial.short).await?, Seen::Acquired)?;
    trial.outlast_short().await;
    let steps = [
        (Step::Claim(1), Seen::Acquired),
        (Step::Renew(0), Seen::Lost),
        (Step::Complete(0, 0), Seen::Lost),
        (Step::Release(0), Seen::Released),
        (Step::Claim(0), Seen::InProgress(1)),
        (Step::Renew(1), Seen::Held),
        (Step::Complete(1, 1), Seen::Held),
        (Step::Complete(0, 0), Seen::Lost),
        (Step::Release(0), Seen::Released),
        (Step::Get, Seen::Completed(1, 1)),
    ];
    trial.expect_each(key, &cast, &steps, LONG).await
}

/// A store that keeps a part of a token, or keeps it as a text, takes one holder for another.
pub(super) async fn tokens_that_differ_in_one_bit_are_different<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = Cast::of_neighbours();
    let (key, others) = (fresh_key(), 1..Party::try_from(cast.members.len()).unwrap_or(Party::MAX));
    trial.note(format!(
        "claim({key:?}, A); for tokens that differ from A's by a bit in one byte: claim, renew, release"
    ));
    let trial = trial.silent();
    expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
    for other in others {
        expect(trial.play(key, &cast, Step::Claim(other), LONG).await?, Seen::InProgress(0))?;
        expect(trial.play(key, &cast, Step::Renew(other), LONG).await?, Seen::Lost)?;
        trial.play(key, &cast, Step::Release(other), LONG).await?;
    }
    expect(trial.play(key, &cast, Step::Complete(0, 0), LONG).await?, Seen::Held)
}

/// A holder of a removed claim is like one whose lease is over.
pub(super) async fn a_removed_claim_is_lost_to_its_holder<B: Backend>(trial: &Trial<B>) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(2);
    let steps = [
        (Step::Claim(0), Seen::Acquired),
        (Step::Remove, Seen::Removed(true)),
        (Step::Remove, Seen::Removed(false)),
        (Step::Renew(0), Seen::Lost),
        (Step::Claim(1), Seen::Acquired),
        (Step::Complete(0, 0), Seen::Lost),
        (Step::Complete(1, 1), Seen::Held),
        (Step::Remove, Seen::Removed(true)),
        (Step::Get, Seen::Nothing),
        (Step::Claim(0), Seen::Acquired),
    ];
    trial.expect_each(key, &cast, &steps, LONG).await
}

/// Owner commands keep the lease while a crowd claims: the consequence of queueing behind them is a lost lease.
pub(super) async fn a_holder_renews_while_a_thousand_claims_are_in_flight<B: Backend>(trial: &Trial<B>) -> Verdict {
    const CLAIMS_EACH: usize = 5;
    let lease = trial.short * 3;
    let key = fresh_key();
    let cast = trial.cast(2);
    let started = Instant::now();
    expect(trial.play(key, &cast, Step::Claim(0), lease).await?, Seen::Acquired)?;
    let in_flight = crowd_for(started.elapsed());
    trial.note(format!(
        "{in_flight} tasks: {CLAIMS_EACH} claims each, half of {key:?}, half of other keys; meanwhile A renews its claim \
         for {lease:?} as fast as it is answered"
    ));
    let mut crowd = tokio::task::JoinSet::new();
    for i in 0..in_flight {
        let (trial, cast) = (trial.silent(), cast.clone());
        crowd.spawn(async move {
            for round in 0..CLAIMS_EACH {
                let key = if (i + round) % 2 == 0 { key } else { fresh_key() };
                trial.play(key, &cast, Step::Claim(1), LONG).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    }
    let holder = trial.silent();
    let mut renewals = 0;
    while !crowd.is_empty() {
        let seen = holder.play(key, &cast, Step::Renew(0), lease).await?;
        renewals += 1;
        if seen != Seen::Held {
            trial.note(format!("renewal {renewals}, answered {:?} after the claim, -> {seen:?}", started.elapsed()));
        }
        expect(seen, Seen::Held)?;
        while let Some(joined) = crowd.try_join_next() {
            joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        }
        tokio::task::yield_now().await;
    }
    trial.note(format!("A renewed {renewals} times"));
    expect(trial.play(key, &cast, Step::Complete(0, 0), LONG).await?, Seen::Held)
}

/// A thousand claims, or fewer where a store that takes one command after the other could not answer them all in time.
fn crowd_for(one_claim: Duration) -> usize {
    let in_time = (PATIENCE / 4).as_micros() / one_claim.as_micros().max(1);
    usize::try_from(in_time).unwrap_or(usize::MAX).clamp(100, 1_000)
}
