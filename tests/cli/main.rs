//! The program as people run it: its arguments, its lines, its exit codes, its files.
//!
//! Every test has its own registries, on ports that the system picks, and its own folders.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr)]

mod arguments;
mod data;
mod history;
mod join;
mod logs;
mod netcat;
mod peers;
mod serve;
mod stranger;
mod support;
