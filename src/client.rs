//! Runs the `Peer` state machine on its sockets and a clock, and sends its events to a channel.
//! Reading a room's roster without taking part is in `client/reader.rs`.

mod cause;
mod lookup;
mod reader;
mod target;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::clock::{Alarm, Clock, MAX_SLEEP, Now};
use crate::events::EventSender;
use crate::path::{Path, Transmit, is_private};
use crate::peer::{self, Peer};
use crate::proto::{Code, Id, Name, Room, Text};
use crate::udp::{BindError, Inbox, Sockets};

pub use cause::Cause;
use cause::Probe;
pub use lookup::Lookup;
pub use reader::{Roster, Watched, peers, watch};
pub use target::Target;
use target::one_machine;

/// How long shutdown waits for LEFT, the answer to LEAVE.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest wait between two tries of one request.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The silence after which the registry's name is resolved again, and its next address is tried.
const LOOKUP_AFTER: Duration = Duration::from_secs(10);

/// The most addresses in the lists of all events that wait to be shown: 8 MiB.
const MAX_QUEUED_ADDRESSES: usize = 262_144;

/// The lists of the events that are on their way to the receiver, which may be slow.
#[derive(Debug, Default)]
struct QueuedLists(Vec<Weak<[SocketAddr]>>);

impl QueuedLists {
    /// Returns whether there is room for the list of `event`, if it has one, and counts it if so.
    fn take(&mut self, event: &peer::Event) -> bool {
        let Some(list) = event.list() else { return true };
        self.0.retain(|queued| queued.strong_count() > 0);
        let queued: usize = self.0.iter().filter_map(Weak::upgrade).map(|list| list.len()).sum();
        let has_room = queued + list.len() <= MAX_QUEUED_ADDRESSES;
        self.0.extend(has_room.then(|| Arc::downgrade(list)));
        has_room
    }
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

/// Notices that the program did not run for a while: it was stopped, or the machine suspended.
///
/// A datagram ends a sleep early, so a pause is known only by a loop that comes around later than it ever
/// sleeps. `longest`, a quarter of a window at most, is the longest sleep and how late it may end: what
/// waited in the socket unnoticed is never older than half a window.
#[derive(Debug)]
struct PauseWatch {
    /// When the loop last came around.
    last: Duration,
}

impl PauseWatch {
    /// Returns the alarm at `at`, or when the loop must come around at the latest.
    fn alarm(&self, at: Option<Duration>, longest: Duration) -> Alarm {
        let latest = self.last + longest.min(MAX_SLEEP);
        Alarm::mono(Some(at.map_or(latest, |at| at.min(latest))))
    }

