//! Simulates a registry and peers: minutes take no time, a seed determines everything, and the
//! rules are checked after every step.
//!
//! `HIT7_SEEDS=100000 cargo test --release --test simulation` is the long run;
//! `HIT7_SEED=123 cargo test --test simulation NAME -- --nocapture` prints the events of a seed.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod clients;
mod clock;
#[allow(unused_imports)]
#[path = "../conformance/mod.rs"]
mod conformance;
mod faults;
mod forgers;
mod host;
mod journal;
#[path = "../model/mod.rs"]
mod model;
mod mutations;
mod network;
mod rules;
mod trials;
mod troubles;
mod world;

mod minutes;
mod promises;
mod scenarios;
