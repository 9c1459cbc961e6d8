//! The rules, watched from outside: what goes over the wire, what the log and the documents say.
//! Nothing here asks the code under test whether it is right.

mod meetings;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::proto::{Id, Pass, Profile, Request, RequestKind, Room};
use hit7::record::{Opening, Record};
use hit7::roster::FinalizedWindow;
use hit7::window::{Length, Wall, Window};
use serde_json::{Value, json};

use crate::faults::Counts;
use crate::log::Log;
use crate::model::{Broken, Member, Members, Model};

/// A window opens, if nothing is wrong, within this: a sync may be slow, and so the next one.
const PATIENCE: Duration = Duration::from_secs(8);

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: u8,
    pub(crate) what: String,
    pub(crate) at: Duration,
}

/// An ack: who was told to be in which window, when so many records had taken effect.
#[derive(Clone, Debug)]
struct Promise {
    window: Window,
    id: Option<Id>,
    addr: SocketAddr,
    room: Room,
    after: usize,
}

/// What a client asked: from where, when, and what.
pub(crate) type Asked = (SocketAddr, Wall, Request);

/// What came from an address, and what went to it before it had proven itself.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    came: usize,
    went: usize,
    proven: bool,
}

/// Two peers that have to meet, seen from one side.
#[derive(Clone, Debug)]
struct Pair {
    begun: Duration,
    due: Duration,
    window: Window,
    places: [usize; 2],
    other: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) t: Duration,
    pub(crate) broken: Option<Violation>,
    pub(crate) model: Model,
    /// What was remarkable.
    pub(crate) seen: Counts,
    /// Pairs that had to meet, and those that did not.
    pub(crate) pairs: u64,
    pub(crate) unmet: Vec<String>,
    cap: usize,
    /// Whether one pair that does not meet breaks rule 7; else it counts.
    every_pair: bool,
    length: Length,
    /// Every record that was ever durable, in order.
    history: Vec<Record>,
    /// How many of them have taken effect.
    committed: usize,
    /// The last window whose `open` was ever durable.
    opened: Option<Window>,
    /// The latest that the registry's wall clock has ever said.
    latest: Option<Wall>,
    /// Whether that clock was ever stepped.
    stepped: bool,
    promises: Vec<Promise>,
    /// The windows that every id was told.
    told: BTreeSet<(Id, Window)>,
    /// Who was in each window that opened or was missed, by the log; and when it opened.
    books: BTreeMap<Window, Members>,
    opened_at: BTreeMap<Window, Wall>,
    pages: BTreeMap<(Window, Room, Option<Id>, SocketAddr, u32), String>,
    passes: BTreeMap<(Window, Room), Pass>,
    documents: BTreeMap<Window, String>,
    accounts: BTreeMap<SocketAddr, Account>,
    cookies: BTreeSet<(SocketAddr, String)>,
    /// What hit7's own clients asked before they had proven their addresses.
    own: BTreeSet<(SocketAddr, Vec<u8>)>,
    /// WINDOWs told in this life of the registry: so often each part, and to whom no more.
    told_parts: BTreeMap<(SocketAddr, Window, u32), u32>,
    acked: BTreeSet<(SocketAddr, Window)>,
    /// GREETs sent, by place and `seq`; and who answered one.
    greets: BTreeSet<(usize, u64)>,
    answered: BTreeSet<(usize, Window, SocketAddr)>,
    met: BTreeSet<(usize, Window, SocketAddr)>,
    waiting: Vec<Pair>,
    /// When each window ends, as was told first.
    ends: BTreeMap<Window, Duration>,
}

impl Rules {
    pub(crate) fn new(length: Length, cap: usize, every_pair: bool) -> Rules {
        Rules {
            t: Duration::ZERO,
            broken: None,
            model: Model::new(length),
            seen: Counts::default(),
            pairs: 0,
            unmet: Vec::new(),
            cap,
            every_pair,
            length,
            history: Vec::new(),
            committed: 0,
            opened: None,
            latest: None,
            stepped: false,
            promises: Vec::new(),
            told: BTreeSet::new(),
            books: BTreeMap::new(),
            opened_at: BTreeMap::new(),
            pages: BTreeMap::new(),
            passes: BTreeMap::new(),
            documents: BTreeMap::new(),
            accounts: BTreeMap::new(),
            cookies: BTreeSet::new(),
            own: BTreeSet::new(),
            told_parts: BTreeMap::new(),
            acked: BTreeSet::new(),
            greets: BTreeSet::new(),
            answered: BTreeSet::new(),
            met: BTreeSet::new(),
            waiting: Vec::new(),
            ends: BTreeMap::new(),
        }
    }

