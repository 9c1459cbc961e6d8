//! Runs a peer, or one request: the socket, the timers, and a stream of events. Who only reads a
//! room's roster is in `client/reader.rs`.

mod reader;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::clock::{Alarm, Clock, Now};
use crate::cookie::Key;
use crate::events::EventSender;
use crate::path::{Path, Transmit};
use crate::peer::{self, Peer};
use crate::proto::{Code, Id, Name, Room, Text};
use crate::udp::{Inbox, Socket};

pub use reader::{Roster, Watched, peers, watch};

/// How long one of several addresses is tried before the next, if there is time for that.
const TURN: Duration = Duration::from_secs(2);

/// The shortest turn.
const SHORTEST: Duration = Duration::from_millis(10);

/// How long a stop waits for LEFT.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest wait between tries of a single request.
const LONGEST: Duration = Duration::from_secs(1);

/// Where a registry is, and from where to ask it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its addresses, tried in turn; at least one.
    pub registries: Vec<SocketAddr>,
    /// The own address; any, if not given.
    pub bind: Option<SocketAddr>,
    /// Its key, if it is private.
    pub key: Option<Key>,
    /// How long to wait for an answer.
    pub patience: Duration,
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub target: Target,
    /// The group to meet.
    pub room: Room,
    /// What people call this client.
    pub name: Option<Name>,
    /// What its greetings say.
    pub text: Option<Text>,
    /// One window only.
    pub once: bool,
}

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// To the peer.
    Peer(peer::Event),
    /// No registry has answered what it was asked for so long; it is tried on.
    Silent(Duration),
    /// So many events were lost: the receiver was too slow.
    NotShown(u64),
}

/// RejectReason a client cannot go on.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ClientError {
    #[error("cannot use {addr} as own address: {source}; give another --bind")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error(
        "cannot reach {} from {bind}: give a --bind of the same kind, IPv4 or IPv6",
        addresses(.registries)
    )]
    OtherFamily { bind: SocketAddr, registries: Vec<SocketAddr> },
    #[error("cannot open a socket: {0}")]
    Open(io::Error),
    #[error("cannot receive any more: {0}")]
    Receive(io::Error),
    #[error("this system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(
        "no registry answered at {} within {}: is it running, and does a firewall let udp through?",
        addresses(.registries), humantime::format_duration(*.waited)
    )]
    NoAnswer { registries: Vec<SocketAddr>, waited: Duration },
    #[error("the registry refused ({code}): {reason}")]
    Refused { code: Code, reason: String },
}

fn addresses(registries: &[SocketAddr]) -> String {
    let texts: Vec<String> = registries.iter().map(SocketAddr::to_string).collect();
    texts.join(", ")
}

impl Target {
    /// How long one address is tried before the next: all get their turn before patience ends.
    fn turn(&self) -> Duration {
        let addresses = u32::try_from(self.registries.len()).unwrap_or(u32::MAX).max(1);
        TURN.min(self.patience / addresses).max(SHORTEST)
    }

    /// Leaves out the addresses that the own one cannot send to: each would cost a turn.
    fn reachable(mut self) -> Result<Target, ClientError> {
        // In the form in which answers come: `::ffff:192.0.2.1` is 192.0.2.1.
        self.registries.iter_mut().for_each(|addr| *addr = transmit(*addr, Vec::new()).path.peer);
        let Some(bind) = self.bind else { return Ok(self) };
        let is_ipv4 = |addr: &SocketAddr| addr.ip().to_canonical().is_ipv4();
        let all = self.registries.clone();
        self.registries.retain(|addr| is_ipv4(addr) == is_ipv4(&bind));
        match self.registries.is_empty() {
            true => Err(ClientError::OtherFamily { bind, registries: all }),
            false => Ok(self),
        }
    }
}

/// Takes part until `shutdown`, or with `once` until a window has closed.
pub async fn join(
    config: Config,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
    events: mpsc::Sender<Event>,
) -> Result<(), ClientError> {
    let config = Config { target: config.target.reachable()?, ..config };
    let socket = open(&config.target)?;
    let peer = Peer::new(peer_config(&config, &socket)?, clock.now());
    let waits = Waits::new(clock.now(), config.target.turn());
    let events = EventSender::new(events, Event::NotShown);
    Member { config, clock, socket, peer, waits, events }.run(shutdown).await
}

