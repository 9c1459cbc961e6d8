//! Runs the program's own node, journal and documents on real files, and stops them after every
//! single write, sync, rename, cut and removal in turn, and once more during the repair. What is
//! read back must satisfy rules 2, 3, 5 and 6. `HIT7_LONG=1` tries all combinations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hit7::archive::{Archive, Document};
use hit7::clock::Now;
use hit7::cookie::Secret;
use hit7::journal::{FileJournal, FileOptions, Journal, Outcome, Replayed, WindowReader};
use hit7::mesh::ListCap;
use hit7::node::{DocumentSource, Event, Inbound, Input, Node, Output};
use hit7::path::Transmit;
use hit7::proto::{Datagram, Id, Profile, Request};
use hit7::record::Entry;
use hit7::registry::{Caps, Config, Registry, WindowReplay};
use hit7::roster::FinalizedWindow;
use hit7::store::{Disk, Store};
use hit7::window::{Length, Wall, Window};

use crate::disk::TestDisk;
use crate::failing::FailingDisk;
use crate::subjects::block_on;

const LENGTH: Length = Length::MINUTE;
const BEGINS: &str = "2026-11-23T23:57:10Z";

/// A REGISTER or LEAVE of one client.
#[derive(Clone, Debug)]
struct Ask {
    id: Id,
    addr: SocketAddr,
    seq: u64,
    leaves: bool,
}

impl Ask {
    fn request(&self, seq: u64) -> Request {
        let (id, seq) = (Some(self.id.clone()), Some(seq));
        match self.leaves {
            true => Request::leave(id, seq),
            false => Request::register(id, seq, Profile::default()),
        }
    }

    fn path(&self) -> hit7::path::Path {
        hit7::path::Path::new(self.addr, [127, 0, 0, 1].into())
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// These requests arrive at once.
    Ask(Vec<Ask>),
    /// The minute ends.
    Boundary,
}

fn ask(id: &str, port: u16, seq: u64, leaves: bool) -> Ask {
    Ask { id: id.parse().unwrap(), addr: ([203, 0, 113, 9], port).into(), seq, leaves }
}

fn script() -> Vec<Step> {
    let (register, leave) =
        (|id, port, seq| ask(id, port, seq, false), |id, port, seq| ask(id, port, seq, true));
    vec![
        Step::Ask(vec![register("a", 1, 1)]),
        Step::Ask(vec![register("b", 2, 1), register("c", 3, 1), leave("c", 3, 2)]),
        Step::Ask(vec![register("a", 4, 2)]),
        Step::Boundary,
        Step::Ask(vec![register("a", 4, 3), register("b", 2, 2)]),
        Step::Ask(vec![leave("b", 2, 3)]),
        Step::Boundary,
        // Another client takes over the address; midnight comes.
        Step::Ask(vec![register("d", 5, 1)]),
        Step::Ask(vec![register("e", 5, 1), register("b", 2, 4)]),
        Step::Boundary,
        Step::Ask(vec![register("a", 4, 4)]),
    ]
}

/// Everything that clients were sent, by any of the processes.
#[derive(Default)]
struct Told {
    acked: BTreeMap<Id, (Ask, Window)>,
    /// Requests without an answer, whose record may be in the journal.
    open_questions: Vec<Ask>,
    opened: Option<Window>,
    rosters: BTreeMap<Window, String>,
}

/// The error of a program whose disk has stopped.
struct Stopped;

struct Program<S: Store> {
    node: Node,
    journal: FileJournal<S>,
    archive: Archive<S>,
    now: Now,
}

fn config() -> Config {
    Config { length: LENGTH, cap: ListCap::new(200), caps: Caps::default() }
}

fn secret() -> Arc<Secret> {
    Arc::new(Secret::from_bytes([7; 32]))
}

fn at(wall: Wall) -> Now {
    Now { wall, mono: Duration::from_secs(60) }
}

impl<S: Store> Program<S> {
    fn start(store: S, home: &Path, now: Now) -> Result<Program<S>, Stopped> {
        let mut registry = Registry::new(config(), secret(), now);
        let mut fold = |replayed| match replayed {
            Replayed::Begin(header) => registry.begin(header),
            Replayed::Record(record) => drop(registry.commit(now, Entry { ticket: None, record })),
        };
        let (dir, cap, accept_damage) = (home.join("journal"), config().cap, false);
        let options = FileOptions { store: store.clone(), dir, length: LENGTH, cap, accept_damage };
        let Ok((journal, found)) = FileJournal::open(options, &mut fold) else {
            return Err(Stopped);
        };
        registry.resume(now).expect("the clock is right");
        let node = Node::new(registry, found.windows, now);
        let archive = Archive::new(store, home.join("windows"));
        Ok(Program { node, journal, archive, now })
    }

