//! Uses several receiving sockets as if they were one.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use ipnet::Ipv4Net;
use thiserror::Error;
use tokio::task::coop::consume_budget;

use super::egress::{Egress, Refused};
use super::{Inbox, Path, RECV_BUFFER, SEND_BUFFER, Socket, Train, Transmit};

/// With port 0: how many ports to try, as one that is free on the first address may be taken on
/// another.
const MAX_BIND_TRIES: usize = 16;

/// The most send-only sockets that one outbox opens: many a process may have only 1024 files open.
pub const MAX_SEND_ONLY: usize = 64;

/// The reason why a socket could not be bound to an address.
#[derive(Debug, Error)]
#[error("cannot bind {addr}: {source}")]
pub struct BindError {
    /// The address as it was asked for, with port 0 if any port was.
    pub addr: SocketAddr,
    /// The error of the system.
    pub source: io::Error,
}

/// Receiving sockets that are used as one: those of a client, or of one thread of a registry.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
    /// The index of the socket to try first at the next receive.
    turn: AtomicUsize,
    /// The most send-only sockets that an outbox opens.
    most_send_only: usize,
}

impl Sockets {
    /// Binds a socket to each of `addrs`, all with the same port; with port 0 one that is free on
    /// each. An address that the machine lacks is left out, unless it lacks all. Panics outside a
    /// tokio runtime.
    pub fn bind(addrs: &[SocketAddr]) -> Result<Sockets, BindError> {
        retry_other_ports(|| bind_each(addrs)).map(Sockets::new)
    }

    /// Combines bound sockets; where several reach a path, the first sends.
    pub(super) fn new(all: Vec<Socket>) -> Sockets {
        Sockets { all, turn: AtomicUsize::new(0), most_send_only: MAX_SEND_ONLY }
    }

    /// Lowers the number of sockets that an outbox of these, or of others on the same ports, opens to
    /// send only; never above [`MAX_SEND_ONLY`]. Without any, the receiving sockets send.
    pub fn limit_send_only(&mut self, most: usize) {
        self.most_send_only = most.min(MAX_SEND_ONLY);
    }

    /// Returns the most send-only sockets that an outbox opens.
    pub(super) fn most_send_only(&self) -> usize {
        self.most_send_only
    }

    /// Binds as many more sockets to the same addresses and ports: the system spreads peers over
    /// all (SO_REUSEPORT).
    pub fn bind_same_ports(&self) -> io::Result<Sockets> {
        let all = self.iter().map(Socket::bind_same_port).collect::<io::Result<_>>()?;
        Ok(Sockets { most_send_only: self.most_send_only, ..Sockets::new(all) })
    }

    /// Returns the size of the smallest receive buffer and the size requested, in bytes; `None` if
    /// all got what was requested.
    pub fn small_recv_buffer(&self) -> Option<(usize, usize)> {
        let smallest = self.iter().filter_map(|socket| socket.recv_buffer_size().ok()).min()?;
        (smallest < RECV_BUFFER).then_some((smallest, RECV_BUFFER))
    }

    /// Returns whether the local address of each received datagram is known: if not, an answer may
    /// leave from another of the machine's addresses than the one that was asked.
    pub fn know_local_addresses(&self) -> bool {
        self.iter().all(|socket| socket.knows_local)
    }

