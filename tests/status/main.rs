//! The registry over HTTP: the real program with `--http`, and the HTTP server alone.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod browser;
mod crowd;
mod http;
mod peeking;
mod prometheus;
mod registry;
mod routes;
#[path = "../skip/mod.rs"]
mod skip;
mod snapshots;
