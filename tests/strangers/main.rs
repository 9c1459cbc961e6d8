//! Attacks by strangers on a registry and its members, on real sockets: `docs/SECURITY.md` names
//! the test of each of its claims.
//!
//! `HIT7_FLOOD=5000000 cargo test --release --test strangers flood -- --nocapture` is the long run; as
//! root, each of its datagrams has a spoofed address and port of its own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use hit7_support::Hit7;

mod amplification;
mod caps;
mod cookies;
mod disk;
mod flood;
mod keys;
mod log;
mod loops;
mod peers;
mod spoofer;
mod wire;

const HIT7: Hit7 = Hit7(env!("CARGO_BIN_EXE_hit7"));
