//! A flood from unproven sources costs the registry no memory, and other clients are still served.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hit7::proto::{Auth, Datagram, Request, Room};

use crate::spoofer::Spoofer;
use hit7_support::{DEADLINE, Registry, until};

use crate::HIT7;
use crate::wire::{
    MACHINE, PAGE_AGE, Reply, TRUST_NOBODY, cookie, first_register, metric, receive, received,
    register, socket,
};

/// The number of source addresses and ports of a flood without spoofing: one open socket for each.
const SOCKETS: u32 = 800;

/// The most time that a delayed flood may catch up on: more would be a burst, not a rate.
const MAX_CATCH_UP: Duration = Duration::from_millis(5);

/// Returns the number of datagrams of the long run (`HIT7_FLOOD`), if that is asked for.
fn long_run() -> Option<u64> {
    let asked = std::env::var("HIT7_FLOOD").ok();
    asked.map(|n| n.parse().expect("HIT7_FLOOD is a number"))
}

/// The source addresses of a flood; in the long run they are spoofed, in the upper half of
/// 127.0.0.0/8, where no test has a socket.
enum Sources {
    Spoofed(Spoofer),
    Open(Vec<UdpSocket>),
}

impl Sources {
    fn new() -> Sources {
        match long_run().and_then(|_| Spoofer::new()) {
            Some(spoofer) => Sources::Spoofed(spoofer),
            None => Sources::Open((1..=SOCKETS).map(open).collect()),
        }
    }

    fn send(&self, n: u64, to: SocketAddr, payload: &[u8]) {
        match self {
            Sources::Spoofed(spoofer) => spoofer.send(source(n), to, payload),
            Sources::Open(sockets) => {
                let _ = sockets[n as usize % sockets.len()].send_to(payload, to);
            }
        }
    }
}

fn open(n: u32) -> UdpSocket {
    let [_, a, b, c] = (n * 16_381).to_be_bytes();
    UdpSocket::bind(SocketAddr::from(([127, a, b, c.clamp(1, 254)], 0))).unwrap()
}

/// Returns the spoofed source with number `n`: 2⁴⁰ distinct ones, and with odd factors, so that
/// neighbouring numbers give addresses far apart.
fn source(n: u64) -> SocketAddr {
    let [.., a, b, c] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    let port = 1024 + (n.wrapping_mul(40_503) >> 3) % 64_000;
    SocketAddr::from(([127, 128 | a, b, c.clamp(1, 254)], port as u16))
}

/// Returns the registry's resident memory in KiB.
fn memory(registry: &Registry) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", registry.program.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns how long the registry's main thread has run, and how long it waited for a processor.
fn ran_and_waited(registry: &Registry) -> [Duration; 2] {
    let text =
        std::fs::read_to_string(format!("/proc/{}/schedstat", registry.program.pid())).unwrap();
    let mut nanos = text.split_whitespace().map(|n| Duration::from_nanos(n.parse().unwrap()));
    [nanos.next().unwrap(), nanos.next().unwrap()]
}

/// Measures how many answers per second one client gets that asks without pause.
fn capacity(to: SocketAddr) -> u64 {
    (0..5).map(|_| answers_a_second(to)).max().unwrap_or(0)
}

fn answers_a_second(to: SocketAddr) -> u64 {
    let (socket, request) = (socket([127, 0, 0, 2]), first_register());
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (begin, mut answers, span) = (Instant::now(), 0, Duration::from_millis(200));
    while begin.elapsed() < span {
        for _ in 0..64 {
            socket.send_to(&request, to).unwrap();
        }
        answers += (0..64).filter(|_| receive(&socket).is_some()).count() as u64;
    }
    answers * 1000 / begin.elapsed().as_millis() as u64
}

