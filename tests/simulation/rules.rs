//! The rules, watched from outside: what goes over the wire, what the log and the documents say.
//! Nothing here asks the code under test whether it is right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::peer::Event;
use hit7::proto::{Datagram, Id, Page, Pass, Registered, Request, Room};
use hit7::record::Record;
use hit7::registry::Handled;
use hit7::roster::Frozen;
use hit7::udp::{Path, Transmit};
use hit7::window::{Length, Wall, Window};

use crate::faults::Counts;
use crate::log::Log;
use crate::model::{Broken, Model, Verdict};
use crate::network::Packet;

/// The most bytes of a list (docs/PROTOCOL.md).
const MAX_LIST: usize = 820;

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
    rosters: BTreeMap<(Window, Room), Vec<SocketAddr>>,
    pages: BTreeMap<(Window, Room, Option<Id>, SocketAddr, u32), String>,
    passes: BTreeMap<(Window, Room), Pass>,
    documents: BTreeMap<Window, String>,
    accounts: BTreeMap<SocketAddr, Account>,
    cookies: BTreeSet<(SocketAddr, String)>,
    /// What hit7's own clients asked before they had proven their addresses.
    own: BTreeSet<(SocketAddr, Vec<u8>)>,
    met: BTreeSet<(usize, Window, SocketAddr)>,
    waiting: Vec<Pair>,
    /// Requests that were proven, and records proposed.
    requests: u64,
    proposals: u64,
}

