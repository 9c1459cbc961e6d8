//! Sends datagrams with a spoofed source address, which takes a raw socket and root.

use std::net::{SocketAddr, SocketAddrV4};

use hit7_support::skip;
use socket2::{Domain, Protocol, Socket, Type};

/// A raw socket that sends UDP datagrams with any source address.
pub(crate) struct Spoofer(Socket);

impl Spoofer {
    /// Opens a raw socket; where that is not allowed, says that the test is skipped.
    pub(crate) fn new() -> Option<Spoofer> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).ok();
        if socket.is_none() {
            skip("a raw socket needs root");
        }
        socket.map(Spoofer)
    }

    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 only") };
        self.0.send_to(&packet(from, to, payload), &SocketAddr::V4(to).into()).unwrap();
    }
}

/// Makes an IPv4 packet (RFC 791) with a UDP datagram (RFC 768); the kernel fills in the header's
/// checksum, and UDP's may be zero.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + payload.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(8 + payload.len()));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}
