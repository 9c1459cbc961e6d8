//! Counts the members of a window by network and by room, for the caps.
//!
//! A registration that is on its way to the journal counts as a member already ([`Census::add`]),
//! so that no cap is exceeded by what is in flight.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::path::network;
use crate::proto::Room;

use super::Map;

/// A count for each key; a key without an entry counts 0.
type Counts<K> = Map<K, u32>;

/// The numbers of a window's members in all, by network and by room, and of ids that left or were
/// displaced, by network.
#[derive(Debug, Default)]
pub struct Census {
    members: usize,
    networks: Counts<IpAddr>,
    rooms: Counts<Room>,
    departed: Counts<IpAddr>,
}

impl Census {
    /// Adds a member of `room` at `addr`, also one whose record is not durable yet.
    pub fn add(&mut self, addr: SocketAddr, room: &Room) {
        self.members += 1;
        increase(&mut self.networks, &network(addr.ip()));
        increase(&mut self.rooms, room);
    }

    /// Subtracts a member that [`Census::add`] counted: it is out, or its record was refused.
    pub fn remove(&mut self, addr: SocketAddr, room: &Room) {
        self.members = self.members.saturating_sub(1);
        decrease(&mut self.networks, &network(addr.ip()));
        decrease(&mut self.rooms, room);
    }

    /// Moves a member from the count of one room to that of another.
    pub(super) fn change_room(&mut self, from: &Room, to: &Room) {
        if from != to {
            increase(&mut self.rooms, to);
            decrease(&mut self.rooms, from);
        }
    }

    /// Counts an id at `addr` that is remembered although it left or was displaced, also one whose
    /// LEAVE is not durable yet.
    pub fn add_departed(&mut self, addr: SocketAddr) {
        increase(&mut self.departed, &network(addr.ip()));
    }

    /// Subtracts an id that [`Census::add_departed`] counted: it is in, left elsewhere, or its LEAVE
    /// was refused.
    pub fn remove_departed(&mut self, addr: SocketAddr) {
        decrease(&mut self.departed, &network(addr.ip()));
    }

    /// Returns the number of members in all rooms.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Returns the number of members from the network of `addr`.
    pub fn members_from(&self, addr: SocketAddr) -> usize {
        count(&self.networks, &network(addr.ip()))
    }

    /// Returns the number of members and of departed ids from the network of `addr`.
    pub fn known_from(&self, addr: SocketAddr) -> usize {
        self.members_from(addr) + count(&self.departed, &network(addr.ip()))
    }

    /// Returns the number of members of a room.
    pub fn members_in(&self, room: &Room) -> usize {
        count(&self.rooms, room)
    }

    /// Returns the number of rooms that have members.
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

/// Subtracts 1 from the count of a key, and removes the entry at 0, or entries would pile up.
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
        census.add(addr("192.0.2.1:1"), &main);
        census.add(addr("192.0.2.1:2"), &lab);
        census.add(addr("[2001:db8::1]:1"), &lab);
        assert_eq!((census.members(), census.rooms(), census.members_in(&lab)), (3, 2, 2));
        assert_eq!(census.members_from(addr("192.0.2.1:9")), 2);
        assert_eq!(census.members_from(addr("[2001:db8::2]:9")), 1, "a /64 is one network");
        census.remove(addr("192.0.2.1:1"), &main);
        assert_eq!((census.members(), census.rooms(), census.members_in(&main)), (2, 1, 0));
        assert_eq!(census.members_from(addr("192.0.2.1:9")), 1);
    }

    #[test]
    fn ids_that_are_out_are_known_still() {
        let mut census = Census::default();
        census.add(addr("192.0.2.1:1"), &Room::default());
        census.add_departed(addr("192.0.2.1:2"));
        assert_eq!(census.known_from(addr("192.0.2.1:3")), 2);
        census.remove_departed(addr("192.0.2.1:2"));
        assert_eq!((census.known_from(addr("192.0.2.1:3")), census.departed.len()), (1, 0));
    }
}
