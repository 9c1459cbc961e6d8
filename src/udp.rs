//! Receives datagrams in batches, and sends them through an [`Outbox`] that never waits.
//!
//! A host has many addresses, and a NAT or a firewall lets in only answers from the address that
//! was asked. So each received datagram comes with its [`Path`], and its answer takes that path
//! back: `peer → local`, then `local → peer`, also from a socket that is bound to all addresses.
//!
//! Each receiving socket is of one address family: to listen on all addresses takes two, one of
//! IPv4 and one of IPv6, and [`Sockets`] uses them as one. A registry sends through an [`Outbox`];
//! a client, which has few peers, by its [`Sockets`].
//!
//! One system call receives up to 32 datagrams and sends up to 64, each to another peer. Datagrams
//! of one size to one peer leave as a [`Train`] that the kernel or the network card splits (GSO).

mod batch;
mod egress;
mod inbox;
mod options;
mod outbox;
mod sockets;
mod source;

use std::io::{self, ErrorKind, IoSliceMut};
use std::iter;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use quinn_udp::RecvMeta;
use socket2::Domain;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::path::{Path, Train, Transmit, canonical};
use egress::{Egress, open, share_port};
use options::{calls, is_refusal, tell_once};

pub use inbox::Inbox;
pub use outbox::{Class, Outbox, Unsent};
pub use sockets::{BindError, MAX_SEND_ONLY, Sockets, all_addresses, check_own};

/// The receive buffer to request from the kernel, in bytes: some thousands of datagrams, as each
/// counts for up to 2 KiB, however short.
const RECV_BUFFER: usize = 4 << 20;
/// The send buffer of a send-only socket, in bytes: what waits for slow interfaces and neighbours.
const SEND_BUFFER: usize = 2 << 20;
/// The most receive calls in a row that may fail. The kernel reports an error of the network once;
/// one that persists is the socket's own.
const MAX_RECV_FAILURES: usize = 64;

/// One bound UDP socket, of one address family.
#[derive(Debug)]
struct Socket {
    io: UdpSocket,
    egress: Egress,
    /// Whether the system refuses to receive batches: datagrams are then received one by one.
    receives_singly: AtomicBool,
    /// Whether the local address of each received datagram is known.
    knows_local: bool,
}

impl Socket {
    /// Binds a socket to `addr`. Panics outside a tokio runtime.
    fn bind(addr: SocketAddr) -> io::Result<Socket> {
        let addr = canonical(addr);
        Socket::bind_to(open(Domain::for_address(addr))?, addr)
    }

    /// Binds another socket to the same address and port: the system spreads peers over both
    /// (SO_REUSEPORT, since Linux 3.9). The first was bound without sharing, so that a port that is
    /// in use is an error.
    fn bind_same_port(&self) -> io::Result<Socket> {
        let socket = open(Domain::for_address(self.local_addr()))?;
        share_port(&self.egress.io)?;
        share_port(&socket)?;
        Socket::bind_to(socket, self.local_addr())
    }

    fn bind_to(socket: socket2::Socket, addr: SocketAddr) -> io::Result<Socket> {
        if addr.is_ipv6()
            && let Err(error) = socket.set_only_v6(true)
            && addr.ip().is_unspecified()
        {
            // The socket would be one of IPv4 too, and its port in use by the socket for that.
            let refused = format!("the system refuses sockets of IPv6 alone: {error}");
            return Err(io::Error::new(ErrorKind::AddrNotAvailable, refused));
        }
        socket.bind(&addr.into())?;
        let knows_local = options::report_local_addresses(&socket, addr);
        let egress = Egress::new(socket.try_clone()?)?;
        let (io, receives_singly) = (UdpSocket::from_std(socket.into())?, AtomicBool::new(false));
        let socket = Socket { io, egress, receives_singly, knows_local };
        socket.raise_recv_buffer();
        Ok(socket)
    }

