//! How datagrams leave by one socket: now, or not at all.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};

use super::batch;
use crate::path::{Path, Train, Transmit, canonical};

/// The most bytes in one train: 65,535 less the headers of IPv6 and UDP.
const TRAIN: usize = 65_535 - 40 - 8;

/// What a network card that cannot cut trains answers; one number on every Unix.
const EIO: i32 = 5;

/// Is told of each datagram that the system did not take, and why.
pub(super) type Refused<'a> = dyn FnMut(Path, &[u8], io::Error) + 'a;

/// The sending side of one socket. Nothing here waits.
#[derive(Debug)]
pub(super) struct Egress {
    pub(super) io: Socket,
    pub(super) state: UdpSocketState,
    /// The address it is bound to.
    pub(super) addr: SocketAddr,
    /// A socket of IPv6 that reaches IPv4 peers too, through `::ffff:0:0/96`.
    mapped: bool,
    /// The longest train. Our own count, as quinn-udp's falls to 1 at any EINVAL, and one datagram
    /// sent to our broadcast address would do to bring that about.
    pub(super) train: AtomicUsize,
    /// After how many calls the socket plays one whose buffer is full.
    #[cfg(test)]
    pub(super) room: AtomicUsize,
}

impl Egress {
    /// The sending side of a bound socket; `mapped` if it takes IPv4 beside IPv6.
    pub(super) fn new(io: Socket, mapped: bool) -> io::Result<Egress> {
        io.set_nonblocking(true)?;
        let state = UdpSocketState::new((&io).into())?;
        let bound = io.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        let (addr, train) = (canonical(bound), AtomicUsize::new(state.max_gso_segments()));
        ask_for_less(&io, mapped, addr.ip().is_unspecified());
        Ok(Egress {
            io,
            state,
            addr,
            mapped,
            train,
            #[cfg(test)]
            room: AtomicUsize::new(usize::MAX),
        })
    }

    /// A socket that sends from `local` and the receiver's port, and receives nothing.
    #[cfg(target_os = "linux")]
    pub(super) fn beside(receiver: &Egress, local: IpAddr, buffer: usize) -> io::Result<Egress> {
        // Receivers bound to the very address are a group, over which the system spreads what comes
        // (SO_REUSEPORT). This socket must not join it, or a later one might join this instead; those
        // of another family, or of IPv6 alone, are another group.
        let mapped = local.is_ipv4() && receiver.addr.ip() == local;
        let ip = if mapped { written_as_ipv6(local) } else { local };
        let socket = open(Domain::for_address((ip, 0).into()))?;
        if ip.is_ipv6() {
            socket.set_only_v6(!mapped)?;
        }
        share_port(&receiver.io)?;
        share_port(&socket)?;
        socket.set_recv_buffer_size(0)?;
        batch::raise_send_buffer(&socket, buffer);
        let own = SocketAddr::new(ip, receiver.addr.port()).into();
        socket.bind(&own)?;
        socket.connect(&own)?;
        Egress::new(socket, mapped)
    }

    /// Elsewhere such a socket would receive what is for the others.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn beside(_: &Egress, _: IpAddr, _: usize) -> io::Result<Egress> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Whether it reaches peers of that family.
    pub(super) fn has_family_of(&self, peer: SocketAddr) -> bool {
        self.mapped || self.addr.is_ipv4() == peer.is_ipv4()
    }

    /// Sends what the system has room for, in order: what one datagram meets never stops the next,
    /// unless it is that the socket is full.
    pub(super) fn send(&self, batch: &[Transmit], refused: &mut Refused<'_>) {
        batch.chunk_by(together).for_each(|run| self.send_run(run, refused));
    }

