//! Decides whether a request is new, a retry or old, by its id, `seq` and address: rule 5 of
//! docs/PROTOCOL.md.

use std::net::SocketAddr;

use super::in_flight::{Action, Pending};
use super::{Handled, Registry, answers};
use crate::clock::Now;
use crate::path::Path;
use crate::proto::{Id, Profile};
use crate::record::{Leaving, Record, Registration};
use crate::roster::{IdEntry, IdState, Member, Slot};
use crate::tally::{Code, DropReason};
use crate::window::Window;

/// Whether a request is new, a retry or to be dropped, by the earlier requests of its id (rule 5).
#[derive(Debug)]
enum Verdict<'a> {
    New,
    /// A retry of a granted request: its window, and the member, or `None` if that was a LEAVE.
    Retry(Window, Option<&'a Member>),
    Drop(DropReason),
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
            Verdict::Drop(why) => return Handled::Dropped(why),
            Verdict::Retry(_, None) => return Handled::Dropped(DropReason::Old),
            Verdict::Retry(window, Some(member)) => {
                let room = member.profile.room.clone();
                let answer = self.registered(now, path, id, seq, room, window);
                self.next.note_heard(path.peer, now.tenths());
                return Handled::Answer(answer);
            }
            Verdict::New => {}
        }
        let (window, at) = (self.window_to_fill().window(), now.wall);
        profile.lan.take_if(|lan| *lan == path.peer);
        let registration = Registration { window, at, path, id, seq, profile };
        let holder = self.window_to_fill().member_at(path.peer);
        if !self.fills_what_is_due(now) && self.changes_nothing(&registration, holder) {
            let answer = self.answer_registration(now, &registration);
            self.next.note_heard(path.peer, now.tenths());
            return Handled::Answer(answer);
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable_error(path, seq), Code::Unavailable);
        }
        if let Some(cap) = self.reached_cap(&registration, holder, trusted) {
            let opens_in = now.wall.until(window.opens());
            return Handled::Refused(answers::full_error(path, seq, cap, opens_in), Code::Full);
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
        let window = self.window_to_fill().window();
        match self.judge(now, Action::Leave, id.as_ref(), seq, path.peer) {
            Verdict::Drop(why) => return Handled::Dropped(why),
            Verdict::Retry(_, Some(_)) => return Handled::Dropped(DropReason::Old),
            Verdict::Retry(window, None) => {
                return Handled::Answer(answers::left_answer(path, id, seq, window));
            }
            Verdict::New => {}
        }
        let unknown = |id| self.reached_cap_of_ids(id, path.peer, trusted).is_some();
        let changes_nothing =
            !self.leaves_a_trace(id.as_ref(), seq, path.peer) || id.as_ref().is_some_and(unknown);
        if changes_nothing && !self.fills_what_is_due(now) {
            return Handled::Answer(answers::left_answer(path, id, seq, window));
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable_error(path, seq), Code::Unavailable);
        }
        let leaving = Leaving { window, at: now.wall, path, id, seq };
        self.propose(Record::Leave(leaving));
        Handled::Proposed
    }

    /// Returns whether no record may be proposed now: the journal has just refused one, is down or
    /// overloaded, or an opening that is due must come first.
    fn cannot_propose(&self, now: Now) -> bool {
        self.is_backing_off(now) || self.is_overfull() || self.fills_what_is_due(now)
    }

    /// Returns whether the window that a record would be for is due to open: no new request may be
    /// for that window any more (rule 1).
    fn fills_what_is_due(&self, now: Now) -> bool {
        now.wall >= self.window_to_fill().window().opens()
    }

    /// Applies rule 5: a request with a higher `seq` is new, with an equal one a retry, with a
    /// lower one old. An equal `seq` from another address is new: the client's NAT gave it another
    /// port. What the current window remembers counts until it closes.
    fn judge(
        &self,
        now: Now,
        action: Action,
        id: Option<&Id>,
        seq: Option<u64>,
        addr: SocketAddr,
    ) -> Verdict<'_> {
        let (Some(id), Some(seq)) = (id, seq) else { return Verdict::New };
        if let Some(pending) = self.in_flight.last_of_id(id) {
            return match self.highest_seq(id, pending) {
                Some(known) if seq < known => Verdict::Drop(DropReason::Old),
                Some(known) if seq > known || pending.addr != addr => Verdict::New,
                Some(_) if pending.action == action => Verdict::Drop(DropReason::UnderWay),
                Some(_) => Verdict::Drop(DropReason::Old),
                None => Verdict::New,
            };
        }
        // Later requests of the id without a `seq` do not order those that have one.
        if let Some(entry) = self.next.id_entry(id).filter(|entry| entry.seq.is_some()) {
            let window = self.next.window();
            let verdict =
                verdict_of_known_id(entry, seq, addr, window, |slot| self.next.member(slot));
            let has_closed = now.wall >= self.next.length().closes(window);
            // An answer would name a window that can only be missed.
            return match (&verdict, action) {
                (Verdict::Retry(_, Some(_)), Action::Register) if has_closed => Verdict::New,
                (Verdict::Retry(_, None), Action::Leave) if has_closed => Verdict::New,
                _ => verdict,
            };
        }
        match self.current.id_entry(id) {
            Some(entry) if now.wall < self.current.closes() => {
                let window = self.current.window();
                verdict_of_known_id(entry, seq, addr, window, |slot| self.current.member_in(slot))
            }
            _ => Verdict::New,
        }
    }

    /// Returns the highest `seq` known of an id that has a record in flight. The current window is
    /// asked too even if it has closed, as the clock may be set back.
    fn highest_seq(&self, id: &Id, pending: &Pending) -> Option<u64> {
        let filling = self.next.id_entry(id).and_then(|entry| entry.seq);
        let current = self.current.id_entry(id).and_then(|entry| entry.seq);
        pending.seq().max(filling).max(current)
    }

    /// Returns whether the same registration is in the next window already, as the `holder` of its
    /// address, and no record in flight can change that. A higher `seq` of an id is a change: after
    /// a crash, an older request must not be obeyed (rule 5).
    fn changes_nothing(&self, registration: &Registration, holder: Option<&Member>) -> bool {
        let Registration { at: _, window: _, path, id, seq, profile } = registration;
        if id.is_some() && seq.is_some() {
            return false;
        }
        let same = |known: &Member| (&known.path, &known.id, &known.profile) == (path, id, profile);
        holder.is_some_and(same) && !self.in_flight.has_record_of(id.as_ref(), path.peer)
    }

    /// Returns whether a LEAVE changes anything: it removes a member, or its `seq` is remembered.
    fn leaves_a_trace(&self, id: Option<&Id>, seq: Option<u64>, addr: SocketAddr) -> bool {
        if self.in_flight.has_record_of(id, addr) {
            return true;
        }
        match id {
            Some(id) => {
                let entry = self.window_to_fill().id_entry(id);
                seq.is_some()
                    || entry.is_some_and(|entry| matches!(entry.state, IdState::Member(_)))
            }
            None => self.window_to_fill().member_at(addr).is_some_and(|member| member.id.is_none()),
        }
    }
}

/// Returns what a request from `addr` with `seq` is, by what a window remembers of its id.
fn verdict_of_known_id<'a>(
    entry: &IdEntry,
    seq: u64,
    addr: SocketAddr,
    window: Window,
    member: impl Fn(Slot) -> &'a Member,
) -> Verdict<'a> {
    match entry.seq {
        Some(known) if seq < known => return Verdict::Drop(DropReason::Old),
        Some(known) if seq == known => {}
        _ => return Verdict::New,
    }
    match &entry.state {
        IdState::Member(slot) if member(*slot).path.peer == addr => {
            Verdict::Retry(window, Some(member(*slot)))
        }
        IdState::Left(from) if **from == addr => Verdict::Retry(window, None),
        IdState::Displaced(from) if **from == addr => Verdict::Drop(DropReason::Displaced),
        _ => Verdict::New,
    }
}
