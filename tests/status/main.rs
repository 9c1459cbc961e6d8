//! What others see over HTTP: the real program with `--http`, and the server by itself.
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
mod shown;
#[path = "../skip/mod.rs"]
mod skip;
