//! A test that cannot run on this machine says so and why; where it is meant to run, as in
//! `.ci/run`, that fails it: `HIT7_NO_SKIP=1`.

use std::io::Write;

/// Says what is skipped, and why.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("HIT7_NO_SKIP").is_none(), "not to be skipped, but {why}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written past the harness, which keeps to itself what a passing test prints.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
