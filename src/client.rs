//! Runs the `Peer` state machine on its sockets and a clock, and sends its events to a channel.
//! Reading a room's roster without taking part is in `client/reader.rs`.

mod cause;
mod lookup;
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

use crate::clock::{Alarm, Clock, MAX_SLEEP, Now};
use crate::cookie::Key;
use crate::events::EventSender;
use crate::path::{Path, Transmit, canonical, is_private};
use crate::peer::{self, Peer};
use crate::proto::{Code, Id, Name, Room, Text};
use crate::udp::{BindError, Inbox, Sockets};

pub use cause::Cause;
use cause::Probe;
pub use lookup::Lookup;
pub use reader::{Roster, Watched, peers, watch};

/// How long to try one of the registry's addresses before the next, unless the timeout is short.
const TIMEOUT_PER_ADDRESS: Duration = Duration::from_secs(2);
/// The shortest time for which to try each of the registry's addresses.
const MIN_TIMEOUT_PER_ADDRESS: Duration = Duration::from_millis(10);
/// How long shutdown waits for LEFT, the answer to LEAVE.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest wait between two tries of one request.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The silence after which the registry's name is resolved again, and its next address is tried.
const LOOKUP_AFTER: Duration = Duration::from_secs(10);
/// The most addresses of a registry that are tried, the latest first.
const MAX_REGISTRIES: usize = 8;
/// How long before the timeout the system is asked for a reason, unless that is short: Linux takes
/// three seconds to find that a neighbour is not there.
const PROBE_LEAD: Duration = Duration::from_secs(4);
/// How much later than asked for a loop may come around before that counts as a pause: longer than a
/// loaded machine makes a program wait, and shorter than any window.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// How to reach a registry: its addresses, an own address, a key and a timeout.
#[derive(Clone, Debug)]
pub struct Target {
    /// The registry's addresses, tried one after the other; at least one.
    pub registries: Vec<SocketAddr>,
    /// The thread that resolves the registry's name again; `None` if the registry has no name.
    pub lookup: Option<Lookup>,
    /// The local addresses to send from, of one port: see [`all_addresses`].
    ///
    /// [`all_addresses`]: crate::udp::all_addresses
    pub bind: Vec<SocketAddr>,
    /// The key that signs requests to a private registry.
    pub key: Option<Key>,
    /// How long the registry may be silent before the client reports it or gives up.
    pub timeout: Duration,
}

/// The configuration of a client that takes part in the windows of a room.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry to register with.
    pub target: Target,
    /// The room to register in: the client meets its members.
    pub room: Room,
    /// The name that other members see; `None` for no name.
    pub name: Option<Name>,
    /// The text that the client's greetings carry; `None` for no text.
    pub text: Option<Text>,
    /// Whether to stop after one window.
    pub once: bool,
}

/// An event of a client that takes part in windows.
#[derive(Clone, Debug)]
pub enum Event {
    /// An event of the `Peer` state machine.
    Peer(peer::Event),
    /// No registry has answered a request for this long, with what is known of why; the client keeps
    /// trying.
    Silent(Duration, Cause),
    /// This many events were dropped: the receiver was too slow.
    NotShown(u64),
}

/// The reason why a client stopped or a request failed.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ClientError {
    #[error("there is no {0} address to use: at least one must be given")]
    NoAddress(&'static str),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(
        "cannot reach {}: the only own address, {}, is of the other kind, IPv4 or IPv6",
        addresses(.registries), addresses(.own)
    )]
    OtherFamily { registries: Vec<SocketAddr>, own: Vec<SocketAddr> },
    #[error("{0} is not the address of one machine: {remedy}", remedy = one_machine(*.0))]
    NotOneMachine(SocketAddr),
    #[error("cannot receive any more: {0}")]
    Receive(io::Error),
    #[error("this system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(
        "no registry answered at {} within {}: {cause}",
        addresses(.registries), humantime::format_duration(*.waited)
    )]
    NoAnswer { registries: Vec<SocketAddr>, waited: Duration, cause: Cause },
    #[error("the registry refused ({code}): {reason}")]
    Refused { code: Code, reason: String },
}

