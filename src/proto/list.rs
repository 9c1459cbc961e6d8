//! Lists of peers: `"203.0.113.9:40112","[2001:db8::1]:40112 10.0.0.7:40112"`, cut into pages.
//!
//! A listing is rendered once; each of its pages is a slice of that text. Pages are cut greedily by
//! the text alone, so that page k is the same in every message that carries it.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use thiserror::Error;

/// The most bytes of a page between `[` and `]`. The rest of the longest datagram has room for 412
/// bytes, and takes at most 379 (REGISTERED): fields may be added.
pub const MAX_LIST: usize = 820;

/// One page of a list of peers, as a datagram carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// The number of the page, from 0.
    pub part: u32,
    /// How many pages the list has, at least 1.
    pub parts: u32,
    /// The number of members in the whole roster.
    pub count: u32,
    /// The peers on the page: the JSON text between `[` and `]`.
    pub peers: &'a str,
}

impl Page<'_> {
    /// Parses the addresses of the peers on this page.
    pub fn candidates(&self) -> Result<Vec<Candidate>, ListError> {
        let text = format!("[{}]", self.peers);
        let entries: Vec<Cow<'_, str>> = serde_json::from_str(&text).map_err(|_| ListError)?;
        entries.iter().map(|entry| Candidate::parse(entry)).collect()
    }
}

/// The error for a list that contains anything but addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be a list of texts like 203.0.113.9:40112")]
pub struct ListError;

/// The addresses at which one peer may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The peer's address as the registry saw and proved it.
    pub addr: SocketAddr,
    /// The peer's private address, as the peer claims, if any.
    pub lan: Option<SocketAddr>,
}

impl Candidate {
    fn parse(entry: &str) -> Result<Candidate, ListError> {
        let (addr, lan) = match entry.split_once(' ') {
            Some((addr, lan)) => (addr, Some(parse_addr(lan).ok_or(ListError)?)),
            None => (entry, None),
        };
        Ok(Candidate { addr: parse_addr(addr).ok_or(ListError)?, lan })
    }
}

/// Parses `ip:port` or `[ip6]:port`; `::ffff:` becomes the IPv4 address. `None` for other text, a
/// zone or port 0.
pub(super) fn parse_addr(text: &str) -> Option<SocketAddr> {
    let addr: SocketAddr = text.parse().ok()?;
    let zoned = matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0);
    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    (!zoned && addr.port() != 0).then_some(addr)
}

/// Writes `ip:port` or `[ip6]:port`, never a zone.
pub(super) fn write_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => write_ipv4(out, ip),
        IpAddr::V6(ip) => write!(out, "[{ip}]").expect("writing into memory cannot fail"),
    }
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(addr.port()).as_bytes());
}

/// Writes an IP address, never a zone.
pub(super) fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => write_ipv4(out, ip),
        IpAddr::V6(ip) => write!(out, "{ip}").expect("writing into memory cannot fail"),
    }
}

/// Writes an IPv4 address without a formatter, which costs more in every answer and journal line.
fn write_ipv4(out: &mut Vec<u8>, ip: Ipv4Addr) {
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

/// A list of peers, rendered as the JSON text between `[` and `]`.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    text: String,
    /// The offset in `text` at which each entry ends; the next entry begins after a comma.
    ends: Vec<u32>,
    /// The index of the first entry of each page but the first.
    cuts: Vec<u32>,
    /// The offset in `text` at which the last page begins.
    page: usize,
}

impl Listing {
    /// Renders `peers` in the given order.
    pub fn render(peers: impl IntoIterator<Item = Candidate>) -> Listing {
        let (mut listing, mut entry) = (Listing::default(), Vec::new());
        for peer in peers {
            entry.clear();
            entry.push(b'"');
            write_addr(&mut entry, peer.addr);
            if let Some(lan) = peer.lan {
                entry.push(b' ');
                write_addr(&mut entry, lan);
            }
            entry.push(b'"');
            listing.push(std::str::from_utf8(&entry).expect("addresses are ASCII"));
        }
        listing
    }

    /// Returns a listing of the entries at the given indexes.
    pub fn select(&self, entries: &[usize]) -> Listing {
        let mut share = Listing::default();
        // Estimated from the average length of an entry: mostly one allocation.
        let length = self.text.len() * (entries.len() + 1) / self.len().max(1);
        share.text.reserve(length + length / 8);
        share.ends.reserve(entries.len());
        for &entry in entries {
            share.push(self.slice(entry..entry + 1));
        }
        share
    }

