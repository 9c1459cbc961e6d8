//! Assembles a list of peers from its parts, which come in any order, twice, or not at all.

use std::collections::BTreeMap;

use crate::proto::{Candidate, Page};

/// The most parts that a list may have: a million members with two addresses each have fewer.
const MAX_PARTS: u32 = 100_000;

/// The parts of a list received so far. Memory grows with what came, not with the number of parts
/// claimed.
#[derive(Debug)]
pub(crate) struct PartialList<H> {
    /// What all parts received so far agree on: `H`, the roster's size and the number of parts.
    head: Option<(H, u32, u32)>,
    parts: BTreeMap<u32, Vec<Candidate>>,
    /// The number of the first missing part.
    missing: u32,
    /// The total number of peers in the parts.
    held: usize,
    /// The most peers that are kept; the rest of a longer list is dropped.
    max_peers: usize,
}

/// What a part did to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The part was missing, and fits the others.
    New,
    /// The part contradicts the earlier ones, and begins a new list.
    Restarted,
    /// The part is known, or makes no sense.
    Nothing,
}

/// A list whose parts have all been received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WholeList<H> {
    pub(crate) head: H,
    /// The size of the roster, which may be larger than the list.
    pub(crate) count: u32,
    pub(crate) peers: Vec<Candidate>,
}

impl<H: PartialEq> PartialList<H> {
    /// Returns an empty list that keeps at most `max_peers` peers.
    pub(crate) fn new(max_peers: usize) -> PartialList<H> {
        PartialList { head: None, parts: BTreeMap::new(), missing: 0, held: 0, max_peers }
    }

    /// Adds a part, and returns what that did. A part that contradicts the earlier ones begins a new
    /// list: what the registry said last counts.
    pub(crate) fn add(&mut self, head: H, page: &Page<'_>) -> Added {
        let Ok(mut peers) = page.candidates() else { return Added::Nothing };
        if page.part >= page.parts || page.parts > MAX_PARTS {
            return Added::Nothing;
        }
        let (head, mut added) = (Some((head, page.count, page.parts)), Added::New);
        if self.head != head {
            added = if self.head.is_some() { Added::Restarted } else { Added::New };
            *self = PartialList { head, ..PartialList::new(self.max_peers) };
        }
        if self.parts.contains_key(&page.part) {
            return Added::Nothing;
        }
        peers.truncate(self.max_peers - self.held);
        self.held += peers.len();
        self.parts.insert(page.part, peers);
        while self.parts.contains_key(&self.missing) {
            self.missing += 1;
        }
        added
    }

    /// Returns how many parts came, and how many there are; `None` if nothing came.
    pub(crate) fn progress(&self) -> Option<(usize, u32)> {
        let (_, _, parts) = self.head.as_ref()?;
        Some((self.parts.len(), *parts))
    }

    /// Returns the number of the first missing part: 0 if nothing came.
    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }

    /// Takes the list in its order and leaves an empty one; `None` while parts are missing.
    pub(crate) fn take_whole(&mut self) -> Option<WholeList<H>> {
        let missing = self.missing;
        let (head, count, _) = self.head.take_if(|(_, _, parts)| *parts == missing)?;
        let parts = std::mem::take(&mut self.parts);
        Some(WholeList { head, count, peers: parts.into_values().flatten().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Listing;

    const MAX_PEERS: usize = 65_536;

    fn list() -> PartialList<&'static str> {
        PartialList::new(MAX_PEERS)
    }

    fn listing() -> Listing {
        let peer = |port| Candidate { addr: ([203, 0, 113, 9], port).into(), lan: None };
        Listing::render((40_000..40_100).map(peer))
    }

    #[test]
    fn parts_come_in_any_order_and_twice() {
        let (listing, mut list) = (listing(), list());
        use Added::{New, Nothing};
        for (part, new, missing) in [(2, New, 0), (0, New, 1), (2, Nothing, 1), (0, Nothing, 1)] {
            let page = listing.page(part, 100).unwrap();
            assert_eq!((list.add("head", &page), list.missing()), (new, missing));
            assert_eq!(list.take_whole(), None);
        }
        assert_eq!(list.add("head", &listing.page(1, 100).unwrap()), Added::New);
        let WholeList { head, count, peers } = list.take_whole().unwrap();
        assert_eq!((head, count, peers.len()), ("head", 100, 100));
        assert!(peers.is_sorted_by_key(|peer| peer.addr));
    }

    #[test]
    fn an_empty_list_is_whole() {
        let mut list = list();
        assert_eq!(list.add("head", &Listing::default().page(0, 1).unwrap()), Added::New);
        assert_eq!(list.take_whole().unwrap().peers, []);
    }

    #[test]
    fn a_part_that_contradicts_the_others_begins_a_new_list() {
        let listing = listing();
        let first = listing.page(0, 100).unwrap();
        let second = listing.page(1, 100).unwrap();
        let resized = Page { count: 99, ..second.clone() };
        let recut = Page { parts: 4, ..second.clone() };
        for (head, part) in [("other", second), ("head", resized), ("head", recut)] {
            let mut list = list();
            list.add("head", &first);
            assert_eq!(list.missing(), 1);
            assert_eq!(list.add(head, &part), Added::Restarted);
            assert_eq!(list.missing(), 0);
        }
    }

    #[test]
    fn memory_grows_with_received_parts_and_is_bounded() {
        let text = listing().page(0, 100).unwrap().peers.to_owned();
        let page = |part, parts| Page { part, parts, count: 100, peers: &text };
        let mut list = list();
        assert_eq!(list.add("head", &page(0, u32::MAX)), Added::Nothing);
        for part in 0..3000 {
            assert_eq!(list.add("head", &page(part, 3000)), Added::New);
        }
        assert_eq!(list.take_whole().unwrap().peers.len(), MAX_PEERS);
    }
}
