//! The simulated world: one registry, peers, and the network between, on a clock that jumps from
//! one event to the next. One seed determines everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hit7::clock::Now;
use hit7::peer::{self, Event, Peer};
use hit7::proto::{Datagram, Room};
use hit7::window::{Length, Wall};

use crate::clients::Clients;
use crate::clock::HostClock;
use crate::faults::{Counts, Dice, Fault, Faults};
use crate::host::{Flags, Host};
use crate::journal::SimulatedJournal;
use crate::mutations::Mutation;
use crate::network::{Nat, Network, Packet};
use crate::rules::Rules;

pub(crate) const REGISTRY: &str = "198.51.100.10:8080";
/// The network that the gate trusts without a cookie.
pub(crate) const TRUSTED: &str = "10.0.0.0/8";

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The settings of a world.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) peers: usize,
    pub(crate) loss: u64,
    pub(crate) length: Length,
    pub(crate) cap: usize,
    /// The registry's wall clock at the beginning.
    pub(crate) begins: Wall,
    pub(crate) span: Duration,
    pub(crate) mutation: Option<Mutation>,
    /// Whether the events are recorded as text.
    pub(crate) trace: bool,
    /// Whether a single pair that does not meet breaks "everyone meets"; else pairs are counted.
    pub(crate) every_pair: bool,
}

impl Setup {
    /// Returns a world with peers only, for three minutes without faults.
    pub(crate) fn plain(seed: u64, peers: usize) -> Setup {
        Setup {
            seed,
            faults: Faults::default(),
            peers,
            loss: 0,
            length: Length::MINUTE,
            cap: 200,
            begins: "2026-11-23T11:28:00Z".parse().unwrap(),
            span: secs(180),
            mutation: None,
            trace: false,
            every_pair: false,
        }
    }
}

/// A scheduled event of the world.
#[derive(Clone, Debug)]
pub(crate) enum Agenda {
    Boot,
    Crash,
    Step,
    SetClockRight,
    Jump,
    JumpBack,
    DiskFull,
    DocumentsFail,
    JournalGone,
    JournalBack,
    Partition,
    NatChange(usize),
    PeerStep(usize),
    PeerDies(usize),
    PeerStarts(usize),
    PeerLeaves(usize),
    Client(crate::clients::Action),
}

/// A host with a peer, perhaps behind a NAT.
#[derive(Debug)]
pub(crate) struct PeerHost {
    pub(crate) config: peer::Config,
    pub(crate) clock: HostClock,
    pub(crate) addr: SocketAddr,
    pub(crate) nat: Option<Nat>,
    pub(crate) peer: Option<Peer>,
    pub(crate) steady_since: Duration,
    lives: u32,
}

impl PeerHost {
    /// Returns the host's public address, if it has one.
    pub(crate) fn public(&self, t: Duration) -> Option<SocketAddr> {
        match &self.nat {
            Some(nat) => nat.public(t),
            None => Some(self.addr),
        }
    }

    fn now(&self, t: Duration) -> Now {
        Now { wall: self.clock.wall(t), mono: self.clock.mono(t) }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) t: Duration,
    pub(crate) dice: Dice,
    pub(crate) seen: Counts,
    pub(crate) network: Network,
    pub(crate) host: Host,
    pub(crate) peers: Vec<PeerHost>,
    pub(crate) clients: Clients,
    pub(crate) rules: Rules,
    /// The peers' events, with their time and the peer's index.
    pub(crate) events: Vec<(Duration, usize, Event)>,
    pub(crate) traced: Vec<String>,
    todo: BTreeMap<(Duration, u64), Agenda>,
    todos: u64,
}