    fn fail(&mut self, rule: u8, what: impl Into<String>) {
        let at = self.t;
        self.broken.get_or_insert_with(|| Violation { rule, what: what.into(), at });
    }

    fn judge(&mut self, result: Result<(), Broken>) {
        if let Err((rule, what)) = result {
            self.fail(rule, what);
        }
    }

    fn expect(&mut self, is_so: bool, rule: u8, what: impl FnOnce() -> String) {
        if !is_so {
            self.fail(rule, what());
        }
    }

    /// Someone who registered for the next window, and is not in the current one.
    pub(crate) fn someone_of_the_next(&self, but: SocketAddr) -> Option<SocketAddr> {
        let current = &self.model.current.members;
        let is_it = |addr: &&SocketAddr| **addr != but && !current.contains_key(addr);
        self.model.next.members.keys().find(is_it).copied()
    }

    // The log.

    /// The registry read its log; whether it goes on from it.
    pub(crate) fn on_start(&mut self, wall: Wall, resumed: bool, log: &[Record]) {
        self.reread(log);
        let last = self.model.last_open;
        self.expect(last == self.opened, 6, || format!("the log forgot that {last:?} was opened"));
        let behind = last.is_some_and(|last| wall.plus(self.length.span()) < last.opens());
        self.expect(resumed != behind, 6, || {
            format!("a start at {wall} after {last:?} was opened: went on is {resumed}")
        });
        self.latest = self.latest.max(Some(wall));
    }

    /// A crash: these records, never told of, survived it.
    pub(crate) fn on_crash(&mut self, survived: &[Record]) {
        self.on_synced(survived);
    }

    /// The wall clock was stepped.
    pub(crate) fn on_step(&mut self, from: Wall, to: Wall) {
        self.stepped = true;
        self.latest = self.latest.max(Some(from)).max(Some(to));
    }

    /// What counts is the current window and what comes after. Logs that were let go may come
    /// back, some of them and others not: each of those is read for itself.
    fn reread(&mut self, log: &[Record]) {
        self.committed = self.history.len();
        (self.told_parts, self.acked) = (BTreeMap::new(), BTreeSet::new());
        let last = log.iter().rev().find(|record| matches!(record, Record::Open(_)));
        let last = last.map(Record::window);
        let of_one_window = |a: &Record, b: &Record| a.window() == b.window();
        for closed in log.chunk_by(of_one_window) {
            if Some(closed[0].window()) < last {
                self.model = Model::new(self.length);
                closed.iter().for_each(|record| self.apply(record));
                let missed = std::mem::take(&mut self.model.next.members);
                if !matches!(closed.last(), Some(Record::Open(_))) {
                    self.enter(closed[0].window(), missed);
                }
            }
        }
        self.model = Model::new(self.length);
        for record in log.iter().filter(|record| Some(record.window()) >= last) {
            self.apply(record);
        }
    }

    /// A record takes its place in the ledger.
    fn apply(&mut self, record: &Record) {
        let result = self.model.apply(record);
        self.judge(result);
        let Record::Open(opening) = record else { return };
        self.opened_at.insert(opening.window, opening.at);
        let opened = (opening.window, self.model.current.members.clone());
        let closed = self.model.missed.take().into_iter().chain([opened]);
        closed.for_each(|(window, members)| self.enter(window, members));
    }

    /// Who was in a window is known now, and stays so.
    fn enter(&mut self, window: Window, members: Members) {
        let before = self.books.entry(window).or_insert_with(|| members.clone());
        let same = *before == members;
        self.expect(same, 3, || format!("the log says something else of {window}"));
    }

