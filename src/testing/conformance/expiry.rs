//! Law 3: deadlines are moved by the commands that say so, by nothing else, and end what they are set for.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    claims::one_wins,
    law::{Verdict, expect, expect_on},
    model::{Seen, Step, Value, apply},
    trial::{LONG, Trial, fresh_key},
};
use crate::{Backend, Key};

/// The commands of one check: each with the time it sets, as long as they are answered before `short` is over.
type Script<'a> = &'a [(Step, Duration, Seen)];

/// Plays `script` on a fresh key, lets `short` pass and looks at what is left.
async fn ends_as<B: Backend>(trial: &Trial<B>, script: Script<'_>, left: Seen) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(2);
    let sent = Instant::now();
    let mut value = Value::Absent;
    for &(step, life, expected) in script {
        let seen = trial.play(key, &cast, step, life).await?;
        trial.in_time(sent)?;
        expect_on(value, step, seen, expected)?;
        value = apply(value, step).1;
    }
    trial.outlast_short().await;
    expect(trial.play(key, &cast, Step::Get, LONG).await?, left)?;
    if left == Seen::Nothing {
        expect(trial.play(key, &cast, Step::Claim(1), LONG).await?, Seen::Acquired)?;
    }
    trial.remove(key).await.map(drop) // some of it would stay for a year
}

pub(super) async fn a_renewal_moves_the_deadline_later<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), trial.short, Seen::Acquired), (Step::Renew(0), LONG, Seen::Held)];
    ends_as(trial, &script, Seen::InProgress(0)).await
}

pub(super) async fn a_renewal_moves_the_deadline_earlier<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), LONG, Seen::Acquired), (Step::Renew(0), trial.short, Seen::Held)];
    ends_as(trial, &script, Seen::Nothing).await
}

pub(super) async fn a_claim_by_its_own_token_does_not_prolong_the_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), trial.short, Seen::Acquired), (Step::Claim(0), LONG, Seen::Acquired)];
    ends_as(trial, &script, Seen::Nothing).await
}

pub(super) async fn a_claim_by_its_own_token_does_not_shorten_the_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), LONG, Seen::Acquired), (Step::Claim(0), trial.short, Seen::Acquired)];
    ends_as(trial, &script, Seen::InProgress(0)).await
}

pub(super) async fn the_claims_of_others_do_not_prolong_the_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [
        (Step::Claim(0), trial.short, Seen::Acquired),
        (Step::Claim(1), LONG, Seen::InProgress(0)),
        (Step::Renew(1), LONG, Seen::Lost),
        (Step::Complete(1, 0), LONG, Seen::Lost),
        (Step::Release(1), LONG, Seen::Released),
        (Step::Get, LONG, Seen::InProgress(0)),
    ];
    ends_as(trial, &script, Seen::Nothing).await
}

pub(super) async fn a_record_outlives_the_lease_of_its_claim<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), trial.short, Seen::Acquired), (Step::Complete(0, 0), LONG, Seen::Held)];
    ends_as(trial, &script, Seen::Completed(0, 0)).await
}

pub(super) async fn a_record_ends_at_its_expiry<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [(Step::Claim(0), LONG, Seen::Acquired), (Step::Complete(0, 0), trial.short, Seen::Held)];
    ends_as(trial, &script, Seen::Nothing).await
}

pub(super) async fn nothing_prolongs_the_life_of_a_record<B: Backend>(trial: &Trial<B>) -> Verdict {
    let script = [
        (Step::Claim(0), LONG, Seen::Acquired),
        (Step::Complete(0, 0), trial.short, Seen::Held),
        (Step::Complete(0, 0), LONG, Seen::Held),
        (Step::Complete(1, 0), LONG, Seen::Lost),
        (Step::Renew(0), LONG, Seen::Lost),
        (Step::Claim(0), LONG, Seen::Completed(0, 0)),
        (Step::Claim(1), LONG, Seen::Completed(0, 0)),
        (Step::Release(0), LONG, Seen::Released),
        (Step::Get, LONG, Seen::Completed(0, 0)),
    ];
    ends_as(trial, &script, Seen::Nothing).await
}

