//! Network values that need no socket: the path of a datagram, datagrams to send, and networks of
//! addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Where a datagram came from and which of our addresses it was sent to; the answer takes the same
/// path back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The address of the other side.
    pub peer: SocketAddr,
    /// Our own address; unspecified if not known: then the system chooses.
    pub local: IpAddr,
}

impl Path {
    /// Returns the path between `peer` and `local`, both in canonical form.
    pub fn new(peer: SocketAddr, local: IpAddr) -> Path {
        Path { peer: canonical(peer), local: local.to_canonical() }
    }
}

/// Converts an address to the one form that compares equal: mapped IPv4 becomes IPv4; IPv6 loses
/// its flow, and its scope unless link-local.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match (addr.ip().to_canonical(), addr) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) => {
            let scope = if ip.is_unicast_link_local() { v6.scope_id() } else { 0 };
            SocketAddrV6::new(ip, v6.port(), 0, scope).into()
        }
        (ip, _) => SocketAddr::new(ip, addr.port()),
    }
}

/// Returns whether `ip` is in a private network: RFC 1918, or RFC 4193 (fc00::/7).
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// One datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination, and the local address to send from.
    pub path: Path,
    /// The bytes of the datagram.
    pub payload: Vec<u8>,
}

/// Datagrams to one peer that may leave in one system call: each `size` bytes long, the last may be
/// shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Train {
    /// The destination, and the local address to send from.
    pub path: Path,
    /// The bytes of all datagrams, one behind the other.
    pub payload: Vec<u8>,
    /// The length of each datagram but the last, in bytes; at least 1.
    pub size: usize,
}

impl Train {
    /// Returns each datagram of the train.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.payload.chunks(self.size)
    }
}

/// Returns the network that caps and rates count by: an IPv4 address itself; of an IPv6 address its
/// /64, in which a client can have any address.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let prefix = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4_and_scopes_stay_where_they_are_needed() {
        let path =
            Path::new("[::ffff:192.0.2.1]:5".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(path, Path::new("192.0.2.1:5".parse().unwrap(), "10.0.0.1".parse().unwrap()));
        let scoped = |ip: &str| SocketAddrV6::new(ip.parse().unwrap(), 5, 7, 3).into();
        let scope = |addr| match canonical(addr) {
            SocketAddr::V6(v6) => (v6.flowinfo(), v6.scope_id()),
            SocketAddr::V4(v4) => panic!("{v4}"),
        };
        assert_eq!(scope(scoped("fe80::1")), (0, 3));
        assert_eq!(scope(scoped("2001:db8::1")), (0, 0));
    }

    #[test]
    fn a_slash_64_is_one_network() {
        let of = |ip: &str| network(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn a_train_is_cut_into_datagrams() {
        let path = Path::new("192.0.2.1:5".parse().unwrap(), "10.0.0.1".parse().unwrap());
        let train = Train { path, payload: b"aaabbbcc".to_vec(), size: 3 };
        assert!(train.datagrams().eq([&b"aaa"[..], b"bbb", b"cc"]));
    }
}