/// The part of the world that acts next.
enum Turn {
    Network,
    Agenda,
    Registry,
    Peer(usize),
    Meetings,
}

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let dice = Dice::new(setup.seed, setup.faults);
        let flags = Flags::new(setup.length, setup.cap);
        let journal = SimulatedJournal::new(flags.length, flags.cap, setup.mutation);
        let clock = HostClock::right(setup.begins);
        let mut world = World {
            t: Duration::ZERO,
            dice,
            seen: Counts::default(),
            network: Network::new(setup.loss),
            host: Host::new(clock, flags, journal),
            peers: Vec::new(),
            clients: Clients::default(),
            rules: Rules::new(flags, setup.every_pair),
            events: Vec::new(),
            traced: Vec::new(),
            todo: BTreeMap::new(),
            todos: 0,
            setup,
        };
        world.host.clock.ppm = world.drift();
        (0..world.setup.peers).for_each(|place| world.add_peer(place));
        world.plan_faults();
        world.plan_clients();
        world.boot();
        for place in 0..world.setup.peers {
            let at = world.dice.millis(Fault::Chance, 0, world.setup.length.millis() / 2);
            world.agenda(at, Agenda::PeerStarts(place));
        }
        world
    }

    fn drift(&mut self) -> i64 {
        if !self.dice.roll(Fault::Drift, 0.7) {
            return 0;
        }
        self.seen.note("a clock drifts");
        self.dice.draw(Fault::Drift, 0, 401) as i64 - 200
    }

    fn add_peer(&mut self, place: usize) {
        let n = place as u16;
        let own = SocketAddr::from(([203, 0, 113, 10 + n as u8], 40_000 + n));
        let behind =
            self.dice.roll(Fault::NatTimeout, 0.6) || self.dice.roll(Fault::NatChange, 0.5);
        let nat = behind.then(|| {
            let after = match self.dice.has(Fault::NatTimeout) {
                true => self.dice.millis(Fault::NatTimeout, 18_000, 60_000),
                false => secs(100_000),
            };
            Nat::new([203, 0, 113, 100 + n as u8].into(), 50_000 + n * 100, after)
        });
        let room = match self.setup.faults.has(Fault::Scripts) && self.dice.roll(Fault::Chance, 0.2)
        {
            true => "lab".parse().unwrap(),
            false => Room::default(),
        };
        let config = peer::Config {
            key: None,
            registry: addr(REGISTRY),
            id: "x".parse().unwrap(),
            room,
            name: Some(format!("peer-{n}").parse().unwrap()),
            text: Some("hola".parse().unwrap()),
            lan: None,
            interfaces: Vec::new(),
            seed: 0,
            renew: true,
        };
        let clock = HostClock::new(self.setup.begins, self.drift());
        let steady_since = Duration::ZERO;
        let host = PeerHost { config, clock, addr: own, nat, peer: None, steady_since, lives: 0 };
        self.peers.push(host);
    }

    pub(crate) fn agenda(&mut self, at: Duration, what: Agenda) {
        self.todos += 1;
        self.todo.insert((at, self.todos), what);
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.setup.trace {
            let wall = self.host.clock.wall(self.t).to_string();
            self.traced.push(format!(
                "{:>11.6}  {}  {}",
                self.t.as_secs_f64(),
                &wall[11..],
                line()
            ));
        }
    }

    /// Runs the world to its end, or until a rule is broken.
    pub(crate) fn run(&mut self) {
        let end = self.setup.span;
        self.run_until(end);
        if self.dice.has(Fault::Documents) {
            // Until the last try of each document that has failed.
            self.run_until(end + secs(80));
        }
        if self.rules.broken.is_none() {
            let steady = self.t.saturating_sub(self.host.steady_since);
            self.rules.on_end(if self.host.up.is_some() { steady } else { Duration::ZERO });
        }
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.rules.broken.is_none() {
            let (at, turn) = self.next();
            if at > end {
                break;
            }
            self.t = self.t.max(at);
            self.rules.t = self.t;
            match turn {
                Turn::Network => self.deliver(),
                Turn::Agenda => self.do_next(),
                Turn::Registry => self.wake_registry(),
                Turn::Meetings => self.judge_meetings(),
                Turn::Peer(place) => {
                    let host = &mut self.peers[place];
                    let now = host.now(self.t);
                    host.peer.as_mut().unwrap().handle_timeout(now);
                    self.drain(place);
                }
            }
            self.rest();
        }
        if self.rules.broken.is_none() {
            self.t = end.max(self.t);
        }
    }

    /// Checks the registry after every step, and may kill it.
    fn rest(&mut self) {
        self.host.steady_since = self.host.steady_since.max(self.host.journal.hangs_until);
        let Some(process) = &self.host.up else { return };
        let steady = self.t.saturating_sub(self.host.steady_since);
        let (node, wall) = (&process.node, self.host.clock.wall(self.t));
        self.rules.on_rest(node.current(), node.next(), wall, steady);
        self.rules.on_outage(self.held_up_by_an_outage());
        self.check_process();
        if self.dice.roll(Fault::Crash, 0.0005) {
            self.crash();
        }
    }

    fn next(&self) -> (Duration, Turn) {
        let far = self.setup.span + secs(3600);
        let mut first = (self.network.next().unwrap_or(far), Turn::Network);
        let mut offer = |at: Option<Duration>, turn: Turn| {
            if let Some(at) = at
                && at < first.0
            {
                first = (at, turn);
            }
        };
        offer(self.todo.first_key_value().map(|((at, _), _)| *at), Turn::Agenda);
        offer(self.host.next(self.t), Turn::Registry);
        offer(self.rules.everyone_meets.next_due(), Turn::Meetings);
        for (place, host) in self.peers.iter().enumerate() {
            let due = host.peer.as_ref().and_then(Peer::poll_timeout);
            offer(due.map(|mono| host.clock.when(mono)), Turn::Peer(place));
        }
        first
    }

    fn do_next(&mut self) {
        let (_, what) = self.todo.pop_first().unwrap();
        match what {
            Agenda::Boot => {
                if self.host.up.is_none() {
                    self.disturb_registry();
                    self.boot();
                }
            }
            Agenda::PeerStarts(place) => self.start_peer(place),
            Agenda::Client(action) => self.run_action(action),
            fault => self.inject(fault),
        }
    }

    fn start_peer(&mut self, place: usize) {
        let t = self.t;
        let seed = self.dice.any(Fault::Chance);
        let host = &mut self.peers[place];
        host.lives += 1;
        // The peer may be cut off until later; one that left is another process now.
        let left = host.steady_since == Duration::MAX;
        host.steady_since = if left { t } else { host.steady_since.max(t) };
        host.config.id = format!("p{place}-{}", host.lives).parse().unwrap();
        host.config.seed = seed;
        host.peer = Some(Peer::new(host.config.clone(), host.now(t)));
        self.trace(|| format!("peer {place} starts"));
        self.drain(place);
    }

    /// Sends a peer's pending datagrams, and records its events.
    pub(crate) fn drain(&mut self, place: usize) {
        let mut sent = 0;
        loop {
            let host = &mut self.peers[place];
            let now = host.now(self.t);
            let Some(peer) = &mut host.peer else { return };
            let Some((to, bytes)) = peer.poll_transmit(now) else { break };
            sent += 1;
            assert!(sent < 10_000, "a peer sends without end");
            let from = match &mut host.nat {
                None => host.addr,
                Some(nat) => {
                    let (from, changed) = nat.leave(self.t, to);
                    if changed {
                        self.seen.note("a NAT forgot a mapping");
                        host.steady_since = host.steady_since.max(self.t);
                    }
                    from
                }
            };
            match Datagram::decode(&bytes) {
                Ok(Datagram::Greet(it)) => self.rules.everyone_meets.on_greet(place, it.seq),
                Ok(Datagram::Greeted(_)) if self.setup.mutation == Some(Mutation::NoGreeted) => {
                    continue;
                }
                _ => {}
            }
            if to == addr(REGISTRY) {
                self.rules.on_peer_asks(from, &bytes);
            }
            self.send(Packet { from, to, bytes });
        }
        while let Some(event) = self.peers[place].peer.as_mut().and_then(Peer::poll_event) {
            self.trace(|| format!("peer {place}: {event:?}"));
            let id = self.peers[place].config.id.clone();
            let room = self.peers[place].config.room.clone();
            self.rules.on_peer_event(place, &id, &room, &event);
            match event {
                Event::Missed { .. } => self.seen.note("a peer missed its window"),
                Event::Refused { .. } => self.seen.note("a peer was refused for a while"),
                Event::Left => self.seen.note("a peer left"),
                _ => {}
            }
            self.events.push((self.t, place, event));
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        self.trace(|| {
            let text = String::from_utf8_lossy(&packet.bytes).into_owned();
            format!("{} → {}  {}", packet.from, packet.to, text.trim_end())
        });
        self.network.send(self.t, packet, &mut self.dice, &mut self.seen);
    }

    fn deliver(&mut self) {
        let Some(packet) = self.network.take() else { return };
        if packet.to == addr(REGISTRY) {
            self.trace(|| {
                let text = String::from_utf8_lossy(&packet.bytes).into_owned();
                format!("registry hears {}  {}", packet.from, text.trim_end())
            });
            return self.registry_hears(packet);
        }
        let t = self.t;
        let place = self.peers.iter().position(|host| host.public(t) == Some(packet.to));
        let Some(place) = place else { return self.client_hears(packet) };
        let host = &mut self.peers[place];
        if host.nat.as_ref().is_some_and(|nat| !nat.lets_in(t, packet.from)) {
            return self.seen.note("a NAT kept a datagram out");
        }
        let now = host.now(t);
        if let Some(peer) = &mut host.peer {
            if let Ok(Datagram::Greeted(it)) = Datagram::decode(&packet.bytes) {
                self.rules.everyone_meets.on_greeted(place, &it);
            }
            peer.handle_datagram(now, packet.from, &packet.bytes);
            self.drain(place);
        }
    }
}
