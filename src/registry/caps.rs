//! How many members a window takes: from one network, in a room, in all.

use std::fmt;
use std::net::SocketAddr;

use super::Registry;
use crate::path::network;
use crate::proto::Id;
use crate::record::Registration;
use crate::roster::Member;

/// The most of each; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Members a window from one IPv4 address, or from one /64 of IPv6. Not of trusted sources.
    pub per_ip: usize,
    /// Members of one room.
    pub room: usize,
    /// Members of one window.
    pub window: usize,
    /// Rooms of one window.
    pub rooms: usize,
}

impl Default for Caps {
    /// The limits without any flag, as the README lists them.
    fn default() -> Caps {
        Caps { per_ip: 256, room: 100_000, window: 1_000_000, rooms: 10_000 }
    }
}

/// The most ids that are remembered, as a multiple of the most members: ids that left or were
/// displaced are remembered too, so that late copies of their requests come to nothing. Without a
/// bound, one address could register under a new id as often as its rate allows, all of a long window.
const IDS: usize = 4;

/// The most records in flight at once, whoever sends them: while the disk stands still, what is
/// proposed waits in memory.
const MAX_IN_FLIGHT: usize = 1 << 16;

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cap {
    PerIp(usize),
    Room(usize),
    Window(usize),
    Rooms(usize),
    IdsPerIp(usize),
    Ids(usize),
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cap::PerIp(cap) => write!(f, "the next window has {cap} members from your address"),
            Cap::Room(cap) => write!(f, "the room has {cap} members in the next window"),
            Cap::Window(cap) => write!(f, "the next window has {cap} members"),
            Cap::Rooms(cap) => write!(f, "the next window has {cap} rooms: join one of them"),
            Cap::IdsPerIp(cap) => write!(f, "the next window knows {cap} ids from your address"),
            Cap::Ids(cap) => write!(f, "the next window knows {cap} ids"),
        }?;
        f.write_str(", and takes no more")
    }
}

impl Registry {
    /// The cap that a registration would exceed, where all that is in flight counts as in. `holder`
    /// has its address now.
    pub(super) fn reached_cap(
        &self,
        registration: &Registration,
        holder: Option<&Member>,
        trusted: bool,
    ) -> Option<Cap> {
        let Caps { per_ip, room: per_room, window, rooms } = self.config.caps;
        let (room, addr) = (&registration.profile.room, registration.path.peer);
        let replaced = self.replaced_by(registration, holder);
        let from_here = replaced.is_some_and(|it| network(it.path.peer.ip()) == network(addr.ip()));
        let in_room = replaced.is_some_and(|it| it.profile.room == *room);
        let census = self.filling().census();
        let reaches = |cap: usize, count: usize| cap != 0 && count >= cap;

        if !trusted && !from_here && reaches(per_ip, census.members_from(addr)) {
            return Some(Cap::PerIp(per_ip));
        }
        if !in_room && reaches(per_room, census.members_in(room)) {
            return Some(Cap::Room(per_room));
        }
        if census.members_in(room) == 0 && reaches(rooms, census.rooms()) {
            return Some(Cap::Rooms(rooms));
        }
        if replaced.is_none() && reaches(window, census.members()) {
            return Some(Cap::Window(window));
        }
        let id = registration.id.as_ref()?;
        self.reached_cap_of_ids(id, addr, trusted)
    }

    /// The cap that remembering an id would exceed; none if it is remembered already.
    pub(super) fn reached_cap_of_ids(
        &self,
        id: &Id,
        addr: SocketAddr,
        trusted: bool,
    ) -> Option<Cap> {
        let filling = self.filling();
        if filling.memory(id).is_some() {
            return None;
        }
        let Caps { per_ip, window, .. } = self.config.caps;
        let (per_ip, window) = (per_ip.saturating_mul(IDS), window.saturating_mul(IDS));
        let ids = filling.ids() + self.in_flight.records();
        match (per_ip, window) {
            (1.., _) if !trusted && filling.census().known_from(addr) >= per_ip => {
                Some(Cap::IdsPerIp(per_ip))
            }
            (_, 1..) if ids >= window => Some(Cap::Ids(window)),
            _ => None,
        }
    }

    /// Whether so much waits for the disk that no more is taken.
    pub(super) fn is_overfull(&self) -> bool {
        self.in_flight.records() >= MAX_IN_FLIGHT
    }

    /// The member whose place a registration takes: its own, else its address's.
    fn replaced_by<'a>(
        &'a self,
        registration: &Registration,
        holder: Option<&'a Member>,
    ) -> Option<&'a Member> {
        match (&registration.id, holder) {
            (id, Some(holder)) if *id == holder.id => Some(holder),
            (Some(id), holder) => self.filling().find(id).or(holder),
            (None, holder) => holder,
        }
    }
}