    /// Requests [`RECV_BUFFER`] bytes, or half as much after each refusal; a smaller buffer is no
    /// error. Linux grants what is allowed (root more than that), other systems all or nothing.
    fn raise_recv_buffer(&self) {
        batch::force_recv_buffer(&self.egress.io, RECV_BUFFER);
        let enough = |size| {
            self.recv_buffer_size().is_ok_and(|has| has >= size)
                || self.egress.io.set_recv_buffer_size(size).is_ok()
        };
        iter::successors(Some(RECV_BUFFER), |size| Some(size / 2)).take(5).any(enough);
    }

    /// Returns the size of the kernel's receive buffer for this socket, in bytes.
    fn recv_buffer_size(&self) -> io::Result<usize> {
        self.egress.io.recv_buffer_size()
    }

    /// Returns the address that the socket is bound to.
    fn local_addr(&self) -> SocketAddr {
        self.egress.addr
    }

    /// Returns whether this socket can send on `path`.
    fn reaches(&self, path: &Path) -> bool {
        let (own, Path { peer, local }) = (self.local_addr().ip(), path);
        let is_ours = own.is_unspecified() || local.is_unspecified() || own == *local;
        own.is_ipv4() == peer.is_ipv4() && is_ours
    }

    fn try_recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        let taken = self.io.try_io(Interest::READABLE, || self.take(inbox));
        taken.map_err(|error| {
            if is_peer_unreachable(&error) { ErrorKind::WouldBlock.into() } else { error }
        })
    }

    /// Receives a batch without waiting; a single datagram where the system refuses batches.
    fn receive(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        if let Some(calls) = calls()
            && !self.receives_singly.load(Relaxed)
        {
            match calls.state.recv((&self.io).into(), buffers, metas) {
                Err(error) if is_refusal(&error) => {
                    tell_once("datagrams are received one by one", &error);
                    self.receives_singly.store(true, Relaxed);
                }
                done => return done,
            }
        }
        metas[0] = batch::receive_one(&self.egress.io, &mut buffers[0])?;
        Ok(1)
    }

    fn take(&self, inbox: &mut Inbox) -> io::Result<()> {
        let mut taken = inbox.fill(self);
        for _ in 1..MAX_RECV_FAILURES {
            match taken {
                Err(error) if error.kind() != ErrorKind::WouldBlock => taken = inbox.fill(self),
                done => return done,
            }
        }
        taken
    }
}