fn addresses(all: &[SocketAddr]) -> String {
    let texts: Vec<String> = all.iter().map(SocketAddr::to_string).collect();
    texts.join(", ")
}

impl Target {
    /// Returns how long to try one address before the next: all are tried before the timeout.
    fn time_per_address(&self) -> Duration {
        let addresses = u32::try_from(self.registries.len()).unwrap_or(u32::MAX).max(1);
        TIMEOUT_PER_ADDRESS.min(self.timeout / addresses).max(MIN_TIMEOUT_PER_ADDRESS)
    }

    /// Binds the sockets to send from, and removes the registry's addresses of a family that none
    /// of them has, or of more machines than one; fails if no address is left.
    fn open(mut self) -> Result<(Target, Sockets), ClientError> {
        for (addrs, of) in [(&self.registries, "registry's"), (&self.bind, "own")] {
            if addrs.is_empty() {
                return Err(ClientError::NoAddress(of));
            }
        }
        let all = of_one_machine(&self.registries)?;
        let sockets = Sockets::bind(&self.bind)?;
        self.registries = reached(&all, &sockets);
        match self.registries.is_empty() {
            true => Err(ClientError::OtherFamily { registries: all, own: sockets.local_addrs() }),
            false => Ok((self, sockets)),
        }
    }

    /// Returns how long a registry may be silent before the system is asked for a reason.
    fn probe_after(&self) -> Duration {
        self.timeout - PROBE_LEAD.min(self.timeout * 3 / 4)
    }

    /// Puts the addresses that a lookup has found before the earlier ones, which stay; returns whether
    /// one of them is new.
    fn take_found(&mut self, sockets: &Sockets) -> bool {
        let found = self.lookup.as_mut().map(Lookup::take_found).unwrap_or_default();
        let mut all = reached(&of_one_machine(&found).unwrap_or_default(), sockets);
        let is_new = all.iter().any(|addr| !self.registries.contains(addr));
        self.registries.retain(|addr| !all.contains(addr));
        all.append(&mut self.registries);
        all.truncate(MAX_REGISTRIES);
        self.registries = all;
        is_new
    }

    /// Returns why the registry does not answer: `probe` tells best, then what was refused at sending.
    fn cause(&self, probe: Option<&Probe>, refused: &Cause) -> Cause {
        probe.map(Probe::cause).unwrap_or_default().or(refused.clone())
    }
}

/// Returns the addresses as answers come from them (`::ffff:192.0.2.1` is 192.0.2.1), without those that
/// are not of one machine; fails if only such were given.
fn of_one_machine(registries: &[SocketAddr]) -> Result<Vec<SocketAddr>, ClientError> {
    let all: Vec<SocketAddr> = registries.iter().copied().map(canonical).collect();
    let subnets = interfaces();
    let (one, many): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|addr| is_unicast(*addr, &subnets));
    match many.first() {
        Some(first) if one.is_empty() => Err(ClientError::NotOneMachine(*first)),
        _ => Ok(one),
    }
}

/// Returns the addresses of a family that one of the sockets has.
fn reached(all: &[SocketAddr], sockets: &Sockets) -> Vec<SocketAddr> {
    let own = sockets.local_addrs();
    let is_reached = |addr: &&SocketAddr| own.iter().any(|it| it.is_ipv4() == addr.is_ipv4());
    all.iter().filter(is_reached).copied().collect()
}

/// Returns whether an address can be that of one registry: not a wildcard, a group or a broadcast.
fn is_unicast(addr: SocketAddr, subnets: &[IpNet]) -> bool {
    let ip = addr.ip();
    // A subnet of two addresses or one has no broadcast (RFC 3021).
    let is_broadcast = |net: &IpNet| ip.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == ip;
    !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
        && !subnets.iter().any(is_broadcast)
        && addr.port() != 0
}

