//! What has been proposed and is not durable yet.

use std::net::{IpAddr, SocketAddr};

use crate::path::network;
use crate::proto::{Id, Room};
use crate::record::{Opening, Record, Registration, Ticket};
use crate::roster::{Counts, Map, count, decrease, increase};

/// The records that are under way to the log.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The `open` under way: what is proposed after it is for the window after.
    pub(super) opening: Option<Opening>,
    ids: Map<Id, Pending>,
    addrs: Map<SocketAddr, Ticket>,
    /// Records but `open`, and of them the registrations, counted for the caps.
    records: usize,
    members: usize,
    networks: Counts<IpAddr>,
    rooms: Counts<Room>,
}

/// The last record of an id that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    /// The highest of its id, as far as is known.
    pub(super) seq: Option<u64>,
    pub(super) addr: SocketAddr,
    pub(super) action: Action,
}

/// What an id last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Register,
    Leave,
}

impl InFlight {
    /// Notes a record that has just been proposed. `known` is the highest `seq` of its id before.
    pub(super) fn insert(&mut self, ticket: Ticket, record: &Record, known: Option<u64>) {
        let (id, addr, seq, action) = match record {
            Record::Open(opening) => return self.opening = Some(*opening),
            Record::Register(it) => {
                self.count(it);
                (&it.id, it.path.peer, it.seq, Action::Register)
            }
            Record::Leave(it) => (&it.id, it.path.peer, it.seq, Action::Leave),
        };
        self.records += 1;
        self.addrs.insert(addr, ticket);
        if let Some(id) = id {
            let pending = Pending { ticket, seq: known.max(seq), addr, action };
            self.ids.insert(id.clone(), pending);
        }
    }

    /// Forgets what has landed, unless a later record of the same id or address is under way.
    pub(super) fn remove(&mut self, ticket: Ticket, record: &Record) {
        let (id, addr) = match record {
            Record::Open(_) => return self.opening = None,
            Record::Register(it) => {
                self.uncount(it);
                (&it.id, it.path.peer)
            }
            Record::Leave(it) => (&it.id, it.path.peer),
        };
        self.records = self.records.saturating_sub(1);
        if self.addrs.get(&addr) == Some(&ticket) {
            self.addrs.remove(&addr);
        }
        if let Some(id) = id
            && self.ids.get(id).is_some_and(|pending| pending.ticket == ticket)
        {
            self.ids.remove(id);
        }
    }

    pub(super) fn of(&self, id: &Id) -> Option<&Pending> {
        self.ids.get(id)
    }

    pub(super) fn touches(&self, id: Option<&Id>, addr: SocketAddr) -> bool {
        self.addrs.contains_key(&addr) || id.is_some_and(|id| self.ids.contains_key(id))
    }

    /// Records under way, but `open`.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Registrations under way.
    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// Registrations under way from a network.
    pub(super) fn members_from(&self, network: IpAddr) -> usize {
        count(&self.networks, &network)
    }

    /// Registrations under way for a room.
    pub(super) fn members_in(&self, room: &Room) -> usize {
        count(&self.rooms, room)
    }

    /// Rooms that registrations under way are for.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.keys()
    }

    fn count(&mut self, registration: &Registration) {
        self.members += 1;
        increase(&mut self.networks, &network(registration.path.peer.ip()));
        increase(&mut self.rooms, &registration.profile.room);
    }

    fn uncount(&mut self, registration: &Registration) {
        self.members = self.members.saturating_sub(1);
        decrease(&mut self.networks, &network(registration.path.peer.ip()));
        decrease(&mut self.rooms, &registration.profile.room);
    }
}
