//! Several peers and a small registry over a network that loses, doubles and reorders.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::proto::Challenge;

const COOKIE: &str = "awQjfGkU0tbP4drN";

/// The least registry that keeps the rules which peers rely on.
#[derive(Default)]
struct Registry {
    current: u64,
    next: BTreeMap<Id, SocketAddr>,
    members: BTreeMap<Id, SocketAddr>,
    seqs: HashMap<Id, (u64, u64)>,
    acked: Vec<Id>,
    pushes: Vec<Duration>,
}

impl Registry {
    fn left(&self, now: Duration) -> u64 {
        secs((self.current + 1) * 60).saturating_sub(now).as_millis() as u64
    }

    fn open(&mut self) {
        self.current += 1;
        self.members = std::mem::take(&mut self.next);
        self.acked.clear();
        let opens = secs(self.current * 60);
        self.pushes = [0, 250, 1000].map(|after| opens + ms(after)).into();
    }

    fn own_list(&self, now: Duration, id: &Id) -> Option<Vec<u8>> {
        let listing = Rig::listing(self.members.values().copied());
        let opened = Opened {
            id: Some(id.clone()),
            room: Room::default(),
            window: window(self.current),
            closes_in_ms: self.left(now),
            you: *self.members.get(id)?,
            pass: pass(self.current),
            page: listing.page(0, listing.len())?,
        };
        Some(opened.encode())
    }

    fn push(&mut self, now: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        self.pushes.retain(|at| *at > now);
        let due = self.members.iter().filter(|(id, _)| !self.acked.contains(id));
        due.filter_map(|(id, addr)| Some((*addr, self.own_list(now, id)?))).collect()
    }

    fn handle(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        match Datagram::decode(bytes).unwrap() {
            Datagram::Request(Request { seq, .. }, auth)
                if auth.cookie.as_deref() != Some(COOKIE) =>
            {
                Some(Challenge { seq, cookie: COOKIE.into() }.encode())
            }
            Datagram::Request(query, _) if matches!(query.kind, RequestKind::Query { .. }) => {
                let own = self.own_list(now, &query.id?)?;
                let Ok(Datagram::Window(own)) = Datagram::decode(&own) else { return None };
                let Opened { id, room, window, closes_in_ms, you, pass, page } = own;
                let (seq, you, pass) = (query.seq, Some(you), Some(pass));
                Some(Peers { id, seq, room, window, closes_in_ms, you, pass, page }.encode())
            }
            Datagram::Request(register, _) => self.register(now, from, register),
            Datagram::Ack(ack) if ack.window == window(self.current) => {
                self.acked.extend(ack.id);
                None
            }
            _ => None,
        }
    }

    fn register(&mut self, now: Duration, from: SocketAddr, it: Request) -> Option<Vec<u8>> {
        let (id, seq) = (it.id?, it.seq?);
        let known = *self.seqs.entry(id.clone()).or_insert((seq, self.current + 1));
        let minute = match seq.cmp(&known.0) {
            std::cmp::Ordering::Less => return None,
            std::cmp::Ordering::Equal => known.1,
            std::cmp::Ordering::Greater => self.current + 1,
        };
        self.seqs.insert(id.clone(), (seq, minute));
        if minute > self.current {
            self.next.insert(id.clone(), from);
        }
        let page = Page { part: 0, parts: 1, count: 0, peers: "" };
        let closes_in_ms = self.left(now);
        let opens_in_ms = if minute > self.current { closes_in_ms } else { 0 };
        let current = Current { window: window(self.current), closes_in_ms, page };
        let (id, seq, room) = (Some(id), Some(seq), Room::default());
        let window = window(minute);
        let answer = Registered {
            id,
            seq,
            room,
            window,
            opens_in_ms,
            window_ms: 60_000,
            you: from,
            current,
        };
        Some(answer.encode())
    }
}

/// Everything, on one virtual clock.
struct World {
    now: Duration,
    rng: ChaCha8Rng,
    /// How many of a hundred datagrams are lost, and how many doubled.
    loss: u32,
    registry: Registry,
    peers: BTreeMap<SocketAddr, Peer>,
    wire: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    events: Vec<(SocketAddr, Event)>,
}

