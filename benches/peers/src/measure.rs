//! How long requests take, of all contenders by turns, so that what else the machine does falls on all alike.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, response::Response};
use cpu_time::ThreadTime;
use http_body_util::BodyExt;
use tokio::runtime::Builder;
use tower::ServiceExt;

use crate::contender::{Contender, contenders, request};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Case {
    NoKey,
    First,
    Replay,
}

/// So many requests at a time, so that the turns are short beside what disturbs them.
const SLICE: u64 = 250;
const SLICES: u64 = 80;

const TASKS: u64 = 64;
const WORKERS: usize = 4;

/// What each contender took of its thread's time for a request of `case`, one after the other: none of them does its
/// work elsewhere.
pub(crate) fn one_by_one(case: Case) -> Vec<Duration> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let contenders = contenders();
        let mut times = vec![Duration::ZERO; contenders.len()];
        check(&contenders).await;
        // The first slice warms up: and stores what is replayed.
        for slice in 0..=SLICES {
            let numbers = match case {
                Case::NoKey | Case::First => slice * SLICE..(slice + 1) * SLICE,
                Case::Replay => 0..SLICE,
            };
            for (contender, time) in contenders.iter().zip(&mut times) {
                let requests = requests(&contender.router, numbers.clone(), !matches!(case, Case::NoKey));
                let start = ThreadTime::now();
                play(requests).await;
                *time += if slice > 0 { start.elapsed() } else { Duration::ZERO };
            }
        }
        times.into_iter().map(|time| time / u32::try_from(SLICES * SLICE).expect("few")).collect()
    })
}

/// How long each contender took for first requests of many tasks at once.
pub(crate) fn all_at_once() -> Vec<Duration> {
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let contenders = contenders();
        let mut times = vec![Duration::ZERO; contenders.len()];
        for slice in 0..=SLICES / 8 {
            for (contender, time) in contenders.iter().zip(&mut times) {
                let batches: Vec<_> = (slice * TASKS..(slice + 1) * TASKS)
                    .map(|task| requests(&contender.router, task * SLICE..(task + 1) * SLICE, true))
                    .collect();
                let start = Instant::now();
                let tasks: Vec<_> = batches.into_iter().map(|batch| tokio::spawn(play(batch))).collect();
                for task in tasks {
                    task.await.expect("no request panics");
                }
                *time += if slice > 0 { start.elapsed() } else { Duration::ZERO };
            }
        }
        times
    })
}

fn requests(router: &Router, numbers: Range<u64>, with_key: bool) -> Vec<(Router, Request)> {
    numbers.map(|number| (router.clone(), request(number, with_key))).collect()
}

async fn play(requests: Vec<(Router, Request)>) {
    for (router, request) in requests {
        let response = send(router, request).await;
        assert!(response.status().is_success());
        response.into_body().collect().await.expect("a whole body");
    }
}

async fn send(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// What is measured is what it says: a key runs once, and is replayed from then on.
async fn check(contenders: &[Contender]) {
    for Contender { name, router, marker } in contenders {
        let mut replayed = Vec::new();
        for with_key in [false, false, true, true] {
            let response = send(router.clone(), request(u64::MAX, with_key)).await;
            replayed.push(marker.is_some_and(|marker| response.headers().contains_key(marker)));
            let body = response.into_body().collect().await.expect("a whole body").to_bytes();
            assert_eq!(body.len(), 200, "{name}");
        }
        assert_eq!(replayed, [false, false, false, marker.is_some()], "{name}");
    }
}
