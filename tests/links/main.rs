//! Tests the real program on slow and narrow links and with absent neighbours: one source or link
//! must not delay the others.
//!
//! Each test makes network namespaces of its own, joined by virtual cables, and removes them at its
//! end; nothing leaves them. That takes root, iproute2 and Linux: without, the tests are skipped
//! aloud (`HIT7_NO_SKIPS=1` makes that a failure). `cargo test --release --test links --
//! --nocapture` prints the figures.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod client;
mod lab;
mod moved;
mod narrow;
mod neighbours;
mod registry;
mod slow;
#[path = "../strangers/spoofer.rs"]
mod spoofer;
mod vanished;
