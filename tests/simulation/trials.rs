//! Runs simulated worlds: many seeds on all cores, and a failed one again, reduced and reported in
//! full.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::faults::Counts;
use crate::model::Rule;
use crate::rules::Violation;
use crate::world::{Setup, World};

/// The number of last events that are printed of a failed run.
const PRINTED_EVENTS: usize = 60;

/// The combined results of many worlds.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) seeds: u64,
    pub(crate) seen: Counts,
    pub(crate) pairs: u64,
    pub(crate) unmet: Vec<(u64, String)>,
    pub(crate) failed: Vec<(u64, Violation)>,
}

/// Returns the seeds to run: `default` many, `HIT7_SEEDS` many, or the one of `HIT7_SEED`.
pub(crate) fn seeds(default: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse().unwrap());
    match number("HIT7_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HIT7_SEEDS").unwrap_or(default)).collect(),
    }
}

/// Runs one world to its end; a panic counts as a broken rule of its own.
pub(crate) fn live(setup: Setup) -> World {
    let mut world = World::new(setup);
    let lived = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = lived {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let what = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned();
        world.rules.broken = Some(Violation { rule: Rule::Panic, what, at: world.t });
    }
    world
}

/// Runs a world for each seed, on all cores; stops early once some have failed.
pub(crate) fn all(seeds: &[u64], make: impl Fn(u64) -> Setup + Sync) -> Sum {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let work = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Relaxed) as usize) {
            let world = live(make(seed));
            let mut sum = sum.lock().unwrap();
            sum.seeds += 1;
            sum.seen.add(&world.seen);
            sum.seen.add(&world.rules.seen);
            let meetings = world.rules.everyone_meets;
            sum.pairs += meetings.pairs;
            sum.unmet.extend(meetings.unmet.into_iter().map(|what| (seed, what)));
            sum.failed.extend(world.rules.broken.map(|broken| (seed, broken)));
            if sum.failed.len() >= 3 {
                return;
            }
        }
    };
    thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    let mut sum = sum.into_inner().unwrap();
    sum.failed.sort_by_key(|(seed, _)| *seed);
    sum.unmet.sort();
    sum
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Returns what `work` returns for each item, done on all cores.
pub(crate) fn on_all_cores<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let index = next.fetch_add(1, Relaxed)
            && let Some(item) = items.get(index)
        {
            let result = work(item);
            done.lock().unwrap().push((index, result));
        }
    };
    thread::scope(|scope| (0..cores()).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Reduces a failed world to the peers and kinds of fault without which the same rule would not
/// break.
pub(crate) fn smaller(setup: Setup, rule: Rule) -> Setup {
    let breaks =
        |setup: &Setup| live(setup.clone()).rules.broken.is_some_and(|broken| broken.rule == rule);
    let fewer_peers = Setup { peers: setup.peers.saturating_sub(1).max(1), ..setup.clone() };
    let without = |kind| Setup { faults: setup.faults.without(kind), ..setup.clone() };
    let mut less = setup.faults.list().into_iter().map(without).collect::<Vec<_>>();
    if fewer_peers.peers < setup.peers {
        less.push(fewer_peers);
    }
    match less.into_iter().find(breaks) {
        Some(less) => smaller(less, rule),
        None => setup,
    }
}

/// Prints a failed seed: the faults that it needs, and the events before the failure.
pub(crate) fn tell(test: &str, setup: Setup, broken: &Violation) {
    let Violation { rule, what, at } = broken;
    println!("seed {}: \"{rule}\" is broken at {at:?}: {what}", setup.seed);
    let setup = Setup { trace: true, ..smaller(setup, *rule) };
    let world = live(setup.clone());
    println!("with {} peers and no faults but {:?}:", setup.peers, setup.faults.list());
    let skipped = world.traced.len().saturating_sub(PRINTED_EVENTS);
    world.traced[skipped..].iter().for_each(|line| println!("{line}"));
    println!("  {:?}", world.rules.broken);
    println!("HIT7_SEED={} cargo test --test simulation {test} -- --nocapture", setup.seed);
}
