//! A system that gives no more threads: a start ends with a line that names the thread and the limit,
//! and who has started needs no more of them.
//!
//! The program runs as a user of its own, whose limit (`ulimit -u`) holds for it alone; that takes root
//! and util-linux.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};

use hit7_support::{Home, Program, Registry, assert_has, http, skip, text, until};

use crate::HIT7;

/// Adds the number of a test to this: no other user of the machine has such an id.
const FIRST_USER: u32 = 61_000;

/// More threads than the program needs.
const MANY: u32 = 1000;

/// A user without processes, who may read the program and write to a folder for data.
struct User {
    id: u32,
    home: Home,
}

impl User {
    /// Makes the user with number `number`; `None` where that is not possible.
    fn new(number: u32) -> Option<User> {
        let (id, home) = (FIRST_USER + std::process::id() % 1000 * 4 + number, HIT7.home());
        if chown(home.path(), Some(id), None).is_err() {
            skip("a process of another user takes root");
            return None;
        }
        fs::copy(HIT7.0, home.path().join("hit7")).unwrap();
        fs::write(home.path().join("keys"), "a key of a private registry\n").unwrap();
        fs::set_permissions(home.path().join("keys"), PermissionsExt::from_mode(0o600)).unwrap();
        chown(home.path().join("keys"), Some(id), None).unwrap();
        Some(User { id, home })
    }

    /// Returns a command that runs another one as this user.
    fn run(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={}", self.id), "--clear-groups"]).args(args);
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// Returns a command that runs the program as this user, with at most `threads` threads.
    fn command(&self, threads: u32, args: &[&str]) -> Command {
        let limit = format!("--nproc={threads}:");
        self.run(&[&["prlimit", &limit, &self.path("hit7")], args].concat())
    }

    /// Limits the threads of this user's running registry; those that it has stay.
    fn limit(&self, registry: &Registry, threads: u32) {
        let (pid, limit) = (registry.program.pid().to_string(), format!("--nproc={threads}:"));
        let set = self.run(&["prlimit", "--pid", &pid, &limit]).status();
        assert!(set.unwrap().success());
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Returns the command of a registry with a page and a key, with all of the threads that there are.
    fn serve(&self, threads: u32) -> Command {
        let (data, keys) = (self.path("hit7-data"), self.path("keys"));
        let args = ["serve", "127.0.0.1", "0", "--http", "127.0.0.1:0", "--window", "2s"];
        let more = ["--data", &data, "--key-file", &keys, "--workers", "2", "--log-level", "info"];
        self.command(threads, &[&args[..], &more].concat())
    }
}

/// Starts a program with at most 1, 2, 3 … threads until it prints a line; each start before that must
/// end with one line about one thread. Returns the names of these threads.
fn refused_threads(start: impl Fn(u32) -> Command) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for threads in 1..20 {
        let mut program = Program::start(start(threads));
        until("a line or the end", || {
            (!program.lines().is_empty() || !program.is_running()).then_some(())
        });
        if program.is_running() {
            return names;
        }
        let mut exit = program.end();
        exit.err.retain(|line| line.starts_with("hit7: ") || !line.contains(" INFO "));
        exit.failed(1, &["cannot start the thread '", "(ulimit -u; in a container"]);
        assert_eq!(exit.out, [""; 0], "nothing was begun");
        names.insert(exit.err[0].split('\'').nth(1).unwrap().to_owned());
    }
    panic!("it never starts: {names:?}");
}

#[test]
fn a_start_without_a_thread_names_the_thread_and_the_limit() {
    let Some(user) = User::new(0) else { return };
    let refused = refused_threads(|threads| user.serve(threads));
    let all = [
        "archive",
        "chunks",
        "journal",
        "keys",
        "show",
        "signals",
        "status",
        "stderr",
        "summaries",
    ];
    assert_eq!(refused.iter().map(String::as_str).collect::<Vec<_>>(), all);
    let registry = HIT7.serve(&[]);
    let join = ["join", "localhost", &registry.port(), "--json"];
    let refused = refused_threads(|threads| user.command(threads, &join));
    assert_eq!(
        refused.iter().map(String::as_str).collect::<Vec<_>>(),
        ["lookup", "show", "signals", "stderr"]
    );
}

/// Has a registry read another key, open a window, write its document and show that over HTTP.
fn does_all(registry: &Registry, user: &User, key: &str) {
    let keys = user.path("keys");
    fs::write(&keys, key).unwrap();
    registry.program.signal("HUP");
    let access = ["--key-file", &keys, "--json"];
    until("the new key holds", || (registry.peers(&access).code == Some(0)).then_some(()));
    let mut member = registry.join(&[&access[..], &["--name", "ana"]].concat());
    let window = text(&member.event("registered")["window"]);
    let document = format!("/api/v1/windows/{window}");
    let document = until("its document", || {
        Some(http::get(registry.http(), &document)).filter(|answer| answer.status == 200)
    });
    assert_has(&document.body, &["ana"]);
}

#[test]
fn a_registry_goes_on_while_the_system_gives_no_threads_and_after() {
    let Some(user) = User::new(1) else { return };
    let registry = user.home.start(user.serve(MANY));
    for threads in [1, MANY] {
        user.limit(&registry, threads);
        does_all(&registry, &user, &format!("a key, as long as {threads} threads hold\n"));
    }
    registry.close();
}
