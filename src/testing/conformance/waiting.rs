//! `wait`: it ends for every reason it has to end for, and changes nothing.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    cast::Cast,
    law::{Broken, Verdict, expect},
    model::{Seen, Step},
    trial::{LONG, Trial, fresh_key},
};
use crate::{Backend, Key};

/// Time for a waiter to begin. Nothing breaks when it is too short; the check is then an easier one.
const SETTLE: Duration = Duration::from_millis(30);

/// Time for a waiter to learn of the end. The polling default needs half a second at most.
const NOTICE: Duration = Duration::from_secs(10);

/// `waiters` wait for a claim that ends by `end`; all must return `left`.
async fn woken_by<B: Backend>(trial: &Trial<B>, waiters: usize, end: Step, left: Seen) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(1);
    expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
    trial.note(format!("{waiters} tasks: wait({key:?}, until {LONG:?} later); after {SETTLE:?}: {end:?}"));
    let tasks = trial.together(1 + waiters, |trial, i| {
        let cast = cast.clone();
        async move {
            if i > 0 {
                return wait(trial, key, cast).await;
            }
            sleep(SETTLE).await;
            trial.play(key, &cast, end, LONG).await
        }
    });
    expect(tasks.await?.split_off(1), vec![left; waiters])
}

/// Waits with a far deadline, which a waiter that is told of the end never reaches.
async fn wait<B: Backend>(trial: Trial<B>, key: Key, cast: Arc<Cast>) -> Verdict<Seen> {
    match timeout(NOTICE, trial.wait(key, LONG)).await {
        Ok(entry) => cast.of_entry(entry?.as_ref()),
        Err(_) => Err(Broken::new(
            format!("still waiting {NOTICE:?} after the key was no longer in progress"),
            "an answer soon after",
        )),
    }
}

pub(super) async fn a_waiter_gets_the_record<B: Backend>(trial: &Trial<B>) -> Verdict {
    woken_by(trial, 1, Step::Complete(0, 0), Seen::Completed(0, 0)).await
}

pub(super) async fn a_waiter_learns_of_a_release<B: Backend>(trial: &Trial<B>) -> Verdict {
    woken_by(trial, 1, Step::Release(0), Seen::Nothing).await
}

pub(super) async fn a_waiter_learns_of_a_removal<B: Backend>(trial: &Trial<B>) -> Verdict {
    woken_by(trial, 1, Step::Remove, Seen::Nothing).await
}

pub(super) async fn a_hundred_waiters_all_get_the_record<B: Backend>(trial: &Trial<B>) -> Verdict {
    woken_by(trial, 100, Step::Complete(0, 0), Seen::Completed(0, 0)).await
}

pub(super) async fn a_waiter_learns_of_the_end_of_a_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(1);
    expect(trial.play(key, &cast, Step::Claim(0), trial.short).await?, Seen::Acquired)?;
    trial.note(format!("wait({key:?}, until {LONG:?} later)"));
    expect(wait(trial.silent(), key, cast).await?, Seen::Nothing)
}

/// Nobody tells a waiter of a renewal, so one that keeps time on its own may miss it.
pub(super) async fn a_waiter_goes_on_after_a_renewal<B: Backend>(trial: &Trial<B>) -> Verdict {
    let (key, short) = (fresh_key(), trial.short);
    let cast = trial.cast(1);
    let sent = Instant::now();
    expect(trial.play(key, &cast, Step::Claim(0), short).await?, Seen::Acquired)?;
    trial.note(format!("wait({key:?}, until {:?} later); after {SETTLE:?}: renew({key:?}, A, {LONG:?})", short * 3));
    let tasks = trial.together(2, |trial, i| {
        let cast = cast.clone();
        async move {
            if i > 0 {
                return cast.of_entry(trial.wait(key, short * 3).await?.as_ref());
            }
            sleep(SETTLE).await;
            let seen = trial.play(key, &cast, Step::Renew(0), LONG).await?;
            trial.in_time(sent).map(|()| seen)
        }
    });
    expect(tasks.await?, vec![Seen::Held, Seen::InProgress(0)])
}

