//! Helpers shared by hit7's tests: they run the real program on ports that the system picks, talk
//! to it as clients, wait with one deadline, and skip tests aloud.
//!
//! This crate runs the program from outside and uses nothing of the library, so that the unit
//! tests in `src/` can use it too.
#![allow(clippy::disallowed_methods)]

mod home;
pub mod http;
mod json;
mod program;
mod skip;
mod udp;

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

pub use home::{Home, Registry, listening};
pub use json::{keys, text};
pub use program::{Exit, Hit7, Program};
pub use skip::{announce, has_ipv6, has_time, is_long_run, skip};
pub use udp::{UdpClient, free_port, receive, udp_socket};

/// The longest time that a test waits for anything before it fails, on a slow machine too.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The longest time that a program may take to stop: a second, and another on a busy machine.
pub const SOON: Duration = Duration::from_secs(2);

/// Calls `look` again and again until it returns something; `None` after the deadline.
pub fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            None if begun.elapsed() < DEADLINE => thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}

/// Calls `look` again and again until it returns something; after the deadline, panics with `what`
/// was waited for.
#[track_caller]
pub fn until<T>(what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    let Some(found) = poll(look) else { panic!("not within {DEADLINE:?}: {what}") };
    found
}

/// Fails unless the text contains each of the pieces.
#[track_caller]
pub fn assert_has(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece:?} is not in {text:?}");
    }
}
