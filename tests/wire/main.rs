//! Tests the datagrams to the byte: the examples in docs/PROTOCOL.md, what the program writes, the
//! longest datagrams, and that no input makes the decoder panic.

#![allow(clippy::unwrap_used)]

mod documented;
mod golden;
mod lenient;
mod longest;
mod random;
mod samples;
