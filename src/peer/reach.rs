//! Where a peer sends greetings, and where never: addresses come from lists and from greetings,
//! and whoever can write one must not be able to point a room's members at a victim.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::proto::Candidate;

/// The lowest port of a second candidate: below are services, not peers.
const LOWEST_LAN_PORT: u16 = 1024;

/// What one peer can tell of addresses, from where it stands.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) registry: SocketAddr,
    /// The own address, as the registry sees it.
    pub(super) me: SocketAddr,
    /// The subnets of the own interfaces.
    pub(super) interfaces: Vec<IpNet>,
}

impl Reach {
    /// Whether a peer can be at `to`.
    pub(super) fn makes_sense(&self, to: SocketAddr) -> bool {
        let ip = to.ip();
        to.port() != 0
            && !ip.is_multicast()
            && !ip.is_unspecified()
            && !self.is_broadcast(ip)
            && (!ip.is_loopback() || self.me.ip().is_loopback())
            && !same(to, self.registry)
            && !same(to, self.me)
    }

    fn is_broadcast(&self, ip: IpAddr) -> bool {
        // A subnet of two addresses or one has no broadcast (RFC 3021).
        let of = |net: &IpNet| ip.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == ip;
        ip == IpAddr::V4(Ipv4Addr::BROADCAST) || self.interfaces.iter().any(of)
    }

    /// A peer's second candidate, if it can be behind the same NAT and in a subnet of ours: it is
    /// the only address that the registry passes on unproven.
    pub(super) fn second(&self, peer: Candidate) -> Option<SocketAddr> {
        peer.lan.filter(|&lan| {
            peer.addr.ip() == self.me.ip()
                && is_private(lan.ip())
                && lan.port() >= LOWEST_LAN_PORT
                && self.interfaces.iter().any(|net| net.contains(&lan.ip()))
                && self.makes_sense(lan)
                && !same(lan, peer.addr)
        })
    }
}

/// RFC 1918, or RFC 4193 (fc00::/7).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Whether both are one address: flow and zone are the socket's business.
pub(super) fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// An IPv4 address of a dual-stack socket is IPv4.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn reach(me: &str) -> Reach {
        let interfaces = ["192.168.1.0/24", "fd00::/64", "127.0.0.0/8", "10.9.9.9/32"];
        let interfaces = interfaces.iter().map(|net| net.parse().unwrap()).collect();
        Reach { registry: addr("198.51.100.1:8080"), me: addr(me), interfaces }
    }

    #[test]
    fn nothing_is_sent_where_no_peer_can_be() {
        let reach = reach("203.0.113.9:40112");
        for nonsense in [
            "203.0.113.10:0",
            "224.0.0.1:5000",
            "[ff02::1]:5000",
            "255.255.255.255:5000",
            "192.168.1.255:5000",
            "0.0.0.0:5000",
            "[::]:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "198.51.100.1:8080",
            "203.0.113.9:40112",
        ] {
            assert!(!reach.makes_sense(addr(nonsense)), "{nonsense}");
        }
        for peer in ["203.0.113.9:40113", "198.51.100.1:8081", "[2001:db8::1]:5", "10.9.9.9:5"] {
            assert!(reach.makes_sense(addr(peer)), "{peer}");
        }
    }

    #[test]
    fn loopback_makes_sense_to_those_who_are_there() {
        assert!(reach("127.0.0.1:40112").makes_sense(addr("127.0.0.1:40113")));
        assert!(reach("[::1]:40112").makes_sense(addr("[::1]:40113")));
    }

    fn second(addr: &str, lan: &str) -> bool {
        let peer = Candidate { addr: self::addr(addr), lan: Some(self::addr(lan)) };
        reach("203.0.113.9:40112").second(peer).is_some()
    }

    #[test]
    fn a_second_candidate_is_behind_the_same_nat_and_in_an_own_subnet() {
        assert!(second("203.0.113.9:40113", "192.168.1.7:1024"));
        assert!(second("203.0.113.9:40113", "[fd00::7]:40113"));
        for (addr, lan) in [
            ("203.0.113.8:40113", "192.168.1.7:40113"),
            ("203.0.113.9:40113", "192.168.2.7:40113"),
            ("203.0.113.9:40113", "192.168.1.7:1023"),
            ("203.0.113.9:40113", "192.168.1.255:40113"),
            ("203.0.113.9:40113", "127.0.0.1:40113"),
            ("203.0.113.9:40113", "8.8.8.8:40113"),
        ] {
            assert!(!second(addr, lan), "{addr} {lan}");
        }
    }

    #[test]
    fn ipv4_of_a_dual_stack_socket_is_ipv4() {
        assert_eq!(canonical(addr("[::ffff:1.2.3.4]:5")), addr("1.2.3.4:5"));
        assert_eq!(canonical(addr("[fe80::1%3]:5")), addr("[fe80::1%3]:5"));
        assert!(same(addr("[fe80::1%3]:5"), addr("[fe80::1]:5")));
    }
}
