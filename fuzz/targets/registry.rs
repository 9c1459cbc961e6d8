//! Lists of operations on a registry, beside a model that knows the log and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use hit7::clock::Now;
use hit7::cookie::Secret;
use hit7::mesh::ListCap;
use hit7::path::{Path, Transmit};
use hit7::proto::{Code, Datagram, Id, Page, Profile, Request, RequestKind, Room};
use hit7::record::{Leaving, Record, Registration, Ticket};
use hit7::registry::{Caps, Config, Event, Handled, Registry, ResumeError};
use hit7::roster::FinalizedWindow;
use hit7::window::{Length, Wall, Window};

/// Longer lists find nothing that these do not.
const MOST: usize = 200;
const LENGTH: Length = Length::MINUTE;

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
    /// The log gets what is proposed, unless it still has some.
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

/// A client whose registration is in a window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    addr: SocketAddr,
    id: Option<Id>,
    room: Room,
}

/// What an id was last told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    window: Window,
    seq: Option<u64>,
    addr: SocketAddr,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    In,
    Left,
    Displaced,
}

/// Whether a window was opened, which, and who is in it.
type Told = (bool, Window, Vec<Member>);

/// What the log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    opened: Option<Window>,
    /// Of the current window.
    frozen: Vec<Member>,
    kept: BTreeMap<Id, Grant>,
    /// Of the next window.
    filling: Option<Window>,
    members: Vec<Member>,
    grants: BTreeMap<Id, Grant>,
    /// Windows that came to their end, in order.
    told: VecDeque<Told>,
}

impl Model {
    fn of(log: &[Record]) -> Model {
        let mut model = Model::default();
        log.iter().for_each(|record| model.apply(record));
        model
    }

    fn apply(&mut self, record: &Record) {
        let window = record.window();
        if self.filling.is_none_or(|filling| filling < window) {
            let missed = std::mem::take(&mut self.members);
            if !missed.is_empty() {
                self.told.push_back((false, self.filling.unwrap(), missed));
            }
            self.filling = Some(window);
            self.grants.clear();
        }
        assert_eq!(self.filling, Some(window), "time runs back");
        match record {
            Record::Register(it) => self.register(it),
            Record::Leave(it) => self.leave(it),
            Record::Open(it) => {
                assert!(self.opened.is_none_or(|last| last < window), "it is opened again");
                assert!(it.at >= window.opens(), "it is opened early");
                assert!(it.at < LENGTH.closes(window), "it is opened after its time");
                self.frozen = std::mem::take(&mut self.members);
                self.frozen.sort();
                self.kept = std::mem::take(&mut self.grants);
                self.told.push_back((true, window, self.frozen.clone()));
                (self.opened, self.filling) = (Some(window), None);
            }
        }
    }

    /// Rule 1, in the log's order.
    fn check_next(&self, window: Window) {
        let Some(opened) = self.opened else { return };
        assert_eq!(window.opens(), LENGTH.closes(opened), "not for the next window");
    }

    fn register(&mut self, it: &Registration) {
        self.check_next(it.window);
        let member =
            Member { addr: it.path.peer, id: it.id.clone(), room: it.profile.room.clone() };
        let same_id = |other: &Member| member.id.is_some() && other.id == member.id;
        self.members.retain(|other| !same_id(other));
        if let Some(place) = self.members.iter().position(|other| other.addr == member.addr) {
            let displaced = self.members.remove(place).id;
            if let Some(grant) = displaced.and_then(|id| self.grants.get_mut(&id)) {
                grant.standing = Standing::Displaced;
            }
        }
        self.members.push(member);
        self.grant(&it.id, it.window, it.seq, it.path.peer, Standing::In);
    }

    fn leave(&mut self, it: &Leaving) {
        self.check_next(it.window);
        let addr = it.path.peer;
        self.members.retain(|other| match &it.id {
            Some(_) => other.id != it.id,
            None => other.id.is_some() || other.addr != addr,
        });
        self.grant(&it.id, it.window, it.seq, addr, Standing::Left);
    }

    fn grant(
        &mut self,
        id: &Option<Id>,
        window: Window,
        seq: Option<u64>,
        addr: SocketAddr,
        standing: Standing,
    ) {
        let Some(id) = id else { return };
        let seq = seq.max(self.grants.get(id).and_then(|grant| grant.seq));
        self.grants.insert(id.clone(), Grant { window, seq, addr, standing });
    }

