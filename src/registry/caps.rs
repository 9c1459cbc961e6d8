//! How many members a window takes: from one network, in a room, in all.

use std::fmt;

use super::Registry;
use crate::limit::network;
use crate::record::Registration;
use crate::roster::{Filling, Member};

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

/// A cap that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cap {
    PerIp(usize),
    Room(usize),
    Window(usize),
    Rooms(usize),
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cap::PerIp(cap) => write!(f, "the next window has {cap} members from your address"),
            Cap::Room(cap) => write!(f, "the room has {cap} members in the next window"),
            Cap::Window(cap) => write!(f, "the next window has {cap} members"),
            Cap::Rooms(cap) => write!(f, "the next window has {cap} rooms: join one of them"),
        }?;
        f.write_str(", and takes no more")
    }
}

impl Registry {
    /// The cap that a registration would exceed, all that is under way counted as in.
    pub(super) fn reached_cap(&self, registration: &Registration, trusted: bool) -> Option<Cap> {
        let Caps { per_ip, room, window, rooms } = self.config.caps;
        let network = network(registration.path.peer.ip());
        let replaced = self.replaced_by(registration);
        let is_new = |same: bool| usize::from(!(replaced.is_some() && same));
        let from_here = replaced.is_some_and(|it| self::network(it.path.peer.ip()) == network);
        let in_room = replaced.is_some_and(|it| it.room == registration.room);
        let exceeds = |count: usize, new: usize, cap: usize| cap != 0 && count + new > cap;
        let (next, flight) = (self.head_filling(), &self.flight);

        let members = next.map_or(0, Filling::len) + flight.members();
        let from = next.map_or(0, |it| it.members_from(network)) + flight.members_from(network);
        let within = next.map_or(0, |it| it.members_in(&registration.room))
            + flight.members_in(&registration.room);
        if !trusted && exceeds(from, is_new(from_here), per_ip) {
            Some(Cap::PerIp(per_ip))
        } else if exceeds(within, is_new(in_room), room) {
            Some(Cap::Room(room))
        } else if exceeds(members, is_new(true), window) {
            Some(Cap::Window(window))
        } else if within == 0 && exceeds(self.count_rooms(), 1, rooms) {
            Some(Cap::Rooms(rooms))
        } else {
            None
        }
    }

    /// The window that a record proposed now is for, as far as it is filled; `None` if it is only
    /// begun when the `open` under way takes effect.
    fn head_filling(&self) -> Option<&Filling> {
        self.flight.opening.is_none().then_some(&self.next)
    }

    /// The member whose place a registration takes.
    fn replaced_by(&self, registration: &Registration) -> Option<&Member> {
        let next = self.head_filling()?;
        let own = registration.id.as_ref().and_then(|id| next.find(id));
        own.or_else(|| next.holder(registration.path.peer))
    }

    fn count_rooms(&self) -> usize {
        let next = self.head_filling();
        let is_begun = |room: &&_| next.is_none_or(|next| next.members_in(room) == 0);
        next.map_or(0, Filling::rooms) + self.flight.rooms().filter(is_begun).count()
    }
}
