//! Law 6: a command whose future is dropped half-way leaves nothing behind but what it may have stored.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio::time::{Instant, timeout};

use super::{
    cast::Cast,
    claims::one_wins,
    law::{Broken, Law, Verdict, expect},
    model::{Party, Seen, Step},
    trial::{LONG, Trial, fresh_key},
};
use crate::{Backend, Key};

/// No command is expected to be polled more often than this.
const MOST_POLLS: usize = 32;

/// Every command with what it meets, and what it answers when it is sent once more after having been dropped.
const COMMANDS: [(&str, Step, &[Step], &[Seen]); 6] = [
    ("claim", Step::Claim(0), &[], &[Seen::Acquired]),
    ("renew", Step::Renew(0), &[Step::Claim(0)], &[Seen::Held]),
    ("complete", Step::Complete(0, 0), &[Step::Claim(0)], &[Seen::Held]),
    ("release", Step::Release(0), &[Step::Claim(0)], &[Seen::Released]),
    ("get", Step::Get, &[Step::Claim(0)], &[Seen::InProgress(0)]),
    ("remove", Step::Remove, &[Step::Claim(0)], &[Seen::Removed(true), Seen::Removed(false)]),
];

pub(super) async fn a_dropped_command_can_be_sent_again<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(2);
    for (name, step, before, answers) in COMMANDS {
        for polls in 0..MOST_POLLS {
            let key = fresh_key();
            prepare(trial, key, &cast, before, LONG).await?;
            trial.note(format!("{name}({key:?}, A), dropped after {polls} polls"));
            let answered = polled(polls, trial.silent().play(key, &cast, step, LONG), trial).await?;
            let again = answers_or_wedged(trial.play(key, &cast, step, LONG).await)?;
            if !answers.contains(&again) {
                return Err(Broken::new(format!("{again:?}"), format!("one of {answers:?}")));
            }
            // A lock left behind may be one for many keys.
            expect(answers_or_wedged(trial.play(fresh_key(), &cast, Step::Claim(1), LONG).await)?, Seen::Acquired)?;
            if answered {
                break;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_dropped_command_blocks_its_key_no_longer_than_its_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(2);
    let mut keys = Vec::new();
    for (name, step, before, _) in COMMANDS {
        for polls in 0..MOST_POLLS {
            let key = fresh_key();
            let sent = Instant::now();
            prepare(trial, key, &cast, before, trial.short).await?;
            trial.note(format!("{name}({key:?}, A), dropped after {polls} polls"));
            let answered = polled(polls, trial.silent().play(key, &cast, step, trial.short), trial).await?;
            trial.in_time(sent)?;
            keys.push(key);
            if answered {
                break;
            }
        }
    }
    trial.outlast_short().await;
    for key in keys {
        expect(answers_or_wedged(trial.play(key, &cast, Step::Claim(1), LONG).await)?, Seen::Acquired)?;
    }
    Ok(())
}

pub(super) async fn claims_dropped_in_a_crowd_wedge_nothing<B: Backend>(trial: &Trial<B>) -> Verdict {
    const CROWD: u8 = 64;
    let key = fresh_key();
    let cast = trial.cast(usize::from(CROWD));
    trial.note(format!(
        "{CROWD} tasks at once: claim({key:?}, lease {:?}), every other one dropped midway",
        trial.short
    ));
    let sent = Instant::now();
    let claims = trial.together(usize::from(CROWD), |trial, i| {
        let cast = cast.clone();
        async move {
            let me = Party::try_from(i).unwrap_or(Party::MAX);
            let claim = trial.play(key, &cast, Step::Claim(me), trial.short);
            if i % 2 == 0 { Ok(Some(claim.await?)) } else { polled(i / 2 % 4, claim, &trial).await.map(|_| None) }
        }
    });
    let answers = claims.await?;
    let acquired = answers.iter().filter(|&&seen| seen == Some(Seen::Acquired)).count();
    trial.in_time(sent)?;
    if acquired > 1 {
        return Err(Broken::under(Law::Atomic, format!("{acquired} claims acquired"), "1 acquired at most"));
    }
    trial.outlast_short().await;
    one_wins(trial, key, LONG).await
}

async fn prepare<B: Backend>(
    trial: &Trial<B>,
    key: Key,
    cast: &Cast,
    steps: &[Step],
    life: std::time::Duration,
) -> Verdict {
    for &step in steps {
        expect(trial.play(key, cast, step, life).await?, Seen::Acquired)?;
    }
    Ok(())
}

/// Polls `command` so many times at most, whenever it is woken, and drops it. Tells whether it was answered.
async fn polled<B: Backend, T>(
    polls: usize,
    command: impl Future<Output = Verdict<T>>,
    trial: &Trial<B>,
) -> Verdict<bool> {
    let mut left = polls;
    let mut command = pin!(command);
    let polling = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match command.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    match timeout(trial.short / 2, polling).await {
        Ok(Some(answer)) => answer.map(|_| true),
        Ok(None) | Err(_) => Ok(false),
    }
}

/// A command that is not answered after another one was dropped is what this law is about, not a slow store.
fn answers_or_wedged(answer: Verdict<Seen>) -> Verdict<Seen> {
    match answer {
        Err(Broken::Unanswered(command)) => {
            Err(Broken::new(format!("{command} is not answered any more"), "an answer, as if nothing had been dropped"))
        }
        answer => answer,
    }
}
