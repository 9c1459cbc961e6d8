//! The registry as a person would keep it, in a ledger: no sockets, no answers under way, no
//! cleverness. It is fed the log in its order, and must agree on windows, rosters and answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hit7::proto::{Id, Leave, Register, Registered, Request, Room};
use hit7::record::Record;
use hit7::window::{Length, Window};

/// Which rule is broken, and how.
pub(crate) type Broken = (u8, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Option<Id>,
    pub(crate) room: Room,
    pub(crate) lan: Option<SocketAddr>,
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
    pub(crate) members: BTreeMap<SocketAddr, Member>,
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
        let there = self.members.iter().filter(|(_, member)| member.room == *room);
        there.map(|(addr, _)| *addr).collect()
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Retry(Window),
    Silence,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    length: Length,
    pub(crate) last_open: Option<Window>,
    pub(crate) current: Book,
    pub(crate) next: Book,
}

impl Model {
    pub(crate) fn new(length: Length) -> Model {
        Model { length, last_open: None, current: Book::default(), next: Book::default() }
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
                let member = Member { id: id.clone(), room: it.room.clone(), lan: it.lan };
                let before = self.next.members.insert(addr, member);
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
        self.current = if book.window == Some(window) { book } else { Book::of(window) };
        self.last_open = Some(window);
        self.next.window = self.following();
        Ok(())
    }

    /// The highest `seq` that is remembered of an id.
    fn highest(&self, id: &Id, current_counts: bool) -> Option<u64> {
        let seq = |book: &Book| book.known.get(id).and_then(|known| known.seq);
        seq(&self.next).max(if current_counts { seq(&self.current) } else { None })
    }

    fn check_seq(&self, id: Option<&Id>, seq: Option<u64>, addr: SocketAddr) -> Result<(), Broken> {
        let (Some(id), Some(seq)) = (id, seq) else { return Ok(()) };
        let highest = self.highest(id, true);
        if highest > Some(seq) {
            return Err((5, format!("{id} goes back from seq {highest:?} to {seq}")));
        }
        let known = self.next.known.get(id).filter(|known| known.seq == Some(seq));
        if known.is_some_and(|known| known.addr == addr) {
            return Err((5, format!("{id} has seq {seq} twice from {addr}")));
        }
        Ok(())
    }

    /// What is remarkable about a record that is about to be applied.
    pub(crate) fn remark(&self, record: &Record) -> Option<&'static str> {
        let Record::Register(it) = record else { return None };
        let holder = self.next.members.get(&it.path.peer);
        if holder.is_some_and(|holder| holder.id.is_some() && holder.id != it.id) {
            return Some(match it.id {
                Some(_) => "an address was taken over by another id",
                None => "an address was taken over without an id",
            });
        }
        let known = self.next.known.get(it.id.as_ref()?)?;
        if known.addr == it.path.peer {
            return None;
        }
        let equal = known.seq.is_some() && known.seq == it.seq;
        Some(if equal { "an equal seq came from another address" } else { "an id moved" })
    }

    /// What is remarkable about a request, given what it is.
    pub(crate) fn remark_on(
        &self,
        request: &Request,
        addr: SocketAddr,
        verdict: Verdict,
    ) -> Option<&'static str> {
        let id = match request {
            Request::Register(it) => it.id.as_ref()?,
            Request::Leave(it) => it.id.as_ref()?,
            _ => return None,
        };
        match verdict {
            Verdict::Retry(window) if self.current.window == Some(window) => {
                Some("a retry over a boundary")
            }
            Verdict::Silence => {
                let known = self.next.known.get(id).or(self.current.known.get(id))?;
                match known.standing {
                    Standing::Left => Some("an older copy came after a LEAVE"),
                    _ if known.addr != addr => Some("an older copy came after a move"),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What a request is, nothing being under way; `due`: the current window's time is over.
    pub(crate) fn verdict(&self, request: &Request, addr: SocketAddr, due: bool) -> Verdict {
        let (id, seq, standing) = match request {
            Request::Register(Register { id, seq, .. }) => (id, seq, Standing::In),
            Request::Leave(Leave { id, seq, .. }) => (id, seq, Standing::Left),
            _ => return Verdict::New,
        };
        let (Some(id), Some(seq)) = (id, *seq) else { return Verdict::New };
        if self.highest(id, !due) > Some(seq) {
            return Verdict::Silence;
        }
        let books = [&self.next, &self.current].into_iter().take(if due { 1 } else { 2 });
        let mut known = books.filter_map(|book| Some((book.window?, book.known.get(id)?)));
        match known.find(|(_, known)| known.seq == Some(seq)) {
            Some((_, known)) if known.addr != addr => Verdict::New,
            Some((window, known)) if known.standing == standing => Verdict::Retry(window),
            Some(_) => Verdict::Silence,
            None => Verdict::New,
        }
    }

    /// Whether the registry may say so: everything it promises is in the log.
    pub(crate) fn check(&mut self, to: SocketAddr, it: &Registered<'_>) -> Result<(), Broken> {
        let book = match Some(it.window) {
            window if window == self.next.window => &mut self.next,
            window if window == self.current.window => &mut self.current,
            _ => return Err((1, format!("REGISTERED for {}, neither open nor next", it.window))),
        };
        let member = book.members.get(&to);
        if member.is_none_or(|member| member.id != it.id || member.room != it.room) {
            return Err((2, format!("REGISTERED for {} to {to}, who is not in", it.window)));
        }
        let Some(known) = it.id.as_ref().and_then(|id| book.known.get_mut(id)) else {
            return Ok(());
        };
        if it.seq.is_some() && known.seq > it.seq {
            return Err((5, format!("REGISTERED answers seq {:?} after {:?}", it.seq, known.seq)));
        }
        known.seq = known.seq.max(it.seq);
        Ok(())
    }
}