    fn push(&mut self, entry: &str) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(entry);
        if self.text.len() - self.page > MAX_LIST {
            self.cuts.push(offset(self.ends.len()));
            self.page = self.text.len() - entry.len();
        }
        self.ends.push(offset(self.text.len()));
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether the list has no entries.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the text of a range of entries, with commas between them.
    pub fn slice(&self, entries: Range<usize>) -> &str {
        if entries.is_empty() {
            return "";
        }
        &self.text[self.begin(entries.start)..self.ends[entries.end - 1] as usize]
    }

    /// Returns the number of pages: at least one, which may be empty.
    pub fn parts(&self) -> u32 {
        offset(self.cuts.len() + 1)
    }

    /// Returns page `part`, with as many entries as fit into [`MAX_LIST`] bytes; `count` is the
    /// size of the roster. `None` if there is no such page.
    pub fn page(&self, part: u32, count: usize) -> Option<Page<'_>> {
        let (part, parts) = (part as usize, self.parts());
        let end = match self.cuts.get(part) {
            Some(&cut) => cut as usize,
            None if part == self.cuts.len() => self.len(),
            None => return None,
        };
        let peers = self.slice(self.page_start(part)..end);
        Some(Page { part: offset(part), parts, count: offset(count), peers })
    }

    fn page_start(&self, part: usize) -> usize {
        if part == 0 { 0 } else { self.cuts[part - 1] as usize }
    }

    fn begin(&self, entry: usize) -> usize {
        if entry == 0 { 0 } else { self.ends[entry - 1] as usize + 1 }
    }
}

/// Converts an index or an offset to 32 bits: the text of a million IPv6 peers with two addresses
/// each is 101 MB.
fn offset(len: usize) -> u32 {
    u32::try_from(len).expect("a roster's text is below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(text: &str) -> Candidate {
        Candidate::parse(text).unwrap()
    }

    fn page(peers: &str) -> Page<'_> {
        Page { part: 0, parts: 1, count: 0, peers }
    }

    #[test]
    fn a_listing_is_the_text_between_the_brackets() {
        let listing = Listing::render([
            peer("203.0.113.9:40112"),
            peer("203.0.113.9:40113 192.168.1.7:40113"),
            peer("[2001:db8::1]:5"),
        ]);
        assert_eq!(
            listing.slice(0..3),
            r#""203.0.113.9:40112","203.0.113.9:40113 192.168.1.7:40113","[2001:db8::1]:5""#
        );
        assert_eq!(listing.slice(1..1), "");
        assert_eq!(listing.select(&[2, 0]).slice(0..2), r#""[2001:db8::1]:5","203.0.113.9:40112""#);
    }

    #[test]
    fn a_page_holds_41_public_ipv4_peers() {
        let listing =
            Listing::render((0..100).map(|n| peer(&format!("203.0.113.9:{}", 40_000 + n))));
        let sizes: Vec<_> = (0..3)
            .map(|part| listing.page(part, 100).unwrap().candidates().unwrap().len())
            .collect();
        assert_eq!(sizes, [41, 41, 18]);
        assert_eq!(listing.page(3, 100), None);
    }

    #[test]
    fn an_empty_list_has_one_empty_page() {
        assert_eq!(Listing::default().page(0, 0), Some(page("")));
        assert_eq!(Listing::default().page(1, 0), None);
        assert_eq!(page("").candidates().unwrap(), []);
    }

    #[test]
    fn only_addresses_are_peers() {
        for bad in [
            r#""example.org:80""#,
            r#""1.2.3.4""#,
            r#""1.2.3.4:0""#,
            r#""1.2.3.4:5  1.2.3.4:5""#,
            r#""[fe80::1%2]:5""#,
            r#"5"#,
            r#""1.2.3.4:5"],["#,
        ] {
            assert_eq!(page(bad).candidates(), Err(ListError), "{bad}");
        }
        assert_eq!(peer("[::ffff:1.2.3.4]:5"), peer("1.2.3.4:5"));
    }

    fn any_addr() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), 1u16..).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pages_are_full_whole_and_in_order(
            peers in prop::collection::vec((any_addr(), prop::option::of(any_addr())), 0..200)
        ) {
            let peers: Vec<_> = peers.into_iter().map(|(addr, lan)| Candidate { addr, lan }).collect();
            let listing = Listing::render(peers.iter().copied());
            let pages: Vec<_> =
                (0..listing.parts()).map(|part| listing.page(part, peers.len()).unwrap()).collect();
            let mut read = Vec::new();
            for (k, page) in pages.iter().enumerate() {
                prop_assert!(page.peers.len() <= MAX_LIST);
                prop_assert_eq!((page.part as usize, page.parts as usize), (k, pages.len()));
                read.extend(page.candidates().unwrap());
                if k + 1 < pages.len() {
                    let next = listing.slice(read.len()..read.len() + 1);
                    prop_assert!(page.peers.len() + 1 + next.len() > MAX_LIST);
                }
            }
            prop_assert_eq!(read, peers);
        }
    }
}
