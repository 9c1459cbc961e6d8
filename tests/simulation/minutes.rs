//! Whole worlds: every seed draws its faults, and no rule is ever broken; and every defect that is
//! put in on purpose is caught.

use crate::model::Rule;
use crate::mutations::Mutation;
use crate::trials::{all, live, seeds, smaller, tell};
use crate::world::{Setup, secs};

/// What a run of some hundred seeds has to live through, or it proves nothing.
const LIVED_THROUGH: &[&str] = &[
    "lost",
    "doubled",
    "overtaken or overtaking",
    "delayed for seconds",
    "a copy came much later",
    "an old datagram was sent again",
    "a partition began",
    "cut off by a partition",
    "a NAT forgot a mapping",
    "a NAT changed a mapping",
    "a NAT kept a datagram out",
    "a clock drifts",
    "the clock was set back",
    "the clock was set forward",
    "a peer's clock was set",
    "a start was refused: the clock is far behind",
    "the registry was killed",
    "down for a window or more",
    "a crash between append and ack",
    "a crash between sync and commit",
    "a crash between commit and answer",
    "a crash amid the fan-out",
    "a crash before a document was durable",
    "unsynced records survived a crash",
    "a line was torn",
    "a discarded log came back",
    "a sync failed",
    "a write was short",
    "the disk was full",
    "a sync took long",
    "a sync took longer than a window",
    "a refusal was told late",
    "a failed write could not be taken away at once",
    "a crash before a failed write was taken away",
    "a batch of an earlier epoch came",
    "a socket was full",
    "a push found a full socket",
    "an answer found a full socket",
    "a helper died, and the program with it",
    "a crash before a batch was submitted",
    "a crash before a document was written",
    "a crash before a log was let go",
    "the log refused a batch",
    "a group was committed at once",
    "a document had to wait for the disk",
    "the log of a closed window was let go",
    "a window opened",
    "a window opened late",
    "a window was missed",
    "a peer missed its window",
    "a peer was refused for a while",
    "a peer died",
    "a peer left",
    "a stranger forged a request",
    "a stranger forged an answer",
    "old",
    "under_way",
    "displaced",
    "no_request",
    "unreadable",
    "an ACK came",
    "a retry over a boundary",
    "an address was taken over by another id",
    "an address was taken over without an id",
    "an id moved",
    "an older copy came after a move",
    "an older copy came after a LEAVE",
    "an equal seq came from another address",
    "a registration while an opening was stored",
    "a roster of more than one part",
    "a room larger than the list cap",
];

/// Of a million pairs that can meet, fewer than one does not ("everyone meets"), give or take chance.
fn too_many_unmet(unmet: usize, pairs: u64) -> bool {
    let expected = pairs as f64 / 1e6;
    unmet as f64 > expected + 3.0 * expected.sqrt()
}

#[test]
fn no_rule_is_ever_broken() {
    let seeds = seeds(400);
    if let [seed] = seeds[..] {
        let world = live(Setup { trace: true, ..Setup::of(seed) });
        println!("{:#?}", world.setup);
        world.traced.iter().for_each(|line| println!("{line}"));
    }
    let sum = all(&seeds, Setup::of);
    println!("| lived through | times |\n| --- | --- |");
    for (what, times) in &sum.seen.0 {
        println!("| {what} | {times} |");
    }
    println!("{} seeds, {} pairs, {} not met", sum.seeds, sum.pairs, sum.unmet.len());
    for (seed, broken) in sum.failed.iter().take(3) {
        tell("no_rule_is_ever_broken", Setup::of(*seed), broken);
    }
    assert!(sum.failed.is_empty(), "a rule is broken");
    if too_many_unmet(sum.unmet.len(), sum.pairs) {
        sum.unmet.iter().take(10).for_each(|(seed, what)| println!("seed {seed}: {what}"));
        let first = Setup { every_pair: true, ..Setup::of(sum.unmet[0].0) };
        if let Some(broken) = live(first.clone()).rules.broken {
            tell("no_rule_is_ever_broken", first, &broken);
        }
        panic!("too few meet: {} of {} pairs did not meet", sum.unmet.len(), sum.pairs);
    }
    let never: Vec<_> = LIVED_THROUGH.iter().filter(|what| sum.seen.of(what) == 0).collect();
    assert!(never.is_empty() || seeds.len() < 300, "never lived through: {never:?}");
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in [3, 4, 5] {
        let run = || {
            let world = live(Setup { trace: true, ..Setup::of(seed) });
            (world.traced, world.seen)
        };
        assert_eq!(run(), run());
    }
}

