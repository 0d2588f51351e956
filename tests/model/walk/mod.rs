//! Random walks through the model, done step by step to the crate's own code, which has to do the same.
//!
//! `MODEL_WALKS=5000000` makes more of them, `MODEL_SEED=..` makes one and tells every step.

mod compare;
mod process;
mod wire;
mod world;

use std::{ops::Range, thread, time::Duration};

use rand::{SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use self::world::World;
use crate::{
    ANY, SHARED,
    action::{Action, Fate, ReplyFate},
    machine::{Node, State},
    request::Slot,
    scenario::{FOUR, NO_STALL, ONE_DIFFERS, Scenario, THREE, TWO},
    threads,
};

/// A tick of the model, on the clocks of the processes: a third of the lease, half of the backend time-out.
const TICK: Duration = Duration::from_secs(10);
/// Longer than any walk.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

const FAULTS: u8 = 6;
const STEPS: usize = 100;

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "two requests", requests: TWO, faults: FAULTS, ..ANY },
    Scenario { name: "three requests", requests: THREE, faults: FAULTS, ..ANY },
    Scenario { name: "four requests", requests: FOUR, faults: FAULTS, ..ANY },
    Scenario { name: "one request differs", requests: ONE_DIFFERS, faults: FAULTS, ..ANY },
    Scenario { name: "at most once", requests: THREE, faults: FAULTS, at_most_once: true, ..ANY },
    // No stalls: after one the timers of a follower and of the claim that it follows are due at once, in an order that the
    // model does not say.
    Scenario { name: "shared claims", requests: FOUR, faults: FAULTS, kinds: NO_STALL, ..SHARED },
    Scenario {
        name: "shared claims, one request differs",
        requests: ONE_DIFFERS,
        faults: FAULTS,
        kinds: NO_STALL,
        ..SHARED
    },
    Scenario {
        name: "shared claims, at most once",
        requests: FOUR,
        faults: FAULTS,
        kinds: NO_STALL,
        at_most_once: true,
        ..SHARED
    },
];

#[test]
fn the_code_walks_as_the_model_does() {
    if let Some(seed) = number("MODEL_SEED") {
        walk(seed, true);
        return;
    }
    let walks = number("MODEL_WALKS").unwrap_or(if cfg!(debug_assertions) { 10_000 } else { 100_000 });
    let first = rand::random_range(0..u64::MAX - walks);
    println!("{walks} walks with the seeds from {first}");
    let share = walks.div_ceil(threads() as u64);
    let steps: usize = thread::scope(|scope| {
        let part = |number: u64| first + number * share..first + walks.min((number + 1) * share);
        let workers: Vec<_> = (0..threads() as u64).map(|number| scope.spawn(move || walk_all(part(number)))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a walk has failed, see above")).sum()
    });
    println!("{steps} steps");
}

/// A run is not renewed again when the replies to its last renewal and to its release are there together. A million walks
/// may miss this.
#[test]
fn all_that_came_in_a_stall_is_read_before_any_of_it_has_consequences() {
    use Slot::{Main, Renewal};
    let scenario = Scenario { requests: THREE, faults: FAULTS, ..ANY };
    let (mut model, mut code) = (State::initial(&scenario), World::new(&scenario));
    for action in [
        Action::Arrive(0),
        Action::Arrive(1),
        Action::Command(0, Main, Fate::Arrives),
        Action::Reply(0, Main, ReplyFate::Arrives),
        Action::Command(1, Main, Fate::Lost),
        Action::Tick,
        Action::HandlerEnds { request: 0, failed: true },
        Action::Command(0, Renewal, Fate::Arrives),
        Action::Command(0, Main, Fate::Arrives),
        Action::Command(1, Main, Fate::Arrives),
        // The pause after an error is why the renewer means to look again a little after request 0 is due next: the
        // reply to its renewal wakes it.
        Action::Reply(0, Main, ReplyFate::BecomesError),
        Action::Reply(1, Main, ReplyFate::Arrives),
        Action::Command(1, Renewal, Fate::Arrives),
        Action::Command(0, Main, Fate::Arrives),
        Action::Stall(0),
        Action::Tick,
        Action::Resume { node: 0, late_replies: false },
    ] {
        assert!(model.actions(&scenario).contains(&action), "{action:?} cannot follow");
        assert_eq!(step(&mut model, &mut code, action), None, "after {action:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn walk_all(seeds: Range<u64>) -> usize {
    seeds.map(|seed| walk(seed, false)).sum()
}

/// Walks until nothing can happen any more, or for a number of steps, and returns how many there were.
fn walk(seed: u64, tell: bool) -> usize {
    let mut random = SmallRng::seed_from_u64(seed);
    let scenario = SCENARIOS.choose(&mut random).expect("there are scenarios");
    let (mut model, mut code) = (State::initial(scenario), World::new(scenario));
    let mut taken = Vec::new();
    while taken.len() < STEPS && !is_over(&model, scenario) {
        let action = next(&model, scenario, &mut random);
        if tell {
            println!("{action:?}");
        }
        taken.push(action);
        if let Some(difference) = step(&mut model, &mut code, action) {
            let steps: String = taken.iter().map(|action| format!("\n    {action:?}")).collect();
            panic!("MODEL_SEED={seed}, {}: after{steps}\n{difference}", scenario.name);
        }
    }
    taken.len()
}

/// Does `action` to both, and returns what differs then.
fn step(model: &mut State, code: &mut World<'_>, action: Action) -> Option<String> {
    code.perform(action, model);
    model.apply(action, code.scenario);
    code.differs(model)
}

fn is_over(model: &State, scenario: &Scenario) -> bool {
    use crate::request::Phase::Over;
    scenario.numbers().all(|number| model.requests[number].phase == Over && !model.requests[number].is_active())
}

/// Weighs what can happen so that walks get far: mostly no fault, long stalls, long runs.
fn next(model: &State, scenario: &Scenario, random: &mut SmallRng) -> Action {
    let disturbed = model.nodes.iter().any(|node| *node != Node::Up);
    let weight = |action: &Action| match action {
        Action::Stall(_) | Action::Cut(_) => 4,
        Action::Tick if disturbed => 80,
        Action::Command(_, _, Fate::Arrives) | Action::Reply(_, _, ReplyFate::Arrives) | Action::Tick => 40,
        Action::Arrive(_) => 20,
        Action::HandlerEnds { failed: false, .. } | Action::Late(_) | Action::Resume { .. } | Action::Heal(_) => 10,
        _ => 2,
    };
    let actions = model.actions(scenario);
    *actions.choose_weighted(random, weight).expect("a tick, at least, can follow")
}
