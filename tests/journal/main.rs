//! Tests the journal on a disk that crashes at every step, fails at every step, or is damaged.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../conformance/mod.rs"]
mod conformance;
mod crashes;
mod disk;
mod documents;
mod failing;
mod files;
mod promises;
mod real;
mod subjects;
mod thread;
