//! A disk on which every sync hangs: the registry stops within a second all the same, and says what
//! was not finished.
//!
//! A library that is loaded before libc (`LD_PRELOAD`) makes syncs hang; building it needs `cc`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hit7_support::{Home, Program, Registry, skip, until};

use crate::HIT7;

/// Syncs hang as long as the file named by `HANG` is there, and make the one named by `HUNG`.
const LIBRARY: &str = "#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int fd) {
    (void)fd;
    while (access(getenv(\"HANG\"), F_OK) == 0) {
        close(open(getenv(\"HUNG\"), O_CREAT | O_WRONLY, 0600));
        usleep(10000);
    }
    return 0;
}
";

/// Builds the library in the folder `home`; `None` without a C compiler.
fn library(home: &Home) -> Option<PathBuf> {
    let path = home.path().join("hang.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-x", "c", "-", "-o"]).arg(&path).stdin(Stdio::piped());
    let Ok(mut cc) = cc.spawn() else {
        skip("there is no C compiler here (apt-get install gcc)");
        return None;
    };
    cc.stdin.take().unwrap().write_all(LIBRARY.as_bytes()).unwrap();
    assert!(cc.wait().unwrap().success());
    Some(path)
}

/// Starts a registry whose syncs hang once a client is registered, with another registration under
/// way; `None` where that cannot be done.
fn hung() -> Option<Registry> {
    let home = HIT7.home();
    let (library, hang) = (library(&home)?, home.path().join("hang"));
    let hung = home.path().join("hung");
    let mut serve = home.command(&["--window", "1day"]);
    serve.env("LD_PRELOAD", library).env("HANG", &hang).env("HUNG", &hung);
    let registry = home.start(serve);
    registry.client().register();
    fs::write(&hang, "").unwrap();
    registry.client().send(r#"{"type":"REGISTER"}"#);
    until("a sync hangs", || hung.exists().then_some(()));
    registry.serves();
    Some(registry)
}

#[test]
fn a_stop_does_not_wait_for_a_sync_that_hangs() {
    // A busy machine may be too slow for a stop in order, but not each time.
    let is_in_order = (0..5).any(|_| {
        let Some(registry) = hung() else { return true };
        let home = registry.home.clone();
        let exit = registry.stop("TERM");
        exit.failed(1, &["acked is on disk"]);
        home.serve(&["--window", "1day"]).close();
        exit.err[0].contains("stopped before its journal was written")
    });
    assert!(is_in_order);
}

#[test]
fn a_second_signal_ends_a_stop_at_once() {
    let Some(mut registry) = hung() else { return };
    registry.program.signal("TERM");
    // Those that come at once count as the same one.
    while registry.program.is_running() {
        registry.program.signal("INT");
    }
    registry.program.end().failed(1, &["a second signal ended it at once"]);
}

#[test]
fn a_start_that_hangs_ends_at_a_signal() {
    let home = HIT7.home();
    let Some(library) = library(&home) else { return };
    let (hang, hung) = (home.path().join("hang"), home.path().join("hung"));
    fs::write(&hang, "").unwrap();
    let mut serve = home.command(&[]);
    serve.env("LD_PRELOAD", library).env("HANG", &hang).env("HUNG", &hung);
    let registry = Program::start(serve);
    until("a sync hangs", || hung.exists().then_some(()));
    registry.stop("TERM").failed(1, &["the stop took too long: not all was finished"]);
}