    /// Returns each of the sockets, in the order given.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.all.iter()
    }

    /// Returns the addresses that the sockets are bound to, in the order given.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.iter().map(Socket::local_addr).collect()
    }

    /// Returns the first socket that can send on `path`.
    fn reaching(&self, path: &Path) -> Option<&Socket> {
        self.iter().find(|socket| socket.reaches(path))
    }

    /// Opens a socket that sends from `local` and receives nothing.
    pub(super) fn send_only(&self, local: IpAddr) -> io::Result<Egress> {
        let path = Path { peer: SocketAddr::new(local, 0), local };
        let receiver = self.reaching(&path).ok_or_else(|| unreached(&path))?;
        Egress::send_only(&receiver.egress, local, SEND_BUFFER)
    }

    /// Sends a batch in order, without waiting; what the system does not take is dropped.
    pub fn send_or_drop(&self, batch: &[Transmit]) {
        self.send(batch, &mut |_, _, _| ());
    }

    /// Sends a batch in order, without waiting; what the system does not take is dropped, and
    /// `refused` is told the destination and the error.
    pub fn send_each(&self, batch: &[Transmit], mut refused: impl FnMut(SocketAddr, io::Error)) {
        self.send(batch, &mut |path, _, error| refused(path.peer, error));
    }

    /// Sends a batch in order, each datagram by the first socket that reaches its peer.
    pub(super) fn send(&self, batch: &[Transmit], refused: &mut Refused<'_>) {
        let by = |transmit: &Transmit| self.iter().position(|it| it.reaches(&transmit.path));
        for run in batch.chunk_by(|one, next| by(one) == by(next)) {
            match by(&run[0]) {
                Some(socket) => self.all[socket].egress.send(run, refused),
                None => run.iter().for_each(|Transmit { path, payload }| {
                    refused(*path, payload, unreached(path));
                }),
            }
        }
    }

    /// Sends a train by the first socket that reaches its peer, and returns how many of its bytes
    /// were sent or refused.
    pub(super) fn send_train(&self, train: &Train, refused: &mut Refused<'_>) -> usize {
        let Some(socket) = self.reaching(&train.path) else {
            let Train { path, payload, .. } = train;
            train.datagrams().for_each(|it| refused(*path, it, unreached(path)));
            return payload.len();
        };
        socket.egress.send_train(train, refused)
    }

    /// Sends one datagram by the first socket that reaches its peer.
    pub(super) fn put(&self, path: &Path, payload: &[u8]) -> io::Result<()> {
        let socket = self.reaching(path).ok_or_else(|| unreached(path))?;
        socket.egress.put(path, payload, None)
    }

    /// Waits for datagrams on any socket and receives a batch from one, each in turn; cancelling
    /// loses none. One task may wait at a time.
    pub async fn recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            // Under load nothing here ever waits: without this line no other task would run.
            consume_budget().await;
            match self.try_recv(inbox) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable().await?,
                done => return done,
            }
        }
    }

    /// Tries the sockets in turn, first the one after the last that received, so that a flood at
    /// one address does not starve the others.
    fn try_recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        let (turn, count) = (self.turn.load(Relaxed), self.all.len());
        for next in (turn..turn + count).map(|next| next % count) {
            match self.all[next].try_recv(inbox) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => {
                    self.turn.store(next + 1, Relaxed);
                    return done;
                }
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut polls = self.iter().map(|socket| socket.io.poll_recv_ready(context));
            polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
}

/// Returns `0.0.0.0` and `::`, which stand for all addresses of IPv4 and of IPv6, with this port.
pub fn all_addresses(port: u16) -> [SocketAddr; 2] {
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    all.map(|ip| SocketAddr::new(ip, port))
}

/// Fails with `InvalidInput` for a multicast or broadcast address, at which some systems let a program
/// listen: it is of many machines, and answers cannot leave from there.
pub fn check_own(ip: IpAddr) -> io::Result<()> {
    let kind = match ip.to_canonical() {
        ip if ip.is_multicast() => "multicast",
        IpAddr::V4(ip) if ip.is_broadcast() || is_subnet_broadcast(ip) => "broadcast",
        _ => return Ok(()),
    };
    let reason = format!("it is a {kind} address, which stands for many machines");
    Err(io::Error::new(ErrorKind::InvalidInput, reason))
}