fn peer_config(config: &Config, socket: &Socket) -> Result<peer::Config, ClientError> {
    let registry = config.target.registries[0];
    Ok(peer::Config {
        registry,
        key: config.target.key.clone(),
        id: fresh_id()?,
        room: config.room.clone(),
        name: config.name.clone(),
        text: config.text.clone(),
        lan: private_address(registry, socket.local_addr()),
        interfaces: interfaces(),
        seed: getrandom::u64().map_err(ClientError::Random)?,
        renew: !config.once,
    })
}

/// 64 random bits as text.
fn fresh_id() -> Result<Id, ClientError> {
    let bits = getrandom::u64().map_err(ClientError::Random)?;
    let text = URL_SAFE_NO_PAD.encode(bits.to_be_bytes());
    Ok(text.parse().expect("base64url is what ids are made of"))
}

fn open(target: &Target) -> Result<Socket, ClientError> {
    match target.bind {
        Some(addr) => Socket::bind(addr).map_err(|source| ClientError::Bind { addr, source }),
        None => Socket::bind_all(0).map_err(ClientError::Open),
    }
}

/// The address that this host has on its way to the registry, if it is a private one (RFC 1918,
/// RFC 4193): what peers behind the same NAT can try. Connecting a UDP socket sends nothing.
fn private_address(registry: SocketAddr, bound: SocketAddr) -> Option<SocketAddr> {
    let any: IpAddr = match registry {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(registry).ok()?;
    let own = probe.local_addr().ok()?.ip();
    let ip = if bound.ip().is_unspecified() { own } else { bound.ip().to_canonical() };
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    private.then(|| SocketAddr::new(ip, bound.port()))
}

/// The subnets of this host's interfaces.
fn interfaces() -> Vec<IpNet> {
    let Ok(found) = if_addrs::get_if_addrs() else { return Vec::new() };
    let net = |interface: if_addrs::Interface| match interface.addr {
        if_addrs::IfAddr::V4(v4) => IpNet::with_netmask(v4.ip.into(), v4.netmask.into()).ok(),
        if_addrs::IfAddr::V6(v6) => IpNet::with_netmask(v6.ip.into(), v6.netmask.into()).ok(),
    };
    found.into_iter().filter_map(net).collect()
}

/// How long answers are waited for.
struct Waits {
    /// How long each address is tried.
    turn: Duration,
    /// When the next address gets its turn.
    next: Duration,
    /// Which address has its turn.
    place: usize,
    /// When silence may be told again.
    quiet: Duration,
}

impl Waits {
    fn new(now: Now, turn: Duration) -> Waits {
        Waits { turn, next: now.mono + turn, place: 0, quiet: Duration::ZERO }
    }
}

/// How it goes on after an event.
enum Next {
    On,
    /// Nobody watches any more.
    Leave,
    /// The one window has closed.
    Done,
}

/// A client that takes part.
struct Member {
    config: Config,
    clock: Clock,
    socket: Socket,
    peer: Peer,
    waits: Waits,
    events: EventSender<Event>,
}

impl Member {
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ClientError> {
        let (mut shutdown, mut inbox) = (pin!(shutdown), Inbox::new());
        loop {
            self.send().await;
            match self.follow_events()? {
                Next::On => {}
                Next::Leave => break,
                Next::Done => return Ok(()),
            }
            let alarm = Alarm::mono(self.next_timeout());
            tokio::select! {
                () = &mut shutdown => break,
                received = self.socket.recv(&mut inbox) => self.receive(received, &inbox)?,
                () = self.clock.sleep(alarm) => self.handle_timeout()?,
            }
        }
        self.leave(inbox).await
    }

    async fn send(&mut self) {
        let now = self.clock.now();
        let transmits: Vec<Transmit> = std::iter::from_fn(|| self.peer.poll_transmit(now))
            .map(|(to, payload)| transmit(to, payload))
            .collect();
        self.socket.send(&transmits).await;
    }

    fn receive(&mut self, received: io::Result<()>, inbox: &Inbox) -> Result<(), ClientError> {
        received.map_err(ClientError::Receive)?;
        for (path, datagram) in inbox.datagrams() {
            self.peer.handle_datagram(self.clock.now(), path.peer, datagram);
        }
        Ok(())
    }

    fn follow_events(&mut self) -> Result<Next, ClientError> {
        while let Some(event) = self.peer.poll_event() {
            if let peer::Event::Refused { code, reason, .. } = &event
                && !code.is_retryable()
            {
                return Err(ClientError::Refused { code: *code, reason: reason.clone() });
            }
            let closed = matches!(event, peer::Event::Closed { .. });
            if !self.events.send(Event::Peer(event)) {
                return Ok(Next::Leave);
            }
            if closed && self.config.once {
                return Ok(Next::Done);
            }
        }
        Ok(Next::On)
    }

    fn next_timeout(&self) -> Option<Duration> {
        let turn = (!self.peer.has_heard()).then_some(self.waits.next);
        [self.peer.poll_timeout(), turn, self.patience_ends()].into_iter().flatten().min()
    }

    /// When the registry will have been silent for too long.
    fn patience_ends(&self) -> Option<Duration> {
        let since = self.peer.unanswered_since()?;
        Some((since + self.config.target.patience).max(self.waits.quiet))
    }

    fn handle_timeout(&mut self) -> Result<(), ClientError> {
        let now = self.clock.now();
        self.peer.handle_timeout(now);
        if !self.peer.has_heard() && now.mono >= self.waits.next {
            self.try_next(now);
        }
        match self.patience_ends() {
            Some(end) if now.mono >= end => self.tell_silence(now),
            _ => Ok(()),
        }
    }

    /// The next of several addresses gets its turn.
    fn try_next(&mut self, now: Now) {
        let registries = &self.config.target.registries;
        if registries.len() > 1 {
            self.waits.place = (self.waits.place + 1) % registries.len();
            self.peer.change_registry(now, registries[self.waits.place]);
        }
        self.waits.next = now.mono + self.waits.turn;
    }

    /// Patience is at its end; but who has been promised a window waits for it.
    fn tell_silence(&mut self, now: Now) -> Result<(), ClientError> {
        let Target { registries, patience, .. } = &self.config.target;
        if self.config.once && !self.peer.has_window() {
            let (registries, waited) = (registries.clone(), *patience);
            return Err(ClientError::NoAnswer { registries, waited });
        }
        self.waits.quiet = now.mono + (*patience).max(LONGEST);
        let since = self.peer.unanswered_since().unwrap_or(now.mono);
        self.events.send(Event::Silent(now.mono.saturating_sub(since)));
        Ok(())
    }

    /// Says LEAVE, and waits for LEFT a little.
    async fn leave(mut self, mut inbox: Inbox) -> Result<(), ClientError> {
        if !self.peer.has_heard() {
            return Ok(());
        }
        self.peer.leave(self.clock.now());
        let said = async {
            loop {
                self.send().await;
                while let Some(event) = self.peer.poll_event() {
                    let left = event == peer::Event::Left;
                    self.events.send(Event::Peer(event));
                    if left {
                        return Ok(());
                    }
                }
                tokio::select! {
                    received = self.socket.recv(&mut inbox) => self.receive(received, &inbox)?,
                    () = self.clock.sleep(Alarm::mono(self.peer.poll_timeout())) => {
                        self.peer.handle_timeout(self.clock.now());
                    }
                }
            }
        };
        tokio::time::timeout(SHUTDOWN_TIMEOUT, said).await.unwrap_or(Ok(()))
    }
}

fn transmit(to: SocketAddr, payload: Vec<u8>) -> Transmit {
    Transmit { path: Path::new(to, Ipv4Addr::UNSPECIFIED.into()), payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gets_its_turn_before_patience_ends() {
        let turn = |addresses: usize, patience| {
            let registries = vec![SocketAddr::from(([127, 0, 0, 1], 8080)); addresses];
            Target { registries, bind: None, key: None, patience }.turn()
        };
        assert_eq!(turn(1, Duration::from_secs(30)), TURN);
        assert_eq!(turn(2, Duration::from_secs(1)), Duration::from_millis(500));
        assert_eq!(turn(3, Duration::ZERO), SHORTEST);
    }
}
