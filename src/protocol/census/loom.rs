//! Runs that end while somebody drains them, in every order. A wake-up that is lost is a deadlock, which loom reports.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use ::loom::{future::block_on, model, thread};

use super::{Census, Counted};

#[test]
fn whoever_drains_is_woken_by_the_last_of_two_runs() {
    model(|| {
        let census = Arc::<Census>::default();
        let runs = [Counted::new(&census), Counted::new(&census)];
        let ends = runs.map(|run| thread::spawn(move || drop(run)));
        block_on(census.none_left());
        assert_eq!(census.live(), 0);
        ends.into_iter().for_each(|end| end.join().unwrap());
    });
}

#[test]
fn two_that_drain_are_both_woken() {
    model(|| {
        let census = Arc::<Census>::default();
        let run = Counted::new(&census);
        let end = thread::spawn(move || drop(run));
        let (mut first, mut second) = (pin!(census.none_left()), pin!(census.none_left()));
        let (mut first_over, mut second_over) = (false, false);
        block_on(poll_fn(|cx| {
            first_over = first_over || first.as_mut().poll(cx).is_ready();
            second_over = second_over || second.as_mut().poll(cx).is_ready();
            if first_over && second_over { Poll::Ready(()) } else { Poll::Pending }
        }));
        end.join().unwrap();
    });
}
