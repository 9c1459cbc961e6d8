//! Whoever forges one service's address as another's source must not make them talk to each other.
//!
//! Forging takes a raw socket, and that takes root; without it, this says so and passes.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::forger::Forger;
use crate::registry::Registry;
use crate::wire::{TRUST_NOBODY, metric};

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
    for trust in [&TRUST_NOBODY[..2], &[]] {
        // No window opens meanwhile: who is trusted and registered would be told, and told again.
        let flags = [trust, &["--window", "1day", "--http", "127.0.0.1:0"]].concat();
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = Registry::start_with(0, &flags, one.path());
        let other = Registry::start_with(0, &flags, other.path());
        for bait in BAIT {
            let before = (received(&one), received(&other));
            forger.send(one.addr, other.addr, bait);
            let came = loop_over(&one, &other, before);
            let text = String::from_utf8_lossy(bait);
            println!("{text}: {} came to its target, {} back", came.1, came.0);
            assert!(came.1 == 1 && came.0 <= 1, "{text}: {came:?}");
        }
    }
}

/// What came to both since `before`, once the bait is there and nothing comes any more.
fn loop_over(one: &Registry, other: &Registry, before: (u64, u64)) -> (u64, u64) {
    let mut seen = before;
    for _ in 0..100 {
        // Longer than from one look of the page to the next.
        thread::sleep(Duration::from_millis(600));
        let now = (received(one), received(other));
        if now == seen && now.1 > before.1 {
            break;
        }
        seen = now;
    }
    (seen.0 - before.0, seen.1 - before.1)
}

fn received(registry: &Registry) -> u64 {
    metric(registry, "hit7_datagrams_received_total")
}
