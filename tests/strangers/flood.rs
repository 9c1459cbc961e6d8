//! A flood from unproven sources costs the registry no memory, and does not keep others out.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hit7::proto::{Datagram, Query, Request};

use crate::registry::Registry;
use crate::wire::{
    MACHINE, TRUST_NOBODY, Told, cookie, first_register, receive, register, socket, told,
};

/// Sources of the flood, each an address of its own in 127.0.0.0/8.
const SOURCES: u32 = 1000;

fn datagrams() -> u64 {
    std::env::var("HIT7_FLOOD").map_or(100_000, |n| n.parse().expect("HIT7_FLOOD is a number"))
}

fn sources() -> Vec<UdpSocket> {
    let source = |n: u32| {
        let [_, a, b, c] = (n * 16_381).to_be_bytes();
        UdpSocket::bind(SocketAddr::from(([127, a, b, c.clamp(1, 254)], 0))).unwrap()
    };
    (1..=SOURCES).map(source).collect()
}

/// Resident memory in KiB.
fn memory(registry: &Registry) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", registry.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Answers a second, asked by one client without pause: what the registry can do at the least.
fn capacity(to: SocketAddr) -> u64 {
    let (socket, request) = (socket([127, 0, 0, 2]), first_register().encode());
    let (begin, mut answers, span) = (Instant::now(), 0, Duration::from_millis(500));
    while begin.elapsed() < span {
        for _ in 0..32 {
            socket.send_to(&request, to).unwrap();
        }
        answers += (0..32).filter(|_| receive(&socket).is_some()).count() as u64;
    }
    answers * 1000 / span.as_millis() as u64
}

/// Sends forged requests of every kind, `rate` a second, or as fast as it can.
fn flood(to: SocketAddr, rate: Option<u64>, count: u64) -> Duration {
    let sources = sources();
    let kinds = [
        first_register().encode(),
        Request::Query(Query::default()).encode(),
        register("x", "AAAAAAAAAAAAAAAA").encode(),
        br#"{"type":"ACK","id":"x","window":"2026-11-23T11:29:00Z","pass":"x"}"#.to_vec(),
        b"not json at all".to_vec(),
        vec![b' '; 1400],
    ];
    let begin = Instant::now();
    for n in 0..count {
        let kind = &kinds[n as usize % kinds.len()];
        let _ = sources[n as usize % sources.len()].send_to(kind, to);
        if let Some(rate) = rate.filter(|_| n % 64 == 0) {
            let due = Duration::from_micros(n * 1_000_000 / rate);
            thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    begin.elapsed()
}

/// Asks as a proven client until `over`; how long each answer took, first tries and all.
fn proven(to: SocketAddr, over: &AtomicBool) -> (Vec<Duration>, usize) {
    let socket = socket([127, 0, 0, 3]);
    let mut cookie = cookie(&socket, to);
    socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let (mut took, mut most_tries) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let answered = (1..=100).find(|_| is_registered(&socket, to, &mut cookie));
        most_tries = most_tries.max(answered.expect("a proven client is answered"));
        took.push(begin.elapsed());
        thread::sleep(Duration::from_millis(25));
    }
    took.sort_unstable();
    (took, most_tries)
}

/// One try; a cookie that has grown stale is replaced by a fresh one.
fn is_registered(socket: &UdpSocket, to: SocketAddr, cookie: &mut String) -> bool {
    socket.send_to(&register("proven", cookie).encode(), to).unwrap();
    let Some(answer) = receive(socket) else { return false };
    if let Ok(Datagram::Challenge(challenge)) = Datagram::decode(&answer) {
        *cookie = challenge.cookie;
    }
    told(&answer) == Told::Registered
}

fn flooded(registry: &Registry, rate: Option<u64>, count: u64, what: &str) {
    let (to, over) = (registry.addr, AtomicBool::new(false));
    thread::scope(|scope| {
        let client = scope.spawn(|| proven(to, &over));
        let span = flood(to, rate, count);
        over.store(true, Ordering::Relaxed);
        let (took, most_tries) = client.join().unwrap();
        println!(
            "{what}: {count} forged in {span:.1?}; REGISTER of a proven client: {} asked, p50 {:.1?}, p99 {:.1?}, at most {most_tries} tries",
            took.len(),
            took[took.len() / 2],
            took[(took.len() * 99 / 100).min(took.len() - 1)],
        );
    });
}

#[test]
fn a_flood_costs_no_memory_and_keeps_nobody_out() {
    let _alone = MACHINE.lock();
    let data = tempfile::tempdir().unwrap();
    let flags = [TRUST_NOBODY[0], TRUST_NOBODY[1], "--rate", "0", "--window", "1h"];
    let registry = Registry::start_with(0, &flags, data.path());
    let capacity = capacity(registry.addr);
    flooded(&registry, Some(capacity / 2), datagrams() / 20, "warm-up");
    let before = memory(&registry);
    flooded(&registry, Some(capacity / 2), datagrams(), "at half of capacity");
    flooded(&registry, None, datagrams() / 2, "as fast as it goes");
    let after = memory(&registry);
    println!("capacity at least {capacity}/s; memory {before} KiB before, {after} KiB after");
    assert!(after < before + 5 * 1024, "{before} KiB grew to {after} KiB");
}

#[test]
fn a_window_opens_while_strangers_flood() {
    let _alone = MACHINE.lock();
    let data = tempfile::tempdir().unwrap();
    let flags = [TRUST_NOBODY[0], TRUST_NOBODY[1], "--window", "2s"];
    let registry = Registry::start_with(0, &flags, data.path());
    let (to, member) = (registry.addr, socket([127, 0, 0, 4]));
    let mut fresh = cookie(&member, to);
    assert!((0..20).any(|_| is_registered(&member, to, &mut fresh)));
    // Nothing of the flood passes the gate: only the registry's own clock can open the window.
    let over = AtomicBool::new(false);
    let opened = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                flood(to, None, 20_000);
            }
        });
        let opened = receive(&member);
        over.store(true, Ordering::Relaxed);
        opened
    });
    let opened = opened.expect("a WINDOW");
    assert!(matches!(Datagram::decode(&opened), Ok(Datagram::Window(_))));
}