pub(super) async fn a_wait_ends_at_its_deadline<B: Backend>(trial: &Trial<B>) -> Verdict {
    // Stores count in milliseconds.
    const ROUNDING: Duration = Duration::from_millis(5);
    let key = fresh_key();
    let cast = trial.cast(1);
    expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
    let started = Instant::now();
    let left = trial.wait(key, trial.short).await?;
    expect(cast.of_entry(left.as_ref())?, Seen::InProgress(0))?;
    if started.elapsed() + ROUNDING < trial.short {
        return Err(Broken::new(format!("in progress, after {:?}", started.elapsed()), format!("{:?}", trial.short)));
    }
    let past = trial.wait(key, Duration::ZERO).await?;
    expect(cast.of_entry(past.as_ref())?, Seen::InProgress(0))
}

pub(super) async fn nothing_to_wait_for_is_answered_at_once<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(1);
    let key = fresh_key();
    expect(wait(trial.silent(), key, cast.clone()).await?, Seen::Nothing)?;
    let steps = [(Step::Claim(0), Seen::Acquired), (Step::Complete(0, 0), Seen::Held)];
    trial.expect_each(key, &cast, &steps, LONG).await?;
    expect(wait(trial.silent(), key, cast).await?, Seen::Completed(0, 0))
}

/// Waiters that give up take nobody's wake-up with them, and no claim.
pub(super) async fn waiters_that_give_up_change_nothing<B: Backend>(trial: &Trial<B>) -> Verdict {
    const WAITERS: usize = 20;
    let key = fresh_key();
    let cast = trial.cast(1);
    expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
    trial.note(format!("{WAITERS} tasks: wait({key:?}), every other one dropped after {SETTLE:?}; then complete(A)"));
    let tasks = trial.together(1 + WAITERS, |trial, i| {
        let cast = cast.clone();
        async move {
            if i == 0 {
                sleep(SETTLE * 3).await;
                return trial.play(key, &cast, Step::Complete(0, 0), LONG).await;
            }
            let waiting = wait(trial, key, cast);
            // What a dropped waiter would have been told does not matter.
            let dropped = Ok(Seen::Completed(0, 0));
            if i % 2 == 0 { waiting.await } else { timeout(SETTLE, waiting).await.unwrap_or(dropped) }
        }
    });
    let seen = tasks.await?;
    expect(seen[0], Seen::Held)?;
    expect(seen[1..].to_vec(), vec![Seen::Completed(0, 0); WAITERS])
}

/// A store has room for a few commands at a time, and waiters stay for long.
pub(super) async fn waiters_hold_nothing_that_others_need<B: Backend>(trial: &Trial<B>) -> Verdict {
    const WAITERS: usize = 100;
    let key = fresh_key();
    let cast = trial.cast(1);
    expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
    trial.note(format!("{WAITERS} tasks: wait({key:?}, until {LONG:?} later); after {SETTLE:?}, while they wait:"));
    let mut waiters = JoinSet::new();
    for _ in 0..WAITERS {
        let trial = trial.silent();
        waiters.spawn(async move { trial.wait(key, LONG).await.map(drop) });
    }
    sleep(SETTLE).await;
    let other = fresh_key();
    for (step, expected) in
        [(Step::Claim(0), Seen::Acquired), (Step::Renew(0), Seen::Held), (Step::Complete(0, 0), Seen::Held)]
    {
        match trial.play(other, &cast, step, LONG).await {
            Err(Broken::Unanswered(command)) => {
                return Err(Broken::new(format!("{command} is not answered"), "an answer, as if nobody waited"));
            }
            seen => expect(seen?, expected)?,
        }
    }
    Ok(())
}

/// A waiter that looks first and registers afterwards misses an end that falls between.
pub(super) async fn a_wait_that_races_the_end_is_woken<B: Backend>(trial: &Trial<B>) -> Verdict {
    const RACES: usize = 64;
    trial.note(format!("{RACES} times: claim(A), then at once wait and release(A) or complete(A)"));
    let cast = trial.cast(1);
    let races = trial.together(RACES, |trial, i| {
        let cast = cast.clone();
        async move {
            let key = fresh_key();
            expect(trial.play(key, &cast, Step::Claim(0), LONG).await?, Seen::Acquired)?;
            let (end, left) = if i % 2 == 0 {
                (Step::Release(0), Seen::Nothing)
            } else {
                (Step::Complete(0, 0), Seen::Completed(0, 0))
            };
            let waiting = tokio::spawn(wait(trial.silent(), key, cast.clone()));
            // The end falls at another point of the wait each time.
            for _ in 0..i / 2 % 8 {
                tokio::task::yield_now().await;
            }
            trial.play(key, &cast, end, LONG).await?;
            let seen = waiting.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            expect(seen?, left)
        }
    });
    races.await.map(drop)
}
