//! What members sent and were told, held against the documents.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use hit7::archive::{Document, Entry};
use hit7::window::Window;

/// Names of members begin with their number, and no two registrations have the same.
pub(super) const NAMES: [&str; 6] = ["José", "Ωmega", "अमित", "Лена", "李雷", "سلمى"];

/// A request of one member, from its first datagram on.
struct Sent {
    id: String,
    addr: SocketAddr,
    /// The latest window that the member knew to be open: this request can change later ones only.
    known: Option<Window>,
    /// What a REGISTER asks for, as name and room; `None` for a LEAVE.
    asks: Option<(String, String)>,
    /// The window of the answer.
    acked: Option<Window>,
}

/// A member's whole list, as WINDOW and PEERS told it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct List {
    pub(super) room: String,
    pub(super) pass: String,
    pub(super) count: usize,
    pub(super) peers: BTreeSet<SocketAddr>,
}

/// All that members sent and were told.
#[derive(Default)]
pub(super) struct Ledger {
    sent: Vec<Sent>,
    by_id: HashMap<String, Vec<usize>>,
    by_addr: HashMap<SocketAddr, Vec<usize>>,
    names: HashSet<String>,
    acked: BTreeMap<Window, Vec<usize>>,
    told: BTreeMap<Window, HashMap<SocketAddr, (String, List)>>,
    /// The digest of each list that was ever told, by window and member.
    digests: HashMap<(Window, SocketAddr), u64>,
    /// What joined by `hit7 join` was told: window and name.
    joined: BTreeMap<Window, BTreeSet<String>>,
    pub(super) violations: Vec<String>,
    pub(super) acks: u64,
    pub(super) left: u64,
    pub(super) lists: u64,
    pub(super) missed: u64,
}

impl Ledger {
    /// Notes a request that is about to be sent, and returns its number.
    pub(super) fn sends(
        &mut self,
        id: &str,
        addr: SocketAddr,
        known: Option<Window>,
        asks: Option<(String, String)>,
    ) -> usize {
        let number = self.sent.len();
        self.by_id.entry(id.to_owned()).or_default().push(number);
        self.by_addr.entry(addr).or_default().push(number);
        self.names.extend(asks.iter().map(|(name, _)| name.clone()));
        self.sent.push(Sent { id: id.to_owned(), addr, known, asks, acked: None });
        number
    }

    /// Notes the answer to a request: REGISTERED or LEFT, which named `window`.
    pub(super) fn answered(&mut self, number: usize, window: Window) {
        let sent = &mut self.sent[number];
        if sent.acked == Some(window) {
            return;
        }
        if let Some(before) = sent.acked.replace(window).filter(|before| *before > window) {
            self.violations.push(format!("{}: told {before}, and then {window}", sent.id));
        }
        match sent.asks {
            Some(_) => {
                self.acked.entry(window).or_default().push(number);
                self.acks += 1;
            }
            None => self.left += 1,
        }
    }

    pub(super) fn joined(&mut self, window: Window, name: &str) {
        self.joined.entry(window).or_default().insert(name.to_owned());
    }

    /// Notes that `hit7 join` left the last window that it was promised.
    pub(super) fn left_again(&mut self, name: &str) {
        if let Some(names) = self.joined.values_mut().rev().find(|names| names.contains(name)) {
            names.remove(name);
        }
    }

    /// Notes the list that a member was told, which may never change.
    pub(super) fn told(&mut self, window: Window, addr: SocketAddr, id: &str, list: List) {
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        let digest = hasher.finish();
        if let Some(before) = self.digests.insert((window, addr), digest) {
            if before != digest {
                self.violations.push(format!("{window}: {id} at {addr} was told two lists"));
            }
            return;
        }
        self.lists += 1;
        self.told.entry(window).or_default().insert(addr, (id.to_owned(), list));
    }

    /// Returns whether a later request may have taken a registration out of its window; `Some(true)`
    /// if one certainly has.
    fn replaced(&self, number: usize, window: Window) -> Option<bool> {
        let sent = &self.sent[number];
        let later = |numbers: &[usize], also_leave: bool| {
            let later = numbers.iter().filter(|&&it| it > number).map(|&it| &self.sent[it]);
            let mine = later.filter(|it| it.known.is_none_or(|known| known < window));
            let mine = mine.filter(|it| also_leave || it.asks.is_some());
            mine.map(|it| it.acked == Some(window)).max()
        };
        later(&self.by_id[&sent.id], true).max(later(&self.by_addr[&sent.addr], false))
    }

