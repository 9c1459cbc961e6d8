//! Uses all receiving sockets of one registry as if they were one.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use tokio::task::coop::consume_budget;

use super::egress::{Egress, Refused};
use super::{Inbox, Path, RECV_BUFFER, SEND_BUFFER, Socket, Train, Transmit};

/// All receiving sockets of one registry.
#[derive(Debug)]
pub struct Sockets {
    all: Vec<Socket>,
    /// The index of the socket to try first at the next receive.
    turn: AtomicUsize,
}

impl Sockets {
    /// Combines bound sockets; where several reach a path, the first sends.
    pub fn new(all: Vec<Socket>) -> Sockets {
        Sockets { all, turn: AtomicUsize::new(0) }
    }

    /// Binds as many more sockets to the same addresses and ports; see [`Socket::bind_same_port`].
    pub fn bind_same_ports(&self) -> io::Result<Sockets> {
        Ok(Sockets::new(self.iter().map(Socket::bind_same_port).collect::<io::Result<_>>()?))
    }

    /// Returns the size of the smallest receive buffer and the size requested, in bytes; `None` if
    /// all got what was requested.
    pub fn small_recv_buffer(&self) -> Option<(usize, usize)> {
        let smallest = self.iter().filter_map(|socket| socket.recv_buffer_size().ok()).min()?;
        (smallest < RECV_BUFFER).then_some((smallest, RECV_BUFFER))
    }

    /// Returns each of the sockets, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Socket> {
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
    /// loses none.
    pub async fn recv(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
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
        if let [only] = &self.all[..] {
            return only.io.readable().await;
        }
        let mut waits: Vec<_> = self.iter().map(|socket| Box::pin(socket.io.readable())).collect();
        poll_fn(|context| {
            let mut polls = waits.iter_mut().map(|wait| wait.as_mut().poll(context));
            polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
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
            Socket::bind_all(0).unwrap(),
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
