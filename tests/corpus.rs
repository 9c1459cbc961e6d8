//! Runs the fuzz targets on their corpus and on some thousand inputs made from it at random.
//!
//! `HIT7_SEED=7 cargo test --test corpus` repeats the inputs of seed 7.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../fuzz/targets/decoder.rs"]
mod decoder;
#[path = "journal/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "../fuzz/targets/gate.rs"]
mod gate;
#[path = "../fuzz/targets/registry.rs"]
mod registry;
#[path = "../fuzz/targets/replay.rs"]
mod replay;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

/// The number of random inputs for each fuzz target.
const INPUTS: usize = 2000;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut corpus: Vec<_> =
        files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    corpus.sort();
    corpus
}

fn seed() -> u64 {
    match std::env::var("HIT7_SEED") {
        Ok(seed) => seed.parse().expect("HIT7_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    }
}

/// Runs a check, and prints the name of its input if the check panics.
fn run_named(what: &str, check: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
        println!("{what}");
        resume_unwind(panic);
    }
}

/// Makes an input of pieces of two others with some bytes changed, or of random bytes only.
fn made_up(rng: &mut ChaCha8Rng, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let piece = |rng: &mut ChaCha8Rng, head: bool| {
        let (_, bytes) = &corpus[rng.random_range(0..corpus.len())];
        let at = rng.random_range(0..=bytes.len());
        if head { bytes[..at].to_vec() } else { bytes[at..].to_vec() }
    };
    if rng.random_ratio(1, 4) {
        let mut noise = vec![0; rng.random_range(0..600)];
        rng.fill_bytes(&mut noise);
        return noise;
    }
    let mut input = [piece(rng, true), piece(rng, false)].concat();
    for _ in 0..rng.random_range(0..4) {
        if !input.is_empty() {
            let at = rng.random_range(0..input.len());
            input[at] = rng.random();
        }
    }
    input
}

fn check_all(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 5, "the corpus of {target} is where it is looked for");
    for (path, input) in &corpus {
        run_named(path, || check(input));
    }
    let seed = seed();
    println!("HIT7_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..INPUTS {
        let input = made_up(&mut rng, &corpus);
        run_named(&format!("input {number}: {input:?}"), || check(&input));
    }
}

#[test]
fn datagrams() {
    check_all("decoder", decoder::check);
}

#[test]
fn gates() {
    check_all("gate", gate::check);
}

#[test]
fn registries() {
    check_all("registry", registry::check);
}

#[test]
fn journals() {
    check_all("replay", replay::check);
}