/// Returns whether `ip` is the broadcast address of one of this machine's subnets.
fn is_subnet_broadcast(ip: Ipv4Addr) -> bool {
    let subnet = |interface: if_addrs::Interface| match interface.addr {
        if_addrs::IfAddr::V4(own) => Ipv4Net::with_netmask(own.ip, own.netmask).ok(),
        if_addrs::IfAddr::V6(_) => None,
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    // A subnet of one or two addresses has no broadcast address (RFC 3021).
    let mut subnets = interfaces.into_iter().filter_map(subnet).filter(|it| it.prefix_len() < 31);
    subnets.any(|subnet| subnet.broadcast() == ip)
}

/// Binds again while port 0 gave a port that is in use on another of the addresses.
fn retry_other_ports<T>(mut bind: impl FnMut() -> Result<T, BindError>) -> Result<T, BindError> {
    let is_in_use =
        |it: &BindError| it.addr.port() == 0 && it.source.kind() == ErrorKind::AddrInUse;
    let mut tries = 1..MAX_BIND_TRIES;
    loop {
        match bind() {
            Err(error) if is_in_use(&error) && tries.next().is_some() => {}
            done => return done,
        }
    }
}

fn bind_each(addrs: &[SocketAddr]) -> Result<Vec<Socket>, BindError> {
    let (mut bound, mut missing): (Vec<Socket>, _) = (Vec::new(), None);
    for &addr in addrs {
        let port = bound.first().map_or(addr.port(), |first| first.local_addr().port());
        match check_own(addr.ip()).and_then(|()| Socket::bind(with_port(addr, port))) {
            Ok(socket) => bound.push(socket),
            Err(source) if source.kind() == ErrorKind::AddrNotAvailable => {
                missing = Some(BindError { addr, source });
            }
            Err(source) => return Err(BindError { addr, source }),
        }
    }
    match missing {
        Some(missing) if bound.is_empty() => Err(missing),
        _ => Ok(bound),
    }
}

/// Changes the port alone: a link-local address keeps its scope, the interface that it belongs to.
fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

fn unreached(path: &Path) -> io::Error {
    let sentence = format!("no socket reaches {} from {}", path.peer, path.local);
    io::Error::new(ErrorKind::AddrNotAvailable, sentence)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASKED, addr, bind, ip, take, to, transmit};
    use super::*;
    use std::collections::HashSet;
    use std::slice;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn all_addresses_are_heard_on_one_port_each_family_by_its_own_socket() {
        let sockets = Sockets::bind(&all_addresses(0)).unwrap();
        let addrs = sockets.local_addrs();
        assert!(addrs.iter().all(|addr| addr.ip().is_unspecified() && addr.port() > 0));
        assert!(addrs.iter().all(|addr| addr.port() == addrs[0].port()), "{addrs:?}");
        for (host, family) in [("127.0.0.1", "0.0.0.0"), ("::1", "::")] {
            let Some(client) = bind(&SocketAddr::new(ip(host), 0).to_string()) else { continue };
            let own = addrs.iter().position(|addr| addr.ip() == ip(family)).unwrap();
            let path = to(&sockets.all[own], host);
            assert_eq!(client.send(&[transmit(path, "who")]), 1);
            let mut inbox = Inbox::new();
            timeout(Duration::from_secs(10), sockets.recv(&mut inbox)).await.unwrap().unwrap();
            let paths: Vec<Path> = inbox.datagrams().map(|(path, _)| path).collect();
            assert_eq!(paths, [Path::new(client.local_addr(), ip(host))]);
            sockets.send_or_drop(&[transmit(paths[0], "me")]);
            assert_eq!(take(&client, 1).await[0].0.peer, path.peer, "from where it was asked");
        }
    }

    #[tokio::test]
    async fn an_address_that_the_machine_lacks_is_left_out_unless_it_lacks_all() {
        let (lacking, own) = (addr("203.0.113.9:0"), addr("127.0.0.1:0"));
        for addrs in [[lacking, own], [own, lacking]] {
            let bound = Sockets::bind(&addrs).unwrap().local_addrs();
            assert_eq!(bound.iter().map(SocketAddr::ip).collect::<Vec<_>>(), [own.ip()]);
        }
        let BindError { addr, source } = Sockets::bind(&[lacking]).unwrap_err();
        assert_eq!((addr, source.kind()), (lacking, ErrorKind::AddrNotAvailable));
    }

    #[test]
    fn no_address_of_many_machines_is_an_own_one() {
        let many =
            ["224.0.0.1", "255.255.255.255", "127.255.255.255", "ff02::1", "::ffff:224.0.0.1"];
        for it in many {
            assert_eq!(
                check_own(ip(it)).map_err(|it| it.kind()),
                Err(ErrorKind::InvalidInput),
                "{it}"
            );
        }
        assert!(["0.0.0.0", "127.0.0.1", "::", "::1"].iter().all(|it| check_own(ip(it)).is_ok()));
    }

    #[tokio::test]
    async fn a_busy_port_is_an_error_that_names_the_address() {
        let first = Sockets::bind(&all_addresses(0)).unwrap();
        for addr in first.local_addrs() {
            let again = Sockets::bind(&[addr]).unwrap_err();
            assert_eq!((again.addr, again.source.kind()), (addr, ErrorKind::AddrInUse));
        }
        let port = first.local_addrs()[0].port();
        assert!(Sockets::bind(&all_addresses(port)).is_err());
    }

    #[test]
    fn a_link_local_address_keeps_its_interface() {
        let own = |text| with_port(addr(text), 5000);
        assert_eq!(own("[fe80::1%7]:0"), addr("[fe80::1%7]:5000"));
        assert_eq!(own("192.0.2.1:9"), addr("192.0.2.1:5000"));
    }

    #[tokio::test]
    async fn every_address_gets_the_port_of_the_first() {
        let own = [addr("127.0.0.1:0"), addr("127.0.0.1:0")];
        // The port that the first was given is in use when the second asks for it.
        let failed = Sockets::bind(&own).unwrap_err();
        assert_eq!((failed.addr, failed.source.kind()), (own[1], ErrorKind::AddrInUse));
    }

    #[test]
    fn another_port_is_tried_while_it_may_help() {
        // How many of up to 100 tries are made if all before `works_at` fail, and with what result.
        let tries = |own: &str, kind: ErrorKind, works_at| {
            let mut count = 0;
            let bound = retry_other_ports(|| {
                count += 1;
                let failed = || BindError { addr: addr(own), source: kind.into() };
                if count < works_at { Err(failed()) } else { Ok(()) }
            });
            (count, bound.is_ok())
        };
        assert_eq!(tries("[::]:0", ErrorKind::AddrInUse, 5), (5, true));
        assert_eq!(tries("[::]:0", ErrorKind::AddrInUse, 100), (MAX_BIND_TRIES, false));
        assert_eq!(tries("[::]:8080", ErrorKind::AddrInUse, 5), (1, false));
        assert_eq!(tries("[::]:0", ErrorKind::PermissionDenied, 5), (1, false));
    }

    #[tokio::test]
    async fn each_socket_has_its_turn() {
        let all: Vec<_> = (0..3).map(|_| Socket::bind(addr("127.0.0.1:0")).unwrap()).collect();
        let sockets = Sockets::new(all);
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        for (turn, socket) in sockets.iter().enumerate() {
            let one = transmit(to(socket, "127.0.0.1"), [turn as u8]);
            // Far more than one batch for the first, sent singly, so that none is a train.
            for _ in 0..if turn == 0 { 200 } else { 1 } {
                assert_eq!(client.send(slice::from_ref(&one)), 1);
            }
        }
        let (mut inbox, mut heard) = (Inbox::new(), HashSet::new());
        for _ in 0..3 {
            timeout(Duration::from_secs(10), sockets.recv(&mut inbox)).await.unwrap().unwrap();
            heard.extend(inbox.datagrams().map(|(_, payload)| payload[0]));
        }
        assert_eq!(heard, HashSet::from([0, 1, 2]));
    }

    #[tokio::test]
    async fn receiving_wakes_for_any_socket() {
        let sockets = Sockets::new(vec![
            Socket::bind(addr("127.0.0.1:0")).unwrap(),
            Socket::bind(addr("0.0.0.0:0")).unwrap(),
        ]);
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        for socket in sockets.iter() {
            let path = to(socket, "127.0.0.1");
            let mut inbox = Inbox::new();
            // Polled first, so that it waits before there is anything.
            let (received, ()) = tokio::join!(biased; timeout(Duration::from_secs(10), sockets.recv(&mut inbox)), async {
                assert_eq!(client.send(&[transmit(path, "wake")]), 1);
            });
            received.unwrap().unwrap();
            assert_eq!(inbox.datagrams().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [b"wake"]);
        }
    }

    #[tokio::test]
    async fn each_leaves_by_the_socket_that_reaches_its_path() {
        let (Some(one), Some(two)) = (bind("127.0.0.1:0"), bind("127.0.0.2:0")) else { return };
        let client = Socket::bind(addr("127.0.0.1:0")).unwrap();
        let sockets = Sockets::new(vec![one, two]);
        let from = |host| Path::new(client.local_addr(), ip(host));
        let batch = [ASKED, "127.0.0.1", "127.0.0.3", ASKED].map(|host| transmit(from(host), host));
        let mut why = Vec::new();
        sockets.send(&batch, &mut |path, _, error| why.push((path, error.to_string())));
        let unreached = format!("no socket reaches {} from 127.0.0.3", client.local_addr());
        assert_eq!(why, [(from("127.0.0.3"), unreached)]);
        let [one, two] = sockets.local_addrs()[..] else { panic!("two sockets") };
        let peers: Vec<_> = take(&client, 3).await.iter().map(|(path, _)| path.peer).collect();
        assert_eq!(peers, [two, one, two]);
    }
}