/// Sends requests of every kind, `rate` per second, or as fast as possible.
fn flood(to: SocketAddr, rate: Option<u64>, count: u64) -> Duration {
    let sources = Sources::new();
    let kinds = [
        first_register(),
        Request::query(None, None, Room::default(), 0).encode(&Auth::NONE),
        register("x", "AAAAAAAAAAAAAAAA"),
        ACK.to_vec(),
        b"not json at all".to_vec(),
        vec![b' '; 1400],
    ];
    let (begin, mut due) = (Instant::now(), Duration::ZERO);
    for n in 0..count {
        sources.send(n, to, &kinds[n as usize % kinds.len()]);
        if let Some(rate) = rate.filter(|_| n % 16 == 0) {
            due = due.max(begin.elapsed().saturating_sub(MAX_CATCH_UP));
            due += Duration::from_nanos(16_000_000_000 / rate);
            thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    begin.elapsed()
}

/// Asks as a proven client until `over`; returns the sorted times until an answer, retries
/// included, and the most tries that one took.
fn proven(to: SocketAddr, over: &AtomicBool) -> (Vec<Duration>, usize) {
    proven_and_counted(to, over, &AtomicUsize::new(0))
}

/// Asks as [`proven`] does; `answered_count` is how many requests have been answered thus far.
fn proven_and_counted(
    to: SocketAddr,
    over: &AtomicBool,
    answered_count: &AtomicUsize,
) -> (Vec<Duration>, usize) {
    let socket = socket([127, 0, 0, 3]);
    let mut cookie = cookie(&socket, to);
    socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let (mut took, mut most_tries) = (Vec::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let answered = (1..=100).find(|_| is_registered(&socket, to, &mut cookie));
        most_tries = most_tries.max(answered.expect("a proven client is answered"));
        took.push(begin.elapsed());
        answered_count.store(took.len(), Ordering::Relaxed);
        thread::sleep(Duration::from_millis(25));
    }
    took.sort_unstable();
    (took, most_tries)
}

/// Sends one REGISTER and returns whether it was answered; replaces the cookie if it is stale.
fn is_registered(socket: &UdpSocket, to: SocketAddr, cookie: &mut String) -> bool {
    socket.send_to(&register("proven", cookie), to).unwrap();
    let Some(answer) = receive(socket) else { return false };
    if let Ok(Datagram::Challenge(challenge)) = Datagram::decode(&answer) {
        *cookie = challenge.cookie;
    }
    Reply::of(&answer) == Reply::Registered
}

/// Floods the registry while a proven client asks, and checks that every request is answered in the
/// end.
fn flooded(registry: &Registry, rate: Option<u64>, count: u64, what: &str) {
    let (to, over) = (registry.addr, AtomicBool::new(false));
    let before = ran_and_waited(registry);
    thread::scope(|scope| {
        let client = scope.spawn(|| proven(to, &over));
        let span = flood(to, rate, count);
        over.store(true, Ordering::Relaxed);
        let (took, most_tries) = client.join().unwrap();
        println!(
            "{what}: {count} sent in {span:.1?}, {:.0} a second; REGISTER of a proven client: {} asked, p50 {:.1?}, p99 {:.1?}, at most {most_tries} tries",
            count as f64 / span.as_secs_f64(),
            took.len(),
            took[took.len() / 2],
            took[(took.len() * 99 / 100).min(took.len() - 1)],
        );
        let [ran, waited] = ran_and_waited(registry);
        let (ran, waited) = (ran - before[0], waited - before[1]);
        println!("    the registry ran {ran:.1?}, and waited {waited:.1?} for a processor");
    });
}

/// The time that answers take is printed, and not checked: see docs/SECURITY.md.
#[test]
fn a_flood_costs_no_memory_and_keeps_nobody_out() {
    let _alone = MACHINE.lock();
    let flags = [&TRUST_NOBODY[..], &["--rate", "0", "--http", "127.0.0.1:0"]].concat();
    let registry = HIT7.serve(&flags);
    let (capacity, count) = (capacity(registry.addr), long_run().unwrap_or(20_000));
    flooded(&registry, Some(capacity / 2), count / 20, "warm-up");
    let before = memory(&registry);
    thread::sleep(PAGE_AGE);
    let received_before = received(&registry);
    flooded(&registry, Some(capacity / 2), count, "at half of capacity");
    flooded(&registry, Some(capacity), count / 2, "at capacity");
    flooded(&registry, None, count / 2, "as fast as it goes");
    let after = memory(&registry);
    println!("capacity at least {capacity}/s; memory {before} KiB before, {after} KiB after");
    assert!(after < before + 5 * 1024, "{before} KiB grew to {after} KiB");
    thread::sleep(PAGE_AGE);
    let received = received(&registry) - received_before;
    assert!(received > count / 2, "of the flood only {received} datagrams were received");
}

#[test]
fn a_window_opens_while_strangers_flood() {
    let _alone = MACHINE.lock();
    let flags = [TRUST_NOBODY[0], TRUST_NOBODY[1], "--window", "2s"];
    let registry = HIT7.serve(&flags);
    let (to, member) = (registry.addr, socket([127, 0, 0, 4]));
    let mut fresh = cookie(&member, to);
    assert!((0..20).any(|_| is_registered(&member, to, &mut fresh)));
    // No datagram of the flood passes the gate: only the registry's own clock opens the window.
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

const ACK: &[u8] = br#"{"type":"ACK","id":"x","window":"2026-11-23T11:29:00Z","pass":"x"}"#;

fn turned_away(registry: &Registry, reason: &str) -> u64 {
    metric(registry, &format!(r#"hit7_turned_away_total{{reason="{reason}"}}"#))
}

/// Each ACK has an address and port of its own, which no rate holds: all reach the queue to the node.
#[test]
fn acks_of_spoofed_sources_hold_up_nobody() {
    let Some(spoofer) = Spoofer::new() else { return };
    let _alone = MACHINE.lock();
    let flags = [&TRUST_NOBODY[..], &["--workers", "2", "--http", "127.0.0.1:0"]].concat();
    let registry = HIT7.serve(&flags);
    let (to, over, answered) = (registry.addr, AtomicBool::new(false), AtomicUsize::new(0));
    let count = thread::scope(|scope| {
        let client = scope.spawn(|| proven_and_counted(to, &over, &answered));
        let (begin, mut count) = (Instant::now(), 0);
        // On a busy machine the client runs seldom: the flood lasts until it has asked often enough.
        while count < 100_000 || answered.load(Ordering::Relaxed) <= 5 {
            assert!(begin.elapsed() < DEADLINE, "{answered:?} REGISTERs were answered");
            (count..count + 1000).for_each(|n| spoofer.send(source(n), to, ACK));
            count += 1000;
        }
        let span = begin.elapsed();
        over.store(true, Ordering::Relaxed);
        let (took, most_tries) = client.join().unwrap();
        println!(
            "{count} ACKs in {span:.1?}; {} REGISTERs, p50 {:.1?}, slowest {:.1?}, at most {most_tries} tries",
            took.len(),
            took[took.len() / 2],
            took[took.len() - 1],
        );
        assert!(took.len() > 5 && most_tries <= 8, "{} {most_tries}", took.len());
        count
    });
    let counted = ["no_member", "ack_unqueued", "ack_too_often"];
    let acks = || counted.iter().map(|reason| turned_away(&registry, reason)).sum::<u64>();
    until("the ACKs are counted", || (acks() > count / 10).then_some(()));
    println!("{counted:?}: {:?}", counted.map(|reason| turned_away(&registry, reason)));
}

/// Forged ACKs cost what any dropped datagram costs, and no place in a queue.
#[test]
fn forged_acks_hold_up_nobody() {
    let _alone = MACHINE.lock();
    let flags = [&TRUST_NOBODY[..], &["--workers", "2", "--http", "127.0.0.1:0"]].concat();
    let registry = HIT7.serve(&flags);
    let (to, over, forgers) = (registry.addr, AtomicBool::new(false), [5, 6, 7, 8]);
    let forge = |host: u8| {
        let socket = socket([127, 0, 0, host]);
        while !over.load(Ordering::Relaxed) {
            (0..100).for_each(|_| drop(socket.send_to(ACK, to)));
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::scope(|scope| {
        forgers.iter().for_each(|&host| drop(scope.spawn(move || forge(host))));
        let client = scope.spawn(|| proven(to, &over));
        let begun = Instant::now();
        until("ACKs are dropped at the gate", || {
            (turned_away(&registry, "ack_too_often") > 60_000).then_some(())
        });
        over.store(true, Ordering::Relaxed);
        let (took, most_tries) = client.join().unwrap();
        println!("{} REGISTERs, at most {most_tries} tries", took.len());
        // The bursts of four addresses, and what their rates of 50 a second add.
        let seconds = begun.elapsed().as_secs() + 2;
        let reached_the_node = turned_away(&registry, "no_member");
        assert!(reached_the_node <= 4 * (768 + 50 * seconds), "{reached_the_node}");
    });
}