/// Returns what to give instead of an address that is not of one machine.
fn one_machine(addr: SocketAddr) -> &'static str {
    match addr.ip() {
        _ if addr.port() == 0 => "give the port on which the registry listens",
        ip if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            "give 127.0.0.1 for a registry on this machine, or the address of its machine"
        }
        ip if ip.is_unspecified() => {
            "give ::1 for a registry on this machine, or the address of its machine"
        }
        _ => "give the address of the registry's machine",
    }
}

/// Notices that the program did not run for a while: it was stopped, or the machine suspended.
#[derive(Debug)]
struct PauseWatch {
    /// When the loop last came around.
    last: Duration,
}

impl PauseWatch {
    /// Returns whether there was a pause since the last call. Loops sleep for at most [`MAX_SLEEP`].
    fn has_paused(&mut self, now: Now) -> bool {
        let last = std::mem::replace(&mut self.last, now.mono);
        now.mono.saturating_sub(last) > MAX_SLEEP + MAX_LATENESS
    }
}

/// Takes part in windows until `shutdown`, or with `once` until one window has closed.
pub async fn join(
    config: Config,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
    events: mpsc::Sender<Event>,
) -> Result<(), ClientError> {
    let (target, sockets) = config.target.open()?;
    let config = Config { target, ..config };
    let now = clock.now();
    let peer = Peer::new(peer_config(&config, &sockets)?, now);
    let next_address_at = now.mono + config.target.time_per_address();
    let runner = Runner {
        config,
        clock,
        sockets,
        peer,
        events: EventSender::new(events, Event::NotShown),
        address: 0,
        next_address_at,
        next_lookup_at: Duration::ZERO,
        silent_until: Duration::ZERO,
        refused: Cause::Unknown,
        probe: None,
        pauses: PauseWatch { last: now.mono },
    };
    runner.run(shutdown).await
}

fn peer_config(config: &Config, sockets: &Sockets) -> Result<peer::Config, ClientError> {
    let registry = config.target.registries[0];
    Ok(peer::Config {
        registry,
        key: config.target.key.clone(),
        id: random_id()?,
        room: config.room.clone(),
        name: config.name.clone(),
        text: config.text.clone(),
        lan: private_address(registry, sockets),
        interfaces: interfaces(),
        seed: getrandom::u64().map_err(ClientError::Random)?,
        renew: !config.once,
    })
}

/// Returns a random client id: 64 bits in base64url.
fn random_id() -> Result<Id, ClientError> {
    let bits = getrandom::u64().map_err(ClientError::Random)?;
    let text = URL_SAFE_NO_PAD.encode(bits.to_be_bytes());
    Ok(text.parse().expect("base64url is what ids are made of"))
}

/// Returns the address from which this host reaches the registry, if that is a private one: peers
/// behind the same NAT can try it. Connecting the UDP socket that finds it sends nothing.
fn private_address(registry: SocketAddr, sockets: &Sockets) -> Option<SocketAddr> {
    let all = sockets.local_addrs();
    let bound = all.iter().find(|addr| addr.is_ipv4() == registry.is_ipv4())?;
    let any = if registry.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(registry).ok()?;
    let own = probe.local_addr().ok()?.ip();
    let ip = if bound.ip().is_unspecified() { own } else { bound.ip() };
    is_private(ip).then(|| SocketAddr::new(ip, bound.port()))
}

/// Returns the subnets of this host's network interfaces.
fn interfaces() -> Vec<IpNet> {
    let Ok(found) = if_addrs::get_if_addrs() else { return Vec::new() };
    let net = |interface: if_addrs::Interface| match interface.addr {
        if_addrs::IfAddr::V4(v4) => IpNet::with_netmask(v4.ip.into(), v4.netmask.into()).ok(),
        if_addrs::IfAddr::V6(v6) => IpNet::with_netmask(v6.ip.into(), v6.netmask.into()).ok(),
    };
    found.into_iter().filter_map(net).collect()
}

/// What the runner does after it has passed on the peer's events.
enum Next {
    Continue,
    /// Sends LEAVE and stops: the receiver of events is gone.
    Leave,
    /// Stops: with `once`, the one window has closed.
    Done,
}

