//! A peer under a flood of spoofed datagrams sends nothing to addresses that its registry did not
//! give it, and accepts none of the datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use hit7::clock::Now;
use hit7::peer::{Config, Event, Peer};
use hit7::proto::{Current, Datagram, Greet, Greeted, Opened, Page, Peers, Registered, Room};
use hit7::window::{Wall, Window};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

const ID: &str = "0123456789a";
const PASS: &str = "the-pass-of-the-window";

/// Returns how many spoofed datagrams to send: a million in a release build.
fn count() -> u64 {
    if cfg!(debug_assertions) { 20_000 } else { 1_000_000 }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn window() -> Window {
    "2026-11-23T11:29:00Z".parse().unwrap()
}

fn at(millis: u64) -> Now {
    let mono = Duration::from_millis(millis);
    Now { wall: Wall::from_millis(1_795_433_280_000).plus(mono), mono }
}

const REGISTRY: &str = "198.51.100.10:8080";
const ME: &str = "203.0.113.9:40112";
const FRIEND: &str = "203.0.113.7:40113";

fn peer() -> Peer {
    let config = Config {
        registry: addr(REGISTRY),
        key: None,
        id: ID.parse().unwrap(),
        room: Room::default(),
        name: None,
        text: None,
        lan: None,
        interfaces: Vec::new(),
        seed: 7,
        renew: true,
    };
    Peer::new(config, at(0))
}

fn opened(peers: &str) -> Datagram<'_> {
    Datagram::Window(Opened {
        id: Some(ID.parse().unwrap()),
        room: Room::default(),
        window: window(),
        closes_in_ms: 60_000,
        you: addr(ME),
        pass: PASS.parse().unwrap(),
        page: Page { part: 0, parts: 1, count: 2, peers },
    })
}

/// Returns REGISTER, LEAVE, QUERY and ACK as an unproven client sends them.
pub(crate) fn requests() -> [Vec<u8>; 4] {
    let first = |peer: &mut Peer, millis| peer.poll_transmit(at(millis)).expect("a request").1;
    let mut registers = peer();
    let register = first(&mut registers, 0);
    let mut leaves = peer();
    leaves.leave(at(0));
    let leave = first(&mut leaves, 0);
    let list = format!("\"{FRIEND}\",\"{ME}\"");
    let mut acks = peer();
    first(&mut acks, 0);
    acks.handle_datagram(at(1), addr(REGISTRY), &opened(&list).encode());
    let ack = first(&mut acks, 1);
    // The first of two parts, so that the peer asks for the second.
    let Datagram::Window(whole) = opened(&list) else { unreachable!("it is one") };
    let half = Datagram::Window(Opened { page: Page { parts: 2, ..whole.page.clone() }, ..whole });
    let mut queries = peer();
    first(&mut queries, 0);
    queries.handle_datagram(at(1), addr(REGISTRY), &half.encode());
    let query = (1..5000).find_map(|millis| {
        queries.handle_timeout(at(millis));
        let sent = std::iter::from_fn(|| queries.poll_transmit(at(millis)));
        sent.map(|(_, datagram)| datagram).find(|datagram| datagram.starts_with(QUERY))
    });
    [register, leave, query.expect("a QUERY"), ack]
}

const QUERY: &[u8] = br#"{"type":"QUERY""#;

/// Makes a datagram as an off-path attacker does who knows everything but the secrets: the id, the
/// pass, the seqs.
fn spoofed(rng: &mut ChaCha8Rng, victim: &str) -> Vec<u8> {
    let list = format!("\"{victim}\"");
    let page = || Page { part: 0, parts: 1, count: 1, peers: &list };
    let guess = |rng: &mut ChaCha8Rng| format!("{:x}", rng.next_u64());
    let (id, pass) = (guess(rng), guess(rng));
    let (id, pass) = (Some(id.parse().unwrap()), pass.parse().unwrap());
    let (room, seq, you) = (Room::default(), rng.random_range(0..1 << 32), addr(victim));
    let (window, closes_in_ms) = (window(), 60_000);
    let current = Current { window, closes_in_ms, page: page() };
    match rng.random_range(0..5) {
        0 => Datagram::Window(Opened { id, room, window, closes_in_ms, you, pass, page: page() }),
        1 => Datagram::Greet(Greet {
            room,
            window,
            pass,
            seq,
            from: addr(FRIEND),
            name: None,
            text: None,
        }),
        2 => Datagram::Registered(Registered {
            id,
            seq: Some(seq),
            room,
            window,
            opens_in_ms: 0,
            window_ms: 1000,
            you,
            current,
        }),
        3 => Datagram::Peers(Peers {
            id,
            seq: Some(seq),
            room,
            window,
            closes_in_ms,
            you: Some(you),
            pass: Some(pass),
            page: page(),
        }),
        _ => Datagram::Greeted(Greeted { room, window, seq, from: addr(FRIEND), name: None }),
    }
    .encode()
}

fn drain(peer: &mut Peer, now: Now, known: &[&str]) -> Vec<Event> {
    while let Some((to, datagram)) = peer.poll_transmit(now) {
        assert!(
            known.iter().any(|known| addr(known) == to),
            "sent {} to {to}",
            String::from_utf8_lossy(&datagram)
        );
    }
    std::iter::from_fn(|| peer.poll_event()).collect()
}

/// Hands a peer spoofed datagrams, from the registry's address, a member's and others.
fn flood(peer: &mut Peer, from_millis: u64, known: &[&str]) -> Vec<Event> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut events = Vec::new();
    for n in 0..count() {
        let victim = format!("192.0.2.{}:{}", n % 200 + 1, 1024 + n % 60_000);
        let from = [REGISTRY, FRIEND, "192.0.2.77:53", ME][n as usize % 4];
        let now = at(from_millis + n * 8000 / count());
        peer.handle_datagram(now, addr(from), &spoofed(&mut rng, &victim));
        events.extend(drain(peer, now, known));
    }
    events
}

#[test]
fn before_its_window_a_peer_talks_to_its_registry_alone() {
    let mut peer = peer();
    assert_eq!(flood(&mut peer, 0, &[REGISTRY]), []);
}

#[test]
fn in_its_window_a_peer_talks_to_its_registry_and_its_list_alone() {
    let mut peer = peer();
    drain(&mut peer, at(0), &[REGISTRY]);
    let list = format!("\"{FRIEND}\",\"{ME}\"");
    peer.handle_datagram(at(1), addr(REGISTRY), &opened(&list).encode());
    let events = drain(&mut peer, at(1), &[REGISTRY, FRIEND]);
    assert!(matches!(events[..], [Event::Opened { count: 2, .. }]), "{events:?}");
    assert_eq!(flood(&mut peer, 2, &[REGISTRY, FRIEND]), []);
}
