//! What strangers can do to a registry and its members, on real sockets: `docs/SECURITY.md` names
//! the test of each of its claims.
//!
//! `HIT7_FLOOD=5000000 cargo test --release --test strangers flood -- --nocapture` is the long run; as
//! root, each of its datagrams is forged from an address and port of its own.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod amplification;
mod caps;
mod cookies;
mod disk;
mod flood;
mod forger;
mod keys;
mod log;
mod loops;
mod peers;
#[path = "../processes/registry.rs"]
mod registry;
#[path = "../skip/mod.rs"]
mod skip;
mod wire;
