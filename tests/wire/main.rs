//! The datagrams, to the byte: what docs/PROTOCOL.md shows, what the program writes, how long a
//! datagram gets, and that no input makes the decoder panic.

#![allow(clippy::unwrap_used)]

mod documented;
mod golden;
mod lenient;
mod longest;
mod random;
mod samples;