/// The rule that catches a mutation first, and after how many seeds.
fn caught(mutation: Mutation, seeds: u64) -> Option<(Rule, u64)> {
    let (mut pairs, mut unmet) = (0, 0);
    for seed in 0..seeds {
        let rules = live(Setup { mutation: Some(mutation), ..Setup::of(seed) }).rules;
        if let Some(broken) = rules.broken {
            return Some((broken.rule, seed + 1));
        }
        (pairs, unmet) =
            (pairs + rules.everyone_meets.pairs, unmet + rules.everyone_meets.unmet.len());
        if too_many_unmet(unmet, pairs) {
            return Some((Rule::EveryoneMeets, seed + 1));
        }
    }
    None
}

#[test]
fn every_mutation_is_caught_by_its_rule() {
    println!("| breaks rule | defect | caught by rule | after seeds |");
    println!("| --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for &(mutation, rules, what) in Mutation::ALL {
        match caught(mutation, 300) {
            Some((rule, seeds)) if rules.contains(&rule) => {
                let breaks: Vec<_> = rules.iter().map(Rule::to_string).collect();
                println!("| {} | {what} | {rule} | {seeds} |", breaks.join(", "));
            }
            other => missed.push((mutation, rules, other)),
        }
    }
    assert!(missed.is_empty(), "not caught by its rule: {missed:?}");
}

/// What is told of a failure needs no fault that it could do without, and ends where it is broken.
#[test]
fn a_failure_is_made_smaller() {
    const RULE: Rule = Rule::AckedMeansIn;
    let mutation = Some(Mutation::AckBeforeSync);
    let of = |seed| Setup { mutation, ..Setup::of(seed) };
    let is_it = |setup: &Setup| live(setup.clone()).rules.broken.is_some_and(|it| it.rule == RULE);
    let setup = (0..).map(of).find(is_it).unwrap();
    let small = Setup { trace: true, ..smaller(setup.clone(), RULE) };
    let world = live(small.clone());
    println!("{:?} of {:?}", small.faults.list(), setup.faults.list());
    assert_eq!(world.rules.broken.as_ref().map(|broken| broken.rule), Some(RULE));
    assert!(small.faults.list().len() < setup.faults.list().len() && small.peers <= setup.peers);
    for kind in small.faults.list() {
        let less = Setup { faults: small.faults.without(kind), ..small.clone() };
        assert!(!is_it(&less), "it needs no {kind:?}");
    }
    assert!(world.t <= world.rules.broken.unwrap().at + secs(1));
}

/// docs/TESTING.md has a line for each defect, and for all that a run has to live through.
#[test]
fn the_tables_are_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TESTING.md");
    let text = std::fs::read_to_string(path).unwrap();
    let defects = Mutation::ALL.iter().map(|(.., what)| what);
    for what in defects.chain(LIVED_THROUGH) {
        assert!(text.contains(&format!("| {what} |")), "docs/TESTING.md lacks: {what}");
    }
    for (rule, name) in Rule::ALL {
        let broken = Mutation::ALL.iter().any(|(_, rules, _)| rules.contains(&rule));
        assert!(broken, "no mutation breaks \"{name}\"");
        let listed = text.to_lowercase().contains(&format!(". **{name}.** "));
        assert!(listed, "docs/TESTING.md lacks: {name}");
    }
}
