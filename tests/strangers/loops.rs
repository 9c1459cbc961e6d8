//! Whoever forges one service's address as another's source must not make them talk to each other.
//!
//! Forging takes a raw socket, and that takes root; without it, this says so and passes.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::registry::Registry;
use crate::wire::{MACHINE, TRUST_NOBODY};

/// Sends UDP datagrams with any source.
struct Forger(Socket);

impl Forger {
    fn new() -> Option<Forger> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).ok();
        if socket.is_none() {
            eprintln!("SKIPPED: a raw socket needs root");
        }
        socket.map(Forger)
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 only") };
        self.0.send_to(&packet(from, to, payload), &SocketAddr::V4(to).into()).unwrap();
    }
}

/// An IPv4 packet (RFC 791) with a UDP datagram (RFC 768); the kernel fills in the header's
/// checksum, and UDP's may be zero.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + payload.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(8 + payload.len()));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// A service that answers whatever comes, at most a thousand times, and counts it.
fn service(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (addr, came) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = came.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for _ in 0..1000 {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
            count.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&answer(&buffer[..len]), from);
        }
    });
    (addr, came)
}

/// Requests, and what nobody can read.
const BAIT: [&[u8]; 4] = [
    br#"{"type":"REGISTER"}"#,
    br#"{"type":"QUERY"}"#,
    br#"{"type":"ERROR","code":"malformed","reason":""}"#,
    b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ",
];

/// How many datagrams a service at the forged source got.
fn bounced(registry: &Registry, answer: fn(&[u8]) -> Vec<u8>, bait: &[u8]) -> Option<usize> {
    let forger = Forger::new()?;
    let (addr, came) = service(answer);
    forger.send(addr, registry.addr, bait);
    thread::sleep(Duration::from_millis(200));
    Some(came.load(Ordering::Relaxed))
}

#[test]
fn an_echo_and_a_chargen_service_get_one_datagram_at_most() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    for bait in BAIT {
        let Some(echo) = bounced(&registry, <[u8]>::to_vec, bait) else { return };
        let chargen = bounced(&registry, |_| b"!\"#$%&'()*+,-./01234".to_vec(), bait).unwrap();
        assert!(echo <= 1 && chargen <= 1, "{}: {echo} {chargen}", String::from_utf8_lossy(bait));
    }
}

#[test]
fn a_trusted_echo_gets_one_and_a_trusted_chargen_no_endless_stream() {
    let data = tempfile::tempdir().unwrap();
    // No window opens meanwhile: who is registered is told, once and twice again.
    let registry = Registry::start_with(0, &["--window", "1day"], data.path());
    for bait in BAIT {
        // What is echoed is of a registry's types, which are never answered; only the bait itself
        // can be answered again.
        let Some(echo) = bounced(&registry, <[u8]>::to_vec, bait) else { return };
        assert!(echo <= 1, "{}: {echo}", String::from_utf8_lossy(bait));
    }
    let chargen = bounced(&registry, |_| b"!\"#$%&'()*+,-./01234".to_vec(), BAIT[3]).unwrap();
    assert!(chargen <= 65, "{chargen}");
}

#[test]
fn two_registries_forged_as_each_other_exchange_one_datagram_at_most() {
    let Some(forger) = Forger::new() else { return };
    let _alone = MACHINE.lock();
    for flags in [&TRUST_NOBODY[..], &[]] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = Registry::start_with(0, flags, one.path());
        let other = Registry::start_with(0, flags, other.path());
        let before = received();
        for bait in BAIT {
            forger.send(one.addr, other.addr, bait);
            forger.send(other.addr, one.addr, bait);
        }
        thread::sleep(Duration::from_millis(300));
        // Eight baits and at most as many answers, and what other tests send meanwhile; a loop is
        // a hundred thousand a second.
        let exchanged = received() - before;
        println!("{exchanged} datagrams on the whole machine after {} baits", 2 * BAIT.len());
        assert!(exchanged < 5000, "they talk to each other");
    }
}

/// UDP datagrams that this machine has received.
fn received() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let values = snmp.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap();
    values.split_whitespace().nth(1).unwrap().parse().unwrap()
}
