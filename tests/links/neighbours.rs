//! REGISTERs forged from unused addresses of the registry's own subnet: each CHALLENGE waits in the
//! kernel three seconds for a neighbour that never answers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::lab::Lab;
use crate::registry::Registry;
use crate::spoofer::Spoofer;

/// The rate of forged REGISTERs, per second.
const FORGED_PER_SECOND: u32 = 800;

/// How long forged REGISTERs are sent.
const FLOOD_TIME: Duration = Duration::from_secs(6);

/// The last bytes of the absent neighbours' addresses.
const ABSENT: [u8; 8] = [101, 102, 103, 104, 105, 106, 107, 108];

/// Sends clients' first REGISTERs with the addresses of absent neighbours.
fn forge(spoofer: &Spoofer, to: SocketAddr) {
    let text = r#"{"type":"REGISTER","id":"x","seq":1,"room":"main","cookie":"AAAAAAAAAAAAAAAA"}"#;
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < FLOOD_TIME {
        for absent in ABSENT {
            let from = SocketAddr::from(([10, 77, 0, absent], 1024 + (sent % 60_000) as u16));
            spoofer.send(from, to, text.as_bytes());
            sent += 1;
        }
        thread::sleep(
            (sent * Duration::from_secs(1) / FORGED_PER_SECOND).saturating_sub(begin.elapsed()),
        );
    }
}

/// Returns whether two clients are served without delay, one on the registry's host and one on its
/// subnet.
fn are_served_beside_absent_neighbours(workers: &str) -> bool {
    let Some(lab) = Lab::alone(&["reg", "lan"]) else { return true };
    lab.cable(["reg", "eth0"], ["lan", "eth0"]);
    lab.ip("reg", "addr add 10.77.0.1/24 dev eth0");
    lab.ip("lan", "addr add 10.77.0.2/24 dev eth0");
    let registry = Registry::start(&lab, "reg", &["--workers", workers, "--window", "1s"]);
    let to = |ip: [u8; 4]| SocketAddr::from((ip, registry.port));
    let (home, subnet) = (to([127, 0, 0, 1]), to([10, 77, 0, 1]));
    let local = lab.at("reg", || Client::new([127, 0, 0, 1].into(), home));
    let neighbour = lab.at("lan", || Client::new([10, 77, 0, 2].into(), subnet));
    let Some(spoofer) = lab.at("lan", Spoofer::new) else { return true };
    println!(
        "--workers {workers}, {FORGED_PER_SECOND}/s forged from {} absent neighbours:",
        ABSENT.len()
    );
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [local, neighbour].map(|it| scope.spawn(|| it.keep_asking(&over)));
        forge(&spoofer, subnet);
        over.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap()).iter().all(|waits| waits.hold(4))
    })
}

#[test]
fn absent_neighbours_hold_up_nobody_at_one_worker() {
    assert!(are_served_beside_absent_neighbours("1"));
}

#[test]
fn absent_neighbours_hold_up_nobody_at_two_workers() {
    assert!(are_served_beside_absent_neighbours("2"));
}
