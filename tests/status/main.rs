//! Tests the registry's HTTP side: the real program with `--http`, and the HTTP server alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use hit7_support::{Hit7, Registry};

mod browser;
mod crowd;
mod limits;
mod peeking;
mod prometheus;
mod routes;
mod snapshots;

const HIT7: Hit7 = Hit7(env!("CARGO_BIN_EXE_hit7"));

/// The arguments that serve the status page on a free port.
const PAGE: [&str; 2] = ["--http", "127.0.0.1:0"];

/// Starts a registry with a status page and windows of this length.
fn serve(window: &str) -> Registry {
    HIT7.serve(&[&PAGE[..], &["--window", window]].concat())
}
