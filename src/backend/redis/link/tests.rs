use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::sleep;

use super::*;

/// A link whose attempts take `length` and then fail, each with its number.
fn failing(length: Duration) -> (Arc<Link>, Arc<AtomicUsize>) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let locate: Locate = Arc::new(move || {
        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            sleep(length).await;
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, number.to_string()).into())
        })
    });
    (Link::new(locate), attempts)
}

/// The number of the attempt that a caller was told of.
async fn told(link: &Arc<Link>) -> String {
    match link.open().await {
        Ok(_) => panic!("the attempt cannot succeed"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn callers_share_one_attempt() {
    let (link, attempts) = failing(Duration::from_millis(100));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let link = Arc::clone(&link);
            tokio::spawn(async move { told(&link).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "1");
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_apart_and_nobody_is_told_of_an_older_one() {
    let (link, _) = failing(Duration::ZERO);
    let started = Instant::now();
    for number in 1..=10 {
        assert_eq!(told(&link).await, number.to_string());
    }
    assert!(started.elapsed() >= PAUSE * 9, "{:?}", started.elapsed());

    // One that comes later does not wait for nothing.
    sleep(PAUSE).await;
    let started = Instant::now();
    assert_eq!(told(&link).await, "11");
    assert!(started.elapsed() < PAUSE, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_outlives_the_caller_who_began_it() {
    let (link, attempts) = failing(Duration::from_secs(1));
    let impatient = timeout(Duration::from_millis(500), told(&link)).await;
    assert!(impatient.is_err());
    assert_eq!(told(&link).await, "1");
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up() {
    let (link, _) = failing(Duration::MAX);
    let started = Instant::now();
    let error = link.open().await.map(drop).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(started.elapsed().as_secs(), ATTEMPT.as_secs());
}

/// A runtime that ends takes its attempts with it.
#[test]
fn an_attempt_that_ends_with_its_runtime_is_followed_by_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (link, attempts) = failing(Duration::from_millis(50));
    let first = runtime();
    let begun = first.block_on(async { timeout(Duration::from_millis(10), told(&link)).await });
    assert!(begun.is_err());
    drop(first);
    assert_eq!(runtime().block_on(told(&link)), "2");
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

/// With a runtime for each thread, a handler that blocks one of them must not keep the others from their server.
#[test]
fn an_attempt_whose_runtime_stands_still_is_followed_by_another() {
    let runtime = |paused| tokio::runtime::Builder::new_current_thread().enable_time().start_paused(paused).build();
    let (link, attempts) = failing(Duration::from_millis(50));
    let first = runtime(false).unwrap();
    let begun = first.block_on(async { timeout(Duration::from_millis(10), told(&link)).await });
    assert!(begun.is_err());
    // Nobody drives it any more.
    let second = runtime(true).unwrap();
    second.block_on(async {
        assert!(timeout(ATTEMPT, told(&link)).await.is_err(), "it may end yet");
        sleep(OVERDUE).await;
        assert_eq!(timeout(ATTEMPT, told(&link)).await.expect("another attempt"), "2");
    });
    drop(first); // and with it the first attempt
    assert_eq!(second.block_on(told(&link)), "3");
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
}