    /// These records are durable.
    pub(crate) fn on_synced(&mut self, records: &[Record]) {
        for record in records {
            let peer = match record {
                Record::Register(it) => Some(it.path.peer),
                Record::Leave(it) => Some(it.path.peer),
                Record::Open(it) => {
                    self.opened = self.opened.max(Some(it.window));
                    None
                }
            };
            if let Some(peer) = peer {
                self.expect(self.is_proven(peer), 8, || format!("{peer} is in the log, unproven"));
            }
            self.history.push(record.clone());
        }
    }

    /// A record goes to the log: it says what was asked, and when.
    pub(crate) fn on_proposed(&mut self, record: &Record, asked: Option<Asked>, wall: Wall) {
        let faithful = match (record, asked) {
            (Record::Open(it), None) => return self.expect_in_time(it, wall),
            (Record::Register(it), Some((addr, at, Request { id, seq, kind }))) => {
                let profile = it.profile.clone();
                let asked = match kind {
                    RequestKind::Register(asked) if asked.lan == Some(addr) => {
                        RequestKind::Register(Profile { lan: None, ..asked })
                    }
                    asked => asked,
                };
                let says = (it.path.peer, it.at, &it.id, it.seq);
                (says, RequestKind::Register(profile)) == ((addr, at, &id, seq), asked)
            }
            (Record::Leave(it), Some((addr, at, asked))) => {
                let says = (it.path.peer, it.at, &it.id, it.seq);
                says == (addr, at, &asked.id, asked.seq) && asked.kind == RequestKind::Leave
            }
            _ => false,
        };
        self.expect(faithful, 2, || format!("nobody asked for {record:?}"));
    }

    /// It was proposed perhaps before the clock was set back.
    fn expect_in_time(&mut self, opening: &Opening, wall: Wall) {
        let (opens, latest) = (opening.window.opens(), self.latest.max(Some(wall)));
        let is_so = opens <= opening.at && Some(opening.at) <= latest;
        self.expect(is_so, 4, || format!("{opening:?} at {wall}"));
    }

    /// After every step: the registry stands where the ledger does, and is not late.
    pub(crate) fn on_rest(
        &mut self,
        current: &FinalizedWindow,
        next: (Window, usize),
        wall: Wall,
        steady: Duration,
    ) {
        let Some(last) = self.model.last_open else { return };
        self.expect(current.window() == last, 6, || {
            format!("{} is current where {last} was opened last", current.window())
        });
        let waiting = (self.model.next.window.unwrap_or(next.0), self.model.next.members.len());
        self.expect(next == waiting, 2, || format!("{next:?} wait where {waiting:?} should"));
        let due = self.length.window_at(wall);
        let late = steady >= PATIENCE && wall >= due.opens().plus(PATIENCE) && last < due;
        self.expect(!late, 6, || format!("{due} is not open at {wall}, and nothing is wrong"));
    }

    /// A record takes effect.
    pub(crate) fn on_commit(&mut self, record: &Record, wall: Wall) {
        self.committed += 1;
        self.latest = self.latest.max(Some(wall));
        if let Some(remark) = self.model.remark(record) {
            self.seen.note(remark);
        }
        self.apply(record);
        if let Record::Register(it) = record {
            // Unless the clock was stepped, it is for the window that follows.
            let begins = it.window.opens().millis() - self.length.millis() as i64;
            self.expect(self.stepped || it.at.millis() >= begins, 1, || {
                format!("at {} registered for {}", it.at, it.window)
            });
        }
    }

    // Windows.

    pub(crate) fn on_opened(&mut self, frozen: &FinalizedWindow) {
        self.check_book(frozen);
        if frozen.rosters().iter().any(|roster| roster.len() > self.cap + 1) {
            self.seen.note("a room larger than the list cap");
        }
        self.check_promises(frozen);
    }

    /// Who is in a window is who the log says, also when it is opened again from the log.
    fn check_book(&mut self, frozen: &FinalizedWindow) {
        let window = frozen.window();
        let rosters = frozen.rosters().iter();
        let members: Members = rosters
            .flat_map(|roster| roster.members().iter())
            .map(|it| {
                let hit7::roster::Member { path, id, profile, registered } = it.clone();
                (path.peer, Member { id, profile, registered })
            })
            .collect();
        let book = self.books.get(&window).cloned().unwrap_or_default();
        let agree = book == members && frozen.len() == members.len();
        self.expect(agree, 2, || format!("{window} has {members:?} where the log has {book:?}"));
    }

