//! How long requests take, of all contenders by turns, so that what else the machine does falls on all alike.

use std::time::{Duration, Instant};

use axum::{Router, extract::Request, http::StatusCode, response::Response};
use cpu_time::ThreadTime;
use http_body_util::BodyExt;
use tokio::{
    runtime::Builder,
    spawn,
    task::{JoinHandle, yield_now},
};
use tower::ServiceExt;

use crate::contender::{Contender, contenders, refusing, request};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Case {
    NoKey,
    First,
    Replay,
    Conflict,
}

impl Case {
    /// Which request it is that comes as the `number`th, where so many are made in a turn. What is replayed is what the
    /// turn that warms up has stored.
    fn request(self, number: u64, turn: u64) -> Request {
        match self {
            Self::NoKey => request(number, false),
            Self::First => request(number, true),
            Self::Replay => request(number % turn, true),
            Self::Conflict => request(0, true),
        }
    }
}

/// What each contender took. `None`: it does not have the case.
pub(crate) type Times = Vec<Option<Duration>>;

/// So many requests at a time, so that the turns are short beside what disturbs them.
const SLICE: u64 = 250;
const SLICES: u64 = 80;

const TASKS: u64 = 64;
const WORKERS: usize = 4;
const CROWDS: u64 = 10;

/// What each contender took of its thread's time for requests of `case`, one after the other: none of them does its
/// work elsewhere.
pub(crate) fn one_by_one(case: Case) -> Times {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (routers, running) = if case == Case::Conflict { busy().await } else { (checked().await, Vec::new()) };
        let mut times = vec![Duration::ZERO; routers.len()];
        for slice in 0..=SLICES {
            for (router, time) in routers.iter().zip(&mut times) {
                let Some(router) = router else { continue };
                let requests = batch(router, case, slice * SLICE, SLICE);
                let start = ThreadTime::now();
                play(requests).await;
                *time += if slice > 0 { start.elapsed() } else { Duration::ZERO };
            }
        }
        assert!(running.iter().all(|run| !run.is_finished()));
        times.into_iter().zip(&routers).map(|(time, router)| router.as_ref().map(|_| time)).collect()
    })
}

/// How many requests [`one_by_one`] makes.
pub(crate) const AMOUNT: u64 = SLICES * SLICE;

/// How long each contender took for `case` with many tasks at once.
pub(crate) fn all_at_once(case: Case) -> Times {
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let routers = checked().await;
        let mut times = vec![Duration::ZERO; routers.len()];
        for crowd in 0..=CROWDS {
            for (router, time) in routers.iter().flatten().zip(&mut times) {
                let batches: Vec<_> = (crowd * TASKS..(crowd + 1) * TASKS)
                    .map(|task| batch(router, case, task * SLICE, TASKS * SLICE))
                    .collect();
                let start = Instant::now();
                let tasks: Vec<_> = batches.into_iter().map(|batch| spawn(play(batch))).collect();
                for task in tasks {
                    task.await.expect("no request panics");
                }
                *time += if crowd > 0 { start.elapsed() } else { Duration::ZERO };
            }
        }
        times.into_iter().map(Some).collect()
    })
}

fn batch(router: &Router, case: Case, first: u64, turn: u64) -> Vec<(Router, Request)> {
    (first..first + SLICE).map(|number| (router.clone(), case.request(number, turn))).collect()
}

async fn play(requests: Vec<(Router, Request)>) {
    for (router, request) in requests {
        let response = send(router, request).await;
        assert!(!response.status().is_server_error());
        response.into_body().collect().await.expect("a whole body");
    }
}

async fn send(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// The contenders' routers. What is measured is what it says: a key runs once, and is replayed from then on.
async fn checked() -> Vec<Option<Router>> {
    let contenders = contenders();
    for Contender { name, router, marker } in &contenders {
        let mut replayed = Vec::new();
        for with_key in [false, false, true, true] {
            let response = send(router.clone(), request(u64::MAX, with_key)).await;
            replayed.push(marker.is_some_and(|marker| response.headers().contains_key(marker)));
            let body = response.into_body().collect().await.expect("a whole body").to_bytes();
            assert_eq!(body.len(), 200, "{name}");
        }
        assert_eq!(replayed, [false, false, false, marker.is_some()], "{name}");
    }
    contenders.into_iter().map(|contender| Some(contender.router)).collect()
}

/// The routers behind which a request is running, which is refused from then on, and the runs.
async fn busy() -> (Vec<Option<Router>>, Vec<JoinHandle<Response>>) {
    let routers = refusing();
    let mut running = Vec::new();
    // Without a layer nobody refuses.
    for router in routers.iter().skip(2).flatten() {
        running.push(spawn(send(router.clone(), Case::Conflict.request(0, 1))));
        yield_now().await;
        let refused = send(router.clone(), Case::Conflict.request(1, 1)).await;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
    }
    (routers.into(), running)
}
