//! Tracks records that were proposed and are not durable yet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::proto::{Id, Room};
use crate::record::{Entry, Record, Ticket};
use crate::roster::{Map, NextWindow};
use crate::window::Window;

/// The records that were proposed and are not durable yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The last `open` or `missed` that was proposed.
    ending: Option<Ticket>,
    ids: Map<Id, Pending>,
    addrs: Map<SocketAddr, Ticket>,
    /// The registrations and LEAVEs, in the order of their tickets.
    claims: VecDeque<Claim>,
}

/// The last record in flight of an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    /// The highest `seq` of the id that is in flight, with the ticket of its record: the last
    /// record that has a `seq`.
    seq: Option<(Ticket, u64)>,
    pub(super) addr: SocketAddr,
    pub(super) action: Action,
}

/// Whether an id last asked to register or to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Register,
    Leave,
}

/// A proposed record, and its place in the census, the member counts, of its window.
#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    window: Window,
    id: Option<Id>,
    seq: Option<u64>,
    addr: SocketAddr,
    counted: Counted,
}

/// What a record in flight is counted as in the census.
#[derive(Debug)]
enum Counted {
    /// A registration: a member of this room.
    Member(Room),
    /// A LEAVE of an id that the window does not know: an id that left.
    DepartedId,
    /// A LEAVE of an id that is counted already, or without an id.
    Nothing,
}

impl Pending {
    /// Returns the highest `seq` of the id that is in flight.
    pub(super) fn seq(&self) -> Option<u64> {
        self.seq.map(|(_, seq)| seq)
    }
}

impl Claim {
    fn release(&self, window: &mut NextWindow) {
        if self.window != window.window() {
            return;
        }
        match &self.counted {
            Counted::Member(room) => window.census_mut().remove(self.addr, room),
            Counted::DepartedId => window.census_mut().remove_departed(self.addr),
            Counted::Nothing => {}
        }
    }
}

impl InFlight {
    /// Returns whether the last record of a window, `open` or `missed`, is in flight: records
    /// proposed after it are for the window after.
    pub(super) fn has_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Notes a record that has just been proposed for `window`.
    pub(super) fn insert(&mut self, ticket: Ticket, record: &Record, window: &mut NextWindow) {
        let (id, addr, seq, counted) = match record {
            Record::Open(_) | Record::Missed(_) => return self.ending = Some(ticket),
            Record::Register(it) => {
                window.census_mut().add(it.path.peer, &it.profile.room);
                (&it.id, it.path.peer, it.seq, Counted::Member(it.profile.room.clone()))
            }
            Record::Leave(it) => {
                let is_new = |id| window.id_entry(id).is_none() && self.last_of_id(id).is_none();
                let is_unknown = it.id.as_ref().is_some_and(is_new);
                let counted = if is_unknown { Counted::DepartedId } else { Counted::Nothing };
                if is_unknown {
                    window.census_mut().add_departed(it.path.peer);
                }
                (&it.id, it.path.peer, it.seq, counted)
            }
        };
        self.note(Claim { ticket, window: record.window(), id: id.clone(), seq, addr, counted });
    }

    /// Adds a claim that is counted in the census already.
    fn note(&mut self, claim: Claim) {
        let Claim { ticket, seq, addr, .. } = claim;
        self.addrs.insert(addr, ticket);
        if let Some(id) = &claim.id {
            let before = self.last_of_id(id).and_then(|pending| pending.seq);
            let seq = seq.map(|seq| (ticket, seq)).or(before);
            let action = match claim.counted {
                Counted::Member(_) => Action::Register,
                Counted::DepartedId | Counted::Nothing => Action::Leave,
            };
            self.ids.insert(id.clone(), Pending { ticket, seq, addr, action });
        }
        self.claims.push_back(claim);
    }

    /// Forgets these records alone, and subtracts them from the counts of their windows.
    pub(super) fn forget(
        &mut self,
        gone: &[Entry],
        next: &mut NextWindow,
        mut after: Option<&mut NextWindow>,
    ) {
        let mut tickets: Vec<Ticket> = gone.iter().filter_map(|entry| entry.ticket).collect();
        tickets.sort_unstable();
        let is_gone = |ticket: Ticket| tickets.binary_search(&ticket).is_ok();
        let InFlight { ending, claims, .. } = std::mem::take(self);
        self.ending = ending.filter(|ticket| !is_gone(*ticket));
        for claim in claims {
            if is_gone(claim.ticket) {
                claim.release(next);
                after.iter_mut().for_each(|after| claim.release(after));
            } else {
                self.note(claim);
            }
        }
    }

    /// Removes a record that has become durable, and its place in the census of `window`. Forgets its
    /// id unless a later record of that id is in flight, and its address likewise.
    pub(super) fn remove(&mut self, ticket: Ticket, record: &Record, window: &mut NextWindow) {
        let (id, addr) = match record {
            Record::Open(_) | Record::Missed(_) => {
                self.ending.take_if(|of| *of == ticket);
                return;
            }
            Record::Register(it) => (&it.id, it.path.peer),
            Record::Leave(it) => (&it.id, it.path.peer),
        };
        while self.claims.front().is_some_and(|claim| claim.ticket <= ticket)
            && let Some(claim) = self.claims.pop_front()
        {
            claim.release(window);
        }
        if self.addrs.get(&addr) == Some(&ticket) {
            self.addrs.remove(&addr);
        }
        let Some(id) = id else { return };
        let Some(pending) = self.ids.get_mut(id) else { return };
        pending.seq.take_if(|(of, _)| *of == ticket);
        if pending.ticket == ticket {
            self.ids.remove(id);
        }
    }

    /// Forgets all records, as the journal has refused them, and subtracts them from the counts of
    /// `window`, the one being filled.
    pub(super) fn clear(&mut self, window: &mut NextWindow) {
        let InFlight { claims, .. } = std::mem::take(self);
        claims.into_iter().for_each(|claim| claim.release(window));
    }

    /// Returns the last record in flight of an id, if any.
    pub(super) fn last_of_id(&self, id: &Id) -> Option<&Pending> {
        self.ids.get(id)
    }

    /// Returns whether a record of `id` or of `addr` is in flight.
    pub(super) fn has_record_of(&self, id: Option<&Id>, addr: SocketAddr) -> bool {
        self.addrs.contains_key(&addr) || id.is_some_and(|id| self.ids.contains_key(id))
    }

    /// Returns the number of registrations and LEAVEs in flight.
    pub(super) fn records(&self) -> usize {
        self.claims.len()
    }
}
