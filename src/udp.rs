//! Batches of datagrams in and out.
//!
//! A host has many addresses, and a NAT or a firewall lets in only what comes from the one that
//! was asked. So each datagram is handed over with its [`Path`], and its answer takes that path
//! back: `peer → local`, then `local → peer`, also where the socket is bound to all addresses.
//!
//! One system call takes up to 32 datagrams and sends up to 64, each to another peer. Those of one
//! size to one peer leave as a [`Train`] that the kernel or the card cuts (GSO).

mod batch;
mod inbox;
mod sockets;

use std::io::{self, ErrorKind};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::coop::consume_budget;

use crate::path::{Path, Train, Transmit, canonical};

pub use inbox::Inbox;
pub use sockets::Sockets;

/// The most bytes in one train: 65,535 less the headers of IPv6 and UDP.
const TRAIN: usize = 65_535 - 40 - 8;
/// What the kernel is asked to hold for us while we are busy: some thousands of datagrams, as it
/// counts up to 2 KiB for each, however short.
const RECV_BUFFER: usize = 4 << 20;
/// How often in a row receiving may fail. An error that came from the network is told once and is
/// gone; one that is still there after so many tries is the socket's own.
const PATIENCE: usize = 64;
/// What a network card that cannot cut trains answers; one number on every Unix.
const EIO: i32 = 5;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Sent {
    /// Datagrams that the system took.
    pub sent: usize,
    /// Datagrams that it refused.
    pub failed: usize,
    /// RejectReason it refused the last of those.
    pub last_error: Option<io::Error>,
}

impl Sent {
    /// Adds what became of another batch.
    pub fn add(&mut self, other: Sent) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.last_error = other.last_error.or(self.last_error.take());
    }

    fn of(count: usize, result: io::Result<()>) -> Sent {
        match result {
            Ok(()) => Sent { sent: count, ..Sent::default() },
            Err(error) => Sent { failed: count, last_error: Some(error), ..Sent::default() },
        }
    }
}

/// One bound UDP socket.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    addr: SocketAddr,
    /// IPv4 peers are reached through `::ffff:0:0/96`.
    dual_stack: bool,
    /// The longest train. Our own count, as quinn-udp's falls to 1 at any EINVAL, and one datagram
    /// sent to our broadcast address would do to bring that about.
    train: AtomicUsize,
}

impl Socket {
    /// Binds `addr`, where `[::]` takes in IPv4 too; panics outside a tokio runtime.
    pub fn bind(addr: SocketAddr) -> io::Result<Socket> {
        let addr = canonical(addr);
        Socket::bind_to(open(Domain::for_address(addr))?, addr)
    }