impl Rules {
    pub(crate) fn new(length: Length, cap: usize) -> Rules {
        Rules {
            t: Duration::ZERO,
            broken: None,
            model: Model::new(length),
            seen: Counts::default(),
            pairs: 0,
            unmet: Vec::new(),
            cap,
            length,
            history: Vec::new(),
            committed: 0,
            opened: None,
            latest: None,
            stepped: false,
            promises: Vec::new(),
            told: BTreeSet::new(),
            rosters: BTreeMap::new(),
            pages: BTreeMap::new(),
            passes: BTreeMap::new(),
            documents: BTreeMap::new(),
            accounts: BTreeMap::new(),
            cookies: BTreeSet::new(),
            own: BTreeSet::new(),
            met: BTreeSet::new(),
            waiting: Vec::new(),
            requests: 0,
            proposals: 0,
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

    /// The wall clock was stepped, to there.
    pub(crate) fn on_step(&mut self, wall: Wall) {
        self.stepped = true;
        self.latest = self.latest.max(Some(wall));
    }

    fn reread(&mut self, log: &[Record]) {
        self.committed = self.history.len();
        self.model = Model::new(self.length);
        for record in log {
            let result = self.model.apply(record);
            self.judge(result);
        }
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

    pub(crate) fn on_proposed(&mut self, records: usize) {
        self.proposals += records as u64;
    }

    /// A record takes effect.
    pub(crate) fn on_commit(&mut self, record: &Record, wall: Wall) {
        self.committed += 1;
        self.latest = self.latest.max(Some(wall));
        if let Some(remark) = self.model.remark(record) {
            self.seen.note(remark);
        }
        let result = self.model.apply(record);
        self.judge(result);
        if let Record::Register(it) = record {
            // Unless the clock was stepped, it is for the window that follows.
            let begins = it.window.opens().millis() - self.length.millis() as i64;
            self.expect(self.stepped || it.at.millis() >= begins, 1, || {
                format!("at {} registered for {}", it.at, it.window)
            });
        }
    }

    // Windows.

    pub(crate) fn on_opened(&mut self, frozen: &Frozen) {
        let window = frozen.window();
        let rosters: Vec<(Room, Vec<SocketAddr>)> = frozen
            .rosters()
            .iter()
            .map(|it| (it.room().clone(), it.members().iter().map(|m| m.path.peer).collect()))
            .collect();
        for (room, members) in &rosters {
            let before = self.rosters.insert((window, room.clone()), members.clone());
            self.expect(before.is_none_or(|before| before == *members), 3, || {
                format!("the roster of {room} in {window} has changed")
            });
        }
        if self.model.current.window == Some(window) {
            let of_model = self.model.current.members.len();
            let agrees = |(room, members): &(Room, Vec<SocketAddr>)| {
                self.model.current.room(room) == *members
            };
            let agree = rosters.iter().all(agrees) && frozen.len() == of_model;
            self.expect(agree, 2, || format!("{window} opens with {rosters:?}"));
        }
        if rosters.iter().any(|(_, members)| members.len() > self.cap + 1) {
            self.seen.note("a room larger than the list cap");
        }
        self.check_promises(frozen);
    }

    /// A window went by unopened; nothing was wrong with the registry for the time `steady`.
    pub(crate) fn on_missed(&mut self, frozen: &Frozen, steady: Duration) {
        let window = frozen.window();
        self.expect(steady < self.length.span(), 6, || format!("{window} was missed for nothing"));
        self.check_promises(frozen);
    }

    /// Rule 2: whoever was told to be in a window is.
    fn check_promises(&mut self, frozen: &Frozen) {
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

    pub(crate) fn on_document(&mut self, frozen: &Frozen, document: &str) {
        let window = frozen.window();
        let before = self.documents.insert(window, document.to_owned());
        self.expect(before.is_none_or(|before| before == document), 3, || {
            format!("the document of {window} has changed")
        });
        let lacks = |promise: &&Promise| {
            let later = self.history.get(promise.after..).unwrap_or_default();
            promise.window == window
                && !later.iter().any(|record| supersedes(record, promise))
                && !document.contains(&format!("\"{}\"", promise.addr))
        };
        let lacking = self.promises.iter().find(lacks).cloned();
        self.expect(lacking.is_none(), 2, || format!("not in the document: {lacking:?}"));
    }

    /// Rule 9: what is closed and kept as a document is let go.
    pub(crate) fn on_discards(&mut self, log: &Log, logged: usize) {
        let windows = log.windows().len();
        self.expect(windows <= logged, 9, || {
            format!("the log holds {windows} windows, of which {logged} are needed")
        });
    }

    // The wire.

    fn is_proven(&self, addr: SocketAddr) -> bool {
        is_trusted(addr) || self.accounts.get(&addr).is_some_and(|account| account.proven)
    }

    /// One of hit7's own clients asks.
    pub(crate) fn on_peer_asks(&mut self, from: SocketAddr, bytes: &[u8]) {
        if !self.is_proven(from) {
            self.own.insert((from, bytes.to_vec()));
        }
    }

    /// A datagram has come to the registry.
    pub(crate) fn on_hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry(from).or_default();
        account.came += bytes.len();
        if let Some(cookie) = cookie_of(bytes)
            && self.cookies.contains(&(from, cookie.to_owned()))
        {
            account.proven = true;
        }
        if self.is_proven(from) {
            self.requests += 1;
        }
    }

    /// What was answered to one datagram, at once.
    pub(crate) fn on_answered(&mut self, packet: &Packet, answers: &[Transmit]) {
        self.expect(self.proposals <= self.requests + 10_000, 9, || {
            "more records than asked".into()
        });
        for answer in answers {
            let (came, went) = (packet.bytes.len(), answer.payload.len());
            let from_own = !self.is_proven(packet.from)
                && self.own.contains(&(packet.from, packet.bytes.clone()));
            self.expect(!from_own || went <= came, 8, || format!("{went} bytes for {came}"));
        }
    }

    /// One datagram is answered with one at the most.
    pub(crate) fn on_said(&mut self, meant: usize, said: usize) {
        self.expect(said <= meant, 9, || format!("{said} datagrams where {meant} were due"));
    }

    /// What the registry makes of a request while nothing is under way.
    pub(crate) fn on_handled(
        &mut self,
        wall: Wall,
        path: Path,
        request: &Request,
        handled: &Handled,
    ) {
        self.latest = self.latest.max(Some(wall));
        let closes = self.model.current.window.map(|window| self.length.closes(window));
        let due = closes.is_none_or(|closes| wall >= closes);
        if due {
            return;
        }
        let verdict = self.model.verdict(request, path.peer, due);
        if let Some(remark) = self.model.remark_on(request, path.peer, verdict) {
            self.seen.note(remark);
        }
        let agrees = match verdict {
            Verdict::Silence => matches!(handled, Handled::Nothing(_)),
            Verdict::Retry(_) => matches!(handled, Handled::Answer(_)),
            Verdict::New => !matches!(handled, Handled::Nothing(_)),
        };
        self.expect(agrees, 5, || {
            format!("{request:?} from {} is {verdict:?}, and was {handled:?}", path.peer)
        });
        if let (Verdict::Retry(window), Handled::Answer(answer)) = (verdict, handled)
            && let Ok(Datagram::Registered(it)) = Datagram::decode(&answer.payload)
        {
            let told = it.window;
            self.expect(told == window, 5, || format!("a retry is told {told}, not {window}"));
        }
    }

    /// The registry answers a request: what it promises is noted, and must be so.
    pub(crate) fn on_promise(&mut self, transmit: &Transmit) {
        let Ok(Datagram::Registered(it)) = Datagram::decode(&transmit.payload) else { return };
        let Registered { id, room, window, you, .. } = &it;
        let to = transmit.path.peer;
        self.expect(*you == to, 3, || format!("{to} is told to be {you}"));
        let result = self.model.check(to, &it);
        self.judge(result);
        if let Some(id) = id {
            self.told.insert((id.clone(), *window));
        }
        let (id, room, after) = (id.clone(), room.clone(), self.committed);
        self.promises.push(Promise { window: *window, id, addr: to, room, after });
    }

    /// Datagrams leave the registry.
    pub(crate) fn on_transmits(&mut self, transmits: &[Transmit], wall: Wall) {
        self.latest = self.latest.max(Some(wall));
        for transmit in transmits {
            self.check_account(transmit);
            self.check_peeking(transmit);
            self.check_content(transmit, wall);
        }
    }

    /// Rule 8: three times what came, until the address is proven.
    fn check_account(&mut self, transmit: &Transmit) {
        let to = transmit.path.peer;
        if self.is_proven(to) {
            return;
        }
        let account = self.accounts.entry(to).or_default();
        account.went += transmit.payload.len();
        let Account { came, went, .. } = *account;
        self.expect(went <= 3 * came, 8, || format!("{went} bytes to {to}, of {came} unproven"));
        let is_challenge = transmit.payload.starts_with(br#"{"type":"CHALLENGE""#);
        self.expect(is_challenge, 8, || format!("{to} is unproven, and told more than a cookie"));
    }

    /// Rule 4, byte by byte: nobody is named who is in the next window and not in the current one.
    fn check_peeking(&mut self, transmit: &Transmit) {
        let text = String::from_utf8_lossy(&transmit.payload);
        let you = transmit.path.peer;
        for word in text.split(['"', ' ']).filter(|word| word.len() > 8 && word.contains(':')) {
            let Ok(named) = word.parse::<SocketAddr>() else { continue };
            if named != you
                && self.model.next.members.contains_key(&named)
                && !self.model.current.members.contains_key(&named)
            {
                return self.fail(4, format!("{you} is told of {named} before the opening"));
            }
        }
    }

    fn check_content(&mut self, transmit: &Transmit, wall: Wall) {
        let to = transmit.path.peer;
        match Datagram::decode(&transmit.payload) {
            Ok(Datagram::Challenge(it)) => {
                self.cookies.insert((to, it.cookie));
            }
            Ok(Datagram::Registered(it)) => {
                self.check_page(it.current.window, &it.room, None, &it.current.page);
            }
            Ok(Datagram::Peers(it)) => match &it.pass {
                None => self.check_page(it.window, &it.room, None, &it.page),
                Some(pass) => {
                    let you = it.you.unwrap_or(to);
                    self.check_own(it.window, &it.room, it.id, you, pass, &it.page);
                }
            },
            Ok(Datagram::Window(it)) => {
                let open = wall < self.length.closes(it.window);
                self.expect(open, 6, || format!("{} is announced at {wall}", it.window));
                self.expect(it.you == to, 4, || format!("{to} is told what {} is due", it.you));
                self.check_own(it.window, &it.room, it.id, it.you, &it.pass, &it.page);
            }
            Ok(Datagram::Left(_) | Datagram::Error(_)) => {}
            other => self.fail(3, format!("a registry says {other:?}")),
        }
    }

    fn check_open(&mut self, window: Window) {
        let early = self.latest.is_none_or(|latest| latest < window.opens());
        let empty = self.model.current.members.is_empty();
        self.expect(empty || !early, 4, || format!("{window} is told before its time"));
    }

    /// A page for everyone: exactly that of the current roster.
    fn check_page(&mut self, window: Window, room: &Room, id: Option<Id>, page: &Page<'_>) {
        self.check_open(window);
        if page.parts > 1 {
            self.seen.note("a roster of more than one part");
        }
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.check_same((window, room.clone(), id, nowhere, page.part), page);
        if self.model.current.window != Some(window) {
            // Before the first window of all, nobody has been let in.
            return self.expect(page.peers.is_empty(), 3, || format!("a list of {window}"));
        }
        let entries = self.model.current.room(room).into_iter().map(|addr| format!("\"{addr}\""));
        let pages = paged(entries.collect());
        let expected = pages.get(page.part as usize).map_or("", String::as_str);
        let fits = page.peers == expected && page.parts as usize == pages.len();
        self.expect(fits, 3, || format!("a page of {room} in {window} is {page:?}"));
    }

    /// A member's page: its own list, and the pass.
    fn check_own(
        &mut self,
        window: Window,
        room: &Room,
        id: Option<Id>,
        you: SocketAddr,
        pass: &Pass,
        page: &Page<'_>,
    ) {
        self.check_open(window);
        let current = self.model.current.window;
        self.expect(current == Some(window), 3, || format!("{window} is told in {current:?}"));
        let member = self.model.current.members.get(&you);
        let is_it = member.is_some_and(|member| member.id == id && member.room == *room);
        self.expect(is_it, 4, || format!("the pass of {room} is told to {you}, who is not in"));
        let before = self.passes.insert((window, room.clone()), pass.clone());
        self.expect(before.is_none_or(|before| before == *pass), 3, || {
            format!("the pass of {room} in {window} has changed")
        });
        self.check_same((window, room.clone(), id, you, page.part), page);
        let members = self.model.current.room(room);
        if members.len() <= self.cap + 1 {
            let entry = |addr: &SocketAddr| match self.model.current.members[addr].lan {
                Some(lan) => format!("\"{addr} {lan}\""),
                None => format!("\"{addr}\""),
            };
            let pages = paged(members.iter().map(entry).collect());
            let expected = pages.get(page.part as usize).map_or("", String::as_str);
            self.expect(page.peers == expected, 3, || format!("the own list is {page:?}"));
        }
    }

    /// Rule 3: whoever asks is told what was told before.
    fn check_same(&mut self, key: (Window, Room, Option<Id>, SocketAddr, u32), page: &Page<'_>) {
        let says = format!("{} {} {}", page.parts, page.count, page.peers);
        let before = self.pages.insert(key, says.clone());
        self.expect(before.as_ref().is_none_or(|before| *before == says), 3, || {
            format!("told {before:?}, and then {says}")
        });
    }

    // Peers.

    pub(crate) fn on_peer_event(&mut self, place: usize, id: &Id, room: &Room, event: &Event) {
        match event {
            Event::Registered { window, .. } => {
                let told = self.told.contains(&(id.clone(), *window));
                self.expect(told, 2, || format!("{id} believes a forged REGISTERED of {window}"));
            }
            Event::Opened { window, peers, you, count, .. } => {
                let roster =
                    self.rosters.get(&(*window, room.clone())).cloned().unwrap_or_default();
                let known = peers.iter().chain([you]).all(|peer| roster.contains(peer));
                let whole = roster.len() > self.cap + 1 || peers.len() + 1 == roster.len();
                self.expect(known && whole && *count as usize == roster.len(), 3, || {
                    format!("{id} holds {peers:?} of {window}, and the roster is {roster:?}")
                });
            }
            Event::Met { peer, .. } => {
                if let Some(window) = self.window_of(place, *peer) {
                    self.met.insert((place, window, *peer));
                }
            }
            _ => {}
        }
    }

    fn window_of(&self, place: usize, other: SocketAddr) -> Option<Window> {
        let is = |pair: &&Pair| pair.places[0] == place && pair.other == other;
        self.waiting.iter().rev().find(is).map(|pair| pair.window)
    }

    /// Two peers in one room of a window that has just opened.
    pub(crate) fn expect_meeting(
        &mut self,
        window: Window,
        places: [usize; 2],
        other: SocketAddr,
        begun: Duration,
        due: Duration,
    ) {
        self.waiting.push(Pair { begun, due, window, places, other });
    }

    /// When the next pair's time is over.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|pair| pair.due).min()
    }

    /// Pairs whose time is over: `steady` tells since when nothing is wrong with a peer, and with
    /// the registry.
    pub(crate) fn judge_meetings(&mut self, steady: impl Fn(usize) -> Duration) {
        let t = self.t;
        let (over, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|pair: &Pair| pair.due <= t);
        self.waiting = rest;
        for Pair { begun, window, places: [place, other_place], other, .. } in over {
            if steady(place).max(steady(other_place)) > begun {
                continue;
            }
            self.pairs += 1;
            if !self.met.contains(&(place, window, other)) {
                self.unmet.push(format!("{window}: peer {place} did not meet {other}"));
            }
        }
    }

    /// Lists in a larger room are mutual.
    pub(crate) fn at_the_end(&mut self) {
        let mut lists: BTreeMap<(Window, Room), BTreeMap<SocketAddr, BTreeSet<SocketAddr>>> =
            BTreeMap::new();
        for ((window, room, id, you, _), says) in &self.pages {
            let members = self.rosters.get(&(*window, room.clone())).map_or(0, Vec::len);
            if you.port() == 0 || id.is_none() || members <= self.cap + 1 {
                continue;
            }
            let peers = says.split(['"', ' ']).filter_map(|word| word.parse::<SocketAddr>().ok());
            let room = lists.entry((*window, room.clone())).or_default();
            room.entry(*you).or_default().extend(peers.filter(|peer| !peer.ip().is_loopback()));
        }
        for ((window, room), lists) in lists {
            for (you, peers) in &lists {
                let mutual = peers.iter().all(|peer| {
                    lists.get(peer).is_none_or(|list| list.len() < self.cap || list.contains(you))
                });
                let whole = peers.len() < self.cap || mutual;
                self.expect(whole, 3, || format!("lists of {room} in {window} are not mutual"));
            }
        }
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

pub(crate) fn is_trusted(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V4(v4) if v4.ip().octets()[0] == 10)
}

/// The cookie in a datagram, whatever else it is.
fn cookie_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(r#""cookie":""#)?;
    rest.split('"').next()
}

/// Entries, cut into pages as the protocol says.
fn paged(entries: Vec<String>) -> Vec<String> {
    let mut pages = vec![String::new()];
    for entry in entries {
        let page = pages.last_mut().expect("there is always a page");
        if page.is_empty() {
            *page = entry;
        } else if page.len() + 1 + entry.len() <= MAX_LIST {
            *page = format!("{page},{entry}");
        } else {
            pages.push(entry);
        }
    }
    pages
}
