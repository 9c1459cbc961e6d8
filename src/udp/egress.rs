//! Sends datagrams by one socket: at once, or not at all.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use socket2::{Domain, Protocol, Socket, Type};

use super::batch;
use super::options::{self, Calls};
use crate::path::{Path, Train, Transmit, canonical};

/// The most bytes in one train: 65,535 less the headers of IPv6 and UDP.
const MAX_TRAIN_BYTES: usize = 65_535 - 40 - 8;

/// The errno from a network card that cannot split trains (GSO); the same number on every Unix.
const EIO: i32 = 5;

/// A callback for each datagram that the system did not take, with the error.
pub(super) type Refused<'a> = dyn FnMut(Path, &[u8], io::Error) + 'a;

/// The sending side of one socket, which never waits.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) io: Socket,
    /// The calls of quinn-udp; `None` where datagrams are sent one by one.
    calls: Option<&'static Calls>,
    /// The address that the socket is bound to.
    pub(super) addr: SocketAddr,
    /// The most datagrams of one train; 1 once the card has failed to split one.
    pub(super) train: AtomicUsize,
    /// For tests: after how many sends the socket acts as if its buffer were full.
    #[cfg(test)]
    pub(super) room: AtomicUsize,
}

impl Egress {
    /// Wraps the sending side of a bound socket.
    pub(super) fn new(io: Socket) -> io::Result<Egress> {
        io.set_nonblocking(true)?;
        let bound = io.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        options::allow_fragments(&io, bound.is_ipv6());
        let calls = options::calls();
        let train = AtomicUsize::new(calls.map_or(1, |calls| calls.max_train));
        Ok(Egress {
            io,
            calls,
            addr: canonical(bound),
            train,
            #[cfg(test)]
            room: AtomicUsize::new(usize::MAX),
        })
    }

