//! Datagrams to many peers in one system call: sendmmsg, where the system has it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

/// Datagrams a call: from 16 on, a call costs next to nothing beside what it does (`BATCH_SIZE`
/// ways of one system call, docs/BENCHMARKS.md).
pub(super) const MOST: usize = 64;

/// One datagram: where it goes, as the socket's family writes it, and what it says.
pub(super) type Message<'a> = (SocketAddr, &'a [u8]);

/// Sends as many of `messages` as the system takes now, at most [`MOST`], from `source`: how many.
/// An error is that of the first one.
#[cfg(target_os = "linux")]
pub(super) fn send<'a>(
    socket: &Socket,
    source: Option<IpAddr>,
    messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::ControlMessage::{Ipv4PacketInfo, Ipv6PacketInfo};

    match source {
        None => put(socket, &[], None, messages),
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from(ip).to_be() };
            let ipi_addr = in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
            let room = nix::cmsg_space!(in_pktinfo);
            put(socket, &[Ipv4PacketInfo(&info)], Some(room), messages)
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = in6_addr { s6_addr: ip.octets() };
            let info = in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            let room = nix::cmsg_space!(in6_pktinfo);
            put(socket, &[Ipv6PacketInfo(&info)], Some(room), messages)
        }
    }
}

/// With `room` for exactly the control messages: what is left empty would be read as one.
#[cfg(target_os = "linux")]
fn put<'a>(
    socket: &Socket,
    source: &[nix::sys::socket::ControlMessage<'_>],
    room: Option<Vec<u8>>,
    messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    let one = |(addr, bytes): Message<'a>| (Some(addr.into()), [IoSlice::new(bytes)]);
    let (addrs, slices): (Vec<Option<SockaddrStorage>>, Vec<[IoSlice<'_>; 1]>) =
        messages.take(MOST).map(one).unzip();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), room);
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), &addrs, source, flags)?;
    Ok(sent.count())
}

/// Has the kernel neither join datagrams nor stamp them with their time, nor tell which address was
/// asked where there is one alone.
#[cfg(target_os = "linux")]
pub(super) fn ask_for_less(socket: &Socket, wildcard: bool) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    if !wildcard {
        let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &false);
        let _ = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false);
    }
}

/// A larger receive buffer than other processes may have, which root is given (`SO_RCVBUFFORCE`).
#[cfg(target_os = "linux")]
pub(super) fn force_recv_buffer(socket: &Socket, size: usize) {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    let _ = setsockopt(socket, RcvBufForce, &size);
}

/// The same for what is sent (`SO_SNDBUFFORCE`); others get what the system allows them.
#[cfg(target_os = "linux")]
pub(super) fn raise_send_buffer(socket: &Socket, size: usize) {
    use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
    if setsockopt(socket, SndBufForce, &size).is_err() {
        let _ = socket.set_send_buffer_size(size);
    }
}

/// There is no such thing.
#[cfg(not(target_os = "linux"))]
pub(super) fn force_recv_buffer(_: &Socket, _: usize) {}

/// Elsewhere nobody asked for it.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask_for_less(_: &Socket, _: bool) {}

/// Elsewhere they go one by one.
#[cfg(not(target_os = "linux"))]
pub(super) fn send<'a>(
    _: &Socket,
    _: Option<IpAddr>,
    _: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