    fn live(&mut self, script: Vec<Step>, told: &mut Told) -> Result<(), Stopped> {
        // Until the first opening nobody is sent a window's list.
        self.turn(told)?;
        for step in script {
            match step {
                Step::Ask(asks) => self.ask(asks, told)?,
                Step::Boundary => {
                    self.now.wall = self.node.next().0.opens().plus(Duration::from_millis(3));
                    self.node.handle(self.now, Input::Timeout);
                    self.turn(told)?;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, asks: Vec<Ask>, told: &mut Told) -> Result<(), Stopped> {
        told.open_questions = asks.clone();
        let before = *self.node.counts();
        for ask in asks {
            self.request(&ask, ask.seq);
            assert_eq!(*self.node.counts(), before, "{ask:?} waits for the journal");
        }
        self.turn(told)?;
        told.open_questions.clear();
        Ok(())
    }

    fn request(&mut self, ask: &Ask, seq: u64) {
        let inbound = Inbound { path: ask.path(), request: ask.request(seq), trusted: false };
        self.node.handle(self.now, Input::Request(inbound));
    }

    /// Sends a request, and returns what is answered at once; nothing else may be due.
    fn answered_at_once(&mut self, ask: &Ask, seq: u64) -> Option<Transmit> {
        self.request(ask, seq);
        match self.node.poll(self.now) {
            Some(Output::Send(transmit)) => Some(transmit),
            None => None,
            other => panic!("{ask:?}: {other:?}"),
        }
    }

    /// Carries out the node's outputs until it waits only for time and requests.
    fn turn(&mut self, told: &mut Told) -> Result<(), Stopped> {
        loop {
            while let Some(output) = self.node.poll(self.now) {
                self.follow(output, told)?;
            }
            if self.node.is_settled() {
                return Ok(());
            }
            let outcome = block_on(self.journal.next());
            let Outcome::Durable(_) = &outcome else { return Err(Stopped) };
            self.node.handle(self.now, Input::Journal(outcome));
        }
    }

    fn follow(&mut self, output: Output, told: &mut Told) -> Result<(), Stopped> {
        match output {
            Output::Send(transmit) => note(told, transmit.path.peer, &transmit.payload),
            Output::Append(epoch, batch) => self.journal.submit(epoch, batch),
            Output::Discard(window) => self.journal.discard(window),
            Output::Archive(source) => {
                let window = source.window();
                let document = match source {
                    DocumentSource::Held(window) => Document::from(&*window),
                    DocumentSource::Journal(window) => self.read_back(window)?,
                };
                self.archive.write(&document, LENGTH).map_err(|_| Stopped)?;
                self.node.handle(self.now, Input::Archived(window, Ok(())));
            }
            Output::Event(Event::Opened(window, _)) => {
                told.opened = Some(window.window());
                told.rosters.insert(window.window(), roster(&window));
            }
            Output::SendTrain(_) | Output::Event(_) => {}
        }
        Ok(())
    }

    /// Makes the document of a window from its journal.
    fn read_back(&self, window: Window) -> Result<Document, Stopped> {
        let mut replay = None;
        let mut fold = |replayed| match (replayed, &mut replay) {
            (Replayed::Begin(header), _) => replay = Some(WindowReplay::new(header)),
            (Replayed::Record(record), Some(replay)) => replay.commit(record),
            (Replayed::Record(_), None) => panic!("a record before the header"),
        };
        self.journal.reader().read(window, &mut fold).map_err(|_| Stopped)?;
        let WindowReplay { filling, opened } = replay.expect("a window has a header");
        Ok(Document::new(window, filling.closes(), opened, filling.members()))
    }
}

fn note(told: &mut Told, peer: SocketAddr, answer: &[u8]) {
    let (id, seq, window, leaves) = match Datagram::decode(answer).unwrap() {
        Datagram::Registered(it) => (it.id, it.seq, it.window, false),
        Datagram::Left(it) => (it.id, it.seq, it.window, true),
        other => panic!("{other:?}"),
    };
    let (id, seq) = (id.unwrap(), seq.unwrap());
    let ask = Ask { id: id.clone(), addr: peer, seq, leaves };
    // Only the latest registration of an address counts.
    told.acked.retain(|_, (other, of)| leaves || other.addr != peer || *of != window);
    told.acked.insert(id, (ask, window));
}

/// Returns everything that members are sent about a window, as text.
fn roster(frozen: &FinalizedWindow) -> String {
    let of = |it: &hit7::roster::Roster| {
        format!("{} {} {:?}", it.room(), it.pass().as_str(), it.page(0))
    };
    frozen.rosters().iter().map(of).collect()
}

/// Checks that what was read back agrees with what clients were sent.
fn check<S: Store>(program: &mut Program<S>, told: &Told, home: &Path) {
    let current = program.node.current().clone();
    // Rule 6: no window is opened again, and no clock far behind is accepted.
    assert!(told.opened.is_none_or(|opened| current.window() >= opened), "{:?}", told.opened);
    // Rule 3.
    if let Some(before) = told.rosters.get(&current.window()) {
        assert_eq!(roster(&current), *before);
    }
    let next = program.node.next().0;
    let documents = Archive::new(Disk, home.join("windows"));
    for (ask, window) in told.acked.values() {
        let maybe = |other: &Ask| other.id == ask.id || other.addr == ask.addr;
        if told.open_questions.iter().any(maybe) {
            continue;
        }
        if *window < current.window() {
            let document = documents.read(*window).expect("it is durable before its log goes");
            let there = document.rooms.values().flatten().any(|entry| entry.addr == ask.addr);
            assert_eq!(there, !ask.leaves, "{ask:?} {document:?}");
            continue;
        }
        if *window == current.window() && program.now.wall >= current.closes() {
            // The window has closed, and its registrations are forgotten.
            continue;
        }
        // Rules 2 and 5: a retry is answered with the same window, an older copy is ignored.
        assert!(*window == current.window() || *window == next, "{window} is forgotten");
        let retry = program.answered_at_once(ask, ask.seq);
        let Some(answer) = retry else { panic!("{ask:?} is not answered") };
        match Datagram::decode(&answer.payload).unwrap() {
            Datagram::Registered(it) => assert_eq!((it.window, ask.leaves), (*window, false)),
            Datagram::Left(it) => assert_eq!((it.window, ask.leaves), (*window, true)),
            other => panic!("{other:?}"),
        }
        let older = program.answered_at_once(ask, ask.seq - 1);
        assert!(older.is_none(), "{ask:?} before: {older:?}");
    }
}

/// Checks rule 2 at the opening: each client acked for the next window is in it, at its last
/// address.
fn check_opening(program: &mut Program<Disk>, told: &mut Told) {
    let window = program.node.next().0;
    let (acked, maybe) = (told.acked.clone(), std::mem::take(&mut told.open_questions));
    assert!(program.live(vec![Step::Boundary], told).is_ok());
    let current = program.node.current().clone();
    assert_eq!(current.window(), window);
    for (ask, _) in acked.values().filter(|(_, of)| *of == window) {
        if !maybe.iter().any(|other| other.id == ask.id || other.addr == ask.addr) {
            let found = current.find(&ask.id).map(|(roster, n)| roster.members()[n].path.peer);
            assert_eq!(found, (!ask.leaves).then_some(ask.addr), "{ask:?}");
        }
    }
}

/// Runs a process until step `at_step` of the disk fails; returns whether that step was reached.
fn first_life(disk: &FailingDisk, at_step: usize, told: &mut Told) -> (bool, Wall) {
    disk.fail(at_step, usize::MAX);
    let mut wall: Wall = BEGINS.parse().unwrap();
    if let Ok(mut program) = Program::start(disk.clone(), disk.home(), at(wall)) {
        let _ = program.live(script(), told);
        wall = program.now.wall;
    }
    (disk.has_failed(), wall)
}

#[test]
fn stopped_after_any_step_and_again_while_it_is_mended_it_keeps_its_word() {
    let (mut lives, mut steps) = (0, 0);
    let long = std::env::var_os("HIT7_LONG").is_some();
    for at_step in 0.. {
        let mut went_on = true;
        // In the short run, every third stop is followed by a stop at each step of the repair.
        let first = if long || at_step % 3 == 0 { 0 } else { usize::MAX - 1 };
        for again in first.. {
            let first = FailingDisk::new();
            let home = first.home();
            let mut told = Told::default();
            let (stopped, wall) = first_life(&first, at_step, &mut told);
            went_on = !stopped;
            let disk = first.crashed();
            disk.fail(again, usize::MAX);
            if let Ok(mut second) = Program::start(disk.clone(), home, at(wall)) {
                // The outputs are dropped: this process is only inspected.
                while second.node.poll(second.now).is_some() {}
                check(&mut second, &told, home);
            }
            let mut third = Program::start(Disk, home, at(wall)).ok().unwrap();
            assert!(third.turn(&mut told).is_ok());
            check(&mut third, &told, home);
            check_opening(&mut third, &mut told);
            // The journal discards files until it is dropped.
            drop(third);
            refused_far_behind(home, &told);
            lives += 3;
            if !disk.has_failed() {
                break;
            }
        }
        steps = at_step;
        if went_on {
            break;
        }
    }
    println!("stopped after each of {steps} steps, and of those that mend it: {lives} lives");
    assert!(steps > 40, "{steps}");
}

/// Checks rule 6: a start with a clock that is far behind the journal is refused.
fn refused_far_behind(home: &Path, told: &Told) {
    let Some(opened) = told.opened else { return };
    let now = at(Wall::from_millis(opened.opens().millis() - 61_000));
    let mut registry = Registry::new(config(), secret(), now);
    let mut fold = |replayed| match replayed {
        Replayed::Begin(header) => registry.begin(header),
        Replayed::Record(record) => drop(registry.commit(now, Entry { ticket: None, record })),
    };
    let (dir, cap): (PathBuf, _) = (home.join("journal"), config().cap);
    let options = FileOptions { store: Disk, dir, length: LENGTH, cap, accept_damage: false };
    drop(FileJournal::open(options, &mut fold).unwrap());
    assert!(registry.resume(now).is_err(), "{opened} was opened, and it is {}", now.wall);
}

/// A LEAVE is written, and neither synced nor taken away: the journal is down. A REGISTER comes,
/// then a crash that leaves what was written.
#[test]
fn nothing_is_acked_over_a_leave_in_doubt() {
    let disk = FailingDisk::new();
    let wall: Wall = BEGINS.parse().unwrap();
    let mut told = Told::default();
    let mut first = Program::start(disk.clone(), disk.home(), at(wall)).ok().unwrap();
    let a = |seq, leaves| ask("a", 1, seq, leaves);
    assert!(first.live(vec![Step::Ask(vec![a(1, false)])], &mut told).is_ok());
    disk.fail(1, usize::MAX);
    first.request(&a(2, true), 2);
    loop {
        match first.node.poll(first.now) {
            Some(Output::Append(epoch, batch)) => first.journal.submit(epoch, batch),
            Some(_) => {}
            None => break,
        }
    }
    let outcome = block_on(first.journal.next());
    assert!(matches!(outcome, Outcome::Down(_)), "{outcome:?}");
    first.node.handle(first.now, Input::Journal(outcome));
    while first.node.poll(first.now).is_some() {}
    let answer = first.answered_at_once(&a(3, false), 3);
    let text =
        answer.map(|it| String::from_utf8_lossy(&it.payload).into_owned()).unwrap_or_default();
    let crashed = disk.crashed();
    let mut second = Program::start(crashed.clone(), disk.home(), at(wall)).ok().unwrap();
    assert!(second.live(vec![Step::Boundary], &mut told).is_ok());
    let is_in = second.node.current().find(&"a".parse().unwrap()).is_some();
    assert!(!is_in, "the start finds the LEAVE");
    assert!(text.contains("unavailable"), "{text}");
}
