//! Tests the registry's HTTP side: the real program with `--http`, and the HTTP server alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use hit7_support::http::get;
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
    // The tests of crowds, which run at the same time, open many connections.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    HIT7.serve(&[&PAGE[..], &["--window", window]].concat())
}

/// Returns how many connections and requests were turned away over HTTP for this reason.
fn turned_away(registry: &Registry, why: &str) -> u64 {
    let metrics = get(registry.http(), "/metrics").body;
    let start = format!("hit7_http_turned_away_total{{reason=\"{why}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&start));
    count.unwrap_or_else(|| panic!("{why}: {metrics}")).parse().unwrap()
}
