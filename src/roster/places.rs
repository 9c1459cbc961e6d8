//! Finds the slot of a member by its address, without a copy of the address in the table: with a
//! million members that saves a fifth of the memory.

use std::fmt;
use std::hash::BuildHasher;
use std::net::SocketAddr;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::Slot;

/// The slot of each member by its address. The table holds no addresses: each call takes `at`,
/// which returns the address of the member in a slot.
#[derive(Default)]
pub(super) struct SlotsByAddr {
    slots: HashTable<Slot>,
    keys: RandomState,
}

impl SlotsByAddr {
    /// Returns the slot of the member at `addr`, if any.
    pub(super) fn find(&self, addr: SocketAddr, at: impl Fn(Slot) -> SocketAddr) -> Option<Slot> {
        let hash = self.keys.hash_one(addr);
        self.slots.find(hash, |&slot| at(slot) == addr).copied()
    }

    /// Sets the slot of an address, and returns the one that the address had before.
    pub(super) fn insert(
        &mut self,
        addr: SocketAddr,
        slot: Slot,
        at: impl Fn(Slot) -> SocketAddr,
    ) -> Option<Slot> {
        let hash = self.keys.hash_one(addr);
        if let Some(own) = self.slots.find_mut(hash, |&slot| at(slot) == addr) {
            return Some(std::mem::replace(own, slot));
        }
        self.slots.insert_unique(hash, slot, |&slot| self.keys.hash_one(at(slot)));
        None
    }

    /// Removes an address, and returns the slot that it had, if any.
    pub(super) fn remove(
        &mut self,
        addr: SocketAddr,
        at: impl Fn(Slot) -> SocketAddr,
    ) -> Option<Slot> {
        let hash = self.keys.hash_one(addr);
        let found = self.slots.find_entry(hash, |&slot| at(slot) == addr);
        found.ok().map(|entry| entry.remove().0)
    }
}

impl fmt::Debug for SlotsByAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotsByAddr({})", self.slots.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u32) -> SocketAddr {
        SocketAddr::from(([203, 0, (port >> 16) as u8, 9], port as u16))
    }

    #[test]
    fn each_address_has_its_last_slot() {
        let mut places = SlotsByAddr::default();
        // Slot n holds address n; a second round puts each at slot n + COUNT.
        const COUNT: u32 = 1000;
        let at = |slot: Slot| addr(slot.0 % COUNT);
        for n in 0..COUNT {
            assert_eq!(places.insert(addr(n), Slot(n), at), None);
        }
        for n in 0..COUNT {
            assert_eq!(places.find(addr(n), at), Some(Slot(n)));
            assert_eq!(places.insert(addr(n), Slot(n + COUNT), at), Some(Slot(n)));
        }
        assert_eq!(places.remove(addr(7), at), Some(Slot(7 + COUNT)));
        assert_eq!((places.remove(addr(7), at), places.find(addr(7), at)), (None, None));
        assert_eq!(places.find(addr(8), at), Some(Slot(8 + COUNT)));
        assert_eq!(places.find(addr(COUNT), at), None);
    }
}
