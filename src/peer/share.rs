//! The own list of one window while its parts come: in any order, twice, or not at all.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::proto::{Candidate, Page, Pass};

/// No roster has more parts: a million members with two candidates each are below that.
const MAX_PARTS: u32 = 100_000;
/// As many peers are kept, of the parts that come first: greeting them all takes two minutes.
const MAX_PEERS: usize = 65_536;

/// What every part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The own address in the roster.
    pub(super) you: SocketAddr,
    pub(super) pass: Pass,
    /// The size of the roster.
    pub(super) count: u32,
    pub(super) parts: u32,
}

/// An own list, whole or not. Memory goes to what came, not to what is promised.
#[derive(Debug, Default)]
pub(super) struct Share {
    head: Option<Head>,
    parts: BTreeMap<u32, Vec<Candidate>>,
    /// The first part that lacks.
    missing: u32,
    held: usize,
}

impl Share {
    /// Takes a part; whether that was news. A part that contradicts the others begins anew: the
    /// registry's latest word counts.
    pub(super) fn add(&mut self, head: Head, page: &Page<'_>) -> bool {
        let Ok(mut peers) = page.candidates() else { return false };
        if page.part >= head.parts || head.parts > MAX_PARTS {
            return false;
        }
        if self.head.as_ref() != Some(&head) {
            *self = Share { head: Some(head), ..Share::default() };
        }
        if self.parts.contains_key(&page.part) {
            return false;
        }
        peers.truncate(MAX_PEERS - self.held);
        self.held += peers.len();
        self.parts.insert(page.part, peers);
        self.skip_held();
        true
    }

    fn skip_held(&mut self) {
        while self.parts.contains_key(&self.missing) {
            self.missing += 1;
        }
    }

    /// The first part that lacks: 0 if nothing came.
    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// The list, once it is whole, in its order; what is left behind is empty.
    pub(super) fn take_whole(&mut self) -> Option<(Head, Vec<Candidate>)> {
        let missing = self.missing;
        let head = self.head.take_if(|head| head.parts == missing)?;
        let parts = std::mem::take(&mut self.parts);
        Some((head, parts.into_values().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Listing;

    fn head(parts: u32) -> Head {
        let you = "203.0.113.9:40112".parse().unwrap();
        Head { you, pass: "secret".parse().unwrap(), count: 100, parts }
    }

    fn listing() -> Listing {
        let peer = |port| Candidate { addr: ([203, 0, 113, 9], port).into(), lan: None };
        Listing::render((40_000..40_100).map(peer))
    }

    #[test]
    fn parts_come_in_any_order_and_twice() {
        let (listing, mut share) = (listing(), Share::default());
        for (part, news, missing) in [(2, true, 0), (0, true, 1), (2, false, 1), (0, false, 1)] {
            let page = listing.page(part, 100).unwrap();
            assert_eq!((share.add(head(3), &page), share.missing()), (news, missing));
            assert_eq!(share.take_whole(), None);
        }
        assert!(share.add(head(3), &listing.page(1, 100).unwrap()));
        let (whole, peers) = share.take_whole().unwrap();
        assert_eq!((whole, peers.len()), (head(3), 100));
        assert!(peers.is_sorted_by_key(|peer| peer.addr));
    }

    #[test]
    fn an_empty_list_is_whole() {
        let mut share = Share::default();
        assert!(share.add(head(1), &Listing::default().page(0, 1).unwrap()));
        assert_eq!(share.take_whole().unwrap().1, []);
    }

    #[test]
    fn a_part_that_contradicts_begins_anew() {
        let (listing, mut share) = (listing(), Share::default());
        share.add(head(3), &listing.page(0, 100).unwrap());
        let other = Head { pass: "other".parse().unwrap(), ..head(3) };
        assert!(share.add(other, &listing.page(1, 100).unwrap()));
        assert_eq!(share.missing(), 0);
    }

    #[test]
    fn what_is_promised_costs_nothing_and_what_comes_is_bounded() {
        let text = listing().page(0, 100).unwrap().peers.to_owned();
        let page = |part, parts| Page { part, parts, count: 100, peers: &text };
        let mut share = Share::default();
        assert!(!share.add(head(u32::MAX), &page(0, u32::MAX)));
        for part in 0..3000 {
            assert!(share.add(head(3000), &page(part, 3000)));
        }
        assert_eq!(share.take_whole().unwrap().1.len(), MAX_PEERS);
    }
}
