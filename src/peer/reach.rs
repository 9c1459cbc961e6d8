//! Decides which addresses a peer may greet: they come from lists and from greetings, and nobody
//! who can write one may direct a room's members at a victim.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::path::is_private;
use crate::proto::Candidate;

/// The lowest accepted port of a private address: lower ports belong to services, not to peers.
const LOWEST_LAN_PORT: u16 = 1024;

/// What a client knows of its own network, to judge the addresses of others by.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) registry: SocketAddr,
    /// This client's address, as the registry sees it.
    pub(super) own: SocketAddr,
    /// The subnets of this client's network interfaces.
    pub(super) interfaces: Vec<IpNet>,
}

impl Reach {
    /// Returns whether a peer can be at `to`, so that greetings may be sent there.
    pub(super) fn allows(&self, to: SocketAddr) -> bool {
        let ip = to.ip();
        to.port() != 0
            && !ip.is_multicast()
            && !ip.is_unspecified()
            && !self.is_broadcast(ip)
            && (!ip.is_loopback() || self.own.ip().is_loopback())
            && !same_address(to, self.registry)
            && !same_address(to, self.own)
    }

    fn is_broadcast(&self, ip: IpAddr) -> bool {
        // A subnet of two addresses or one has no broadcast (RFC 3021).
        let of = |net: &IpNet| ip.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == ip;
        ip == IpAddr::V4(Ipv4Addr::BROADCAST) || self.interfaces.iter().any(of)
    }

    /// Returns a peer's private address if it can be behind the same NAT and in a subnet of ours;
    /// else `None`, as the registry passes this address on unproven.
    pub(super) fn usable_lan(&self, peer: Candidate) -> Option<SocketAddr> {
        peer.lan.filter(|&lan| {
            peer.addr.ip() == self.own.ip()
                && is_private(lan.ip())
                && lan.port() >= LOWEST_LAN_PORT
                && self.interfaces.iter().any(|net| net.contains(&lan.ip()))
                && self.allows(lan)
                && !same_address(lan, peer.addr)
        })
    }
}

/// Returns whether IP address and port are equal: flow and zone matter to the socket alone.
pub(super) fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn reach(own: &str) -> Reach {
        let interfaces = ["192.168.1.0/24", "fd00::/64", "127.0.0.0/8", "10.9.9.9/32"];
        let interfaces = interfaces.iter().map(|net| net.parse().unwrap()).collect();
        Reach { registry: addr("198.51.100.1:8080"), own: addr(own), interfaces }
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
            assert!(!reach.allows(addr(nonsense)), "{nonsense}");
        }
        for peer in ["203.0.113.9:40113", "198.51.100.1:8081", "[2001:db8::1]:5", "10.9.9.9:5"] {
            assert!(reach.allows(addr(peer)), "{peer}");
        }
    }

    #[test]
    fn loopback_is_allowed_to_those_who_are_there() {
        assert!(reach("127.0.0.1:40112").allows(addr("127.0.0.1:40113")));
        assert!(reach("[::1]:40112").allows(addr("[::1]:40113")));
    }

    fn is_usable(addr: &str, lan: &str) -> bool {
        let peer = Candidate { addr: self::addr(addr), lan: Some(self::addr(lan)) };
        reach("203.0.113.9:40112").usable_lan(peer).is_some()
    }

    #[test]
    fn a_usable_private_address_is_behind_the_same_nat_and_in_an_own_subnet() {
        assert!(is_usable("203.0.113.9:40113", "192.168.1.7:1024"));
        assert!(is_usable("203.0.113.9:40113", "[fd00::7]:40113"));
        for (addr, lan) in [
            ("203.0.113.8:40113", "192.168.1.7:40113"),
            ("203.0.113.9:40113", "192.168.2.7:40113"),
            ("203.0.113.9:40113", "192.168.1.7:1023"),
            ("203.0.113.9:40113", "192.168.1.255:40113"),
            ("203.0.113.9:40113", "127.0.0.1:40113"),
            ("203.0.113.9:40113", "8.8.8.8:40113"),
        ] {
            assert!(!is_usable(addr, lan), "{addr} {lan}");
        }
    }

    #[test]
    fn the_zone_of_an_address_does_not_matter() {
        assert!(same_address(addr("[fe80::1%3]:5"), addr("[fe80::1]:5")));
        assert!(!same_address(addr("[fe80::1]:6"), addr("[fe80::1]:5")));
    }
}
