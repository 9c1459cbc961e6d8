//! Proven clients behind a link that is too slow for their answers: they wait, and others do not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::lab::Lab;
use crate::registry::Registry;

/// The number of clients behind the slow link.
const BEHIND: u8 = 31;

/// The time between two requests of each client; the answers are some 12 Mbit/s in all.
const REQUEST_INTERVAL: Duration = Duration::from_millis(20);

/// How long the clients behind the slow link send requests.
const ASKING_TIME: Duration = Duration::from_secs(6);

/// Sends requests for all clients behind the slow link, and does not read the answers.
fn ask_too_much(clients: &[Client]) {
    let begin = Instant::now();
    for round in 1.. {
        clients.iter().for_each(Client::ask);
        thread::sleep((round * REQUEST_INTERVAL).saturating_sub(begin.elapsed()));
        if begin.elapsed() > ASKING_TIME {
            return;
        }
    }
}

#[test]
fn a_slow_link_holds_up_nobody_else() {
    let Some(lab) = Lab::alone(&["reg", "lan", "far"]) else { return };
    lab.cable(["reg", "eth0"], ["lan", "eth0"]);
    lab.cable(["reg", "slow0"], ["far", "eth0"]);
    lab.ip("reg", "addr add 10.77.0.1/24 dev eth0\naddr add 10.78.0.1/24 dev slow0");
    lab.ip("lan", "addr add 10.77.0.2/24 dev eth0");
    let hosts = (2..2 + BEHIND).map(|host| format!("addr add 10.78.0.{host}/24 dev eth0\n"));
    lab.ip("far", &hosts.collect::<String>());
    let registry = Registry::start(&lab, "reg", &["--window", "1s"]);
    let to = |ip: [u8; 4]| SocketAddr::from((ip, registry.port));
    let local = lab.at("reg", || Client::new([127, 0, 0, 1].into(), to([127, 0, 0, 1])));
    let other = lab.at("lan", || Client::new([10, 77, 0, 2].into(), to([10, 77, 0, 1])));
    let client = |host| Client::new([10, 78, 0, host].into(), to([10, 78, 0, 1]));
    let mut behind: Vec<Client> = lab.at("far", || (2..2 + BEHIND).map(client).collect());
    behind.iter_mut().for_each(|it| drop(it.register(|_| {}).expect("an answer")));
    // Only now, when all of them have proven their addresses.
    lab.slow_down("reg", "slow0", "2mbit");
    println!("{BEHIND} clients ask for more than their link of 2 Mbit/s takes:");
    let over = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let clients = [local, other].map(|it| scope.spawn(|| it.keep_asking(&over)));
        ask_too_much(&behind);
        over.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap()).iter().all(|waits| waits.hold(4))
    });
    assert!(served);
}
