//! A client's socket: connected, on an address of its own, many datagrams a call.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimestampns, UdpGroSegment};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn,
    SockaddrStorage, recvmmsg, sendmmsg, sendmsg, setsockopt,
};
use nix::sys::time::TimeSpec;

/// Datagrams that one system call sends or receives.
pub const BATCH: usize = 32;
/// What one buffer holds: no datagram of any of these protocols is longer than a quarter of it, and
/// a member's five parts of WINDOW come as one train where a socket takes trains whole.
const LONGEST: usize = 8192;

/// Where the `n`th client is: 254 × 254 addresses of 127.0.0.0/8, then other ports.
pub fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (n / 254 % 254) as u8 + 1, (n % 254) as u8 + 1)
}

/// A socket of the `n`th client, connected to `server`.
pub fn connect(n: usize, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source(n), 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    // What comes is stamped by the kernel, so that it does not matter when it is read.
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// A socket of many clients: at any of 127.0.0.0/8, all with its port.
pub fn open() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    // As much as is allowed: some hundred clients get WINDOW at once.
    let _ = setsockopt(&socket, RcvBuf, &(8 << 20));
    let _ = setsockopt(&socket, RcvBufForce, &(8 << 20));
    Ok(socket)
}

/// Has what came as a train handed over as one: to cut it is then the receiver's work, as it is where
/// peers are on hosts of their own, and not the sender's, as it is at loopback.
pub fn take_trains(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, UdpGroSegment, &true)?)
}

/// Sends from the `n`th address.
pub fn send_from(
    socket: &UdpSocket,
    n: usize,
    server: SocketAddrV4,
    datagram: &[u8],
) -> io::Result<()> {
    let ipi_spec_dst = in_addr { s_addr: u32::from(source(n)).to_be() };
    let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
    let to = SockaddrIn::from(server);
    let (messages, slices) = ([ControlMessage::Ipv4PacketInfo(&info)], [IoSlice::new(datagram)]);
    let flags = MsgFlags::MSG_DONTWAIT;
    match sendmsg(socket.as_raw_fd(), &slices, &messages, flags, Some(&to)) {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Buffers of all sockets: they are used by one after the other.
pub struct Buffers {
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    bytes: Vec<u8>,
    /// Whether trains may come.
    trains: bool,
    /// Of what was received last: where each datagram is, and when it came, since the Unix epoch.
    received: Vec<(Range<usize>, Duration)>,
}

impl Buffers {
    /// Buffers with nothing in them.
    pub fn new() -> Buffers {
        Buffers {
            incoming: headers(),
            trains: false,
            outgoing: MultiHeaders::preallocate(BATCH, None),
            bytes: vec![0; BATCH * LONGEST],
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Buffers for sockets that take trains whole.
    pub fn of_trains() -> Buffers {
        Buffers { trains: true, ..Buffers::new() }
    }

    /// Takes what has come, at most a batch: how many datagrams.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.bytes.chunks_exact_mut(LONGEST).map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let taken = recvmmsg(
            socket.as_raw_fd(),
            &mut self.incoming,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        self.received.clear();
        match taken {
            Ok(messages) => {
                for (place, message) in messages.enumerate() {
                    let (came, size) = ancillary(&message);
                    let (start, end) = (place * LONGEST, place * LONGEST + message.bytes);
                    let cuts = (start..end).step_by(size.unwrap_or(LONGEST));
                    let datagram = |cut: usize| cut..end.min(cut + size.unwrap_or(LONGEST));
                    self.received.extend(cuts.map(|cut| (datagram(cut), came)));
                }
            }
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // What the kernel did not use of their room would be missing the next time.
        if self.trains {
            self.incoming = headers();
        }
        Ok(self.received.len())
    }

    /// One of the datagrams that were received last.
    pub fn datagram(&self, place: usize) -> &[u8] {
        &self.bytes[self.received[place].0.clone()]
    }

    /// When it came, since the Unix epoch.
    pub fn came(&self, place: usize) -> Duration {
        self.received[place].1
    }

    /// Sends; how many the system took.
    pub fn send(&mut self, socket: &UdpSocket, datagrams: &[Vec<u8>]) -> io::Result<usize> {
        let mut sent = 0;
        for batch in datagrams.chunks(BATCH) {
            match self.send_batch(socket.as_raw_fd(), batch) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // This reports an earlier datagram, not this one.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn send_batch(&mut self, socket: RawFd, batch: &[Vec<u8>]) -> io::Result<usize> {
        let slices: Vec<[IoSlice<'_>; 1]> =
            batch.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
        let nowhere = [None; BATCH];
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(
            socket,
            &mut self.outgoing,
            slices.iter(),
            &nowhere[..batch.len()],
            [],
            flags,
        )?;
        Ok(sent.count())
    }
}

/// With room for when a message came, and how long its datagrams are.
fn headers() -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec, i32)))
}

/// When a message came, and how long its datagrams are, if it is a train.
fn ancillary(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (Duration, Option<usize>) {
    let mut found = (Duration::default(), None);
    for said in message.cmsgs().into_iter().flatten() {
        match said {
            ControlMessageOwned::ScmTimestampns(time) => found.0 = time.into(),
            ControlMessageOwned::UdpGroSegments(size) => found.1 = usize::try_from(size).ok(),
            _ => {}
        }
    }
    found
}