    /// Opens a socket that sends from `local` and the receiver's port, and receives nothing.
    #[cfg(target_os = "linux")]
    pub(super) fn send_only(receiver: &Egress, local: IpAddr, buffer: usize) -> io::Result<Egress> {
        // Receivers bound to the same address form a group, over which the system spreads datagrams
        // (SO_REUSEPORT). This socket must not join that group, nor a later receiver this socket's.
        // A group has one address and one family: so where a receiver has this address of IPv4,
        // this is a socket of IPv6, bound to the same address. For IPv6 there is no such way: the
        // socket is in the group, which passes over it once it is connected.
        let ip = match local {
            IpAddr::V4(ip) if receiver.addr.ip() == local => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        let socket = open(Domain::for_address((ip, 0).into()))?;
        if ip != local {
            socket.set_only_v6(false)?;
        }
        share_port(&receiver.io)?;
        share_port(&socket)?;
        socket.set_recv_buffer_size(0)?;
        batch::raise_send_buffer(&socket, buffer);
        let own = SocketAddr::new(ip, receiver.addr.port()).into();
        socket.bind(&own)?;
        socket.connect(&own)?;
        Egress::new(socket)
    }

    /// Fails: on other systems than Linux, this socket would receive the receivers' datagrams.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn send_only(_: &Egress, _: IpAddr, _: usize) -> io::Result<Egress> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Sends as much of a batch as the system has room for, in order. A datagram that fails does
    /// not stop the next, unless the socket is full.
    pub(super) fn send(&self, batch: &[Transmit], refused: &mut Refused<'_>) {
        let share_call = |one: &Transmit, next: &Transmit| one.path.local == next.path.local;
        batch.chunk_by(share_call).for_each(|run| self.send_run(run, refused));
    }

    /// Sends datagrams that share a local address.
    fn send_run(&self, mut run: &[Transmit], refused: &mut Refused<'_>) {
        while let [first, others @ ..] = run {
            run = match self.put_many(run) {
                Ok(count) if count > 0 => &run[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut refuse = |it: &Transmit| {
                        refused(it.path, &it.payload, ErrorKind::WouldBlock.into());
                    };
                    return run.iter().for_each(&mut refuse);
                }
                // The first datagram cannot go in a batch: try it singly, or report why not.
                _ => {
                    if let Err(error) = self.put(&first.path, &first.payload, None) {
                        refused(first.path, &first.payload, error);
                    }
                    others
                }
            };
        }
    }

    fn put_many(&self, run: &[Transmit]) -> io::Result<usize> {
        #[cfg(test)]
        self.take_room()?;
        let messages = run.iter().map(|it| (it.path.peer, &it.payload[..]));
        batch::send(&self.io, self.source(run[0].path.local), messages)
    }

    /// Sends a train, in pieces if need be, and returns how many of its bytes were sent or refused:
    /// all but those that a full socket has no room for now.
    pub(super) fn send_train(&self, train: &Train, refused: &mut Refused<'_>) -> usize {
        let Train { path, payload, size } = train;
        let most =
            MAX_TRAIN_BYTES.checked_div(*size).unwrap_or(1).min(self.train.load(Relaxed)).max(1);
        let mut done = 0;
        for piece in payload.chunks(size * most) {
            let sent = self.send_piece(path, piece, *size, refused);
            done += sent;
            if sent < piece.len() {
                break;
            }
        }
        done
    }

    fn send_piece(
        &self,
        path: &Path,
        piece: &[u8],
        size: usize,
        refused: &mut Refused<'_>,
    ) -> usize {
        let cut = (piece.len() > size).then_some(size);
        match self.put(path, piece, cut) {
            Ok(()) => piece.len(),
            Err(error) if is_full(&error) => 0,
            Err(error) if cut.is_some() => self.send_singly(path, piece, size, &error, refused),
            Err(error) => {
                refused(*path, piece, error);
                piece.len()
            }
        }
    }

    /// Sends the datagrams of a piece one by one, after it could not go as a train; returns how
    /// many of its bytes were sent or refused.
    fn send_singly(
        &self,
        path: &Path,
        piece: &[u8],
        size: usize,
        why: &io::Error,
        refused: &mut Refused<'_>,
    ) -> usize {
        let (mut done, mut failed) = (0, false);
        for datagram in piece.chunks(size) {
            match self.put(path, datagram, None) {
                Err(error) if is_full(&error) => return done,
                Err(error) => {
                    failed = true;
                    refused(*path, datagram, error);
                }
                Ok(()) => {}
            }
            done += datagram.len();
        }
        // The card cannot split trains. Any other error (EINVAL, EMSGSIZE) is of this train, whose
        // datagrams are too long for the peer's link: one by one they leave in fragments.
        if !failed && why.raw_os_error() == Some(EIO) {
            self.train.store(1, Relaxed);
        }
        done
    }

    /// Sends one datagram, or a train split at `segment_size`; from any local address if the system
    /// refuses that of the path.
    pub(super) fn put(
        &self,
        path: &Path,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        #[cfg(test)]
        self.take_room()?;
        let source = self.source(path.local);
        match self.call_send(path.peer, contents, segment_size, source) {
            Err(error) if source.is_some() && refuses_source(&error) => {
                self.call_send(path.peer, contents, segment_size, None)
            }
            done => done,
        }
    }

    fn call_send(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
        src_ip: Option<IpAddr>,
    ) -> io::Result<()> {
        let Some(calls) = self.calls else {
            return batch::send_one(&self.io, src_ip, (destination, contents));
        };
        let datagrams =
            quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip };
        calls.state.try_send((&self.io).into(), &datagrams)
    }

    /// Returns the source address to request; none if the socket is bound to one, as some systems
    /// refuse any.
    fn source(&self, local: IpAddr) -> Option<IpAddr> {
        let choice = self.addr.ip().is_unspecified() && !local.is_unspecified();
        choice.then_some(local)
    }

    #[cfg(test)]
    fn take_room(&self) -> io::Result<()> {
        let left = self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1));
        left.map(drop).map_err(|_| ErrorKind::WouldBlock.into())
    }
}

/// Opens a UDP socket, not bound yet. `AddrNotAvailable` means that this machine has no addresses
/// of this family: systems and sandboxes say so in many ways.
pub(super) fn open(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(to_open_error)
}