    /// The highest `seq` of an id that has been promised something.
    fn highest(&self, id: &Id) -> Option<u64> {
        let seq = |grants: &BTreeMap<Id, Grant>| grants.get(id).and_then(|grant| grant.seq);
        seq(&self.grants).max(seq(&self.kept))
    }

    fn last_grant(&self, id: &Id) -> Option<&Grant> {
        self.grants.get(id).or_else(|| self.kept.get(id))
    }

    /// The members of `window`, if it is the current or the next one.
    fn members_of(&self, window: Window) -> Option<&[Member]> {
        if self.opened == Some(window) {
            Some(&self.frozen)
        } else {
            (self.filling == Some(window)).then_some(&self.members)
        }
    }
}

struct World {
    registry: Registry,
    now: Now,
    log: Vec<Record>,
    model: Model,
    /// What the log has and has not spoken of.
    waiting: VecDeque<(Ticket, Record)>,
    /// The ids of all that was proposed and is not durable.
    airborne: Vec<Option<Id>>,
    /// The highest `seq` that each id ever sent.
    sent: BTreeMap<Id, u64>,
    /// All that was ever told of a window.
    pages: BTreeMap<Window, String>,
}

fn secret() -> Arc<Secret> {
    Arc::new(Secret::from_bytes([7; 32]))
}

fn config() -> Config {
    Config { length: LENGTH, cap: ListCap::new(2), caps: Caps::default() }
}

fn members(frozen: &FinalizedWindow) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for roster in frozen.rosters() {
        assert!(roster.members().is_sorted_by_key(|member| member.path.peer));
        let member = |it: &hit7::roster::Member| Member {
            addr: it.path.peer,
            id: it.id.clone(),
            room: roster.room().clone(),
        };
        members.extend(roster.members().iter().map(member));
    }
    members.sort();
    members
}

/// Checks what a registry tells of against what the model expects.
fn check_events(registry: &mut Registry, model: &mut Model) {
    while let Some(event) = registry.poll_event() {
        let (opened, frozen) = match &event {
            Event::Opened(frozen) => (true, frozen),
            Event::Missed(frozen) => (false, frozen),
        };
        assert_eq!(frozen.opened().is_some(), opened);
        let (expected, window, mut list) = model.told.pop_front().expect("nothing to tell");
        list.sort();
        assert_eq!((opened, frozen.window(), members(frozen)), (expected, window, list));
    }
    assert!(model.told.is_empty(), "not told: {:?}", model.told);
}

impl World {
    fn new() -> World {
        let wall = Wall::from_millis(1_795_000_000_000);
        let now = Now { wall, mono: Duration::from_secs(1) };
        World {
            registry: Registry::new(config(), secret(), now),
            now,
            log: Vec::new(),
            model: Model::default(),
            waiting: VecDeque::new(),
            airborne: Vec::new(),
            sent: BTreeMap::new(),
            pages: BTreeMap::new(),
        }
    }