    /// Binds `port` on all addresses, of IPv4 alone where the machine has no IPv6.
    pub fn bind_all(port: u16) -> io::Result<Socket> {
        let ipv4 = || Socket::bind((Ipv4Addr::UNSPECIFIED, port).into());
        // If it is not for lack of IPv6 that none can be opened, IPv4 will tell.
        let Ok(socket) = open(Domain::IPV6) else { return ipv4() };
        match Socket::bind_to(socket, (Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => ipv4(),
            bound => bound,
        }
    }

    /// Another socket on the same address and port: the system spreads peers over both
    /// (SO_REUSEPORT, since Linux 3.9). The first was bound without sharing, so that a port that is
    /// in use is an error.
    pub fn sibling(&self) -> io::Result<Socket> {
        let socket = open(Domain::for_address(self.addr))?;
        share_port(&SockRef::from(&self.io))?;
        share_port(&SockRef::from(&socket))?;
        Socket::bind_to(socket, self.addr)
    }

    fn bind_to(socket: socket2::Socket, addr: SocketAddr) -> io::Result<Socket> {
        let dual_stack = addr.is_ipv6() && addr.ip().is_unspecified();
        if dual_stack {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        socket.set_nonblocking(true)?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        let bound = canonical(io.local_addr()?);
        ask_for_less(&io, dual_stack, bound.ip().is_unspecified());
        let train = AtomicUsize::new(state.max_gso_segments());
        let socket = Socket { addr: bound, io, state, dual_stack, train };
        socket.raise_recv_buffer();
        Ok(socket)
    }

    /// Linux gives what it may (root more than that), others all or nothing; less than asked for is
    /// no reason to fail.
    fn raise_recv_buffer(&self) {
        batch::force_recv_buffer(&self.io, RECV_BUFFER);
        let enough = |size| {
            self.recv_buffer_size().is_ok_and(|has| has >= size)
                || self.state.set_recv_buffer_size((&self.io).into(), size).is_ok()
        };
        iter::successors(Some(RECV_BUFFER), |size| Some(size / 2)).take(5).any(enough);
    }

    /// How much the kernel holds for us while we are busy, in bytes.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        self.state.recv_buffer_size((&self.io).into())
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether what travels on `path` can leave here.
    pub fn reaches(&self, path: &Path) -> bool {
        let own = self.addr.ip();
        let family = own.is_ipv4() == path.peer.is_ipv4() || self.dual_stack;
        let ours = own.is_unspecified() || own == path.local;
        let fits = ours && path.local.is_ipv4() == path.peer.is_ipv4();
        family && (path.local.is_unspecified() || fits)
    }

    /// Waits for datagrams and takes as many as one call gives; nothing is lost if dropped.
    pub async fn recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            // Under load nothing here ever waits: without this no other task would run.
            consume_budget().await;
            match self.try_recv(inbox) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.io.readable().await?,
                done => return done,
            }
        }
    }

    fn try_recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        let taken = self.io.try_io(Interest::READABLE, || self.take(inbox));
        taken.map_err(|error| if of_a_peer(&error) { ErrorKind::WouldBlock.into() } else { error })
    }

    fn take(&self, inbox: &mut Inbox) -> io::Result<()> {
        let mut taken = inbox.fill(self);
        for _ in 1..PATIENCE {
            match taken {
                Err(error) if error.kind() != ErrorKind::WouldBlock => taken = inbox.fill(self),
                done => return done,
            }
        }
        taken
    }

    /// Sends one datagram now or not at all: `WouldBlock` if the system has no room for it.
    pub fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.put(&transmit.path, &transmit.payload, None)
    }

    /// Sends a batch, waiting for room: in order; what one datagram meets never stops the next.
    pub async fn send(&self, batch: &[Transmit]) -> Sent {
        let mut sent = Sent::default();
        for crowd in batch.chunk_by(together) {
            sent.add(self.send_crowd(crowd).await);
        }
        sent
    }

    /// Sends datagrams that leave from one address.
    async fn send_crowd(&self, crowd: &[Transmit]) -> Sent {
        let [first, _, ..] = crowd else { return self.send_singly(crowd).await };
        let source = self.source(first.path.local);
        let messages: Vec<batch::Message<'_>> =
            crowd.iter().map(|it| (self.destination(it.path.peer), &it.payload[..])).collect();
        let (mut sent, mut done) = (Sent::default(), 0);
        while done < crowd.len() {
            let put = || batch::send(&self.io, source, &messages[done..]);
            match self.io.async_io(Interest::WRITABLE, put).await {
                Ok(count) if count > 0 => {
                    sent.sent += count;
                    done += count;
                }
                // The first of them cannot go like this; singly it may, or tells why not.
                _ => {
                    sent.add(self.send_singly(&crowd[done..=done]).await);
                    done += 1;
                }
            }
        }
        sent
    }

    /// Sends a train, waiting for room: in order, in as many pieces as the system wants.
    pub async fn send_train(&self, train: &Train) -> Sent {
        let (size, mut sent) = (train.size, Sent::default());
        let most = TRAIN.checked_div(size).unwrap_or(1).min(self.train.load(Relaxed)).max(1);
        for piece in train.payload.chunks(size * most) {
            sent.add(self.send_piece(&train.path, piece, size).await);
        }
        sent
    }

    async fn send_piece(&self, path: &Path, piece: &[u8], size: usize) -> Sent {
        let count = piece.len().div_ceil(size);
        match self.put_soon(path, piece, (count > 1).then_some(size)).await {
            Err(error) if count > 1 => {
                let mut sent = Sent::default();
                for datagram in piece.chunks(size) {
                    sent.add(Sent::of(1, self.put_soon(path, datagram, None).await));
                }
                self.learn(&error, &sent);
                sent
            }
            done => Sent::of(count, done),
        }
    }

    /// What goes one by one but not as a train, on a card that says so, will not go as one later.
    fn learn(&self, error: &io::Error, singly: &Sent) {
        let trains = error.kind() == ErrorKind::InvalidInput || error.raw_os_error() == Some(EIO);
        if trains && singly.failed == 0 {
            self.train.store(1, Relaxed);
        }
    }

    async fn send_singly(&self, batch: &[Transmit]) -> Sent {
        let mut sent = Sent::default();
        for Transmit { path, payload } in batch {
            sent.add(Sent::of(1, self.put_soon(path, payload, None).await));
        }
        sent
    }

    async fn put_soon(&self, path: &Path, bytes: &[u8], cut: Option<usize>) -> io::Result<()> {
        self.io.async_io(Interest::WRITABLE, || self.put(path, bytes, cut)).await
    }

    fn put(&self, path: &Path, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
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
            SocketAddr::V4(_) => SocketAddr::new(self.mapped(peer.ip()), peer.port()),
            SocketAddr::V6(_) => peer,
        }
    }

    /// A socket bound to one address has no choice, and some systems refuse to be told.
    fn source(&self, local: IpAddr) -> Option<IpAddr> {
        let choice = self.addr.ip().is_unspecified() && !local.is_unspecified();
        choice.then(|| self.mapped(local))
    }

    /// `ip` as this socket's family writes it.
    fn mapped(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) if self.dual_stack => ip.to_ipv6_mapped().into(),
            ip => ip,
        }
    }
}