    /// Returns whether there is something to hold against the document of a window: also long after
    /// the opening a retry may be told that its window is open.
    pub(super) fn is_about(&self, window: Window) -> bool {
        self.acked.contains_key(&window)
            || self.joined.contains_key(&window)
            || self.told.contains_key(&window)
    }

    /// Checks what was told of a window since the last time against its document.
    pub(super) fn check(&mut self, window: Window, document: &Document) {
        let mut wrong = Vec::new();
        let mut by_name = HashMap::new();
        let mut addrs = HashSet::new();
        for (room, members) in &document.rooms {
            for entry in members {
                self.check_entry(window, entry, &mut wrong);
                if !addrs.insert(entry.addr) {
                    wrong.push(format!("{} is in twice", entry.addr));
                }
                let name = entry.name.as_ref().map_or("", |name| name.as_str()).to_owned();
                by_name.insert(name, (entry.addr, room.as_str()));
            }
        }
        for &number in self.acked.get(&window).into_iter().flatten() {
            let sent = &self.sent[number];
            let Some((name, room)) = &sent.asks else { continue };
            let is_in = by_name.get(name) == Some(&(sent.addr, room.as_str()));
            match (self.replaced(number, window), is_in) {
                (None, false) => wrong.push(format!("acked and lost: {name} at {}", sent.addr)),
                (Some(true), true) => wrong.push(format!("replaced and in: {name}")),
                _ => {}
            }
        }
        for name in self.joined.get(&window).into_iter().flatten() {
            if !by_name.contains_key(name) {
                wrong.push(format!("acked and lost: hit7 join's {name}"));
            }
        }
        if let Some(opened) = document.opened
            && !(window.opens() <= opened && opened < document.closes)
        {
            wrong.push(format!("opened at {opened}, outside of its time"));
        }
        self.check_lists(window, document, &mut wrong);
        self.violations.extend(wrong.into_iter().map(|what| format!("{window}: {what}")));
        self.acked.remove(&window);
        self.joined.remove(&window);
    }

    fn check_entry(&self, window: Window, entry: &Entry, wrong: &mut Vec<String>) {
        let name = entry.name.as_ref().map_or("", |name| name.as_str());
        let is_ours = NAMES.iter().any(|ours| name.starts_with(ours));
        if is_ours && !self.names.contains(name) {
            wrong.push(format!("{name} never asked"));
        }
        if entry.registered >= window.opens() {
            wrong.push(format!("{name} registered at {}, after the opening", entry.registered));
        }
    }

    /// Checks the lists that members were told: the roster, or shares of it that are mutual.
    fn check_lists(&mut self, window: Window, document: &Document, wrong: &mut Vec<String>) {
        let Some(told) = self.told.remove(&window) else { return };
        if document.opened.is_none() {
            wrong.push("it was told as open, and its document says missed".to_owned());
        }
        let mut passes: HashMap<&str, &str> = HashMap::new();
        for (addr, (id, list)) in &told {
            let of_room = document.rooms.iter().find(|(room, _)| room.as_str() == list.room);
            let roster: BTreeSet<SocketAddr> =
                of_room.into_iter().flat_map(|(_, it)| it).map(|it| it.addr).collect();
            let is_whole = list.peers.len() == list.count;
            let is_right = match is_whole {
                true => list.peers == roster,
                false => {
                    let mutual = |peer| told.get(peer).is_none_or(|it| it.1.peers.contains(addr));
                    list.peers.is_subset(&roster)
                        && !list.peers.contains(addr)
                        && list.peers.iter().all(mutual)
                }
            };
            if !is_right || !roster.contains(addr) || list.count != roster.len() {
                let (count, all) = (list.count, roster.len());
                let peers = list.peers.len();
                wrong.push(format!("{id} at {addr}: {peers} of {count} told, {all} documented"));
            }
            if *passes.entry(&list.room).or_insert(&list.pass) != list.pass {
                wrong.push(format!("two passes in room {}", list.room));
            }
        }
    }

    /// Notes as broken each window that lacks the document it is owed.
    pub(super) fn check_missing(&mut self) {
        let owed = self.owed();
        self.violations.extend(owed.into_iter().map(|window| format!("{window}: no document")));
    }

    /// Returns the windows with members that have no document yet.
    pub(super) fn owed(&self) -> BTreeSet<Window> {
        let is_in = |(window, numbers): (&Window, &Vec<usize>)| {
            numbers.iter().any(|&it| self.replaced(it, *window).is_none()).then_some(*window)
        };
        let acked = self.acked.iter().filter_map(is_in);
        let joined = self.joined.iter().filter(|it| !it.1.is_empty()).map(|it| *it.0);
        acked.chain(joined).chain(self.told.keys().copied()).collect()
    }
}
