//! Tests a running registry and peers whose clocks step or stand still, and a registry that is down
//! for a whole window.
//!
//! The steps need libfaketime (Debian: libfaketime).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use hit7::archive::Document;
use hit7::clock::Clock;
use hit7::proto::Datagram;
use hit7::window::Window;
use hit7_support::{Home, Program, Registry, has_time, poll, skip, udp_socket, until};

use crate::{HIT7, address_of, ask_until, documents};

const FLAGS: [&str; 2] = ["--window", "2s"];

/// A wall clock that the test can set, for processes started with its environment.
pub(crate) struct Faketime {
    home: tempfile::TempDir,
    library: PathBuf,
}

impl Faketime {
    /// Finds libfaketime; `None` where there is none, and the test is skipped.
    pub(crate) fn find() -> Option<Faketime> {
        let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"];
        let inner =
            folders.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let mut inner = inner.map(|entry| entry.path()).chain(folders.map(PathBuf::from));
        let library = inner.find_map(|dir| {
            let library = dir.join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        let Some(library) = library else {
            skip("there is no libfaketime here (apt-get install libfaketime)");
            return None;
        };
        let faketime = Faketime { home: tempfile::tempdir().unwrap(), library };
        faketime.set(0);
        Some(faketime)
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("offset")
    }

    /// Sets the clock to `offset` seconds from the true time.
    pub(crate) fn set(&self, offset: i64) {
        let next = self.home.path().join("next");
        fs::write(&next, format!("{offset:+}")).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    /// Makes a program read this clock.
    pub(crate) fn applied_to(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", self.file());
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}

/// Returns the command of a peer that prints events as JSON.
fn join(registry: &Registry, name: &str) -> Command {
    HIT7.command(["join", "127.0.0.1", &registry.port(), "--json", "--name", name])
}

/// Returns how many events of this name the peer has printed.
fn count(peer: &Program, event: &str) -> usize {
    let start = format!("{{\"event\":\"{event}\"");
    peer.lines().iter().filter(|line| line.starts_with(&start)).count()
}

/// Waits until the peer has printed more than `before` events of this name.
fn wait_for(peer: &Program, event: &str, before: usize) {
    let found = poll(|| (count(peer, event) > before).then_some(()));
    let last = || peer.lines().iter().rev().take(9).rev().cloned().collect::<Vec<_>>().join("\n");
    assert!(found.is_some(), "no {event}, but:\n{}", last());
}

/// Waits until each peer has printed one more event of this name.
fn wait_for_one_more(peers: &[Program; 2], event: &str) {
    let counts = peers.each_ref().map(|peer| count(peer, event));
    peers.iter().zip(counts).for_each(|(peer, before)| wait_for(peer, event, before));
}

/// Waits until both peers are registered for the next window, which they do in the first half of
/// the current one.
fn wait_for_renewal(peers: &[Program; 2]) {
    wait_for_one_more(peers, "window");
    wait_for_one_more(peers, "registered");
}

/// Waits until both peers have missed more windows than `before`, and have met again.
fn wait_for_recovery(peers: &[Program; 2], before: [usize; 2]) {
    for (peer, missed) in peers.iter().zip(before) {
        wait_for(peer, "missed", missed);
        wait_for(peer, "met", count(peer, "met"));
    }
}

/// Registers a client by `name`; returns the window it is registered for, and the current one.
pub(crate) fn register(registry: SocketAddr, name: &str) -> (Window, Window) {
    let socket = udp_socket(Ipv4Addr::LOCALHOST, Duration::from_millis(200));
    let request = crate::register(&format!("id-{name}"), name);
    let mut tries = 0..50;
    let is_over = || tries.next().is_none();
    let answer = ask_until(&socket, registry, &request, is_over, |datagram| match datagram {
        Datagram::Registered(it) => Some((it.window, it.current.window)),
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("no answer to {name}"))
}

fn has(document: &Document, name: &str) -> bool {
    address_of(document, name).is_some()
}

/// Returns the windows that the registry printed as opened, in order.
fn opened(registry: &Registry) -> Vec<String> {
    let lines = registry.program.lines();
    let opened = lines.iter().filter(|line| line.contains("  opened "));
    opened.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// A registry and two peers under a clock that steps.
struct Stepping {
    faketime: Faketime,
    registry: Registry,
    /// A peer on the registry's machine, whose clock steps too, and one on another machine.
    peers: [Program; 2],
    /// The current window in the last answer.
    current: Window,
    /// The window and name of each acked client.
    acked: Vec<(Window, String)>,
}

impl Stepping {
    fn start(faketime: Faketime) -> Stepping {
        let home = Home::on_disk(HIT7);
        let registry = home.start(faketime.applied_to(home.command(&FLAGS)));
        let near = Program::start(faketime.applied_to(join(&registry, "near")));
        let peers = [near, Program::start(join(&registry, "far"))];
        peers.iter().for_each(|peer| wait_for(peer, "met", 0));
        let (_, current) = register(registry.addr, "first");
        Stepping { faketime, registry, peers, current, acked: Vec::new() }
    }

    /// Registers a client by `name`; returns the current window.
    fn register(&mut self, name: String) -> Window {
        let (window, current) = register(self.registry.addr, &name);
        assert!(window > current);
        self.acked.push((window, name));
        current
    }

    /// Steps the clock back, and checks that the current window does not go back, and that at most
    /// one more opens until the clock has caught up.
    fn step_back(&mut self, step: usize) {
        let before = opened(&self.registry).len();
        self.faketime.set(0);
        thread::sleep(Duration::from_millis(2500));
        let current = self.register(format!("back-{step}"));
        assert!(current >= self.current);
        let opened = opened(&self.registry).len();
        assert!(opened <= before + 1, "it was opened while time ran back");
        self.current = current;
    }

    /// Steps the clock ahead, and checks that windows are missed, later ones open, and the peers
    /// meet again.
    fn step_ahead(&mut self, step: usize, offset: i64) {
        let last = || {
            let last = opened(&self.registry).pop().map(|window| window.parse::<Window>().unwrap());
            last.map(|window| window.opens().millis())
        };
        let before = last();
        self.faketime.set(offset);
        let is_there = || (last() > before.map(|it| it + 60_000)).then_some(());
        // A far step is believed after two minutes, which is as long as a test waits.
        if poll(is_there).is_none() {
            until("a window of the new time", is_there);
        }
        // Who has not renewed yet when a far step is believed misses nothing.
        self.peers.iter().for_each(|peer| wait_for(peer, "met", count(peer, "met")));
        let (_, current) = register(self.registry.addr, &format!("after-{step}"));
        assert!(current > self.current);
        self.current = current;
    }

    fn check(self) {
        let end = opened(&self.registry).len() + 2;
        until("more windows", || (opened(&self.registry).len() >= end).then_some(()));
        let opened = opened(&self.registry);
        assert!(opened.is_sorted_by(|a, b| a < b), "{opened:?}");
        let home = self.registry.home.clone();
        self.registry.close();
        let documents = documents(&home);
        for (window, name) in &self.acked {
            assert!(has(&documents[window], name), "{name} was told {window}");
        }
        let missed = documents.values().filter(|document| document.opened.is_none()).count();
        println!("{} windows opened, {missed} missed, {} acked", opened.len(), self.acked.len());
        assert!(missed > 0, "a step of an hour missed none");
    }
}

#[test]
fn a_clock_that_steps_opens_nothing_twice_and_loses_nothing() {
    if !has_time() {
        return;
    }
    let Some(faketime) = Faketime::find() else { return };
    let mut stepping = Stepping::start(faketime);
    let mut is_ahead = true;
    for (step, offset) in [90, 0, 3600, 0, 3690, 7300].into_iter().enumerate() {
        if is_ahead {
            wait_for_renewal(&stepping.peers);
        }
        is_ahead = offset != 0;
        stepping.register(format!("before-{step}"));
        match offset {
            0 => stepping.step_back(step),
            _ => stepping.step_ahead(step, offset),
        }
    }
    stepping.check();
}

#[test]
fn a_suspend_of_ten_windows_is_noticed_and_survived() {
    if !has_time() {
        return;
    }
    let home = Home::on_disk(HIT7);
    let registry = home.serve(&FLAGS);
    let peers = ["ana", "bo"].map(|name| Program::start(join(&registry, name)));
    peers.iter().for_each(|peer| wait_for(peer, "met", 0));
    wait_for_renewal(&peers);
    let (window, _) = register(registry.addr, "sleeper");
    let missed = peers.each_ref().map(|peer| count(peer, "missed"));
    // The registry's machine sleeps, with one of the peers on it; the other runs elsewhere.
    peers[0].signal("STOP");
    registry.program.pause(Duration::from_secs(20));
    peers[0].signal("CONT");
    wait_for_recovery(&peers, missed);
    let opened = opened(&registry);
    assert!(opened.is_sorted_by(|a, b| a < b), "{opened:?}");
    let millis = |window: &String| window.parse::<Window>().unwrap().opens().millis();
    let gap = opened.windows(2).map(|pair| millis(&pair[1]) - millis(&pair[0])).max();
    assert!(gap >= Some(18_000), "windows were opened that were slept through: {opened:?}");
    registry.close();
    let document = &documents(&home)[&window];
    assert!(has(document, "sleeper"));
    println!(
        "slept through: the window was {:?}, and the next opened after {gap:?} ms",
        document.opened
    );
}

#[test]
fn a_window_that_passed_while_the_registry_was_down_is_missed() {
    let home = Home::on_disk(HIT7);
    let mut registry = home.serve(&FLAGS);
    let addr = registry.addr;
    // Early in a window, so that the next one does not open before the kill.
    let clock = Clock::start();
    let into_window = || clock.now().wall.millis() % 2000;
    until("the beginning of a window", || (into_window() < 300).then_some(()));
    let (window, _) = register(addr, "ana");
    registry.program.kill();
    let closes = window.opens().plus(Duration::from_secs(2));
    thread::sleep(clock.now().wall.until(closes));
    let registry = home.serve_at(addr.port(), &FLAGS);
    let (later, current) = register(addr, "bo");
    assert!(current > window && later > current);
    let document = until("its document", || documents(&home).remove(&window));
    assert!(document.opened.is_none() && has(&document, "ana"), "{document:?}");
    registry.close();
}

#[test]
fn a_start_far_behind_the_last_window_is_refused_with_the_remedy() {
    let Some(faketime) = Faketime::find() else { return };
    let home = Home::on_disk(HIT7);
    let mut registry = home.serve(&FLAGS);
    let (window, _) = register(registry.addr, "ana");
    until("its window", || opened(&registry).contains(&window.to_string()).then_some(()));
    registry.program.kill();
    faketime.set(-30);
    let refused = Program::start(faketime.applied_to(home.command(&FLAGS))).end();
    refused.failed(1, &["set the clock right, or wait", &window.to_string()]);
    faketime.set(0);
    home.start(faketime.applied_to(home.command(&FLAGS)));
}
