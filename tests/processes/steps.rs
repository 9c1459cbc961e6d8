//! Clocks that step and stand still under a running registry and running peers, and a registry
//! that is down for a whole window.
//!
//! The steps need libfaketime (Debian: libfaketime).

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hit7::archive::Document;
use hit7::clock::Clock;
use hit7::proto::{Auth, Datagram, Id, Name, Profile, Request};
use hit7::window::Window;

use crate::registry::{Registry, documents, lines_of};
use crate::skip::skip;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A wall clock that can be set, for the processes that are given its environment.
struct Faketime {
    home: tempfile::TempDir,
    library: PathBuf,
}

impl Faketime {
    /// `None` where there is no libfaketime.
    fn find() -> Option<Faketime> {
        let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"];
        let inner =
            folders.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let inner = inner.map(|entry| entry.path()).chain(folders.map(PathBuf::from));
        let library = inner
            .map(|dir| dir.join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())?;
        let faketime = Faketime { home: tempfile::tempdir().unwrap(), library };
        faketime.set(0);
        Some(faketime)
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("offset")
    }

    /// Sets the clock to so many seconds from the true time.
    fn set(&self, offset: i32) {
        let next = self.home.path().join("next");
        fs::write(&next, format!("{offset:+}")).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn env(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// `hit7 join`, and the events that it prints; dropped, it is killed.
struct Peer {
    child: Child,
    events: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn join(registry: SocketAddr, name: &str, env: &[(&str, PathBuf)]) -> Peer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hit7"))
            .args(["join", "127.0.0.1", &registry.port().to_string(), "--json", "--name", name])
            .envs(env.iter().map(|(key, value)| (*key, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let events = lines_of(child.stdout.take().unwrap());
        Peer { child, events }
    }

    fn count(&self, event: &str) -> usize {
        let start = format!("{{\"event\":\"{event}\"");
        self.events.lock().unwrap().iter().filter(|line| line.starts_with(&start)).count()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for one more such event than `before`.
    fn wait_for(&self, event: &str, before: usize) {
        let clock = Clock::start();
        while self.count(event) <= before {
            let lines = || {
                self.events
                    .lock()
                    .unwrap()
                    .iter()
                    .rev()
                    .take(9)
                    .rev()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert!(clock.now().mono < PATIENCE, "no {event}, but:\n{}", lines());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until both are in the next window too: they renew in the first half of the current one.
fn wait_for_renewal(peers: &[Peer; 2]) {
    let windows = peers.each_ref().map(|peer| peer.count("window"));
    peers.iter().zip(windows).for_each(|(peer, before)| peer.wait_for("window", before));
    let members = peers.each_ref().map(|peer| peer.count("registered"));
    peers.iter().zip(members).for_each(|(peer, before)| peer.wait_for("registered", before));
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let clock = Clock::start();
    while !done() {
        assert!(clock.now().mono < PATIENCE, "no {what} for {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Registers once, as somebody else each time; the window it was told, and the current one.
fn register(registry: SocketAddr, name: &str) -> (Window, Window) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let id: Id = format!("id-{name}").parse().unwrap();
    let called: Name = name.parse().unwrap();
    let (id, seq) = (Some(id), Some(1));
    let profile = Profile { name: Some(called), ..Profile::default() };
    let register = Request::register(id, seq, profile).encode(&Auth::NONE);
    let mut buffer = [0; 2048];
    for _ in 0..50 {
        socket.send_to(&register, registry).unwrap();
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        if let Ok(Datagram::Registered(told)) = Datagram::decode(&buffer[..len]) {
            return (told.window, told.current.window);
        }
    }
    panic!("no answer to {name}")
}

fn has(document: &Document, name: &str) -> bool {
    let mut members = document.rooms.values().flatten();
    members.any(|member| member.name.as_ref().is_some_and(|it| it.as_str() == name))
}

/// The windows that the registry said it opened, in the order of its words.
fn opened(registry: &Registry) -> Vec<String> {
    let lines = registry.lines.lock().unwrap();
    let opened = lines.iter().filter(|line| line.contains("  opened "));
    opened.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Whether there is time for what takes longer than a test should; if not, that is said.
fn is_long_run() -> bool {
    let long = std::env::var_os("HIT7_LONG").is_some();
    if !long {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past the harness, which keeps to itself what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: it takes long; HIT7_LONG=1 runs it");
    }
    long
}

#[test]
fn a_clock_that_steps_opens_nothing_twice_and_loses_nothing() {
    if !is_long_run() {
        return;
    }
    let Some(faketime) = Faketime::find() else {
        return skip("there is no libfaketime here (apt-get install libfaketime)");
    };
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_in(0, &["--window", "2s"], data.path(), &faketime.env());
    let addr = registry.addr;
    // One on the registry's machine, whose clock steps too, and one elsewhere.
    let peers = [Peer::join(addr, "near", &faketime.env()), Peer::join(addr, "far", &[])];
    peers.iter().for_each(|peer| peer.wait_for("met", 0));
    let mut acked = Vec::new();
    let (mut last, mut last_offset) = (register(addr, "first").1, 0);
    for (step, offset) in [90, 0, 3600, 0, 3690, 7300].into_iter().enumerate() {
        if step == 0 || last_offset != 0 {
            wait_for_renewal(&peers);
        }
        last_offset = offset;
        let name = format!("before-{step}");
        acked.push((register(addr, &name).0, name));
        let before = opened(&registry).len();
        let back = offset == 0;
        let missed = peers.each_ref().map(|peer| peer.count("missed"));
        faketime.set(offset);
        if back {
            // Nothing opens until the clock has caught up; who registers is told of that window.
            thread::sleep(Duration::from_millis(2500));
            let (window, current) = register(addr, &format!("back-{step}"));
            acked.push((window, format!("back-{step}")));
            assert!(current >= last && window > current);
            assert!(opened(&registry).len() <= before + 1, "it was opened while time ran back");
            last = current;
            continue;
        }
        wait_until("window", || opened(&registry).len() > before);
        for (peer, missed) in peers.iter().zip(missed) {
            peer.wait_for("missed", missed);
            peer.wait_for("met", peer.count("met"));
        }
        let (_, current) = register(addr, &format!("after-{step}"));
        assert!(current > last);
        last = current;
    }
    let end = opened(&registry).len() + 2;
    wait_until("windows", || opened(&registry).len() >= end);
    let opened = opened(&registry);
    assert!(opened.is_sorted_by(|a, b| a < b), "{opened:?}");
    registry.stop();
    let documents = documents(data.path());
    for (window, name) in &acked {
        assert!(has(&documents[window], name), "{name} was told {window}");
    }
    let missed = documents.values().filter(|document| document.opened.is_none()).count();
    println!("{} windows opened, {missed} missed, {} acked", opened.len(), acked.len());
    assert!(missed > 0, "a step of an hour missed none");
}

#[test]
fn a_suspend_of_ten_windows_is_told_and_lived_through() {
    if !is_long_run() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start(0, "2s", data.path());
    let peers = ["ana", "bo"].map(|name| Peer::join(registry.addr, name, &[]));
    peers.iter().for_each(|peer| peer.wait_for("met", 0));
    wait_for_renewal(&peers);
    let (window, _) = register(registry.addr, "sleeper");
    let missed = peers.each_ref().map(|peer| peer.count("missed"));
    // The registry's machine sleeps, and one of the peers on it; the other is elsewhere.
    peers[0].signal("-STOP");
    registry.pause(Duration::from_secs(20));
    peers[0].signal("-CONT");
    for (peer, missed) in peers.iter().zip(missed) {
        peer.wait_for("missed", missed);
        peer.wait_for("met", peer.count("met"));
    }
    let opened = opened(&registry);
    assert!(opened.is_sorted_by(|a, b| a < b), "{opened:?}");
    let millis = |window: &String| window.parse::<Window>().unwrap().opens().millis();
    let gap = opened.windows(2).map(|pair| millis(&pair[1]) - millis(&pair[0])).max();
    assert!(gap >= Some(18_000), "windows were opened that were slept through: {opened:?}");
    registry.stop();
    let document = &documents(data.path())[&window];
    assert!(has(document, "sleeper"));
    println!(
        "slept through: the window was {:?}, and the next opened after {gap:?} ms",
        document.opened
    );
}

#[test]
fn a_window_that_passed_while_the_registry_was_down_is_missed() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start(0, "2s", data.path());
    let (window, _) = register(registry.addr, "ana");
    let addr = registry.addr;
    registry.kill();
    thread::sleep(Duration::from_millis(4500));
    let registry = Registry::start(addr.port(), "2s", data.path());
    let (later, current) = register(addr, "bo");
    assert!(current > window && later > current);
    wait_until("document", || documents(data.path()).contains_key(&window));
    let document = &documents(data.path())[&window];
    assert!(document.opened.is_none() && has(document, "ana"), "{document:?}");
    registry.stop();
}

#[test]
fn a_start_far_behind_the_last_window_is_refused_with_the_remedy() {
    let Some(faketime) = Faketime::find() else {
        return skip("there is no libfaketime here (apt-get install libfaketime)");
    };
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start(0, "2s", data.path());
    let (window, _) = register(registry.addr, "ana");
    wait_until("window", || opened(&registry).contains(&window.to_string()));
    registry.kill();
    let start = |offset| {
        faketime.set(offset);
        Command::new("timeout")
            .args(["2", env!("CARGO_BIN_EXE_hit7"), "serve", "127.0.0.1", "0", "--window", "2s"])
            .arg("--data")
            .arg(data.path() as &Path)
            .envs(faketime.env())
            .output()
            .unwrap()
    };
    let said = start(-30);
    let words = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && words.contains("set the clock right"), "{words}");
    assert!(words.contains(&window.to_string()), "{words}");
    let right = start(0);
    assert!(String::from_utf8(right.stdout).unwrap().contains("listening on"));
}
