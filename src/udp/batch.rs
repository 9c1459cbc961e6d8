//! Sends datagrams to many peers in one system call: sendmmsg, on Linux.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

/// The most datagrams that are sent by one system call (docs/BENCHMARKS.md has what that saves).
pub(super) const MAX_BATCH: usize = 64;

/// One datagram: its destination and its payload.
pub(super) type Message<'a> = (SocketAddr, &'a [u8]);

/// Sends up to [`MAX_BATCH`] of `messages` from `source`, without waiting, and returns how many the
/// system took. An error is that of the first message.
#[cfg(target_os = "linux")]
pub(super) fn send<'a>(
    socket: &Socket,
    source: Option<IpAddr>,
    messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::ControlMessage::{Ipv4PacketInfo, Ipv6PacketInfo};

    match source {
        None => call_sendmmsg(socket, &[], None, messages),
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from(ip).to_be() };
            let ipi_addr = in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
            let room = nix::cmsg_space!(in_pktinfo);
            call_sendmmsg(socket, &[Ipv4PacketInfo(&info)], Some(room), messages)
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = in6_addr { s6_addr: ip.octets() };
            let info = in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            let room = nix::cmsg_space!(in6_pktinfo);
            call_sendmmsg(socket, &[Ipv6PacketInfo(&info)], Some(room), messages)
        }
    }
}

/// Calls sendmmsg; `room` has exactly the size of the control messages in `source`, because spare
/// bytes would be read as one more.
#[cfg(target_os = "linux")]
fn call_sendmmsg<'a>(
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
        messages.take(MAX_BATCH).map(one).unzip();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), room);
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), &addrs, source, flags)?;
    Ok(sent.count())
}

/// Disables GRO and receive timestamps, and unless `wildcard` the report of the local address.
#[cfg(target_os = "linux")]
pub(super) fn disable_recv_options(socket: &Socket, wildcard: bool) {
    use nix::sys::socket::{setsockopt, sockopt};
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    if !wildcard {
        let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &false);
        let _ = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false);
    }
}

/// Sets a receive buffer beyond the system's limit, which only root may do (`SO_RCVBUFFORCE`).
#[cfg(target_os = "linux")]
pub(super) fn force_recv_buffer(socket: &Socket, size: usize) {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    let _ = setsockopt(socket, RcvBufForce, &size);
}

/// Sets a send buffer beyond the system's limit (`SO_SNDBUFFORCE`), or else as large as allowed.
#[cfg(target_os = "linux")]
pub(super) fn raise_send_buffer(socket: &Socket, size: usize) {
    use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
    if setsockopt(socket, SndBufForce, &size).is_err() {
        let _ = socket.set_send_buffer_size(size);
    }
}

/// Does nothing: only Linux has `SO_RCVBUFFORCE`.
#[cfg(not(target_os = "linux"))]
pub(super) fn force_recv_buffer(_: &Socket, _: usize) {}

/// Does nothing: only on Linux are these options on.
#[cfg(not(target_os = "linux"))]
pub(super) fn disable_recv_options(_: &Socket, _: bool) {}

/// Fails with `Unsupported`: other systems than Linux send datagrams one by one.
#[cfg(not(target_os = "linux"))]
pub(super) fn send<'a>(
    _: &Socket,
    _: Option<IpAddr>,
    _: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
