//! Tests of a peer on a virtual clock, which jumps from one [`Peer::poll_timeout`] to the next.

mod forged;
mod greetings;
mod hostile;
mod pauses;
mod registration;
mod windows;

use super::*;
use crate::proto::{
    Ack, Auth, Candidate, Challenge, Current, Envelope, Left, Listing, Opened, Page, Pass, Peers,
    Profile, Refusal, Registered, Request, RequestKind, Room,
};
use crate::window::Wall;

const REGISTRY: &str = "198.51.100.1:8080";
const ME: &str = "203.0.113.9:40112";
const ANA: &str = "203.0.113.10:40001";
const BOB: &str = "203.0.113.11:40002";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Returns the window that opens `minute` minutes after the start of the clock.
fn window(minute: u64) -> Window {
    let begin: Wall = "2026-11-23T11:28:00Z".parse().unwrap();
    Length::MINUTE.window_at(begin.plus(secs(minute * 60)))
}

fn pass(minute: u64) -> Pass {
    format!("pass-{minute}").parse().unwrap()
}

fn config(seed: u64) -> Config {
    Config {
        key: None,
        registry: addr(REGISTRY),
        id: "me".parse().unwrap(),
        room: Room::default(),
        name: Some("eva".parse().unwrap()),
        text: Some("hola".parse().unwrap()),
        lan: None,
        interfaces: Vec::new(),
        seed,
        renew: true,
    }
}

fn now(mono: Duration) -> Now {
    Now { wall: Wall::from_millis(0), mono }
}

/// A datagram that the peer has sent.
#[derive(Clone, Debug)]
struct Sent {
    at: Duration,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// A QUERY that the peer has sent.
#[derive(Debug)]
struct Query {
    seq: Option<u64>,
    part: u32,
}

impl Sent {
    fn datagram(&self) -> Datagram<'_> {
        Datagram::decode(&self.bytes).unwrap()
    }

    fn request(&self) -> Option<Request> {
        match self.datagram() {
            Datagram::Request(request, _) => Some(request),
            _ => None,
        }
    }

    fn register(&self) -> Option<Request> {
        self.request().filter(|it| matches!(it.kind, RequestKind::Register(_)))
    }

    fn query(&self) -> Option<Query> {
        let Request { seq, kind, .. } = self.request()?;
        if let RequestKind::Query { part, .. } = kind { Some(Query { seq, part }) } else { None }
    }

    fn cookie(&self) -> Option<String> {
        Envelope::open(&self.bytes).unwrap().cookie().map(String::from)
    }

    fn greet(&self) -> Option<Greet> {
        match self.datagram() {
            Datagram::Greet(greet) => Some(greet),
            _ => None,
        }
    }

    fn is_ack(&self) -> bool {
        matches!(self.datagram(), Datagram::Ack(_))
    }
}

/// One peer under test, with what its registry and its peers would send.
struct Rig {
    peer: Peer,
    now: Duration,
    listing: Listing,
}

impl Rig {
    fn new(config: Config) -> Rig {
        let list = [ANA, BOB, ME];
        let peer = Peer::new(config, now(ms(0)));
        Rig { peer, now: ms(0), listing: Rig::listing(list.into_iter().map(addr)) }
    }

    fn listing(peers: impl IntoIterator<Item = SocketAddr>) -> Listing {
        Listing::render(peers.into_iter().map(|addr| Candidate { addr, lan: None }))
    }

    /// Returns the `seq` of the last request.
    fn seq(&self) -> u64 {
        self.peer.registry.seq
    }

