//! Skips tests that cannot run on this machine, and prints why; where nothing may be skipped
//! (`HIT7_NO_SKIPS`, as in `.ci/run`), such a test fails.

use std::io::Write;
use std::net::UdpSocket;

/// Prints that the test is skipped and why, or fails if nothing may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("HIT7_NO_SKIPS").is_none(), "nothing may be skipped here: {why}");
    announce(why);
}

/// Returns whether this machine has IPv6; if not, says that the test is skipped.
pub fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        skip("this machine has no IPv6");
    }
    has
}

/// Returns whether this is the long run (`HIT7_LONG` is set).
pub fn is_long_run() -> bool {
    std::env::var_os("HIT7_LONG").is_some()
}

/// Returns whether there is time for a test that always takes long; if not, prints that the test is
/// skipped, which is no failure even where nothing may be skipped.
pub fn has_time() -> bool {
    if !is_long_run() {
        announce("it takes long; HIT7_LONG=1 runs it");
    }
    is_long_run()
}

/// Prints that the test, or a part of it, is skipped and why; no failure even where nothing may be
/// skipped.
pub fn announce(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not with eprintln!: the harness hides what a passing test prints with it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