/// Runs one `Peer` on its sockets and clock until it stops.
struct Runner {
    config: Config,
    clock: Clock,
    sockets: Sockets,
    peer: Peer,
    events: EventSender<Event>,
    /// The index of the registry's address in use.
    address: usize,
    /// When to try the next address if none has answered, on the monotonic clock.
    next_address_at: Duration,
    /// The time on the monotonic clock before which the name is not resolved again.
    next_lookup_at: Duration,
    /// The time on the monotonic clock before which silence is not reported again.
    silent_until: Duration,
    /// Why the system last refused to send to the registry.
    refused: Cause,
    /// Asks the system why the registry is silent, while it is.
    probe: Option<Probe>,
    pauses: PauseWatch,
}

impl Runner {
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ClientError> {
        let (mut shutdown, mut inbox) = (pin!(shutdown), Inbox::new());
        loop {
            self.send();
            match self.pass_on_events()? {
                Next::Continue => {}
                Next::Leave => break,
                Next::Done => return Ok(()),
            }
            let alarm = self.next_timeout();
            tokio::select! {
                () = &mut shutdown => break,
                waited = self.wait(&mut inbox, alarm) => waited?,
            }
            self.handle_silence()?;
        }
        self.leave(inbox).await
    }

    fn send(&mut self) {
        let now = self.clock.now();
        let transmits: Vec<Transmit> = std::iter::from_fn(|| self.peer.poll_transmit(now))
            .map(|(to, payload)| transmit(to, payload))
            .collect();
        let registries = &self.config.target.registries;
        self.sockets.send_each(&transmits, |to, error| {
            if registries.contains(&to) {
                self.refused = Cause::of(to, &error);
            }
        });
    }

    /// Waits for datagrams, or until `alarm` on the monotonic clock, and passes either to the peer.
    async fn wait(
        &mut self,
        inbox: &mut Inbox,
        alarm: Option<Duration>,
    ) -> Result<(), ClientError> {
        let received = tokio::select! {
            received = self.sockets.recv(inbox) => received.map_err(ClientError::Receive).map(|()| true)?,
            () = self.clock.sleep(Alarm::mono(alarm)) => false,
        };
        let now = self.clock.now();
        if self.pauses.has_paused(now) {
            self.peer.handle_pause(now);
        }
        if !received {
            self.peer.handle_timeout(now);
            return Ok(());
        }
        for (path, datagram) in inbox.datagrams() {
            self.peer.handle_datagram(self.clock.now(), path.peer, datagram);
        }
        Ok(())
    }

    fn pass_on_events(&mut self) -> Result<Next, ClientError> {
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
        Ok(Next::Continue)
    }

    fn next_timeout(&self) -> Option<Duration> {
        let moments =
            [self.peer.poll_timeout(), self.address_at(), self.probe_at(), self.silence_at()];
        moments.into_iter().flatten().min()
    }

    /// Returns when to try the registry's next address; `None` while this one answers.
    fn address_at(&self) -> Option<Duration> {
        match self.peer.has_heard() {
            false => Some(self.next_address_at),
            true => Some(self.next_address_at.max(self.peer.unanswered_since()? + LOOKUP_AFTER)),
        }
    }

    /// Returns when to ask the system why the registry is silent; `None` if it was asked.
    fn probe_at(&self) -> Option<Duration> {
        let since = self.peer.unanswered_since().filter(|_| self.probe.is_none())?;
        Some(since + self.config.target.probe_after())
    }

    /// Returns when to report the registry as silent; `None` if no request is unanswered.
    fn silence_at(&self) -> Option<Duration> {
        let since = self.peer.unanswered_since()?;
        Some(since.saturating_add(self.config.target.timeout).max(self.silent_until))
    }

