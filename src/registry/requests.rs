//! What a request means, given what is known of its id and address: rule 5 of docs/PROTOCOL.md.

use std::net::SocketAddr;

use super::in_flight::{Action, Pending};
use super::{Handled, Registry, answers};
use crate::clock::Now;
use crate::path::Path;
use crate::proto::{Id, Profile};
use crate::record::{Leaving, Record, Registration};
use crate::roster::{Member, Memory, Slot, Standing};
use crate::tally::{Code, DropReason};
use crate::window::Window;

/// What a request is, given what its id asked before (rule 5).
#[derive(Debug)]
enum Verdict<'a> {
    New,
    /// A retry of what was granted: where its member stands, or `None` if that was to leave.
    Retry(Window, Option<&'a Member>),
    Nothing(DropReason),
}

impl Registry {
    pub(super) fn handle_register(
        &mut self,
        now: Now,
        path: Path,
        (id, seq): (Option<Id>, Option<u64>),
        mut profile: Profile,
        trusted: bool,
    ) -> Handled {
        match self.judge(now, Action::Register, id.as_ref(), seq, path.peer) {
            Verdict::Nothing(why) => return Handled::Nothing(why),
            Verdict::Retry(_, None) => return Handled::Nothing(DropReason::Old),
            Verdict::Retry(window, Some(member)) => {
                let room = member.profile.room.clone();
                let answer = self.registered(now, path, id, seq, room, window);
                self.next.hear(path.peer, now.tenths());
                return Handled::Answer(answer);
            }
            Verdict::New => {}
        }
        let (window, at) = (self.filling().window(), now.wall);
        profile.lan.take_if(|lan| *lan == path.peer);
        let registration = Registration { window, at, path, id, seq, profile };
        let holder = self.filling().holder(path.peer);
        if self.changes_nothing(&registration, holder) {
            let answer = self.answer_registration(now, &registration);
            if let Some(id) = &registration.id {
                self.next.touch(id, seq);
            }
            self.next.hear(path.peer, now.tenths());
            return Handled::Answer(answer);
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable(path, seq), Code::Unavailable);
        }
        if let Some(cap) = self.reached_cap(&registration, holder, trusted) {
            let opens_in = now.wall.until(window.opens());
            return Handled::Refused(answers::full(path, seq, cap, opens_in), Code::Full);
        }
        self.propose(Record::Register(registration));
        Handled::Proposed
    }

    pub(super) fn handle_leave(
        &mut self,
        now: Now,
        path: Path,
        (id, seq): (Option<Id>, Option<u64>),
        trusted: bool,
    ) -> Handled {
        let window = self.filling().window();
        match self.judge(now, Action::Leave, id.as_ref(), seq, path.peer) {
            Verdict::Nothing(why) => return Handled::Nothing(why),
            Verdict::Retry(_, Some(_)) => return Handled::Nothing(DropReason::Old),
            Verdict::Retry(window, None) => {
                return Handled::Answer(answers::left(path, id, seq, window));
            }
            Verdict::New => {}
        }
        let unknown = |id| self.reached_cap_of_ids(id, path.peer, trusted).is_some();
        if !self.leaves_a_trace(id.as_ref(), seq, path.peer) || id.as_ref().is_some_and(unknown) {
            return Handled::Answer(answers::left(path, id, seq, window));
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable(path, seq), Code::Unavailable);
        }
        let leaving = Leaving { window, at: now.wall, path, id, seq };
        self.propose(Record::Leave(leaving));
        Handled::Proposed
    }

    /// Whether the journal is not to be asked now: it has just refused, is down, has too much to do,
    /// or an opening that is due must come first.
    fn cannot_propose(&self, now: Now) -> bool {
        let waits = self.is_due(now) && self.in_flight.opening().is_none();
        self.is_backing_off(now) || self.is_overfull() || waits
    }

    /// Rule 5: a higher `seq` is a new request, an equal one a retry, a lower one is old. An equal
    /// one from another address is new: its NAT has forgotten it. What the current window knows
    /// counts until it closes.
    fn judge(
        &self,
        now: Now,
        action: Action,
        id: Option<&Id>,
        seq: Option<u64>,
        addr: SocketAddr,
    ) -> Verdict<'_> {
        let (Some(id), Some(seq)) = (id, seq) else { return Verdict::New };
        if let Some(pending) = self.in_flight.of(id) {
            return match self.highest(id, pending) {
                Some(known) if seq < known => Verdict::Nothing(DropReason::Old),
                Some(known) if seq > known || pending.addr != addr => Verdict::New,
                Some(_) if pending.action == action => Verdict::Nothing(DropReason::UnderWay),
                Some(_) => Verdict::Nothing(DropReason::Old),
                None => Verdict::New,
            };
        }
        // What it asked without a `seq` since says nothing of the order of those with one.
        if let Some(memory) = self.next.memory(id).filter(|memory| memory.seq.is_some()) {
            let window = self.next.window();
            return recall(memory, seq, addr, window, |slot| self.next.member(slot));
        }
        match self.current.memory(id) {
            Some(memory) if !self.is_due(now) => {
                let window = self.current.window();
                recall(memory, seq, addr, window, |slot| self.current.member_in(slot))
            }
            _ => Verdict::New,
        }
    }

    /// The highest `seq` that is known of an id, of which a record is in flight. The current window's
    /// time may be over: a clock that is set back brings it back.
    fn highest(&self, id: &Id, pending: &Pending) -> Option<u64> {
        let filling = self.next.memory(id).and_then(|memory| memory.seq);
        let current = self.current.memory(id).and_then(|memory| memory.seq);
        pending.seq().max(filling).max(current)
    }

    /// Whether a registration finds itself in the next window already, as the `holder` of its
    /// address, and nothing under way can change that before it.
    fn changes_nothing(&self, registration: &Registration, holder: Option<&Member>) -> bool {
        let Registration { at: _, window: _, path, id, seq: _, profile } = registration;
        let same = |known: &Member| (&known.path, &known.id, &known.profile) == (path, id, profile);
        holder.is_some_and(same) && !self.in_flight.touches(id.as_ref(), path.peer)
    }

    /// Whether a LEAVE changes anything: who is in gets out, and a `seq` is remembered.
    fn leaves_a_trace(&self, id: Option<&Id>, seq: Option<u64>, addr: SocketAddr) -> bool {
        if self.in_flight.touches(id, addr) {
            return true;
        }
        match id {
            Some(id) => {
                let memory = self.filling().memory(id);
                seq.is_some() || memory.is_some_and(|m| matches!(m.standing, Standing::In(_)))
            }
            None => self.filling().holder(addr).is_some_and(|member| member.id.is_none()),
        }
    }
}

/// What a durable memory says of a request from `addr` with `seq`.
fn recall<'a>(
    memory: &Memory,
    seq: u64,
    addr: SocketAddr,
    window: Window,
    member: impl Fn(Slot) -> &'a Member,
) -> Verdict<'a> {
    match memory.seq {
        Some(known) if seq < known => return Verdict::Nothing(DropReason::Old),
        Some(known) if seq == known => {}
        _ => return Verdict::New,
    }
    match &memory.standing {
        Standing::In(slot) if member(*slot).path.peer == addr => {
            Verdict::Retry(window, Some(member(*slot)))
        }
        Standing::Left(from) if **from == addr => Verdict::Retry(window, None),
        Standing::Displaced(from) if **from == addr => Verdict::Nothing(DropReason::Displaced),
        _ => Verdict::New,
    }
}