    fn drain(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some((to, bytes)) = self.peer.poll_transmit(now(self.now)) {
            sent.push(Sent { at: self.now, to, bytes });
            assert!(sent.len() < 100_000, "a loop");
        }
        let next = self.peer.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "no progress at {:?}", self.now);
        sent
    }

    /// Runs the peer until `end`, and returns what it sent.
    fn run(&mut self, end: Duration) -> Vec<Sent> {
        let mut sent = self.drain();
        while let Some(next) = self.peer.poll_timeout().filter(|next| *next <= end) {
            self.now = next;
            self.peer.handle_timeout(now(next));
            sent.extend(self.drain());
        }
        self.now = end;
        sent
    }

    fn hear_bytes(&mut self, from: &str, bytes: &[u8]) -> Vec<Sent> {
        self.peer.handle_datagram(now(self.now), addr(from), bytes);
        self.drain()
    }

    fn hear(&mut self, from: &str, datagram: Datagram<'_>) -> Vec<Sent> {
        self.hear_bytes(from, &datagram.encode())
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.peer.poll_event()).collect()
    }

    /// Returns the registry's answer to a REGISTER with `seq`, if minute `current` is current.
    fn registered(&self, seq: Option<u64>, current: u64) -> Registered<'static> {
        let left = (secs((current + 1) * 60).saturating_sub(self.now)).as_millis() as u64;
        let page = Page { part: 0, parts: 1, count: 0, peers: "" };
        Registered {
            id: Some("me".parse().unwrap()),
            seq,
            room: Room::default(),
            window: window(current + 1),
            opens_in_ms: left,
            window_ms: 60_000,
            you: addr(ME),
            current: Current { window: window(current), closes_in_ms: left, page },
        }
    }

    /// Lets the peer send the REGISTER that is due, and answers it.
    fn register(&mut self, current: u64) -> Vec<Sent> {
        let sent = self.run(self.now);
        let seq = sent.iter().find_map(Sent::register).expect("a REGISTER").seq;
        let answer = self.registered(seq, current);
        self.hear(REGISTRY, Datagram::Registered(answer))
    }

    /// Answers the last request, a REGISTER.
    fn register_answer(&mut self, current: u64) {
        let answer = self.registered(Some(self.seq()), current);
        self.hear(REGISTRY, Datagram::Registered(answer));
    }

    fn opened(&self, minute: u64, part: u32) -> Opened<'_> {
        let left = secs((minute + 1) * 60).saturating_sub(self.now);
        Opened {
            id: Some("me".parse().unwrap()),
            room: Room::default(),
            window: window(minute),
            closes_in_ms: left.as_millis() as u64,
            you: addr(ME),
            pass: pass(minute),
            page: self.listing.page(part, self.listing.len()).unwrap(),
        }
    }

    fn push(&mut self, minute: u64, part: u32) -> Vec<Sent> {
        let bytes = self.opened(minute, part).encode();
        self.hear_bytes(REGISTRY, &bytes)
    }

    fn peers(&self, seq: Option<u64>, minute: u64, part: u32) -> Peers<'_> {
        let Opened { id, room, window, closes_in_ms, you, pass, page } = self.opened(minute, part);
        let (you, pass) = (Some(you), Some(pass));
        Peers { id, seq, room, window, closes_in_ms, you, pass, page }
    }

    fn answer(&mut self, seq: Option<u64>, minute: u64, part: u32) -> Vec<Sent> {
        let bytes = self.peers(seq, minute, part).encode();
        self.hear_bytes(REGISTRY, &bytes)
    }

    /// Returns a peer that registered at 5 s for minute 1, which opens at 60 s.
    fn waiting(config: Config) -> Rig {
        let mut rig = Rig::new(config);
        rig.run(secs(5));
        let seq = Some(rig.seq());
        let answer = rig.registered(seq, 0);
        rig.hear(REGISTRY, Datagram::Registered(answer));
        rig
    }

    /// Returns a peer whose minute 1 has just opened with its own list, and what it sent then.
    fn open(config: Config) -> (Rig, Vec<Sent>) {
        let mut rig = Rig::waiting(config);
        rig.run(secs(60));
        let sent = rig.push(1, 0);
        rig.events();
        (rig, sent)
    }
}

fn greet(from: &str, seq: u64) -> Greet {
    Greet {
        room: Room::default(),
        window: window(1),
        pass: pass(1),
        seq,
        from: addr(from),
        name: Some("ana".parse().unwrap()),
        text: Some("hi".parse().unwrap()),
    }
}

fn greeted(from: &str, seq: u64) -> Greeted {
    let name = Some("ana".parse().unwrap());
    Greeted { room: Room::default(), window: window(1), seq, from: addr(from), name }
}

fn error(seq: Option<u64>, code: Code, retry_in_ms: Option<u64>) -> Datagram<'static> {
    Datagram::Error(Refusal { seq, code, reason: "because".into(), retry_in_ms })
}

fn left(seq: Option<u64>) -> Datagram<'static> {
    Datagram::Left(Left { id: Some("me".parse().unwrap()), seq, window: window(1) })
}

fn missed(minute: u64) -> Event {
    Event::Missed { window: window(minute), why: MissedWhy::NotAMember }
}

/// Returns the event of a window that was missed for another reason.
fn missed_by(minute: u64, why: MissedWhy) -> Event {
    Event::Missed { window: window(minute), why }
}