    fn handle_silence(&mut self) -> Result<(), ClientError> {
        let now = self.clock.now();
        let Some(since) = self.peer.unanswered_since() else {
            (self.probe, self.refused) = (None, Cause::Unknown);
            return Ok(());
        };
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
        if is_due(self.probe_at()) {
            let Target { registries, .. } = &self.config.target;
            self.probe = Some(Probe::send(registries, &self.sockets.local_addrs()));
        }
        if now.mono >= self.next_lookup_at.max(since + LOOKUP_AFTER) {
            self.config.target.lookup.iter().for_each(Lookup::request);
            self.next_lookup_at = now.mono + LOOKUP_AFTER;
        }
        if self.config.target.take_found(&self.sockets) {
            // The first is the next.
            self.address = self.config.target.registries.len() - 1;
            self.try_next_address(now);
        }
        if is_due(self.address_at()) {
            self.try_next_address(now);
        }
        match self.silence_at() {
            Some(at) if now.mono >= at => self.report_silence(now),
            _ => Ok(()),
        }
    }

    fn try_next_address(&mut self, now: Now) {
        let Target { registries, .. } = &self.config.target;
        if registries.len() > 1 {
            self.address = (self.address + 1) % registries.len();
            self.peer.change_registry(now, registries[self.address]);
        }
        self.next_address_at = now.mono + self.config.target.time_per_address();
    }

    /// Reports that the registry is silent; with `once` and no window promised, fails instead.
    fn report_silence(&mut self, now: Now) -> Result<(), ClientError> {
        let target = &self.config.target;
        let cause = match self.peer.is_only_challenged() {
            true => Cause::LargeAnswersLost,
            false => target.cause(self.probe.as_ref(), &self.refused),
        };
        // What the network says of the next datagram may be something else.
        self.probe = None;
        let Target { registries, timeout, .. } = target;
        if self.config.once && !self.peer.has_window() {
            let (registries, waited) = (registries.clone(), *timeout);
            return Err(ClientError::NoAnswer { registries, waited, cause });
        }
        self.silent_until = now.mono.saturating_add((*timeout).max(LONGEST_DELAY));
        let since = self.peer.unanswered_since().unwrap_or(now.mono);
        // If the receiver is gone, the peer's next event finds that out.
        self.events.send(Event::Silent(now.mono.saturating_sub(since), cause));
        Ok(())
    }

    /// Sends LEAVE, and waits up to `SHUTDOWN_TIMEOUT` for LEFT.
    async fn leave(mut self, inbox: Inbox) -> Result<(), ClientError> {
        if !self.peer.has_heard() {
            return Ok(());
        }
        self.peer.leave(self.clock.now());
        tokio::time::timeout(SHUTDOWN_TIMEOUT, self.until_left(inbox)).await.unwrap_or(Ok(()))
    }

    async fn until_left(&mut self, mut inbox: Inbox) -> Result<(), ClientError> {
        loop {
            self.send();
            while let Some(event) = self.peer.poll_event() {
                let left = event == peer::Event::Left;
                // The receiver may be gone; the client leaves all the same.
                self.events.send(Event::Peer(event));
                if left {
                    return Ok(());
                }
            }
            self.wait(&mut inbox, self.peer.poll_timeout()).await?;
        }
    }
}

