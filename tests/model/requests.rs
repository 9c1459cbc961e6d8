//! Decides whether a request is new, a retry or old, and checks what the registry made of it.

use std::net::SocketAddr;

use hit7::path::Transmit;
use hit7::proto::{Datagram, Id, Request, RequestKind};
use hit7::registry::Handled;
use hit7::window::{Wall, Window};

use super::{Check, Filling, IdState, Model, Rule};

/// Whether a request is new, a retry or old, given the earlier requests of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Retry(Window),
    /// The request is an older copy, or a retry of one that was undone: it gets no answer.
    Silence,
}

impl Model {
    /// Returns whether the current window has closed, or none has opened yet.
    pub(crate) fn is_over(&self, wall: Wall) -> bool {
        self.last_open.is_none_or(|last| wall >= self.current.settings.length.closes(last))
    }

    /// Returns the highest `seq` that is remembered of an id. Once the next window has one, that of
    /// the current window is forgotten, also if the clock is set back to before its close.
    pub(crate) fn highest(&self, id: &Id, current_counts: bool) -> Option<u64> {
        let seq = |of: &Filling| of.ids.get(id).and_then(|entry| entry.seq);
        seq(&self.next).or(if current_counts { seq(&self.current) } else { None })
    }

    pub(super) fn check_seq(
        &self,
        id: Option<&Id>,
        seq: Option<u64>,
        addr: SocketAddr,
        at: Wall,
    ) -> Check {
        let (Some(id), Some(seq)) = (id, seq) else { return Ok(()) };
        let highest = self.highest(id, !self.is_over(at));
        Rule::Once.require(highest <= Some(seq), || {
            format!("{id} goes back from seq {highest:?} to {seq}")
        })?;
        let before = self.next.ids.get(id);
        let twice = before.is_some_and(|it| it.seq == Some(seq) && it.addr == addr);
        Rule::Once.require(!twice, || format!("{id} has seq {seq} twice from {addr}"))
    }

    /// Returns what a request is, if no record of its id is in flight.
    pub(crate) fn verdict(&self, request: &Request, addr: SocketAddr, wall: Wall) -> Verdict {
        let state = match request.kind {
            RequestKind::Register(_) => IdState::Member,
            RequestKind::Leave => IdState::Left,
            RequestKind::Query { .. } => return Verdict::New,
        };
        let (Some(id), Some(seq)) = (&request.id, request.seq) else { return Verdict::New };
        let over = self.is_over(wall);
        if self.highest(id, !over) > Some(seq) {
            return Verdict::Silence;
        }
        let is_in_next = self.next.ids.get(id).is_some_and(|entry| entry.seq.is_some());
        let windows = [&self.next, &self.current].into_iter();
        let windows = windows.take(if over || is_in_next { 1 } else { 2 });
        let closes = |it: &Filling, window| it.settings.length.closes(window);
        let mut known = windows.filter_map(|it| {
            let window = it.window?;
            Some((window, closes(it, window), it.ids.get(id)?))
        });
        match known.find(|(_, _, entry)| entry.seq == Some(seq)) {
            Some((_, _, entry)) if entry.addr != addr => Verdict::New,
            Some((_, _, entry)) if entry.state != state => Verdict::Silence,
            Some((_, closes, _)) if wall >= closes => Verdict::New,
            Some((window, ..)) => Verdict::Retry(window),
            None => Verdict::New,
        }
    }

    /// Checks how the registry handled a request, if no record of its id is in flight.
    pub(crate) fn check_handled(
        &self,
        request: &Request,
        addr: SocketAddr,
        wall: Wall,
        handled: &Handled,
    ) -> Check {
        let verdict = self.verdict(request, addr, wall);
        let agrees = match verdict {
            Verdict::Silence => matches!(handled, Handled::Dropped(_)),
            Verdict::Retry(_) => matches!(handled, Handled::Answer(_)),
            Verdict::New => !matches!(handled, Handled::Dropped(_)),
        };
        Rule::Once.require(agrees, || {
            format!("{request:?} from {addr} is {verdict:?}, and was {handled:?}")
        })?;
        let (Verdict::Retry(window), Handled::Answer(answer)) = (verdict, handled) else {
            return Ok(());
        };
        let told = told_window(answer);
        Rule::Once
            .require(told == Some(window), || format!("a retry is told {told:?}, not {window}"))
    }
}

/// Returns the window that a REGISTERED or LEFT names.
pub(crate) fn told_window(answer: &Transmit) -> Option<Window> {
    match Datagram::decode(&answer.payload) {
        Ok(Datagram::Registered(it)) => Some(it.window),
        Ok(Datagram::Left(it)) => Some(it.window),
        _ => None,
    }
}