    fn take(&mut self, op: Op) {
        match op {
            Op::Register(who) => self.ask(who, |id, seq, room| {
                Request::register(id, seq, Profile { room, ..Profile::default() })
            }),
            Op::Leave(who) => {
                self.ask(who, |id, seq, _| Request::leave(id, seq));
            }
            Op::Query(who) => self.ask(who, |id, seq, room| Request::query(id, seq, room, 0)),
            Op::Wait(times) => self.wait(u64::from(times) * 4),
            Op::Step(times) => {
                let wall = self.now.wall.millis() + i64::from(times) * 2000;
                self.now.wall = Wall::from_millis(wall);
            }
            Op::Wake => self.registry.handle_timeout(self.now),
            Op::Propose if self.waiting.is_empty() => {
                self.waiting.extend(std::iter::from_fn(|| self.registry.poll_proposal()));
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
        let is_query = matches!(request.kind, RequestKind::Query { .. });
        let promise = id.as_ref().and_then(|id| self.promised(id, seq, addr, &request));
        let is_new = self.is_new(id.as_ref(), seq);
        let is_old = !is_query && self.is_old(id.as_ref(), seq);
        let path = Path::new(addr, [192, 0, 2, 1].into());
        let handled = self.registry.handle(self.now, path, request, false);
        if let (Some(id), Some(seq), false) = (&id, seq, is_query) {
            let highest = self.sent.entry(id.clone()).or_default();
            *highest = seq.max(*highest);
        }
        if let Some(window) = promise {
            assert!(matches!(handled, Handled::Answer(_)), "a retry: {handled:?}");
            let Handled::Answer(transmit) = &handled else { return };
            let told = match Datagram::decode(&transmit.payload).unwrap() {
                Datagram::Registered(registered) => registered.window,
                Datagram::Left(left) => left.window,
                other => panic!("{other:?}"),
            };
            assert_eq!(told, window, "a retry is told another window");
        }
        match handled {
            Handled::Answer(transmit) => {
                assert!(!is_old, "an older request is answered");
                self.check_answer(&transmit, path);
            }
            Handled::Proposed => {
                assert!(!is_old, "an older request is taken");
                self.airborne.push(id);
            }
            Handled::Refused(transmit, _) => check_refusal(&transmit, path),
            Handled::Nothing(why) => {
                assert!(!is_query && !is_new, "a new request comes to nothing: {why:?}");
            }
        }
    }

    fn is_due(&self) -> bool {
        self.now.wall >= self.registry.next().0.opens()
    }

    /// Rule 5: what a retry of the last promise is told.
    fn promised(
        &self,
        id: &Id,
        seq: Option<u64>,
        addr: SocketAddr,
        request: &Request,
    ) -> Option<Window> {
        let grant = self.model.last_grant(id)?;
        let asked = match request.kind {
            RequestKind::Register(_) => Standing::In,
            RequestKind::Leave => Standing::Left,
            _ => return None,
        };
        let is_last =
            self.sent.get(id).copied() == seq && !self.airborne.contains(&Some(id.clone()));
        let is_kept = !self.is_due() || self.model.grants.contains_key(id);
        let same = grant.seq == seq && seq.is_some() && grant.addr == addr;
        (is_last && is_kept && same && grant.standing == asked).then_some(grant.window)
    }

    fn is_new(&self, id: Option<&Id>, seq: Option<u64>) -> bool {
        let (Some(id), Some(seq)) = (id, seq) else { return true };
        self.sent.get(id).is_none_or(|highest| seq > *highest)
    }

    fn is_old(&self, id: Option<&Id>, seq: Option<u64>) -> bool {
        let (Some(id), Some(seq)) = (id, seq) else { return false };
        !self.is_due() && self.model.highest(id).is_some_and(|highest| seq < highest)
    }

    fn commit(&mut self, count: usize) {
        for (ticket, record) in
            self.waiting.drain(..count.min(self.waiting.len())).collect::<Vec<_>>()
        {
            self.log.push(record.clone());
            self.model.apply(&record);
            let answer = self.registry.commit(self.now, Some(ticket), record.clone());
            check_events(&mut self.registry, &mut self.model);
            match (&record, answer) {
                (Record::Register(Registration { window, path, .. }), Some(answer))
                | (Record::Leave(Leaving { window, path, .. }), Some(answer)) => {
                    self.airborne.remove(self.airborne_place(&record));
                    assert_eq!(told_window(&answer), *window);
                    self.check_answer(&answer, *path);
                }
                (Record::Open(_), None) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn airborne_place(&self, record: &Record) -> usize {
        let id = match record {
            Record::Register(it) => &it.id,
            Record::Leave(it) => &it.id,
            Record::Open(_) => unreachable!(),
        };
        self.airborne.iter().position(|other| other == id).expect("it was proposed")
    }

    fn refuse(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let batch = self.waiting.drain(..).collect();
        let told = self.registry.refuse(self.now, batch);
        assert_eq!(told.len(), self.airborne.len(), "each is told once");
        told.iter().for_each(|transmit| check_refusal(transmit, transmit.path));
        self.airborne.clear();
        assert!(self.registry.poll_proposal().is_none());
    }

    fn crash(&mut self, written: usize, down: u64, forget: bool) {
        let written = written.min(self.waiting.len());
        for (_, record) in self.waiting.drain(..written) {
            self.log.push(record.clone());
            self.model.apply(&record);
        }
        (self.waiting, self.airborne) = (VecDeque::new(), Vec::new());
        if let (Some(opened), true) = (self.model.opened, forget) {
            self.log.retain(|record| record.window() >= opened);
        }
        self.wait(down);
        self.model.told.clear();
        let mut model = Model::of(&self.log);
        let told = std::mem::take(&mut model.told);
        assert_eq!(model, self.model);
        self.model.told = told;
        if let Err(error) = self.restart() {
            let ResumeError::ClockBehind { last, .. } = error else { panic!("{error}") };
            assert_eq!(Some(last), self.model.opened);
            assert!(self.now.wall.plus(LENGTH.span()) < last.opens(), "{error}");
            self.now.wall = last.opens();
            self.restart().unwrap();
        }
        check_events(&mut self.registry, &mut self.model);
    }

    fn restart(&mut self) -> Result<(), ResumeError> {
        let mut registry = Registry::new(config(), secret(), self.now);
        let mut begun = None;
        for record in &self.log {
            if begun.replace(record.window()) != Some(record.window()) {
                registry.begin(record.window(), LENGTH);
            }
            assert_eq!(registry.commit(self.now, None, record.clone()), None);
        }
        registry.resume(self.now)?;
        self.registry = registry;
        Ok(())
    }

    /// Rule 3: who is in the current window, and all that is told of it, stays as it is.
    fn check_frozen(&mut self) {
        let current = self.registry.current();
        assert_eq!(members(current), self.model.frozen);
        let Some(opened) = self.model.opened else { return };
        assert_eq!(current.window(), opened);
        let mut pages = String::new();
        for roster in current.rosters() {
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

    fn check_answer(&self, transmit: &Transmit, path: Path) {
        assert_eq!(transmit.path, path);
        match Datagram::decode(&transmit.payload).unwrap() {
            Datagram::Registered(told) => {
                let member = Member { addr: told.you, id: told.id, room: told.room.clone() };
                let members = self.model.members_of(told.window).expect("a window under way");
                assert!(members.contains(&member), "{member:?} is told {}", told.window);
                assert_eq!(told.you, path.peer);
                self.check_public(&told.room, told.current.window, &told.current.page);
            }
            Datagram::Peers(told) => match told.pass {
                None => self.check_public(&told.room, told.window, &told.page),
                Some(_) => {
                    assert_eq!(Some(told.window), self.model.opened);
                    let is_own = |it: &&Member| it.id == told.id && Some(it.addr) == told.you;
                    let own = self.model.frozen.iter().find(is_own).expect("a member");
                    assert_eq!(own.room, told.room);
                    self.check_within(&told.room, &told.page);
                }
            },
            Datagram::Left(told) => {
                let gone = |it: &Member| match &told.id {
                    Some(_) => it.id != told.id,
                    None => it.id.is_some() || it.addr != path.peer,
                };
                // Of what is proposed and not durable, the log has the last word.
                let members = self.model.members_of(told.window).unwrap_or_default();
                assert!(members.iter().all(gone), "it has not left {}", told.window);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Rule 4: a page for everyone holds the current window's members, and nobody else.
    fn check_public(&self, room: &Room, window: Window, page: &Page<'_>) {
        let of_room = self.model.frozen.iter().filter(|member| member.room == *room);
        let expected: BTreeSet<SocketAddr> = of_room.map(|member| member.addr).collect();
        let told = page.candidates().unwrap().iter().map(|peer| peer.addr).collect();
        assert_eq!(expected, told);
        assert_eq!(page.count as usize, expected.len());
        assert!(self.model.opened.is_none_or(|opened| opened == window));
    }

    fn check_within(&self, room: &Room, page: &Page<'_>) {
        for peer in page.candidates().unwrap() {
            let is_it = |member: &&Member| member.addr == peer.addr && member.room == *room;
            assert!(self.model.frozen.iter().any(|member| is_it(&member)));
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

fn told_window(transmit: &Transmit) -> Window {
    match Datagram::decode(&transmit.payload).unwrap() {
        Datagram::Registered(registered) => registered.window,
        Datagram::Left(left) => left.window,
        other => panic!("{other:?}"),
    }
}
