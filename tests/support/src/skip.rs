//! A test that cannot run on this machine says so and why; where nothing may be skipped
//! (`HIT7_NO_SKIPS`, as in `.ci/run`), it fails.

use std::io::Write;
use std::net::UdpSocket;

/// Says what is skipped and why, or fails if nothing may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("HIT7_NO_SKIPS").is_none(), "nothing may be skipped here: {why}");
    announce(why);
}

/// Whether this machine has IPv6; if not, what needs it is skipped.
pub fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        skip("this machine has no IPv6");
    }
    has
}

/// Whether tests may take longer than a test should (`HIT7_LONG`).
pub fn is_long_run() -> bool {
    std::env::var_os("HIT7_LONG").is_some()
}

/// Whether there is time for a test that always takes long; if not, that is said, and is no failure
/// where nothing may be skipped.
pub fn has_time() -> bool {
    if !is_long_run() {
        announce("it takes long; HIT7_LONG=1 runs it");
    }
    is_long_run()
}

fn announce(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not with eprintln!: of a test that passes the harness shows nothing that was printed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
