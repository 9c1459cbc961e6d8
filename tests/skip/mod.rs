//! A test that cannot run on this machine says so and why; where nothing may be skipped
//! (`HIT7_NO_SKIPS`, as in `.ci/run`), it fails.

use std::io::Write;

/// Says what is skipped, and why.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("HIT7_NO_SKIPS").is_none(), "nothing may be skipped here: {why}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Past the harness, which keeps to itself what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
