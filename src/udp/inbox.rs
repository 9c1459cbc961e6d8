//! The buffers that datagrams are received into, and each datagram with its path.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{array, fmt};

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::{Path, Socket};

/// The size of one receive buffer, in bytes. A longer datagram is cut to this, and rejected as too
/// long. Buffers of 64 KiB, for trains (GRO), would all share a few lines of the cache, and clients
/// send no trains.
pub(super) const BUFFER_LEN: usize = 2048;

/// The buffers of one batch, allocated once: 64 KiB.
pub struct Inbox {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
    /// The socket last received from, by address, for systems that do not report destinations.
    bound: IpAddr,
}

impl Inbox {
    /// Returns an inbox that has received nothing yet.
    pub fn new() -> Inbox {
        Inbox {
            bytes: vec![0; BUFFER_LEN * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
            bound: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Returns the last received datagrams in order, each with its path; long ones are cut at 2
    /// KiB.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        let trains = self.metas[..self.filled].iter().zip(self.bytes.chunks_exact(BUFFER_LEN));
        trains.flat_map(|(meta, bytes)| {
            let path = Path::new(meta.addr, self.asked(meta));
            split_train(&bytes[..meta.len], meta.stride).map(move |datagram| (path, datagram))
        })
    }

    /// Returns the local address that was sent to; unspecified for multicast and broadcast.
    fn asked(&self, meta: &RecvMeta) -> IpAddr {
        match meta.dst_ip.unwrap_or(self.bound) {
            IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => {
                Ipv4Addr::UNSPECIFIED.into()
            }
            IpAddr::V6(ip) if ip.is_multicast() => Ipv6Addr::UNSPECIFIED.into(),
            ip => ip,
        }
    }

    pub(super) fn fill(&mut self, socket: &Socket) -> io::Result<()> {
        (self.filled, self.bound) = (0, socket.local_addr().ip());
        let mut buffers = self.bytes.chunks_exact_mut(BUFFER_LEN);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        self.filled = socket.receive(&mut slices, &mut self.metas)?;
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

/// Splits a train into datagrams of `stride` bytes, the last may be shorter. An empty train is one
/// empty datagram.
fn split_train(train: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
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
    fn a_train_is_split_at_its_stride() {
        assert_eq!(split_train(b"aabbc", 2).collect::<Vec<_>>(), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(split_train(b"aabbc", 5).collect::<Vec<_>>(), [b"aabbc"]);
        assert_eq!(split_train(b"", 0).collect::<Vec<_>>(), [b""]);
    }

    #[test]
    fn no_answer_is_sent_from_a_multicast_address() {
        let asked = |text| {
            let meta = |dst_ip| {
                let mut meta = RecvMeta::default();
                meta.dst_ip = dst_ip;
                meta
            };
            Inbox::new().asked(&meta(Some(ip(text))))
        };
        assert_eq!(asked("255.255.255.255"), ip("0.0.0.0"));
        assert_eq!(asked("224.0.0.1"), ip("0.0.0.0"));
        assert_eq!(asked("ff02::1"), ip("::"));
        assert_eq!(asked("192.0.2.2"), ip("192.0.2.2"));
    }
}