    /// Sends datagrams that leave from one address.
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
                // The first of them cannot go like this; singly it may, or tells why not.
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
        let messages = run.iter().map(|it| (self.destination(it.path.peer), &it.payload[..]));
        batch::send(&self.io, self.source(run[0].path.local), messages)
    }

    /// Sends a train, in as many pieces as the system wants: how many of its bytes are done with,
    /// all but those that a full socket has no room for now.
    pub(super) fn send_train(&self, train: &Train, refused: &mut Refused<'_>) -> usize {
        let Train { path, payload, size } = train;
        let most = TRAIN.checked_div(*size).unwrap_or(1).min(self.train.load(Relaxed)).max(1);
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

    /// Sends datagrams one by one that could not go as a train.
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
        // What goes one by one but not as a train, on a card that says so, will not go as one later.
        if !failed && (why.kind() == ErrorKind::InvalidInput || why.raw_os_error() == Some(EIO)) {
            self.train.store(1, Relaxed);
        }
        done
    }

    /// Sends one datagram, or a train cut at `segment_size`; from any address if not from the one
    /// that was asked.
    pub(super) fn put(
        &self,
        path: &Path,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        #[cfg(test)]
        self.take_room()?;
        let (destination, src_ip) = (self.destination(path.peer), self.source(path.local));
        let asked = quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip };
        match self.state.try_send((&self.io).into(), &asked) {
            Err(error) if src_ip.is_some() && refuses_source(&error) => {
                let anyhow = quinn_udp::Transmit { src_ip: None, ..asked };
                self.state.try_send((&self.io).into(), &anyhow)
            }
            done => done,
        }
    }

    fn destination(&self, peer: SocketAddr) -> SocketAddr {
        match peer {
            SocketAddr::V4(_) => SocketAddr::new(self.written(peer.ip()), peer.port()),
            SocketAddr::V6(_) => peer,
        }
    }

    /// A socket bound to one address has no choice, and some systems refuse to be told.
    fn source(&self, local: IpAddr) -> Option<IpAddr> {
        let choice = self.addr.ip().is_unspecified() && !local.is_unspecified();
        choice.then(|| self.written(local))
    }

    /// `ip` as this socket's family writes it.
    fn written(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(_) if self.mapped => written_as_ipv6(ip),
            _ => ip,
        }
    }

    #[cfg(test)]
    fn take_room(&self) -> io::Result<()> {
        let left = self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1));
        left.map(drop).map_err(|_| ErrorKind::WouldBlock.into())
    }
}

/// A new UDP socket, not bound yet.
pub(super) fn open(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
}

/// Lets others of the same user bind the same port, if they do so too.
#[cfg(target_os = "linux")]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Elsewhere a shared port gives all to one of its sockets, if there is such a thing.
#[cfg(not(target_os = "linux"))]
pub(super) fn share_port(_: &Socket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

fn written_as_ipv6(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        ip => ip,
    }
}

/// Switches off what quinn-udp has the kernel tell of each datagram and nobody here reads: when it
/// came, its ECN bits, and where there is no choice, which address was asked; and that the kernel
/// joins datagrams. One that stays on costs a little time, no more.
fn ask_for_less(socket: &Socket, mapped: bool, wildcard: bool) {
    let is_ipv6 = socket.domain().is_ok_and(|domain| domain == Domain::IPV6);
    if is_ipv6 {
        let _ = socket.set_recv_tclass_v6(false);
    }
    if !is_ipv6 || mapped {
        let _ = socket.set_recv_tos_v4(false);
    }
    batch::ask_for_less(socket, wildcard);
}

/// Whether two datagrams can go in one call: they leave from one address, to peers of one family.
fn together(one: &Transmit, next: &Transmit) -> bool {
    let family = one.path.peer.is_ipv4() == next.path.peer.is_ipv4();
    one.path.local == next.path.local && family
}

/// Whether there may be room for it a little later: the socket's buffer, or the queue of the
/// interface, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Whether the address that was asked cannot be sent from: it is a broadcast, or gone since.
fn refuses_source(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::super::Socket;
    use super::super::inbox::BUFFER;
    use super::super::tests::{addr, ip, take, to};
    use super::*;

    /// How many bytes of a train are done with, and how many datagrams were refused.
    fn send_train(egress: &Egress, train: &Train) -> (usize, usize) {
        let mut refused = 0;
        (egress.send_train(train, &mut |_, _, _| refused += 1), refused)
    }

    #[tokio::test]
    async fn a_train_is_cut_where_it_was_joined() {
        let server = Socket::bind_all(0).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let path = to(&server, "127.0.0.1");
        let mut payload: Vec<u8> = (0..100).flat_map(|turn| [turn; 1200]).collect();
        payload.extend_from_slice(b"the end");
        let train = Train { path, payload, size: 1200 };
        // What the system takes at once, a card that cannot cut, and what no train can hold.
        let egress = &client.egress;
        for (most, size) in [(egress.train.load(Relaxed), 1200), (1, 1200), (64, 40_000)] {
            egress.train.store(most, Relaxed);
            let train = Train { size, ..train.clone() };
            let count = train.datagrams().len();
            assert_eq!(send_train(egress, &train), (train.payload.len(), 0), "{most} of {size}");
            let came = take(&server, count).await;
            let whole = train.datagrams().map(|sent| &sent[..sent.len().min(BUFFER)]);
            assert!(came.iter().map(|(_, payload)| &payload[..]).eq(whole), "{most} of {size}");
        }
    }

    #[tokio::test]
    async fn a_train_that_cannot_leave_is_told_of_datagram_by_datagram() {
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
}
