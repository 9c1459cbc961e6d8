//! The log on a disk that crashes at every step, fails at every step, and is damaged.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod crashes;
mod disk;
mod documents;
mod files;
mod ledger;
mod real;
mod thread;
