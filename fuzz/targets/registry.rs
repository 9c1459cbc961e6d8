//! Lists of operations on a registry, beside the model that the simulation has too.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use hit7::clock::Now;
use hit7::cookie::Secret;
use hit7::mesh::ListCap;
use hit7::path::{Path, Transmit};
use hit7::proto::{Code, Datagram, Id, Profile, Request, RequestKind, Room};
use hit7::record::{Entry, Header, Record};
use hit7::registry::{self, Caps, Config, Event, Handled, Registry, ResumeError};
use hit7::window::{Length, Wall, Window};

#[path = "../../tests/model/mod.rs"]
mod model;

use model::{List, Members, Model, members_of, told_window};

/// Longer lists find nothing that these do not.
const MOST: usize = 200;
const LENGTH: Length = Length::MINUTE;
const CAP: usize = 2;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Who {
    id: u8,
    seq: u8,
    addr: u8,
    room: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Register(Who),
    Leave(Who),
    Query(Who),
    /// Both clocks go on, by so many times 4 ms.
    Wait(u16),
    /// The wall clock is set, by so many times 2 s.
    Step(i8),
    Wake,
    /// The journal gets what is proposed, unless it still has some.
    Propose,
    /// So many records become durable.
    Commit(u8),
    Refuse,
    /// So many more records were written, and nobody was told; then the registry is down.
    Crash {
        written: u8,
        down: u16,
        forget: bool,
    },
}

pub(crate) fn check(input: &[u8]) {
    let Ok(ops) = Vec::<Op>::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut world = World::new();
    for op in ops.into_iter().take(MOST) {
        world.take(op);
        world.check_frozen();
    }
    world.crash(0, 0, false);
    world.check_frozen();
}

/// A window that was opened, or missed, and its members.
type Ended = (bool, Window, Members);

/// A record takes its place in the journal: the windows that the registry has to tell of then.
fn apply(model: &mut Model, record: &Record) -> Vec<Ended> {
    let missed = model.apply(record).unwrap().filter(|(_, members)| !members.is_empty());
    let missed = missed.map(|(window, members)| (false, window, members));
    let is_open = matches!(record, Record::Open(_));
    let opened = is_open.then(|| (true, record.window(), model.current.members.clone()));
    missed.into_iter().chain(opened).collect()
}

/// The windows that a registry tells of.
fn told_of(registry: &mut Registry) -> Vec<Ended> {
    let event = |event| {
        let (opened, frozen) = match event {
            Event::Opened(frozen) => (true, frozen),
            Event::Missed(frozen) => (false, frozen),
            Event::Replayed(ended) => panic!("replayed, and not in a replay: {ended:?}"),
        };
        assert_eq!(frozen.opened().is_some(), opened);
        (opened, frozen.window(), members_of(&frozen))
    };
    std::iter::from_fn(|| registry.poll_event()).map(event).collect()
}

struct World {
    registry: Registry,
    now: Now,
    journal: Vec<Record>,
    model: Model,
    /// What the journal has been handed and has not answered.
    waiting: VecDeque<Entry>,
    /// Who has proposed something that is not durable yet, with which `seq`, from where.
    under_way: Vec<(Option<Id>, Option<u64>, SocketAddr)>,
    /// All that was ever told of a window.
    pages: BTreeMap<Window, String>,
}

fn secret() -> Arc<Secret> {
    Arc::new(Secret::from_bytes([7; 32]))
}

fn new_registry(now: Now) -> Registry {
    let config = Config { length: LENGTH, cap: ListCap::new(CAP), caps: Caps::default() };
    Registry::new(config, secret(), now)
}

impl World {
    fn new() -> World {
        let wall = Wall::from_millis(1_795_000_000_000);
        let now = Now { wall, mono: Duration::from_secs(1) };
        let mut registry = new_registry(now);
        registry.resume(now).unwrap();
        World {
            registry,
            now,
            journal: Vec::new(),
            model: Model::new(LENGTH, CAP),
            waiting: VecDeque::new(),
            under_way: Vec::new(),
            pages: BTreeMap::new(),
        }
    }

