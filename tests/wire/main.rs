//! The wire, held to the byte: what docs/PROTOCOL.md shows, what the program writes, how long a
//! datagram gets, and that nothing that comes is too much for the decoder.

#![allow(clippy::unwrap_used)]

mod documented;
mod golden;
mod lenient;
mod longest;
mod random;
mod samples;