fn transmit(to: SocketAddr, payload: Vec<u8>) -> Transmit {
    Transmit { path: Path::new(to, Ipv4Addr::UNSPECIFIED.into()), payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn target(registries: &[&str], lookup: Option<Lookup>) -> Target {
        let registries = registries.iter().map(|text| addr(text)).collect();
        let bind = crate::udp::all_addresses(0).to_vec();
        Target { registries, lookup, bind, key: None, timeout: Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn what_a_lookup_finds_comes_first_and_the_earlier_addresses_stay() {
        let found = ["127.0.0.3:5", "0.0.0.0:5", "127.0.0.1:5"].map(addr).to_vec();
        let lookup = Lookup::start(move || found.clone()).unwrap();
        lookup.request();
        let (mut target, sockets) =
            target(&["127.0.0.1:5", "127.0.0.2:5"], Some(lookup)).open().unwrap();
        let mut taken = false;
        hit7_support::until("an address", || {
            taken |= target.take_found(&sockets);
            taken.then_some(())
        });
        assert_eq!(target.registries, ["127.0.0.3:5", "127.0.0.1:5", "127.0.0.2:5"].map(addr));
        assert!(!target.take_found(&sockets), "once");
    }

    #[tokio::test]
    async fn an_address_of_more_machines_than_one_is_no_registry() {
        for (many, remedy) in [
            ("0.0.0.0:5", "give 127.0.0.1 for"),
            ("[::]:5", "give ::1 for"),
            ("[::ffff:0.0.0.0]:5", "give 127.0.0.1 for"),
            ("224.0.0.1:5", "the registry's machine"),
            ("[ff02::1]:5", "the registry's machine"),
            ("255.255.255.255:5", "the registry's machine"),
            ("127.255.255.255:5", "the registry's machine"),
            ("192.0.2.1:0", "give the port"),
        ] {
            let error = target(&[many], None).open().unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
            let (both, _) = target(&[many, "192.0.2.1:5"], None).open().unwrap();
            assert_eq!(both.registries, [addr("192.0.2.1:5")]);
        }
    }

    #[test]
    fn a_loop_that_comes_around_late_has_paused() {
        let at = |millis| Now {
            wall: crate::window::Wall::from_millis(0),
            mono: Duration::from_millis(millis),
        };
        let mut pauses = PauseWatch { last: Duration::ZERO };
        let moments = [1000, 2900, 4901, 6902, 6903].map(|millis| pauses.has_paused(at(millis)));
        assert_eq!(moments, [false, false, true, true, false]);
    }

    #[test]
    fn every_address_is_tried_before_the_timeout() {
        let time = |addresses: usize, timeout| {
            let registries = vec![SocketAddr::from(([127, 0, 0, 1], 8080)); addresses];
            let (lookup, bind, key) = (None, Vec::new(), None);
            Target { registries, lookup, bind, key, timeout }.time_per_address()
        };
        assert_eq!(time(1, Duration::from_secs(30)), TIMEOUT_PER_ADDRESS);
        assert_eq!(time(2, Duration::from_secs(1)), Duration::from_millis(500));
        assert_eq!(time(3, Duration::ZERO), MIN_TIMEOUT_PER_ADDRESS);
        assert_eq!(time(1, Duration::MAX), TIMEOUT_PER_ADDRESS);
    }

    fn target(registries: &[&str], bind: &[&str]) -> Target {
        let addrs = |all: &[&str]| all.iter().map(|addr| addr.parse().unwrap()).collect();
        let (registries, bind) = (addrs(registries), addrs(bind));
        Target { registries, bind, key: None, timeout: Duration::MAX }
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_used_is_an_error_in_words_of_its_own() {
        for (registries, bind, error) in [
            (&[][..], &["127.0.0.1:0"][..], "there is no registry's address to use"),
            (&["127.0.0.1:9"], &[], "there is no own address to use"),
            (
                &["[::1]:9"],
                &["127.0.0.1:0"],
                "cannot reach [::1]:9: the only own address, 127.0.0.1:",
            ),
            (&["127.0.0.1:9"], &["192.0.2.1:0"], "cannot bind 192.0.2.1:0: "),
        ] {
            let text = target(registries, bind).open().unwrap_err().to_string();
            assert!(text.starts_with(error) && !text.contains("--"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_client_waits_for_ever_if_that_is_its_timeout() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = target(&[&silent.local_addr().unwrap().to_string()], &["127.0.0.1:0"]);
        // Until a request was sent a second time: the waits have been computed.
        let retried = async || {
            for _ in 0..2 {
                silent.recv(&mut [0; 1500]).await.unwrap();
            }
        };
        let (room, clock) = (Room::default(), Clock::start());
        let (events, _receiver) = mpsc::channel(1);
        let config = Config {
            target: target.clone(),
            room: room.clone(),
            name: None,
            text: None,
            once: true,
        };
        join(config, clock, retried(), events).await.unwrap();
        let (seen, _receiver) = mpsc::channel(1);
        watch(target.clone(), room.clone(), clock, retried(), seen).await.unwrap();
        tokio::select! {
            done = peers(target, room, clock) => panic!("{done:?}"),
            () = retried() => {}
        }
    }
}
