//! How many members one window has, and from where: what the caps are held against.
//!
//! A registration that is on its way to the journal counts as a member already ([`Census::expect`]),
//! so that no cap is exceeded by what is in flight.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::path::network;
use crate::proto::Room;

use super::Map;

/// How many there are of each kind: none of a kind that has no entry.
type Counts<K> = Map<K, u32>;

/// The members of one window, counted in all, by network and by room; and ids that are out, by
/// network.
#[derive(Debug, Default)]
pub struct Census {
    members: usize,
    networks: Counts<IpAddr>,
    rooms: Counts<Room>,
    departed: Counts<IpAddr>,
}

impl Census {
    /// Counts a member of `room` at `addr`: one that is in, or will be once its record is durable.
    pub fn expect(&mut self, addr: SocketAddr, room: &Room) {
        self.members += 1;
        increase(&mut self.networks, &network(addr.ip()));
        increase(&mut self.rooms, room);
    }

    /// Takes back what [`Census::expect`] counted: the member is out, or its record was refused.
    pub fn release(&mut self, addr: SocketAddr, room: &Room) {
        self.members = self.members.saturating_sub(1);
        decrease(&mut self.networks, &network(addr.ip()));
        decrease(&mut self.rooms, room);
    }

    /// A member changed its room.
    pub(super) fn change_room(&mut self, from: &Room, to: &Room) {
        if from != to {
            increase(&mut self.rooms, to);
            decrease(&mut self.rooms, from);
        }
    }

    /// An id is remembered that is out: it left, or its address was registered again.
    pub(super) fn depart(&mut self, addr: SocketAddr) {
        increase(&mut self.departed, &network(addr.ip()));
    }

    /// An id that was out is in again, or is out from elsewhere.
    pub(super) fn come_back(&mut self, addr: SocketAddr) {
        decrease(&mut self.departed, &network(addr.ip()));
    }

    /// How many members there are in all.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How many members are from the network of an address.
    pub fn members_from(&self, addr: SocketAddr) -> usize {
        count(&self.networks, &network(addr.ip()))
    }

    /// How many ids are known from the network of an address: its members, and those that are out.
    pub fn known_from(&self, addr: SocketAddr) -> usize {
        self.members_from(addr) + count(&self.departed, &network(addr.ip()))
    }

    /// How many members a room has.
    pub fn members_in(&self, room: &Room) -> usize {
        count(&self.rooms, room)
    }

    /// How many rooms have members.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }
}

fn count<K: Eq + Hash>(counts: &Counts<K>, kind: &K) -> usize {
    counts.get(kind).map_or(0, |&count| count as usize)
}

fn increase<K: Clone + Eq + Hash>(counts: &mut Counts<K>, kind: &K) {
    match counts.get_mut(kind) {
        Some(count) => *count += 1,
        None => drop(counts.insert(kind.clone(), 1)),
    }
}

/// The last one of a kind takes its entry along, or entries would pile up.
fn decrease<K: Eq + Hash>(counts: &mut Counts<K>, kind: &K) {
    if let Some(count) = counts.get_mut(kind) {
        *count -= 1;
        if *count == 0 {
            counts.remove(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_released_is_counted_no_more() {
        let (mut census, main) = (Census::default(), Room::default());
        let lab: Room = "lab".parse().unwrap();
        census.expect(addr("192.0.2.1:1"), &main);
        census.expect(addr("192.0.2.1:2"), &lab);
        census.expect(addr("[2001:db8::1]:1"), &lab);
        assert_eq!((census.members(), census.rooms(), census.members_in(&lab)), (3, 2, 2));
        assert_eq!(census.members_from(addr("192.0.2.1:9")), 2);
        assert_eq!(census.members_from(addr("[2001:db8::2]:9")), 1, "a /64 is one network");
        census.release(addr("192.0.2.1:1"), &main);
        assert_eq!((census.members(), census.rooms(), census.members_in(&main)), (2, 1, 0));
        assert_eq!(census.members_from(addr("192.0.2.1:9")), 1);
    }

    #[test]
    fn ids_that_are_out_are_known_still() {
        let mut census = Census::default();
        census.expect(addr("192.0.2.1:1"), &Room::default());
        census.depart(addr("192.0.2.1:2"));
        assert_eq!(census.known_from(addr("192.0.2.1:3")), 2);
        census.come_back(addr("192.0.2.1:2"));
        assert_eq!((census.known_from(addr("192.0.2.1:3")), census.departed.len()), (1, 0));
    }
}
