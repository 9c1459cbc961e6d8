//! Tracks records that were proposed and are not durable yet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::proto::{Id, Room};
use crate::record::{Opening, Record, Ticket};
use crate::roster::{Map, NextWindow};
use crate::window::Window;

/// The records that were proposed and are not durable yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    opening: Option<Opening>,
    ids: Map<Id, Pending>,
    addrs: Map<SocketAddr, Ticket>,
    /// All records but openings, in the order of their tickets.
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

/// The place of a proposed record in the census, the member counts, of its window.
#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    window: Window,
    /// The address and room that a registration is counted under; `None` for a LEAVE.
    place: Option<(SocketAddr, Room)>,
}

impl Pending {
    /// Returns the highest `seq` of the id that is in flight.
    pub(super) fn seq(&self) -> Option<u64> {
        self.seq.map(|(_, seq)| seq)
    }
}

impl Claim {
    fn release(self, window: &mut NextWindow) {
        if let Some((addr, room)) = self.place
            && self.window == window.window()
        {
            window.census_mut().remove(addr, &room);
        }
    }
}

impl InFlight {
    /// Returns the opening in flight, if any: records proposed after it are for the window after.
    pub(super) fn opening(&self) -> Option<&Opening> {
        self.opening.as_ref()
    }

    /// Notes a record that has just been proposed for `window`.
    pub(super) fn insert(&mut self, ticket: Ticket, record: &Record, window: &mut NextWindow) {
        let (id, addr, seq, action, place) = match record {
            Record::Open(opening) => return self.opening = Some(*opening),
            Record::Register(it) => {
                window.census_mut().add(it.path.peer, &it.profile.room);
                let place = Some((it.path.peer, it.profile.room.clone()));
                (&it.id, it.path.peer, it.seq, Action::Register, place)
            }
            Record::Leave(it) => (&it.id, it.path.peer, it.seq, Action::Leave, None),
        };
        self.claims.push_back(Claim { ticket, window: record.window(), place });
        self.addrs.insert(addr, ticket);
        if let Some(id) = id {
            let before = self.last_of_id(id).and_then(|pending| pending.seq);
            let seq = seq.map(|seq| (ticket, seq)).or(before);
            let pending = Pending { ticket, seq, addr, action };
            self.ids.insert(id.clone(), pending);
        }
    }

    /// Removes a record that has become durable, and its place in the census of `window`. Forgets its
    /// id unless a later record of that id is in flight, and its address likewise.
    pub(super) fn remove(&mut self, ticket: Ticket, record: &Record, window: &mut NextWindow) {
        let (id, addr) = match record {
            Record::Open(_) => return self.opening = None,
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

    /// Returns the number of records in flight, without openings.
    pub(super) fn records(&self) -> usize {
        self.claims.len()
    }
}