/// Converts the error of a socket that was not opened: only a lack of resources keeps its kind.
fn to_open_error(error: io::Error) -> io::Error {
    use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    match error.raw_os_error() {
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => error,
        _ => io::Error::new(ErrorKind::AddrNotAvailable, error),
    }
}

/// Lets other sockets of the same user share the port, if they allow it too (SO_REUSEPORT).
#[cfg(target_os = "linux")]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Fails: on other systems than Linux, one of the sockets would receive everything.
#[cfg(not(target_os = "linux"))]
pub(super) fn share_port(_: &Socket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Returns whether an error says that the socket's buffer, or the interface's queue, is full: there
/// may be room a little later.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Returns whether an error says that the local address cannot be sent from: a broadcast, or gone.
fn refuses_source(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::super::Socket;
    use super::super::inbox::BUFFER_LEN;
    use super::super::tests::{addr, ip, take, to};
    use super::*;

    /// Sends a train; returns how many bytes were sent or refused, and how many datagrams were
    /// refused.
    fn send_train(egress: &Egress, train: &Train) -> (usize, usize) {
        let mut refused = 0;
        (egress.send_train(train, &mut |_, _, _| refused += 1), refused)
    }

    #[test]
    fn a_family_that_is_refused_is_one_that_the_machine_lacks() {
        use libc::{EACCES, EAFNOSUPPORT, EMFILE, EPERM, EPROTONOSUPPORT};
        for number in [EAFNOSUPPORT, EPROTONOSUPPORT, EPERM, EACCES] {
            let error = to_open_error(io::Error::from_raw_os_error(number));
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
            assert!(error.to_string().contains(&number.to_string()), "{error}");
        }
        let too_many = to_open_error(io::Error::from_raw_os_error(EMFILE));
        assert_eq!(too_many.raw_os_error(), Some(EMFILE));
    }

    #[tokio::test]
    async fn a_train_is_cut_where_it_was_joined() {
        let server = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let path = to(&server, "127.0.0.1");
        let mut payload: Vec<u8> = (0..100).flat_map(|turn| [turn; 1200]).collect();
        payload.extend_from_slice(b"the end");
        let train = Train { path, payload, size: 1200 };
        // Three cases: what the system allows, a card that cannot split, too long for a train.
        let egress = &client.egress;
        for (most, size) in [(egress.train.load(Relaxed), 1200), (1, 1200), (64, 40_000)] {
            egress.train.store(most, Relaxed);
            let train = Train { size, ..train.clone() };
            let count = train.datagrams().len();
            assert_eq!(send_train(egress, &train), (train.payload.len(), 0), "{most} of {size}");
            let came = take(&server, count).await;
            let whole = train.datagrams().map(|sent| &sent[..sent.len().min(BUFFER_LEN)]);
            assert!(came.iter().map(|(_, payload)| &payload[..]).eq(whole), "{most} of {size}");
        }
    }

    #[tokio::test]
    async fn each_datagram_of_a_train_that_cannot_leave_is_refused() {
        let client = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let path = Path::new(addr("255.255.255.255:9"), ip("0.0.0.0"));
        let train = Train { path, payload: vec![0; 2500], size: 1000 };
        assert_eq!(
            send_train(&client.egress, &train),
            (2500, 3),
            "done with, as it can never leave"
        );
        assert!(
            client.egress.train.load(Relaxed) > 1,
            "nothing is learnt from what fails singly too"
        );
    }

    #[tokio::test]
    async fn only_a_card_that_cannot_split_trains_is_sent_no_more() {
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let (path, egress) = (to(&client, "127.0.0.1"), &client.egress);
        egress.train.store(64, Relaxed);
        // A train whose datagrams are too long for the link fails with either, by the kernel's age.
        for (error, left) in [(libc::EINVAL, 64), (libc::EMSGSIZE, 64), (EIO, 1)] {
            let why = io::Error::from_raw_os_error(error);
            let done = egress.send_singly(&path, &[0; 2500], 1000, &why, &mut |_, _, _| ());
            assert_eq!((done, egress.train.load(Relaxed)), (2500, left), "{why}");
        }
    }
}
