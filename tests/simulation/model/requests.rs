//! What the ledger says of a request, and of an answer: rule 5, and what is remarkable.

use std::net::SocketAddr;

use hit7::proto::{Id, Left, Registered, Request, RequestKind};
use hit7::record::Record;
use hit7::window::Window;

use super::{Book, Broken, Member, Model, Standing};

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Retry(Window),
    Silence,
}

impl Model {
    /// The highest `seq` that is remembered of an id.
    fn highest(&self, id: &Id, current_counts: bool) -> Option<u64> {
        let seq = |book: &Book| book.known.get(id).and_then(|known| known.seq);
        seq(&self.next).max(if current_counts { seq(&self.current) } else { None })
    }

    pub(super) fn check_seq(
        &self,
        id: Option<&Id>,
        seq: Option<u64>,
        addr: SocketAddr,
    ) -> Result<(), Broken> {
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
        if matches!(request.kind, RequestKind::Query { .. }) {
            return None;
        }
        let id = request.id.as_ref()?;
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
        let standing = match request.kind {
            RequestKind::Register(_) => Standing::In,
            RequestKind::Leave => Standing::Left,
            RequestKind::Query { .. } => return Verdict::New,
        };
        let (Some(id), Some(seq)) = (&request.id, request.seq) else { return Verdict::New };
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
        if member.is_none_or(|member| member.id != it.id || member.profile.room != it.room) {
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

    /// Whether the registry may say so: who has left is not in.
    pub(crate) fn check_left(&self, to: SocketAddr, it: &Left) -> Result<(), Broken> {
        for book in [&self.next, &self.current] {
            let is_it = |(addr, member): (&SocketAddr, &Member)| match &it.id {
                Some(_) => member.id == it.id,
                None => member.id.is_none() && *addr == to,
            };
            if book.window == Some(it.window) && book.members.iter().any(is_it) {
                return Err((2, format!("LEFT for {} to {to}, who is in", it.window)));
            }
        }
        Ok(())
    }
}