impl World {
    fn new(seed: u64, peers: u16, loss: u32) -> World {
        let peer = |n: u16| {
            let id = format!("peer-{n}").parse().unwrap();
            let config = Config { id, ..config(seed * 100 + u64::from(n)) };
            (SocketAddr::from(([203, 0, 113, 9], 40_000 + n)), Peer::new(config, now(ms(0))))
        };
        World {
            now: ms(0),
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss,
            registry: Registry::default(),
            peers: (0..peers).map(peer).collect(),
            wire: BTreeMap::new(),
            sent: 0,
            events: Vec::new(),
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        for copy in 0..2 {
            let lost = self.rng.random_range(0..100) < self.loss;
            let doubled = self.rng.random_range(0..100) < self.loss / 2;
            if lost || copy == 1 && !doubled {
                continue;
            }
            let arrives = self.now + ms(self.rng.random_range(1..80));
            self.sent += 1;
            self.wire.insert((arrives, self.sent), (from, to, bytes.clone()));
        }
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for (at, peer) in &mut self.peers {
            while let Some((to, bytes)) = peer.poll_transmit(now(self.now)) {
                assert!(bytes.len() <= crate::proto::MAX_DATAGRAM);
                out.push((*at, to, bytes));
            }
            self.events.extend(std::iter::from_fn(|| peer.poll_event()).map(|event| (*at, event)));
        }
        for (from, to, bytes) in out {
            self.send(from, to, bytes);
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if to == addr(REGISTRY) {
            if let Some(answer) = self.registry.handle(self.now, from, bytes) {
                self.send(to, from, answer);
            }
        } else if let Some(peer) = self.peers.get_mut(&to) {
            peer.handle_datagram(now(self.now), from, bytes);
        }
    }

    /// What comes next.
    fn next(&self) -> Duration {
        let peers = self.peers.values().filter_map(Peer::poll_timeout);
        let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
        let boundary = secs((self.registry.current + 1) * 60);
        let pushes = self.registry.pushes.iter().copied();
        peers.chain(wire).chain(pushes).chain([boundary]).min().unwrap()
    }

    fn run(&mut self, end: Duration) {
        self.drain();
        while self.next() <= end {
            self.now = self.next();
            if self.now == secs((self.registry.current + 1) * 60) {
                self.registry.open();
            }
            if self.registry.pushes.first().is_some_and(|at| *at <= self.now) {
                for (to, bytes) in self.registry.push(self.now) {
                    self.send(addr(REGISTRY), to, bytes);
                }
            }
            while let Some(entry) = self.wire.first_entry().filter(|it| it.key().0 <= self.now) {
                let (from, to, bytes) = entry.remove();
                self.deliver(from, to, &bytes);
            }
            for peer in self.peers.values_mut() {
                peer.handle_timeout(now(self.now));
            }
            self.drain();
        }
    }

    /// Who was not met in `minute`, by whom.
    fn not_met(&self, minute: u64) -> usize {
        let closed = self.events.iter().filter_map(|(_, event)| match event {
            Event::Closed { window, missing, .. } if *window == self::window(minute) => {
                Some(missing.len())
            }
            _ => None,
        });
        let closed: Vec<_> = closed.collect();
        assert_eq!(closed.len(), self.peers.len(), "all lived minute {minute}");
        closed.iter().sum()
    }
}

#[test]
fn two_peers_meet_every_minute() {
    let mut world = World::new(1, 2, 0);
    world.run(secs(310));
    for minute in 1..=4 {
        assert_eq!(world.not_met(minute), 0);
    }
    let met = world.events.iter().filter(|(_, event)| matches!(event, Event::Met { .. }));
    assert_eq!(met.count(), 2 * 5);
    let rtt = |event: &Event| matches!(event, Event::Met { rtt, .. } if *rtt > ms(160));
    assert!(!world.events.iter().any(|(_, event)| rtt(event)));
}

#[test]
fn everyone_meets_everyone_at_thirty_percent_loss() {
    for seed in 0..12 {
        let mut world = World::new(seed, 6, 30);
        world.run(secs(245));
        let missed = |(_, event): &&(SocketAddr, Event)| matches!(event, Event::Missed { .. });
        assert_eq!(world.events.iter().find(missed), None, "seed {seed}");
        for minute in 1..=3 {
            assert_eq!(world.not_met(minute), 0, "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, 3, 20);
        world.run(secs(130));
        (world.events, world.sent)
    };
    assert_eq!(run(7), run(7));
}