/// Switches off what quinn-udp has the kernel tell of each datagram and nobody here reads: when it
/// came, its ECN bits, and where there is no choice, which address was asked; and that the kernel
/// joins datagrams. If one stays on, so be it.
fn ask_for_less(io: &UdpSocket, dual_stack: bool, wildcard: bool) {
    let socket = SockRef::from(io);
    let is_ipv6 = socket.domain().is_ok_and(|domain| domain == Domain::IPV6);
    if is_ipv6 {
        let _ = socket.set_recv_tclass_v6(false);
    }
    if !is_ipv6 || dual_stack {
        let _ = socket.set_recv_tos_v4(false);
    }
    batch::ask_for_less(io, wildcard);
}

#[cfg(target_os = "linux")]
fn share_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Elsewhere a shared port gives all to one of its sockets, if there is such a thing.
#[cfg(not(target_os = "linux"))]
fn share_port(_: &socket2::Socket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

fn open(domain: Domain) -> io::Result<socket2::Socket> {
    socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))
}

/// Whether two go in one call: they leave from one address, to peers of one family.
fn together(one: &Transmit, next: &Transmit) -> bool {
    let family = one.path.peer.is_ipv4() == next.path.peer.is_ipv4();
    one.path.local == next.path.local && family
}

/// ICMP's word that some peer is gone: none of the others' concern.
fn of_a_peer(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable
    )
}

