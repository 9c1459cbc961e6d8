//! What is received into, and each datagram with the path that it took.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{array, fmt};

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::{Path, Socket};

/// What one buffer holds. A datagram that is longer is cut to this, and is too long still for anyone
/// here. Buffers of 64 KiB, for trains of them (GRO), would all share a few lines of the cache,
/// and clients send no trains.
pub(super) const BUFFER: usize = 2048;

/// Buffers to receive into, allocated once: 64 KiB.
pub struct Inbox {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
    /// The address of the socket last received from, for systems that do not say who was asked.
    bound: IpAddr,
}

impl Inbox {
    /// An inbox that has received nothing yet.
    pub fn new() -> Inbox {
        Inbox {
            bytes: vec![0; BUFFER * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            bound: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// What was received last, in order, too large ones included (never cut below 2 KiB).
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        let trains = self.metas[..self.filled].iter().zip(self.bytes.chunks_exact(BUFFER));
        trains.flat_map(|(meta, bytes)| {
            let path = Path::new(meta.addr, self.asked(meta));
            cut(&bytes[..meta.len], meta.stride).map(move |datagram| (path, datagram))
        })
    }

    /// The address that was asked, if one can answer from it.
    fn asked(&self, meta: &RecvMeta) -> IpAddr {
        match meta.dst_ip.unwrap_or(self.bound).to_canonical() {
            IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => {
                Ipv4Addr::UNSPECIFIED.into()
            }
            IpAddr::V6(ip) if ip.is_multicast() => Ipv6Addr::UNSPECIFIED.into(),
            ip => ip,
        }
    }

    pub(super) fn fill(&mut self, socket: &Socket) -> io::Result<()> {
        (self.filled, self.bound) = (0, socket.local_addr().ip());
        let mut buffers = self.bytes.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        self.filled =
            socket.egress.state.recv((&socket.io).into(), &mut slices, &mut self.metas)?;
        Ok(())
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.datagrams()).finish()
    }
}

/// A train's datagrams: pieces of `stride` bytes, the last may be shorter. One without any bytes is
/// a datagram too.
fn cut(train: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = train.is_empty().then_some(train);
    empty.into_iter().chain(train.chunks(stride.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn pieces_of_a_stride() {
        assert_eq!(cut(b"aabbc", 2).collect::<Vec<_>>(), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(cut(b"aabbc", 5).collect::<Vec<_>>(), [b"aabbc"]);
        assert_eq!(cut(b"", 0).collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn nobody_answers_from_a_group() {
        let asked = |text| {
            let meta = |dst_ip| {
                let mut meta = RecvMeta::default();
                meta.dst_ip = dst_ip;
                meta
            };
            Inbox::new().asked(&meta(Some(ip(text))))
        };
        assert_eq!(asked("255.255.255.255"), ip("0.0.0.0"));
        assert_eq!(asked("::ffff:224.0.0.1"), ip("0.0.0.0"));
        assert_eq!(asked("ff02::1"), ip("::"));
        assert_eq!(asked("::ffff:192.0.2.2"), ip("192.0.2.2"));
    }
}
