//! A client's socket: connected, on an address of its own, many datagrams a call.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Datagrams a call.
pub const BATCH: usize = 32;
/// No datagram of any of these protocols is longer.
const LONGEST: usize = 2048;

/// Where the `n`th client is: 254 × 254 addresses of 127.0.0.0/8, then other ports.
fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (n / 254 % 254) as u8 + 1, (n % 254) as u8 + 1)
}

/// A socket of the `n`th client, connected to `server`.
pub fn connect(n: usize, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source(n), 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Buffers of all sockets: they are used by one after the other.
pub struct Mail {
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Mail {
    /// Empty ones.
    pub fn new() -> Mail {
        Mail {
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            bytes: vec![0; BATCH * LONGEST],
            lengths: Vec::with_capacity(BATCH),
        }
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
        self.lengths.clear();
        match taken {
            Ok(messages) => self.lengths.extend(messages.map(|message| message.bytes)),
            Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.lengths.len())
    }

    /// One of the datagrams that were received last.
    pub fn datagram(&self, place: usize) -> &[u8] {
        &self.bytes[place * LONGEST..][..self.lengths[place]]
    }

    /// Sends; how many the system took.
    pub fn send(&mut self, socket: &UdpSocket, datagrams: &[Vec<u8>]) -> io::Result<usize> {
        let mut sent = 0;
        for batch in datagrams.chunks(BATCH) {
            match self.send_batch(socket.as_raw_fd(), batch) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The word of an earlier datagram's fate.
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