/// The address that was asked is not ours to send from: a broadcast, or gone since.
fn refuses_source(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, InvalidInput, NetworkUnreachable};
    matches!(error.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::inbox::BUFFER;
    use super::*;
    use hit7_support::skip;
    use std::collections::HashSet;
    use std::time::Duration;
    use tokio::time::timeout;

    pub(super) const ASKED: &str = "127.0.0.2";

    pub(super) fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    pub(super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(super) fn transmit(path: Path, payload: impl Into<Vec<u8>>) -> Transmit {
        Transmit { path, payload: payload.into() }
    }

    pub(super) fn to(socket: &Socket, host: &str) -> Path {
        let any = if ip(host).is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        Path::new(SocketAddr::new(ip(host), socket.local_addr().port()), any)
    }

    /// `Socket::bind(text)`; where that fails, the test is skipped.
    pub(super) fn bind(text: &str) -> Option<Socket> {
        Socket::bind(addr(text)).map_err(|error| skip(&format!("no {text}: {error}"))).ok()
    }

    /// What arrives first, `count` of it.
    pub(super) async fn take(socket: &Socket, count: usize) -> Vec<(Path, Vec<u8>)> {
        let (mut inbox, mut taken) = (Inbox::new(), Vec::new());
        while taken.len() < count {
            let received = timeout(Duration::from_secs(10), socket.recv(&mut inbox)).await;
            received.expect("nothing came").unwrap();
            taken.extend(inbox.datagrams().map(|(path, bytes)| (path, bytes.to_vec())));
        }
        taken
    }

    /// Asks `server` at `host`, echoes, and looks where the answer came from.
    async fn answers_from_where_it_was_asked(server: &Socket, client: &Socket, host: &str) {
        let asked = to(server, host);
        assert_eq!(client.send(&[transmit(asked, "who")]).await.sent, 1);
        let (path, payload) = take(server, 1).await.remove(0);
        assert_eq!(path, Path::new(client.local_addr(), ip(host)));
        assert!(server.reaches(&path));
        assert_eq!(server.send(&[transmit(path, payload)]).await.sent, 1);
        let (back, payload) = take(client, 1).await.remove(0);
        assert_eq!((back.peer, &payload[..]), (asked.peer, &b"who"[..]));
    }

    #[tokio::test]
    async fn ipv4_answers_from_where_it_was_asked() {
        let server = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        answers_from_where_it_was_asked(&server, &client, "127.0.0.1").await;
        if bind("127.0.0.2:0").is_some() {
            answers_from_where_it_was_asked(&server, &client, ASKED).await;
        }
    }

    #[tokio::test]
    async fn dual_stack_answers_from_where_it_was_asked() {
        let Some(server) = bind("[::]:0") else { return };
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        answers_from_where_it_was_asked(&server, &client, "127.0.0.1").await;
        if bind("127.0.0.2:0").is_some() {
            answers_from_where_it_was_asked(&server, &client, ASKED).await;
        }
        let Some(client) = bind("[::1]:0") else { return };
        answers_from_where_it_was_asked(&server, &client, "::1").await;
    }

    #[tokio::test]
    async fn siblings_share_a_port_among_them_and_with_nobody_else() {
        let first = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let second = match first.sibling() {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return skip(&format!("ports cannot be shared here: {error}"));
            }
            second => second.unwrap(),
        };
        assert_eq!(first.local_addr(), second.local_addr());
        let busy = Socket::bind(first.local_addr()).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::AddrInUse);
        let clients: Vec<Socket> =
            (0..64).map(|_| Socket::bind(addr("127.0.0.1:0")).unwrap()).collect();
        for client in &clients {
            assert_eq!(client.send(&[transmit(to(&first, "127.0.0.1"), "who")]).await.sent, 1);
        }
        let (mut inbox, mut heard) = (Inbox::new(), [0, 0]);
        while heard[0] + heard[1] < clients.len() {
            let mut both = (Inbox::new(), Inbox::new());
            tokio::select! {
                taken = first.recv(&mut both.0) => { taken.unwrap(); heard[0] += both.0.datagrams().count() }
                taken = second.recv(&mut both.1) => { taken.unwrap(); heard[1] += both.1.datagrams().count() }
            }
        }
        assert!(heard.iter().all(|&heard| heard > 0), "{heard:?}");
        // Either answers, and the client sees the one address.
        let path = Path::new(clients[0].local_addr(), ip("127.0.0.1"));
        assert_eq!(second.send(&[transmit(path, "me")]).await.sent, 1);
        clients[0].recv(&mut inbox).await.unwrap();
        assert_eq!(inbox.datagrams().next().unwrap().0.peer, first.local_addr());
    }

    #[tokio::test]
    async fn a_crowd_is_told_in_order_whatever_one_of_them_meets() {
        for own in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0"] {
            let Some(server) = bind(own) else { continue };
            let clients: Vec<Socket> =
                (0..100).map(|_| Socket::bind(addr("127.0.0.1:0")).unwrap()).collect();
            let path = |client: &Socket| Path::new(client.local_addr(), ip("127.0.0.1"));
            let mut batch: Vec<Transmit> = clients
                .iter()
                .flat_map(|client| (0..3).map(|n| transmit(path(client), format!("part {n}"))))
                .collect();
            batch.extend(clients.iter().map(|client| transmit(path(client), "last")));
            // Too large for any datagram, in the middle of a crowd; and a source that is not ours.
            batch.insert(350, transmit(path(&clients[0]), vec![b' '; 70_000]));
            let foreign = Path::new(clients[50].local_addr(), ip("203.0.113.9"));
            batch.insert(360, transmit(foreign, "from elsewhere"));
            let sent = server.send(&batch).await;
            assert_eq!((sent.sent, sent.failed), (401, 1), "{own}: {:?}", sent.last_error);
            for (n, client) in clients.iter().enumerate() {
                let texts = take(client, if n == 50 { 5 } else { 4 }).await;
                let texts = texts.iter().map(|(_, text)| String::from_utf8_lossy(text));
                let texts: Vec<_> = texts.filter(|text| text != "from elsewhere").collect();
                assert_eq!(texts, ["part 0", "part 1", "part 2", "last"]);
            }
        }
    }

    #[tokio::test]
    async fn a_socket_of_one_address_answers_from_it() {
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let Some(server) = bind("127.0.0.2:0") else { return };
        answers_from_where_it_was_asked(&server, &client, ASKED).await;
    }

    #[tokio::test]
    async fn a_source_that_is_not_ours_is_left_to_the_system() {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let Some(server) = bind(any) else { continue };
            let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
            for gone in ["203.0.113.9", "255.255.255.255", "127.255.255.255"] {
                let path = Path::new(client.local_addr(), ip(gone));
                let sent = server.send(&[transmit(path, gone), transmit(path, gone)]).await;
                assert_eq!((sent.sent, sent.failed), (2, 0), "{gone}: {sent:?}");
                assert_eq!(take(&client, 2).await[1].1, gone.as_bytes());
            }
            assert_eq!(
                server.train.load(Relaxed),
                Socket::bind(addr(any)).unwrap().train.into_inner()
            );
        }
    }

    #[tokio::test]
    async fn a_batch_arrives_in_order() {
        let server = Socket::bind_all(0).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let sizes = [3, 3, 0, 0, 1200, 1200, 700, 1200, 1201, 5, 0, 9000, 9000, 60_000, 60_000, 1];
        let text = |(turn, size): (usize, &usize)| vec![b'a' + turn as u8; *size];
        let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(text).collect();
        let path = to(&server, "127.0.0.1");
        let batch: Vec<_> = sent.iter().map(|payload| transmit(path, payload.clone())).collect();
        assert_eq!(client.send(&batch).await.sent, sizes.len());
        let (paths, came): (Vec<_>, Vec<_>) = take(&server, sizes.len()).await.into_iter().unzip();
        // Of what is too long for anyone here, the beginning.
        let whole = sent.iter().map(|payload| &payload[..payload.len().min(BUFFER)]);
        assert!(came.iter().map(|payload| &payload[..]).eq(whole), "they came in order");
        assert_eq!(
            HashSet::from_iter(paths),
            HashSet::from([Path::new(client.local_addr(), ip("127.0.0.1"))])
        );
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
        for (most, size) in [(client.train.load(Relaxed), 1200), (1, 1200), (64, 40_000)] {
            client.train.store(most, Relaxed);
            let train = Train { size, ..train.clone() };
            let count = train.datagrams().len();
            assert_eq!(client.send_train(&train).await.sent, count, "{most} of {size}");
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
        let sent = client.send_train(&train).await;
        assert_eq!((sent.sent, sent.failed, sent.last_error.is_some()), (0, 3, true));
        assert!(client.train.load(Relaxed) > 1, "nothing is learnt from what fails singly too");
    }

    #[tokio::test]
    async fn one_that_fails_does_not_stop_the_rest() {
        let server = Socket::bind_all(0).unwrap();
        let client = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let path = to(&server, "127.0.0.1");
        let nowhere = Path::new(addr("255.255.255.255:9"), ip("0.0.0.0"));
        let batch = [
            transmit(path, "one"),
            transmit(path, vec![0; 70_000]),
            transmit(nowhere, "shout"),
            transmit(Path::new(addr("[2001:db8::1]:9"), ip("::")), "other family"),
            transmit(path, "two"),
        ];
        let sent = client.send(&batch).await;
        assert_eq!((sent.sent, sent.failed, sent.last_error.is_some()), (2, 3, true));
        assert_eq!(take(&server, 2).await[1].1, b"two");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_does_not_end_receiving() {
        let server = Socket::bind(addr("127.0.0.1:0")).unwrap();
        // Without this Linux keeps to itself what ICMP says; other systems tell unasked.
        server.state.enable_transport_errors((&server.io).into()).unwrap();
        let gone = Socket::bind(addr("127.0.0.1:0")).unwrap().local_addr();
        let path = Path::new(gone, ip("127.0.0.1"));
        server.try_send(&transmit(path, "are you there")).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        client.try_send(&transmit(to(&server, "127.0.0.1"), "i am")).unwrap();
        assert_eq!(take(&server, 1).await[0].1, b"i am");
    }

    #[tokio::test]
    async fn which_socket_reaches_what() {
        let (v4, one) = (bind("0.0.0.0:0").unwrap(), bind("127.0.0.1:0").unwrap());
        let path = |peer, local| Path::new(addr(peer), ip(local));
        let (home, away) = (path("192.0.2.1:9", "127.0.0.1"), path("192.0.2.1:9", "192.0.2.2"));
        let (six, unknown) = (path("[2001:db8::1]:9", "::1"), path("192.0.2.1:9", "0.0.0.0"));
        let reached =
            |socket: &Socket| [home, away, six, unknown].map(|path| socket.reaches(&path));
        assert_eq!(reached(&v4), [true, true, false, true]);
        assert_eq!(reached(&one), [true, false, false, true]);
        let (Some(dual), Some(loopback)) = (bind("[::]:0"), bind("[::1]:0")) else { return };
        assert_eq!(reached(&dual), [true, true, true, true]);
        assert_eq!(reached(&loopback), [false, false, true, false]);
    }

    #[tokio::test]
    async fn a_busy_port_is_an_error() {
        let first = Socket::bind_all(0).unwrap();
        let again = Socket::bind_all(first.local_addr().port()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
        let again = Socket::bind(first.local_addr()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn the_receive_buffer_is_no_smaller_than_the_system_gives_anyway() {
        let plain = open(Domain::IPV4).unwrap().recv_buffer_size().unwrap();
        let ours = Socket::bind(addr("127.0.0.1:0")).unwrap().recv_buffer_size().unwrap();
        assert!(ours >= plain, "{ours} < {plain}");
    }

    #[tokio::test]
    async fn tasks_may_move_between_threads() {
        fn moves(_: impl Send) {}
        let sockets = Sockets::new(vec![]);
        moves(sockets.send(&[]));
        moves(sockets.recv(&mut Inbox::new()));
    }
}
