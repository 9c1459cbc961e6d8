//! Limits the members of a window: from one network, in a room, in all.

use std::fmt;
use std::net::SocketAddr;

use super::Registry;
use crate::path::network;
use crate::proto::Id;
use crate::record::Registration;
use crate::roster::Member;

/// The most members and rooms that a window accepts; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The most members of a window from one IPv4 address or IPv6 /64; trusted sources are exempt.
    pub per_ip: usize,
    /// The most members of one room.
    pub room: usize,
    /// The most members of one window.
    pub window: usize,
    /// The most rooms of one window.
    pub rooms: usize,
}

impl Default for Caps {
    /// Returns the default limits of `hit7 serve`, as the README lists them.
    fn default() -> Caps {
        Caps { per_ip: 256, room: 100_000, window: 1_000_000, rooms: 10_000 }
    }
}

/// The most ids that are remembered, as a multiple of the most members: ids that left or were
/// displaced are remembered too, so that late copies of their requests are ignored. Without a
/// bound, one address could register new ids at its full rate for all of a long window.
const IDS_PER_MEMBER: usize = 4;

/// The most records in flight at once, of all clients: while the disk stalls, they wait in memory.
const MAX_IN_FLIGHT: usize = 1 << 16;

/// A limit that a request would exceed, with its value.
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
    /// Returns the cap that a registration would exceed, if any; records in flight count as
    /// members. `holder` is the member that has the registration's address now.
    pub(super) fn reached_cap(
        &self,
        registration: &Registration,
        holder: Option<&Member>,
        trusted: bool,
    ) -> Option<Cap> {
        let Caps { per_ip, room: per_room, window, rooms } = self.config.caps;
        let (room, addr) = (&registration.profile.room, registration.path.peer);
        // A member that a record in flight moves or displaces may be gone before this replaces it.
        let stays = |it: &&Member| !self.in_flight.has_record_of(it.id.as_ref(), it.path.peer);
        let replaced = self.replaced_by(registration, holder).filter(stays);
        let from_here = replaced.is_some_and(|it| network(it.path.peer.ip()) == network(addr.ip()));
        let in_room = replaced.is_some_and(|it| it.profile.room == *room);
        let census = self.window_to_fill().census();
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

    /// Returns the cap that remembering an id would exceed; `None` if the id is known already, or a
    /// record of it is in flight, which is counted.
    pub(super) fn reached_cap_of_ids(
        &self,
        id: &Id,
        addr: SocketAddr,
        trusted: bool,
    ) -> Option<Cap> {
        let filling = self.window_to_fill();
        if filling.id_entry(id).is_some() || self.in_flight.last_of_id(id).is_some() {
            return None;
        }
        let Caps { per_ip, window, .. } = self.config.caps;
        let (per_ip, window) =
            (per_ip.saturating_mul(IDS_PER_MEMBER), window.saturating_mul(IDS_PER_MEMBER));
        let ids = filling.ids() + self.in_flight.records();
        match (per_ip, window) {
            (1.., _) if !trusted && filling.census().known_from(addr) >= per_ip => {
                Some(Cap::IdsPerIp(per_ip))
            }
            (_, 1..) if ids >= window => Some(Cap::Ids(window)),
            _ => None,
        }
    }

    /// Returns whether so many records wait for the disk that no more are accepted.
    pub(super) fn is_overfull(&self) -> bool {
        self.in_flight.records() >= MAX_IN_FLIGHT
    }

    /// Returns the member that a registration replaces: the one with its id, else the one at its
    /// address.
    fn replaced_by<'a>(
        &'a self,
        registration: &Registration,
        holder: Option<&'a Member>,
    ) -> Option<&'a Member> {
        match (&registration.id, holder) {
            (id, Some(holder)) if *id == holder.id => Some(holder),
            (Some(id), holder) => self.window_to_fill().find(id).or(holder),
            (None, holder) => holder,
        }
    }
}