    fn take(&mut self, op: Op) {
        match op {
            Op::Register(who) => self.ask(who, |id, seq, room| {
                Request::register(id, seq, Profile { room, ..Profile::default() })
            }),
            Op::Leave(who) => self.ask(who, |id, seq, _| Request::leave(id, seq)),
            Op::Query(who) => self.ask(who, |id, seq, room| Request::query(id, seq, room, 0)),
            Op::Wait(times) => self.wait(u64::from(times) * 4),
            Op::Step(times) => {
                let wall = self.now.wall.millis() + i64::from(times) * 2000;
                self.now.wall = Wall::from_millis(wall);
            }
            Op::Wake => self.registry.handle_timeout(self.now),
            Op::Propose if self.waiting.is_empty() => {
                self.waiting.extend(self.registry.take_proposals());
            }
            Op::Propose => {}
            Op::Commit(count) => self.commit(usize::from(count) + 1),
            Op::Refuse => self.refuse(),
            Op::Crash { written, down, forget } => {
                self.crash(usize::from(written), u64::from(down) * 4, forget);
            }
        }
    }

    fn wait(&mut self, millis: u64) {
        let span = Duration::from_millis(millis);
        self.now = Now { wall: self.now.wall.plus(span), mono: self.now.mono + span };
    }

    fn ask(&mut self, who: Who, make: impl Fn(Option<Id>, Option<u64>, Room) -> Request) {
        let ids = ["a", "b", "c"];
        let id: Option<Id> = ids.get(usize::from(who.id % 4)).map(|id| id.parse().unwrap());
        let seq = Some(u64::from(who.seq % 8)).filter(|seq| *seq < 7);
        let room: Room = ["main", "lab"][usize::from(who.room % 2)].parse().unwrap();
        let addr: SocketAddr = ([203, 0, 113, 9], 1 + u16::from(who.addr % 5)).into();
        let request = make(id.clone(), seq, room);
        let path = Path::new(addr, [192, 0, 2, 1].into());
        let handled = self.registry.handle(self.now, path, request.clone(), false);
        self.check_handled(&request, addr, &handled);
        match handled {
            Handled::Answer(transmit) => self.check_answer(&transmit, path),
            Handled::Refused(transmit, _) => check_refusal(&transmit, path),
            Handled::Proposed => self.under_way.push((id, seq, addr)),
            Handled::Dropped(_) => {}
        }
    }

    /// What the model says, unless the same id has something under way, which comes before.
    fn check_handled(&self, request: &Request, addr: SocketAddr, handled: &Handled) {
        let wall = self.now.wall;
        let Request { id, seq, kind } = request;
        let before: Vec<_> = self.under_way.iter().filter(|it| it.0 == *id).collect();
        let (Some(id), Some((.., last)), false) =
            (id, before.last(), matches!(kind, RequestKind::Query { .. }))
        else {
            return self.model.check_handled(request, addr, wall, handled).unwrap();
        };
        // Behind a record under way also what a closed window knew counts, and is dropped in doubt.
        let in_current = self.model.current.ids.get(id).and_then(|entry| entry.seq);
        let under_way = before.iter().map(|it| it.1).max().flatten();
        let highest = under_way.max(self.model.highest(id, false)).max(in_current);
        let is_nothing = matches!(handled, Handled::Dropped(_));
        let is_new = seq.is_none() || *seq > highest || *seq == highest && addr != *last;
        assert!(!is_new || !is_nothing, "{request:?} is new, and comes to {handled:?}");
        let is_old = seq.is_some() && *seq < self.model.highest(id, !self.model.is_over(wall));
        assert!(!is_old || is_nothing, "{request:?} is old, and comes to {handled:?}");
    }

    fn commit(&mut self, count: usize) {
        for _ in 0..count.min(self.waiting.len()) {
            let Some(entry) = self.waiting.pop_front() else { return };
            let record = entry.record.clone();
            self.journal.push(record.clone());
            let ended = apply(&mut self.model, &record);
            let answer = self.registry.commit(self.now, entry);
            assert_eq!(told_of(&mut self.registry), ended);
            let (id, seq, path) = match record {
                Record::Register(it) => (it.id, it.seq, it.path),
                Record::Leave(it) => (it.id, it.seq, it.path),
                Record::Open(_) | Record::Missed(_) => {
                    assert_eq!(answer, None);
                    continue;
                }
            };
            let place = self.under_way.iter().position(|it| *it == (id.clone(), seq, path.peer));
            self.under_way.remove(place.expect("it was proposed"));
            let answer = answer.expect("its asker is told");
            assert_eq!(told_window(&answer), self.journal.last().map(Record::window));
            self.check_answer(&answer, path);
        }
    }

