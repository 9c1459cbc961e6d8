//! The real program under real blows: killed and stopped at any moment, on a disk that is full,
//! under clocks that step, with a thousand members at once.
//!
//! `HIT7_KILLS=500 HIT7_LONG=1 cargo test --release --test processes` is the long run.
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
mod steps;
