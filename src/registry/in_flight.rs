//! What has been proposed and is not durable yet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::proto::{Id, Room};
use crate::record::{Opening, Record, Ticket};
use crate::roster::{Map, NextWindow};
use crate::window::Window;

/// The records that are on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    opening: Option<Opening>,
    ids: Map<Id, Pending>,
    addrs: Map<SocketAddr, Ticket>,
    /// Every record but an opening, in the order of their tickets.
    claims: VecDeque<Claim>,
}

/// The last record of an id that is in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    /// The highest `seq` of its id that is in flight, and the record that has it: of those that have
    /// one, the last.
    seq: Option<(Ticket, u64)>,
    pub(super) addr: SocketAddr,
    pub(super) action: Action,
}

/// What an id last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Register,
    Leave,
}

/// What a record counts for in the census of its window.
#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    window: Window,
    /// The place of a registration; a withdrawal claims none.
    place: Option<(SocketAddr, Room)>,
}

impl Pending {
    /// The highest `seq` of its id that is in flight.
    pub(super) fn seq(&self) -> Option<u64> {
        self.seq.map(|(_, seq)| seq)
    }
}

impl Claim {
    fn release(self, window: &mut NextWindow) {
        if let Some((addr, room)) = self.place
            && self.window == window.window()
        {
            window.census_mut().release(addr, &room);
        }
    }
}

impl InFlight {
    /// The `open` in flight: what is proposed after it is for the window after.
    pub(super) fn opening(&self) -> Option<&Opening> {
        self.opening.as_ref()
    }

    /// Notes a record that has just been proposed for `window`.
    pub(super) fn insert(&mut self, ticket: Ticket, record: &Record, window: &mut NextWindow) {
        let (id, addr, seq, action, place) = match record {
            Record::Open(opening) => return self.opening = Some(*opening),
            Record::Register(it) => {
                window.census_mut().expect(it.path.peer, &it.profile.room);
                let place = Some((it.path.peer, it.profile.room.clone()));
                (&it.id, it.path.peer, it.seq, Action::Register, place)
            }
            Record::Leave(it) => (&it.id, it.path.peer, it.seq, Action::Leave, None),
        };
        self.claims.push_back(Claim { ticket, window: record.window(), place });
        self.addrs.insert(addr, ticket);
        if let Some(id) = id {
            let before = self.of(id).and_then(|pending| pending.seq);
            let seq = seq.map(|seq| (ticket, seq)).or(before);
            let pending = Pending { ticket, seq, addr, action };
            self.ids.insert(id.clone(), pending);
        }
    }

    /// Forgets a record that has become durable; of its id and address, unless a later record of
    /// the same is in flight.
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

    /// Forgets everything: the journal has refused it. `window` is the one being filled.
    pub(super) fn clear(&mut self, window: &mut NextWindow) {
        let InFlight { claims, .. } = std::mem::take(self);
        claims.into_iter().for_each(|claim| claim.release(window));
    }

    /// The last record of an id that is in flight.
    pub(super) fn of(&self, id: &Id) -> Option<&Pending> {
        self.ids.get(id)
    }

    /// Whether a record of that id or address is in flight.
    pub(super) fn touches(&self, id: Option<&Id>, addr: SocketAddr) -> bool {
        self.addrs.contains_key(&addr) || id.is_some_and(|id| self.ids.contains_key(id))
    }

    /// How many records are in flight, openings left out.
    pub(super) fn records(&self) -> usize {
        self.claims.len()
    }
}