    fn refuse(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut refused: Vec<Entry> = self.waiting.drain(..).collect();
        refused.extend(self.registry.refuse(self.now));
        let told: Vec<Transmit> =
            refused.iter().filter_map(|it| registry::unavailable_answer(&it.record)).collect();
        assert_eq!(told.len(), self.under_way.len(), "each is told once");
        told.iter().for_each(|transmit| check_refusal(transmit, transmit.path));
        self.under_way.clear();
        assert!(self.registry.take_proposals().is_empty());
    }

    fn crash(&mut self, written: usize, down: u64, forget: bool) {
        let written = written.min(self.waiting.len());
        self.journal.extend(self.waiting.drain(..written).map(|entry| entry.record));
        (self.waiting, self.under_way) = (VecDeque::new(), Vec::new());
        let is_open = |record: &&Record| matches!(record, Record::Open(_));
        if let (Some(opened), true) = (self.journal.iter().rfind(is_open), forget) {
            let opened = opened.window();
            self.journal.retain(|record| record.window() >= opened);
        }
        self.wait(down);
        self.model = Model::new(LENGTH, CAP);
        let fold = |record| apply(&mut self.model, record);
        let ended: Vec<_> = self.journal.iter().flat_map(fold).collect();
        if let Err(error) = self.restart() {
            let ResumeError::ClockBehind { last, .. } = error else { panic!("{error}") };
            assert_eq!(Some(last), self.model.last_open);
            assert!(self.now.wall.plus(LENGTH.span()) < last.opens(), "{error}");
            self.now.wall = last.opens();
            self.restart().unwrap();
        }
        let replayed = std::iter::from_fn(|| self.registry.poll_event()).map(|event| match event {
            Event::Replayed(it) => (it.opened.is_some(), it.window, it.members),
            other => panic!("in a replay: {other:?}"),
        });
        let ended =
            ended.into_iter().map(|(opened, window, members)| (opened, window, members.len()));
        assert!(replayed.eq(ended));
    }

    fn restart(&mut self) -> Result<(), ResumeError> {
        let mut registry = new_registry(self.now);
        for file in self.journal.chunk_by(|a, b| a.window() == b.window()) {
            registry.begin(Header { window: file[0].window(), length: LENGTH, cap: None });
            for record in file {
                let entry = Entry { ticket: None, record: record.clone() };
                assert_eq!(registry.commit(self.now, entry), None);
            }
        }
        registry.resume(self.now)?;
        self.registry = registry;
        Ok(())
    }

    /// Who is in the current window, and all that is told of it, stays as it is; and as many wait
    /// for the next one as the journal says.
    fn check_frozen(&mut self) {
        let current = self.registry.current();
        assert_eq!(members_of(current), self.model.current.members);
        assert_eq!(current.len(), self.model.current.members.len());
        assert_eq!(self.registry.next().1, self.model.next.members.len());
        let Some(opened) = self.model.last_open else { return };
        assert_eq!(current.window(), opened);
        let mut pages = String::new();
        for roster in current.rosters() {
            assert!(roster.members().is_sorted_by_key(|member| member.path.peer));
            let pass = secret().pass(opened.to_bytes(), roster.room().as_str());
            assert_eq!(roster.pass().as_str(), pass);
            pages += &format!("{} {:?}", roster.room(), roster.page(0));
            let lists = (0..roster.len())
                .map(|member| roster.own_list(member).page(0, 9).map(|p| p.peers.to_owned()));
            pages += &format!("{:?}\n", lists.collect::<Vec<_>>());
        }
        let first = self.pages.entry(opened).or_insert_with(|| pages.clone());
        assert_eq!(*first, pages, "{opened} is not frozen");
    }

    fn check_answer(&mut self, transmit: &Transmit, path: Path) {
        assert_eq!(transmit.path, path);
        let datagram = Datagram::decode(&transmit.payload).unwrap();
        self.model.check_answer(path.peer, &datagram).unwrap();
        if let Some(list) = List::in_datagram(&datagram, path.peer) {
            self.model.check_list(&list).unwrap();
        }
    }
}

fn check_refusal(transmit: &Transmit, path: Path) {
    assert_eq!(transmit.path, path);
    match Datagram::decode(&transmit.payload).unwrap() {
        Datagram::Error(refusal) => {
            assert_eq!(refusal.code, Code::Unavailable);
            assert!(refusal.retry_in_ms.is_some());
        }
        other => panic!("{other:?}"),
    }
}