    /// Returns whether there was a pause since the last call.
    fn has_paused(&mut self, now: Now, longest: Duration) -> bool {
        let last = std::mem::replace(&mut self.last, now.mono);
        now.mono.saturating_sub(last) > 2 * longest.min(MAX_SLEEP)
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
        lists: QueuedLists::default(),
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
    lists: QueuedLists,
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
        let longest = self.peer.longest_delay();
        let received = tokio::select! {
            received = self.sockets.recv(inbox) => received.map_err(ClientError::Receive).map(|()| true)?,
            () = self.clock.sleep(self.pauses.alarm(alarm, longest)) => false,
        };
        let now = self.clock.now();
        if self.pauses.has_paused(now, longest) {
            self.look_at_network();
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

    /// Tells the peer this host's addresses: since the last look it may have moved to another network.
    fn look_at_network(&mut self) {
        let lan = private_address(self.peer.registry(), &self.sockets);
        self.peer.set_network(lan, interfaces());
    }

    fn pass_on_events(&mut self) -> Result<Next, ClientError> {
        while let Some(event) = self.peer.poll_event() {
            if let peer::Event::Refused { code, reason, .. } = &event
                && !code.is_retryable()
            {
                return Err(ClientError::Refused { code: *code, reason: reason.clone() });
            }
            if let peer::Event::Registered { .. } | peer::Event::Opened { .. } = event {
                self.look_at_network();
            }
            let closed = matches!(event, peer::Event::Closed { .. });
            if !self.lists.take(&event) {
                self.events.drop_one();
            } else if !self.events.send(Event::Peer(event)) {
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
        if now.mono >= since + LOOKUP_AFTER {
            self.look_up(now);
        }
        if is_due(self.address_at()) {
            let next = self.config.target.next_address(self.peer.registry());
            self.try_address(now, next);
        }
        match self.silence_at() {
            Some(at) if now.mono >= at => self.report_silence(now),
            _ => Ok(()),
        }
    }

    /// Has the registry's name resolved again, and tries the first address that is new.
    fn look_up(&mut self, now: Now) {
        if now.mono >= self.next_lookup_at {
            self.config.target.lookup.iter().for_each(Lookup::request);
            self.next_lookup_at = now.mono + LOOKUP_AFTER;
        }
        if let Some(new) = self.config.target.take_found(&self.sockets) {
            self.try_address(now, new);
        }
    }

    fn try_address(&mut self, now: Now, address: SocketAddr) {
        if address != self.peer.registry() {
            self.peer.change_registry(now, address);
        }
        self.next_address_at = now.mono + self.config.target.time_per_address();
    }

    /// Reports that the registry is silent; with `once` and no window promised, fails instead.
    fn report_silence(&mut self, now: Now) -> Result<(), ClientError> {
        let target = &self.config.target;
        let cause = match self.peer.is_only_challenged() {
            true if self.peer.asks_for_list() => Cause::LargeAnswersLost,
            true => Cause::RegistrationUnanswered,
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
        self.peer.note_silence();
        // If the receiver is gone, the peer's next event finds that out.
        self.events.send(Event::Silent(now.mono.saturating_sub(since), cause));
        Ok(())
    }

    /// Sends LEAVE, and waits up to `LEAVE_TIMEOUT` for LEFT.
    async fn leave(mut self, inbox: Inbox) -> Result<(), ClientError> {
        if !self.peer.has_heard() {
            return Ok(());
        }
        self.peer.leave(self.clock.now());
        tokio::time::timeout(LEAVE_TIMEOUT, self.until_left(inbox)).await.unwrap_or(Ok(()))
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

    #[test]
    fn a_loop_that_comes_around_late_has_paused() {
        let at = |millis| Now {
            wall: crate::window::Wall::from_millis(0),
            mono: Duration::from_millis(millis),
        };
        let minute = Duration::from_secs(60) / 4;
        let mut pauses = PauseWatch { last: Duration::ZERO };
        let moments = [1000, 2900, 4901, 6902, 6903];
        let paused = moments.map(|millis| pauses.has_paused(at(millis), minute));
        assert_eq!(paused, [false, false, true, true, false]);
        // In windows of 2 s, half of one is the longest that goes unnoticed.
        let short = Duration::from_secs(2) / 4;
        assert!(!pauses.has_paused(at(7903), short));
        assert!(pauses.has_paused(at(8904), short));
    }

    #[test]
    fn a_loop_sleeps_for_a_quarter_of_a_window_at_most() {
        let pauses = PauseWatch { last: Duration::from_secs(5) };
        let (half, long) = (Duration::from_millis(500), Duration::from_secs(15));
        let latest = |at: Option<u64>, longest| {
            pauses.alarm(at.map(Duration::from_millis), longest).mono.unwrap().as_millis()
        };
        assert_eq!([latest(None, half), latest(None, long)], [5500, 6000]);
        assert_eq!([latest(Some(5200), half), latest(Some(9000), half)], [5200, 5500]);
    }

    #[test]
    fn the_lists_of_events_that_nobody_takes_are_bounded() {
        let window = "2026-11-23T11:29:00Z".parse().unwrap();
        let list: Vec<_> =
            (0..65_536).map(|n| SocketAddr::from(([127, 0, 0, 1], n as u16))).collect();
        let closed =
            || peer::Event::Closed { window, met: 0, of: 65_536, missing: list.as_slice().into() };
        let mut lists = QueuedLists::default();
        let mut held: Vec<_> = (0..9).map(|_| closed()).filter(|event| lists.take(event)).collect();
        assert_eq!(held.len(), 4);
        assert!(lists.take(&peer::Event::Left), "what has no list");
        held.pop();
        assert!(lists.take(&closed()), "one was shown");
    }

    #[tokio::test]
    async fn a_client_waits_for_ever_if_that_is_its_timeout() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            registries: vec![silent.local_addr().unwrap()],
            lookup: None,
            bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            key: None,
            timeout: Duration::MAX,
        };
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
