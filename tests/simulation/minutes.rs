//! Runs whole simulated worlds: with each seed's random faults no rule may be broken, and every
//! defect that is put in on purpose must be caught.

use crate::model::Rule;
use crate::mutations::Mutation;
use crate::trials::{all, live, on_all_cores, seeds, smaller, tell};
use crate::world::{Setup, secs};

/// The number of seeds in the run that docs/TESTING.md reports.
const DOCUMENTED_SEEDS: u64 = 100_000;

fn documentation() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TESTING.md");
    std::fs::read_to_string(path).unwrap()
}

/// Returns the events that this many seeds must cover: those in the table of docs/TESTING.md that
/// are too frequent to be missing by chance.
fn expected(seeds: usize) -> Vec<String> {
    let text = documentation();
    let (_, table) = text.split_once("| lived through | times |").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| row.split_once(" | "));
    let often = |times: &str| {
        times.parse().is_ok_and(|times: u64| times * seeds as u64 >= 20 * DOCUMENTED_SEEDS)
    };
    rows.filter(|(_, times)| often(times)).map(|(what, _)| what.to_owned()).collect()
}

/// Returns whether more than one in a million pairs that can meet has not ("everyone meets"), with
/// a margin for chance.
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
    let expected = expected(seeds.len());
    assert!(expected.len() > 40 || seeds.len() < 400, "the table is where it is looked for");
    let never: Vec<_> = expected.iter().filter(|what| sum.seen.of(what) == 0).collect();
    assert!(never.is_empty() || seeds.len() < 400, "never lived through: {never:?}");
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

/// Returns the seed at which the table of docs/TESTING.md says that a defect is caught.
fn documented_seed(text: &str, what: &str) -> Option<u64> {
    let row = text.lines().find(|line| line.contains(&format!("| {what} |")))?;
    let seeds = row.strip_suffix(" |")?.rsplit(' ').next()?.parse::<u64>().ok()?;
    seeds.checked_sub(1)
}

/// Returns the rule that first catches a mutation, and after how many seeds; `None` if none does.
fn caught(mutation: Mutation, seeds: impl Iterator<Item = u64>) -> Option<(Rule, u64)> {
    let (mut pairs, mut unmet) = (0, 0);
    for seed in seeds {
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

/// The seed that is known to catch a defect is tried first, unless `HIT7_SEEDS` asks for a long run.
#[test]
fn every_mutation_is_caught_by_its_rule() {
    let is_long = std::env::var_os("HIT7_SEEDS").is_some();
    let text = if is_long { String::new() } else { documentation() };
    let to_try = |what| documented_seed(&text, what).into_iter().chain(0..300);
    println!("| breaks rule | defect | caught by rule | after seeds |");
    println!("| --- | --- | --- | --- |");
    let mut missed = Vec::new();
    let found = on_all_cores(Mutation::ALL, |&(mutation, _, what)| caught(mutation, to_try(what)));
    for (&(mutation, rules, what), found) in Mutation::ALL.iter().zip(found) {
        match found {
            Some((rule, seeds)) if rules.contains(&rule) => {
                let breaks: Vec<_> = rules.iter().map(Rule::to_string).collect();
                println!("| {} | {what} | {rule} | {seeds} |", breaks.join(", "));
            }
            other => missed.push((mutation, rules, other)),
        }
    }
    assert!(missed.is_empty(), "not caught by its rule: {missed:?}");
}

/// The report of a failure has no fault that is not needed for it, and ends where the rule breaks.
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

/// docs/TESTING.md has a line for each defect, and each rule.
#[test]
fn the_defects_and_the_rules_are_in_the_documentation() {
    let text = documentation();
    for (.., what) in Mutation::ALL {
        assert!(text.contains(&format!("| {what} |")), "docs/TESTING.md lacks: {what}");
    }
    for (rule, name) in Rule::ALL {
        let broken = Mutation::ALL.iter().any(|(_, rules, _)| rules.contains(&rule));
        assert!(broken, "no mutation breaks \"{name}\"");
        let listed = text.to_lowercase().contains(&format!(". **{name}.** "));
        assert!(listed, "docs/TESTING.md lacks: {name}");
    }
}