/// Returns whether an error only says that one peer is unreachable, which does not concern others.
fn is_peer_unreachable(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::inbox::BUFFER_LEN;
    use super::*;
    use std::collections::HashSet;
    use std::env;
    use std::io::Write;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;
    use tokio::time::timeout;

    pub(super) const ASKED: &str = "127.0.0.2";

    /// Says that a test is skipped, and why; fails where nothing may be skipped. Not the one of
    /// `tests/support`, which a package of this crate does not have.
    pub(super) fn skip(why: &str) {
        assert!(env::var_os("HIT7_NO_SKIPS").is_none(), "nothing may be skipped here: {why}");
        let _ = writeln!(io::stderr(), "SKIPPED: {why}");
    }

    impl Socket {
        /// Sends a batch, and returns how many datagrams the system took.
        pub(super) fn send(&self, batch: &[Transmit]) -> usize {
            let mut refused = 0;
            self.egress.send(batch, &mut |_, _, _| refused += 1);
            batch.len() - refused
        }

        /// Waits for datagrams, and receives one batch.
        pub(super) async fn recv(&self, inbox: &mut Inbox) -> io::Result<()> {
            loop {
                match self.try_recv(inbox) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.io.readable().await?;
                    }
                    done => return done,
                }
            }
        }
    }

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

    /// Receives the next datagrams, at least `count` of them.
    pub(super) async fn take(socket: &Socket, count: usize) -> Vec<(Path, Vec<u8>)> {
        let (mut inbox, mut taken) = (Inbox::new(), Vec::new());
        while taken.len() < count {
            let received = timeout(Duration::from_secs(10), socket.recv(&mut inbox)).await;
            received.expect("nothing came").unwrap();
            taken.extend(inbox.datagrams().map(|(path, bytes)| (path, bytes.to_vec())));
        }
        taken
    }

    /// Has `server` answer what came to `host`, and checks the address that the answer comes from.
    async fn answers_from_where_it_was_asked(server: &Socket, client: &Socket, host: &str) {
        let asked = to(server, host);
        assert_eq!(client.send(&[transmit(asked, "who")]), 1);
        let (path, payload) = take(server, 1).await.remove(0);
        assert_eq!(path, Path::new(client.local_addr(), ip(host)));
        assert!(server.reaches(&path));
        assert_eq!(server.send(&[transmit(path, payload)]), 1);
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
    async fn ipv6_answers_from_where_it_was_asked() {
        let Some(server) = bind("[::]:0") else { return };
        let Some(client) = bind("[::1]:0") else { return };
        answers_from_where_it_was_asked(&server, &client, "::1").await;
    }

    #[tokio::test]
    async fn sockets_share_a_port_among_them_and_with_nobody_else() {
        let first = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let second = match first.bind_same_port() {
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
            assert_eq!(client.send(&[transmit(to(&first, "127.0.0.1"), "who")]), 1);
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
        // Either socket can answer, and the client sees the same address.
        let path = Path::new(clients[0].local_addr(), ip("127.0.0.1"));
        assert_eq!(second.send(&[transmit(path, "me")]), 1);
        clients[0].recv(&mut inbox).await.unwrap();
        assert_eq!(inbox.datagrams().next().unwrap().0.peer, first.local_addr());
    }

    #[tokio::test]
    async fn every_peer_of_a_batch_is_sent_to_in_order() {
        for own in ["0.0.0.0:0", "127.0.0.1:0"] {
            let server = Socket::bind(addr(own)).unwrap();
            let clients: Vec<Socket> =
                (0..100).map(|_| Socket::bind(addr("127.0.0.1:0")).unwrap()).collect();
            let path = |client: &Socket| Path::new(client.local_addr(), ip("127.0.0.1"));
            let mut batch: Vec<Transmit> = clients
                .iter()
                .flat_map(|client| (0..3).map(|n| transmit(path(client), format!("part {n}"))))
                .collect();
            batch.extend(clients.iter().map(|client| transmit(path(client), "last")));
            // In the middle: one too large for a datagram, and one from a foreign source.
            batch.insert(350, transmit(path(&clients[0]), vec![b' '; 70_000]));
            let foreign = Path::new(clients[50].local_addr(), ip("203.0.113.9"));
            batch.insert(360, transmit(foreign, "from elsewhere"));
            assert_eq!(server.send(&batch), 401, "{own}: all but one");
            for (n, client) in clients.iter().enumerate() {
                let texts = take(client, if n == 50 { 5 } else { 4 }).await;
                let texts = texts.iter().map(|(_, text)| String::from_utf8_lossy(text));
                let texts: Vec<_> = texts.filter(|text| text != "from elsewhere").collect();
                assert_eq!(texts, ["part 0", "part 1", "part 2", "last"]);
            }
        }
    }

    #[tokio::test]
    async fn each_datagram_of_a_batch_leaves_from_its_own_address() {
        if bind("127.0.0.2:0").is_none() {
            return;
        }
        let server = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let from = ["127.0.0.1", ASKED, ASKED, "127.0.0.1"];
        let batch = from.map(|host| transmit(Path::new(client.local_addr(), ip(host)), host));
        assert_eq!(server.send(&batch), from.len());
        let sources: Vec<String> =
            take(&client, 4).await.iter().map(|(path, _)| path.peer.ip().to_string()).collect();
        assert_eq!(sources, from);
    }

    #[tokio::test]
    async fn a_socket_of_one_address_answers_from_it() {
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let Some(server) = bind("127.0.0.2:0") else { return };
        answers_from_where_it_was_asked(&server, &client, ASKED).await;
    }

    #[tokio::test]
    async fn for_a_foreign_source_the_system_chooses_the_address() {
        const GONE: [(&str, &str, &[&str]); 2] = [
            ("0.0.0.0:0", "127.0.0.1:0", &["203.0.113.9", "255.255.255.255", "127.255.255.255"]),
            ("[::]:0", "[::1]:0", &["2001:db8::9"]),
        ];
        for (any, own, gone) in GONE {
            let (Some(server), Some(client)) = (bind(any), bind(own)) else { continue };
            for &gone in gone {
                let path = Path::new(client.local_addr(), ip(gone));
                let sent = server.send(&[transmit(path, gone), transmit(path, gone)]);
                assert_eq!(sent, 2, "{gone}");
                assert_eq!(take(&client, 2).await[1].1, gone.as_bytes());
            }
            assert_eq!(
                server.egress.train.load(Relaxed),
                Socket::bind(addr(any)).unwrap().egress.train.into_inner()
            );
        }
    }

    #[tokio::test]
    async fn a_batch_arrives_in_order() {
        let server = Socket::bind(addr("0.0.0.0:0")).unwrap();
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let sizes = [3, 3, 0, 0, 1200, 1200, 700, 1200, 1201, 5, 0, 9000, 9000, 60_000, 60_000, 1];
        let text = |(turn, size): (usize, &usize)| vec![b'a' + turn as u8; *size];
        let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(text).collect();
        let path = to(&server, "127.0.0.1");
        let batch: Vec<_> = sent.iter().map(|payload| transmit(path, payload.clone())).collect();
        assert_eq!(client.send(&batch), sizes.len());
        let (paths, came): (Vec<_>, Vec<_>) = take(&server, sizes.len()).await.into_iter().unzip();
        // A datagram longer than the receive buffer arrives cut.
        let whole = sent.iter().map(|payload| &payload[..payload.len().min(BUFFER_LEN)]);
        assert!(came.iter().map(|payload| &payload[..]).eq(whole), "they came in order");
        assert_eq!(
            HashSet::from_iter(paths),
            HashSet::from([Path::new(client.local_addr(), ip("127.0.0.1"))])
        );
    }

    #[tokio::test]
    async fn a_datagram_that_fails_does_not_stop_the_rest() {
        let server = Socket::bind(addr("0.0.0.0:0")).unwrap();
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
        assert_eq!(client.send(&batch), 2);
        assert_eq!(take(&server, 2).await[1].1, b"two");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_does_not_end_receiving() {
        let server = Socket::bind(addr("127.0.0.1:0")).unwrap();
        // Without this Linux does not report ICMP errors; other systems do so unasked.
        calls().unwrap().state.enable_transport_errors((&server.io).into()).unwrap();
        let gone = Socket::bind(addr("127.0.0.1:0")).unwrap().local_addr();
        let path = Path::new(gone, ip("127.0.0.1"));
        assert_eq!(server.send(&[transmit(path, "are you there")]), 1);
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        assert_eq!(client.send(&[transmit(to(&server, "127.0.0.1"), "i am")]), 1);
        assert_eq!(take(&server, 1).await[0].1, b"i am");
    }

    #[tokio::test]
    async fn a_socket_reaches_paths_of_its_own_address_and_family() {
        let (v4, one) = (bind("0.0.0.0:0").unwrap(), bind("127.0.0.1:0").unwrap());
        let path = |peer, local| Path::new(addr(peer), ip(local));
        let (home, away) = (path("192.0.2.1:9", "127.0.0.1"), path("192.0.2.1:9", "192.0.2.2"));
        let (six, unknown) = (path("[2001:db8::1]:9", "::1"), path("192.0.2.1:9", "0.0.0.0"));
        let reached =
            |socket: &Socket| [home, away, six, unknown].map(|path| socket.reaches(&path));
        assert_eq!(reached(&v4), [true, true, false, true]);
        assert_eq!(reached(&one), [true, false, false, true]);
        let (Some(v6), Some(loopback)) = (bind("[::]:0"), bind("[::1]:0")) else { return };
        assert_eq!(reached(&v6), [false, false, true, false]);
        assert_eq!(reached(&loopback), [false, false, true, false]);
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
        let sockets = Arc::new(Sockets::new(vec![]));
        moves(sockets.recv(&mut Inbox::new()));
        moves(Outbox::new(sockets.clone()));
    }
}
