//! What hit7's tests share: the real program on ports that the system picks, clients that talk to
//! it, waiting with one deadline, and skipping aloud.
//!
//! It sees the program from outside and uses nothing of the library, so that the unit tests in
//! `src/` can use it too.
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
pub use skip::{has_ipv6, has_time, is_long_run, skip};
pub use udp::{UdpClient, receive, udp_socket};

/// Nothing that a test waits for takes longer, on whatever machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A stop takes less than a second; as much again for a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(2);

/// Looks again and again until there is something; `None` if there is nothing by the deadline.
pub fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            None if begun.elapsed() < DEADLINE => thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}

/// Looks again and again until there is something, which is `what` if there never is.
#[track_caller]
pub fn until<T>(what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    let Some(found) = poll(look) else { panic!("not within {DEADLINE:?}: {what}") };
    found
}

/// Fails unless the text has each of the pieces in it.
#[track_caller]
pub fn assert_has(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece:?} is not in {text:?}");
    }
}