pub(super) async fn nothing_shortens_the_life_of_a_record<B: Backend>(trial: &Trial<B>) -> Verdict {
    let short = trial.short;
    let script = [
        (Step::Claim(0), LONG, Seen::Acquired),
        (Step::Complete(0, 0), LONG, Seen::Held),
        (Step::Complete(0, 0), short, Seen::Held),
        (Step::Renew(0), short, Seen::Lost),
        (Step::Claim(0), short, Seen::Completed(0, 0)),
        (Step::Claim(1), short, Seen::Completed(0, 0)),
    ];
    ends_as(trial, &script, Seen::Completed(0, 0)).await
}

/// A timer, or a clean-up, that was meant for a former value must not meet the one stored now.
pub(super) async fn the_end_of_a_former_value_spares_the_present_one<B: Backend>(trial: &Trial<B>) -> Verdict {
    let short = trial.short;
    let after_release = [
        (Step::Claim(0), short, Seen::Acquired),
        (Step::Release(0), short, Seen::Released),
        (Step::Claim(1), LONG, Seen::Acquired),
    ];
    ends_as(trial, &after_release, Seen::InProgress(1)).await?;
    let after_remove = [
        (Step::Claim(0), LONG, Seen::Acquired),
        (Step::Complete(0, 0), short, Seen::Held),
        (Step::Remove, short, Seen::Removed(true)),
        (Step::Claim(1), LONG, Seen::Acquired),
    ];
    ends_as(trial, &after_remove, Seen::InProgress(1)).await
}

pub(super) async fn a_year_is_not_too_long<B: Backend>(trial: &Trial<B>) -> Verdict {
    const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    let claimed = [
        (Step::Claim(0), YEAR, Seen::Acquired),
        (Step::Renew(0), YEAR, Seen::Held),
        (Step::Get, YEAR, Seen::InProgress(0)),
    ];
    ends_as(trial, &claimed, Seen::InProgress(0)).await?;
    let completed = [(Step::Claim(0), YEAR, Seen::Acquired), (Step::Complete(0, 0), YEAR, Seen::Held)];
    ends_as(trial, &completed, Seen::Completed(0, 0)).await
}

const KEYS: usize = 8;

pub(super) async fn an_expired_claim_can_be_claimed_once<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(1);
    let keys: [Key; KEYS] = std::array::from_fn(|_| fresh_key());
    for key in keys {
        expect(trial.play(key, &cast, Step::Claim(0), trial.short).await?, Seen::Acquired)?;
    }
    claimable_once_each(trial, keys).await
}

pub(super) async fn an_expired_record_can_be_claimed_once<B: Backend>(trial: &Trial<B>) -> Verdict {
    let cast = trial.cast(1);
    let keys: [Key; KEYS] = std::array::from_fn(|_| fresh_key());
    for key in keys {
        trial.expect_each(key, &cast, &[(Step::Claim(0), Seen::Acquired)], LONG).await?;
        trial.expect_each(key, &cast, &[(Step::Complete(0, 0), Seen::Held)], trial.short).await?;
    }
    claimable_once_each(trial, keys).await
}

/// Something stored for `short` lies under each of `keys`.
async fn claimable_once_each<B: Backend>(trial: &Trial<B>, keys: [Key; KEYS]) -> Verdict {
    trial.outlast_short().await;
    for key in keys {
        one_wins(trial, key, LONG).await?;
    }
    Ok(())
}

/// Waiting looks at a claim more often than anything else does.
pub(super) async fn waiting_does_not_prolong_the_lease<B: Backend>(trial: &Trial<B>) -> Verdict {
    let key = fresh_key();
    let cast = trial.cast(2);
    expect(trial.play(key, &cast, Step::Claim(0), trial.short).await?, Seen::Acquired)?;
    trial.wait(key, Duration::ZERO).await?;
    trial.wait(key, trial.short / 4).await?;
    trial.outlast_short().await;
    expect(trial.play(key, &cast, Step::Claim(1), LONG).await?, Seen::Acquired)
}
