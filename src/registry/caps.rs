//! How many members a window takes: from one network, in a room, in all.

use std::fmt;
use std::net::SocketAddr;

use super::Registry;
use crate::path::network;
use crate::proto::Id;
use crate::record::Registration;
use crate::roster::{Member, NextWindow};

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
    /// What a registry takes that is not told else.
    fn default() -> Caps {
        Caps { per_ip: 256, room: 100_000, window: 1_000_000, rooms: 10_000 }
    }
}

/// Ids that are remembered for each member that may be: those that left or were displaced are, so
/// that late copies of their requests come to nothing. Without an end to it, one address could
/// register under a new id as often as its rate allows, all of a long window.
const IDS: usize = 4;

/// Records that may be under way at once, whoever sends them: while the disk stands still, what is
/// proposed waits in memory.
const UNDER_WAY: usize = 1 << 16;

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
    /// The cap that a registration would exceed, all that is under way counted as in. `holder` has
    /// its address now.
    pub(super) fn reached_cap(
        &self,
        registration: &Registration,
        holder: Option<&Member>,
        trusted: bool,
    ) -> Option<Cap> {
        let Caps { per_ip, room: per_room, window, rooms } = self.config.caps;
        let (room, network) = (&registration.profile.room, network(registration.path.peer.ip()));
        let replaced = self.replaced_by(registration, holder);
        let from_here = replaced.is_some_and(|it| self::network(it.path.peer.ip()) == network);
        let in_room = replaced.is_some_and(|it| it.profile.room == *room);
        let (next, in_flight) = (self.head_filling(), &self.in_flight);
        let reaches = |cap: usize, count: usize| cap != 0 && count >= cap;

        if !trusted && !from_here {
            let from =
                next.map_or(0, |it| it.members_from(network)) + in_flight.members_from(network);
            if reaches(per_ip, from) {
                return Some(Cap::PerIp(per_ip));
            }
        }
        if !in_room {
            let within = next.map_or(0, |it| it.members_in(room)) + in_flight.members_in(room);
            if reaches(per_room, within) {
                return Some(Cap::Room(per_room));
            }
            if within == 0 && reaches(rooms, self.count_rooms()) {
                return Some(Cap::Rooms(rooms));
            }
        }
        if replaced.is_none() {
            let members = next.map_or(0, NextWindow::len) + in_flight.members();
            if reaches(window, members) {
                return Some(Cap::Window(window));
            }
        }
        let id = registration.id.as_ref()?;
        self.reached_cap_of_ids(id, registration.path.peer, trusted)
    }

    /// The cap that remembering an id would exceed; none if it is remembered already.
    pub(super) fn reached_cap_of_ids(
        &self,
        id: &Id,
        addr: SocketAddr,
        trusted: bool,
    ) -> Option<Cap> {
        let (next, network) = (self.head_filling(), network(addr.ip()));
        if next.is_some_and(|next| next.memory(id).is_some()) {
            return None;
        }
        let Caps { per_ip, window, .. } = self.config.caps;
        let (per_ip, window) = (per_ip.saturating_mul(IDS), window.saturating_mul(IDS));
        let known = |next: &NextWindow| next.members_from(network) + next.traces_from(network);
        let from = next.map_or(0, known) + self.in_flight.members_from(network);
        let ids = next.map_or(0, NextWindow::ids) + self.in_flight.records();
        match (per_ip, window) {
            (1.., _) if !trusted && from >= per_ip => Some(Cap::IdsPerIp(per_ip)),
            (_, 1..) if ids >= window => Some(Cap::Ids(window)),
            _ => None,
        }
    }

    /// Whether so much waits for the disk that no more is taken.
    pub(super) fn is_overfull(&self) -> bool {
        self.in_flight.records() >= UNDER_WAY
    }

    /// The window that a record proposed now is for, as far as it is filled; `None` if it is only
    /// begun when the `open` under way takes effect.
    fn head_filling(&self) -> Option<&NextWindow> {
        self.in_flight.opening.is_none().then_some(&self.next)
    }

    /// The member whose place a registration takes: its own, else its address's.
    fn replaced_by<'a>(
        &'a self,
        registration: &Registration,
        holder: Option<&'a Member>,
    ) -> Option<&'a Member> {
        let next = self.head_filling()?;
        match (&registration.id, holder) {
            (id, Some(holder)) if *id == holder.id => Some(holder),
            (Some(id), holder) => next.find(id).or(holder),
            (None, holder) => holder,
        }
    }

    fn count_rooms(&self) -> usize {
        let next = self.head_filling();
        let is_begun = |room: &&_| next.is_none_or(|next| next.members_in(room) == 0);
        next.map_or(0, NextWindow::rooms) + self.in_flight.rooms().filter(is_begun).count()
    }
}
