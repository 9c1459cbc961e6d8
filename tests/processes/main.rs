//! The real program under real blows: killed and stopped at any moment, on a disk that is full,
//! under clocks that step, with a thousand members at once.
//!
//! `HIT7_KILLS=500 HIT7_LONG=1 cargo test --release --test processes` is the long run. What needs
//! root, libfaketime or more time than a test should take is skipped aloud without; with
//! `HIT7_NO_SKIPS=1` it fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod crowd;
mod full;
mod kills;
mod registry;
#[path = "../skip/mod.rs"]
mod skip;
mod steps;
