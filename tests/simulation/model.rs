//! The registry as a person would keep it, in a ledger: no sockets, no answers under way, no
//! cleverness. It is fed the log in its order, and must agree on windows, rosters and answers.

mod requests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hit7::proto::{Id, Profile, Room};
use hit7::record::{Record, Registration};
use hit7::window::{Length, Wall, Window};

pub(crate) use requests::Verdict;

/// Which rule is broken, and how.
pub(crate) type Broken = (u8, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Option<Id>,
    pub(crate) profile: Profile,
    pub(crate) registered: Wall,
}

pub(crate) type Members = BTreeMap<SocketAddr, Member>;

impl Member {
    fn of(it: &Registration) -> Member {
        let Registration { id, profile, at, .. } = it.clone();
        Member { id, profile, registered: at }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    In,
    Left,
    Displaced,
}

/// What is known of an id: the address it last asked from, and what became of it.
#[derive(Clone, Debug)]
struct Known {
    seq: Option<u64>,
    addr: SocketAddr,
    standing: Standing,
}

/// One window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) window: Option<Window>,
    pub(crate) members: Members,
    known: BTreeMap<Id, Known>,
}

impl Book {
    fn of(window: Window) -> Book {
        Book { window: Some(window), ..Book::default() }
    }

    fn remove(&mut self, id: &Id) {
        self.members.retain(|_, member| member.id.as_ref() != Some(id));
    }

    fn remember(&mut self, id: &Id, seq: Option<u64>, addr: SocketAddr, standing: Standing) {
        let before = self.known.get(id).and_then(|known| known.seq);
        self.known.insert(id.clone(), Known { seq: before.max(seq), addr, standing });
    }

    /// The members of a room, in the order of their addresses.
    pub(crate) fn room(&self, room: &Room) -> Vec<SocketAddr> {
        let there = self.members.iter().filter(|(_, member)| member.profile.room == *room);
        there.map(|(addr, _)| *addr).collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    length: Length,
    pub(crate) last_open: Option<Window>,
    pub(crate) current: Book,
    pub(crate) next: Book,
    /// The members of the window that the last `open` passed over.
    pub(crate) missed: Option<(Window, Members)>,
}

impl Model {
    pub(crate) fn new(length: Length) -> Model {
        let (current, next) = (Book::default(), Book::default());
        Model { length, last_open: None, current, next, missed: None }
    }

    /// The window that follows the last one opened.
    fn following(&self) -> Option<Window> {
        self.last_open.map(|last| self.length.first_from(self.length.closes(last)))
    }

    /// A record takes its place in the log.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Broken> {
        if let Record::Open(opening) = record {
            return self.open(opening.window, self.length.window_at(opening.at));
        }
        let window = record.window();
        let expected = self.following().or(self.next.window).unwrap_or(window);
        if window != expected {
            return Err((1, format!("a record for {window} where {expected} is filled")));
        }
        self.next.window = Some(window);
        match record {
            Record::Register(it) => {
                self.check_seq(it.id.as_ref(), it.seq, it.path.peer)?;
                if let Some(id) = &it.id {
                    self.next.remove(id);
                }
                let (addr, id) = (it.path.peer, it.id.clone());
                let before = self.next.members.insert(addr, Member::of(it));
                if let Some(other) = before.and_then(|before| before.id)
                    && let Some(known) = self.next.known.get_mut(&other)
                {
                    (known.addr, known.standing) = (addr, Standing::Displaced);
                }
                if let Some(id) = id {
                    self.next.remember(&id, it.seq, addr, Standing::In);
                }
            }
            Record::Leave(it) => {
                self.check_seq(it.id.as_ref(), it.seq, it.path.peer)?;
                match &it.id {
                    Some(id) => {
                        self.next.remove(id);
                        self.next.remember(id, it.seq, it.path.peer, Standing::Left);
                    }
                    None => {
                        let addr = it.path.peer;
                        self.next.members.retain(|at, member| *at != addr || member.id.is_some());
                    }
                }
            }
            Record::Open(_) => unreachable!("handled above"),
        }
        Ok(())
    }

    fn open(&mut self, window: Window, at: Window) -> Result<(), Broken> {
        if self.last_open >= Some(window) {
            return Err((6, format!("{window} opens after {:?}", self.last_open)));
        }
        if at != window {
            return Err((6, format!("{window} opens outside its time, at {at}")));
        }
        let book = std::mem::take(&mut self.next);
        self.current = if book.window == Some(window) { book.clone() } else { Book::of(window) };
        self.missed = book.window.filter(|it| *it < window).map(|it| (it, book.members));
        self.last_open = Some(window);
        self.next.window = self.following();
        Ok(())
    }
}
