//! A datagram with a spoofed source address must not start a loop of answers between two services.
//!
//! Spoofing takes a raw socket, and that takes root; without it, these tests are skipped.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hit7_support::{Registry, until};

use crate::HIT7;
use crate::spoofer::Spoofer;
use crate::wire::{self, PAGE_AGE, TRUST_NOBODY};

/// Starts a service that answers and counts every datagram, a thousand at most.
fn service(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (addr, received) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = received.clone();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for _ in 0..1000 {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
            count.fetch_add(1, Ordering::Relaxed);
            let _ = socket.send_to(&answer(&buffer[..len]), from);
        }
    });
    (addr, received)
}

fn echo(datagram: &[u8]) -> Vec<u8> {
    datagram.to_vec()
}

/// Returns what the chargen service of RFC 864 answers, shortened.
fn chargen(_datagram: &[u8]) -> Vec<u8> {
    b"!\"#$%&'()*+,-./01234".to_vec()
}

/// Flags of a registry with a page, which tells how many datagrams came.
const PAGE: [&str; 2] = ["--http", "127.0.0.1:0"];

/// A datagram that is no JSON.
const UNREADABLE: &[u8] = b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Requests and an unreadable datagram, each with the number of answers from a registry that does
/// not trust the source, and from one that does.
const BAITS: [(&[u8], usize, usize); 4] = [
    (br#"{"type":"REGISTER"}"#, 1, 1),
    (br#"{"type":"QUERY"}"#, 1, 1),
    (br#"{"type":"ERROR","code":"malformed","reason":""}"#, 0, 0),
    (UNREADABLE, 0, 1),
];

/// Sends a bait and returns how many datagrams the service at the spoofed source receives, once
/// the bait has come to the registry and the expected answers are there.
fn received_by(
    service_answer: fn(&[u8]) -> Vec<u8>,
    spoofer: &Spoofer,
    registry: &Registry,
    bait: &[u8],
    at_least: usize,
) -> usize {
    let (addr, received) = service(service_answer);
    let before = wire::received(registry);
    spoofer.send(addr, registry.addr, bait);
    until("the bait", || (wire::received(registry) > before).then_some(()));
    until("an answer to the bait", || (received.load(Ordering::Relaxed) >= at_least).then_some(()));
    // A loop would continue at once.
    thread::sleep(Duration::from_millis(200));
    received.load(Ordering::Relaxed)
}

#[test]
fn an_echo_and_a_chargen_service_get_one_datagram_at_most() {
    let Some(spoofer) = Spoofer::new() else { return };
    let registry = HIT7.serve(&[&TRUST_NOBODY[..], &PAGE].concat());
    for (bait, answers, _) in BAITS {
        for service in [echo as fn(&[u8]) -> Vec<u8>, chargen] {
            let received = received_by(service, &spoofer, &registry, bait, answers);
            assert_eq!(received, answers, "{}", String::from_utf8_lossy(bait));
        }
    }
}

#[test]
fn a_trusted_echo_gets_one_and_a_trusted_chargen_no_endless_stream() {
    let Some(spoofer) = Spoofer::new() else { return };
    // No window opens meanwhile: a member would be sent WINDOW, and twice again.
    let registry = HIT7.serve(&[&["--window", "1day"][..], &PAGE].concat());
    for (bait, _, answers) in BAITS {
        // The service echoes answers of a registry, which no registry answers; only the bait itself
        // can be answered again.
        let received = received_by(echo, &spoofer, &registry, bait, answers);
        assert_eq!(received, answers, "{}", String::from_utf8_lossy(bait));
    }
    let received = received_by(chargen, &spoofer, &registry, UNREADABLE, 2);
    assert!(received <= 65, "{received}");
}

#[test]
fn two_registries_spoofed_as_each_other_exchange_one_datagram_at_most() {
    let Some(spoofer) = Spoofer::new() else { return };
    for trust in [&TRUST_NOBODY[..2], &[]] {
        // No window opens meanwhile: a trusted, registered source would be sent WINDOW.
        let flags = [trust, &["--window", "1day"], &PAGE].concat();
        let (one, other) = (HIT7.serve(&flags), HIT7.serve(&flags));
        for (bait, ..) in BAITS {
            let before = (wire::received(&one), wire::received(&other));
            spoofer.send(one.addr, other.addr, bait);
            let (back, there) = received_since(&one, &other, before);
            let text = String::from_utf8_lossy(bait);
            println!("{text}: {there} came to its target, {back} back");
            assert!(there == 1 && back <= 1, "{text}: {there} there, {back} back");
        }
    }
}

/// Returns how many datagrams both registries have received since `before`, once the bait has
/// arrived and nothing more comes.
fn received_since(one: &Registry, other: &Registry, before: (u64, u64)) -> (u64, u64) {
    let mut seen = before;
    for _ in 0..100 {
        thread::sleep(PAGE_AGE);
        let now = (wire::received(one), wire::received(other));
        if now == seen && now.1 > before.1 {
            break;
        }
        seen = now;
    }
    (seen.0 - before.0, seen.1 - before.1)
}