    /// A window went by unopened; nothing was wrong with the registry for the time `steady`.
    pub(crate) fn on_missed(&mut self, frozen: &FinalizedWindow, steady: Duration) {
        let window = frozen.window();
        self.expect(steady < self.length.span(), 6, || format!("{window} was missed for nothing"));
        self.check_book(frozen);
        self.check_promises(frozen);
    }

    /// Rule 2: whoever was told to be in a window is.
    fn check_promises(&mut self, frozen: &FinalizedWindow) {
        let window = frozen.window();
        let (due, rest) = std::mem::take(&mut self.promises)
            .into_iter()
            .partition::<Vec<_>, _>(|promise| promise.window == window);
        self.promises = rest;
        for promise in &due {
            let found = frozen.find_at(promise.addr).is_some_and(|(roster, place)| {
                roster.members()[place].id == promise.id && *roster.room() == promise.room
            });
            let later = self.history.get(promise.after..).unwrap_or_default();
            let superseded = later.iter().any(|record| supersedes(record, promise));
            self.expect(found || superseded, 2, || format!("acked, and not in: {promise:?}"));
        }
        // Asked of again after a restart, and by whoever retries.
        self.promises.extend(due);
        self.promises.retain(|promise| promise.window >= window);
    }

    pub(crate) fn on_document(&mut self, window: Window, document: &str) {
        let before = self.documents.insert(window, document.to_owned());
        self.expect(before.is_none_or(|before| before == document), 3, || {
            format!("the document of {window} has changed")
        });
        let from = match self.opened_at.contains_key(&window) {
            true => window.opens(),
            false => self.length.closes(window),
        };
        self.expect(self.latest >= Some(from), 4, || format!("{window} is written before {from}"));
        let says: Value = serde_json::from_str(document).unwrap_or_default();
        let due = self.due(window);
        self.expect(due == says, 2, || format!("a document says {says} where it is {due}"));
    }

    /// Nothing was wrong for so long: whatever had members has its document, opened or missed.
    pub(crate) fn on_end(&mut self, steady: Duration) {
        let (current, written) = (self.model.last_open, &self.documents);
        let lacks = |(window, members): &(&Window, &Members)| {
            Some(**window) < current && !members.is_empty() && !written.contains_key(window)
        };
        let lacking = self.books.iter().find(lacks).map(|(window, _)| *window);
        self.expect(steady < PATIENCE || lacking.is_none(), 6, || {
            format!("{lacking:?} is over, and has no document")
        });
    }

    /// What the document of a window has to say.
    fn due(&self, window: Window) -> Value {
        let mut rooms: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (addr, member) in self.books.get(&window).into_iter().flatten() {
            let mut entry = json!({ "addr": addr, "registered": member.registered.to_string() });
            if let Some(name) = &member.profile.name {
                entry["name"] = json!(name.as_str());
            }
            rooms.entry(member.profile.room.as_str()).or_default().push(entry);
        }
        let closes = self.length.window_at(self.length.closes(window)).to_string();
        let opened = self.opened_at.get(&window).map(Wall::to_string);
        json!({ "window": window.to_string(), "closes": closes, "opened": opened, "rooms": rooms })
    }

    /// Rule 9: what is closed and kept as a document is let go.
    pub(crate) fn on_discards(&mut self, log: &Log, logged: usize) {
        let windows = log.windows().len();
        self.expect(windows <= logged, 9, || {
            format!("the log holds {windows} windows, of which {logged} are needed")
        });
    }
}

/// Whether a later record takes away what was promised: the same id, or the same address.
fn supersedes(record: &Record, promise: &Promise) -> bool {
    if record.window() != promise.window {
        return false;
    }
    match record {
        Record::Register(it) => {
            it.path.peer == promise.addr || promise.id.is_some() && it.id == promise.id
        }
        Record::Leave(it) => match &promise.id {
            Some(_) => it.id == promise.id,
            None => it.id.is_none() && it.path.peer == promise.addr,
        },
        Record::Open(_) => false,
    }
}
