//! Linux's own system calls: sendmmsg, which sends to many peers at once, and those for one datagram
//! that stand in where quinn-udp's are refused.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::RecvMeta;
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
    with_source(source, |source, room| call_sendmmsg(socket, source, room, messages))
}

/// Sends one datagram from `source`, without waiting, where quinn-udp's calls are refused.
#[cfg(target_os = "linux")]
pub(super) fn send_one(
    socket: &Socket,
    source: Option<IpAddr>,
    (addr, bytes): Message<'_>,
) -> io::Result<()> {
    use nix::sys::socket::{MsgFlags, SockaddrStorage, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsRawFd;

    let (addr, bytes) = (SockaddrStorage::from(addr), [IoSlice::new(bytes)]);
    with_source(source, |source, _| {
        sendmsg(socket.as_raw_fd(), &bytes, source, MsgFlags::MSG_DONTWAIT, Some(&addr))?;
        Ok(())
    })
}

/// Receives one datagram without waiting, where quinn-udp's calls are refused.
#[cfg(target_os = "linux")]
pub(super) fn receive_one(socket: &Socket, buffer: &mut IoSliceMut<'_>) -> io::Result<RecvMeta> {
    use nix::libc::{in_pktinfo, in6_pktinfo};
    use nix::sys::socket::ControlMessageOwned::{Ipv4PacketInfo, Ipv6PacketInfo};
    use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg};
    use std::os::fd::AsRawFd;
    use std::slice;

    let mut room = nix::cmsg_space!(in_pktinfo, in6_pktinfo);
    let (buffers, flags) = (slice::from_mut(buffer), MsgFlags::MSG_DONTWAIT);
    let came = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), buffers, Some(&mut room), flags)?;
    let peer = came.address.as_ref().and_then(to_socket_addr);
    let mut meta = RecvMeta::default();
    meta.addr = peer.ok_or(io::ErrorKind::Unsupported)?;
    (meta.len, meta.stride) = (came.bytes, came.bytes);
    meta.dst_ip = came.cmsgs()?.find_map(|it| match it {
        Ipv4PacketInfo(info) => Some(IpAddr::V4(u32::from_be(info.ipi_addr.s_addr).into())),
        Ipv6PacketInfo(info) => Some(IpAddr::V6(info.ipi6_addr.s6_addr.into())),
        _ => None,
    });
    Ok(meta)
}

#[cfg(target_os = "linux")]
fn to_socket_addr(addr: &nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    let ipv4 = addr.as_sockaddr_in().map(|it| SocketAddr::V4((*it).into()));
    ipv4.or_else(|| addr.as_sockaddr_in6().map(|it| SocketAddr::V6((*it).into())))
}

/// Calls `send` with the control message that asks for a source address, and with a buffer of
/// exactly its size.
#[cfg(target_os = "linux")]
fn with_source<T>(
    source: Option<IpAddr>,
    send: impl FnOnce(&[nix::sys::socket::ControlMessage<'_>], Option<Vec<u8>>) -> T,
) -> T {
    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::ControlMessage::{Ipv4PacketInfo, Ipv6PacketInfo};

    match source {
        None => send(&[], None),
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from(ip).to_be() };
            let ipi_addr = in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
            send(&[Ipv4PacketInfo(&info)], Some(nix::cmsg_space!(in_pktinfo)))
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = in6_addr { s6_addr: ip.octets() };
            let info = in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            send(&[Ipv6PacketInfo(&info)], Some(nix::cmsg_space!(in6_pktinfo)))
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

/// Fails with `Unsupported`: other systems than Linux send datagrams one by one.
#[cfg(not(target_os = "linux"))]
pub(super) fn send<'a>(
    _: &Socket,
    _: Option<IpAddr>,
    _: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails with `Unsupported`: on other systems than Linux quinn-udp's calls are needed.
#[cfg(not(target_os = "linux"))]
pub(super) fn send_one(_: &Socket, _: Option<IpAddr>, _: Message<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails with `Unsupported`: on other systems than Linux quinn-udp's calls are needed.
#[cfg(not(target_os = "linux"))]
pub(super) fn receive_one(_: &Socket, _: &mut IoSliceMut<'_>) -> io::Result<RecvMeta> {
    Err(io::ErrorKind::Unsupported.into())
}
