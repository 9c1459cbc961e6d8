//! Half of a room's hosts vanish from the registry's subnet right before the opening: their WINDOWs
//! wait for neighbours that do not answer, and the others must get theirs in time.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::client::{Client, SLOWER, opens, read};
use crate::lab::Lab;
use crate::registry::Registry;

/// The parts of the subnet whose hosts stay, 10.77.1.x and so on. The parts between them vanish:
/// WINDOWs are sent in the order of addresses.
const STAY: [u8; 5] = [1, 3, 5, 7, 9];
const VANISH: [u8; 5] = [2, 4, 6, 8, 10];

/// The number of hosts in each part of the subnet.
const HOSTS: u8 = 40;

/// The number of hosts that stay; the same number vanishes.
const STAYING: usize = STAY.len() * HOSTS as usize;

/// How long before the opening the hosts vanish.
const VANISH_BEFORE_OPENING: Duration = Duration::from_millis(1200);

/// How long after the opening hosts listen: WINDOW is sent for the third and last time after 1 s.
const LISTEN: Duration = Duration::from_millis(1500);

/// The longest time from the first WINDOW to the last host's whole list.
const TOLD_WITHIN: Duration = Duration::from_millis(50);

/// Returns the addresses of all hosts in some parts of the subnet.
fn hosts(parts: [u8; 5]) -> impl Iterator<Item = IpAddr> {
    parts.into_iter().flat_map(|part| (1..=HOSTS).map(move |host| [10, 77, part, host].into()))
}

/// Makes a lab: the registry's host, and behind a switch the hosts that stay and that will vanish.
fn subnet() -> Option<Lab> {
    let lab = Lab::alone(&["reg", "lan", "gone"])?;
    lab.cable(["reg", "eth0"], ["lan", "to-reg"]);
    lab.cable(["gone", "eth0"], ["lan", "to-gone"]);
    lab.ip("lan", "link add br0 type bridge");
    lab.ip("lan", "link set br0 up\nlink set to-reg master br0\nlink set to-gone master br0");
    lab.ip("reg", "addr add 10.77.0.1/16 dev eth0");
    let add = |parts, to: &str| {
        hosts(parts).map(|host| format!("addr add {host}/16 dev {to}\n")).collect::<String>()
    };
    lab.ip("lan", &add(STAY, "br0"));
    lab.ip("gone", &add(VANISH, "eth0"));
    Some(lab)
}

/// Registers all clients for one window, which does not open too soon, and returns its name.
pub(crate) fn register(clients: &mut [Client]) -> String {
    for _ in 0..5 {
        // On a busy machine an answer takes longer than a client waits.
        let answered = |it: &mut Client| (0..10).find_map(|_| it.register(|_| {}));
        let mut windows: Vec<String> =
            clients.iter_mut().map(|it| answered(it).expect("an answer")).collect();
        windows.dedup();
        let window = windows.swap_remove(0);
        let left = opens(&window).duration_since(SystemTime::now()).unwrap_or_default();
        if windows.is_empty() && left > VANISH_BEFORE_OPENING {
            return window;
        }
        thread::sleep(left);
    }
    panic!("a window is too short for {} registrations", clients.len());
}

/// Returns the datagrams of each client until [`LISTEN`] after the opening, with their times.
pub(crate) fn listen(clients: &[Client], opens: SystemTime) -> Vec<Vec<(Instant, Vec<u8>)>> {
    clients.iter().for_each(|it| it.socket.set_nonblocking(true).unwrap());
    let (mut came, mut buffer) = (vec![Vec::new(); clients.len()], [0; 2048]);
    while SystemTime::now() < opens + LISTEN {
        for (client, came) in clients.iter().zip(&mut came) {
            match client.socket.recv(&mut buffer) {
                Ok(length) => came.push((Instant::now(), buffer[..length].to_vec())),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        // The others need the processor too.
        thread::sleep(Duration::from_millis(1));
    }
    came
}

/// Returns when each client had its whole list, from the first WINDOW that came to any client.
fn told(came: &[Vec<(Instant, Vec<u8>)>], window: &str) -> Vec<Duration> {
    let is_window = |datagram: &Value| datagram["type"] == "WINDOW" && datagram["window"] == window;
    let windows = came.iter().map(|came| {
        let read = came.iter().map(|(at, datagram)| (*at, read(datagram)));
        read.filter(|(_, datagram)| is_window(datagram)).collect::<Vec<_>>()
    });
    let windows: Vec<Vec<(Instant, Value)>> = windows.collect();
    let first = windows.iter().flatten().map(|(at, _)| *at).min();
    let whole = windows.iter().filter_map(|windows| {
        let parts = windows.first()?.1["parts"].as_u64().unwrap();
        let last = windows.get(parts as usize - 1)?;
        Some(last.0.duration_since(first?))
    });
    whole.collect()
}

#[test]
fn who_stays_is_told_while_others_have_vanished() {
    let Some(lab) = subnet() else { return };
    let registry = Registry::start(&lab, "reg", &["--window", "5s"]);
    let to = SocketAddr::from(([10, 77, 0, 1], registry.port));
    let all = |host, parts| -> Vec<Client> {
        lab.at(host, || hosts(parts).map(|own| Client::new(own, to)).collect())
    };
    let mut clients = all("lan", STAY);
    clients.extend(all("gone", VANISH));
    let window = register(&mut clients);
    let opens = opens(&window);
    let left = || opens.duration_since(SystemTime::now()).unwrap_or_default();
    thread::sleep(left().saturating_sub(VANISH_BEFORE_OPENING));
    lab.ip("lan", "link set to-gone down");
    lab.ip("reg", &VANISH.map(|part| format!("neigh flush to 10.77.{part}.0/24\n")).concat());
    assert!(left() > Duration::ZERO, "they vanished in time");
    let told = told(&listen(&clients[..STAYING], opens), &window);
    let last = told.iter().max().copied().unwrap_or_default();
    let bound = TOLD_WITHIN * SLOWER;
    let late = told.iter().filter(|span| **span > bound).count();
    println!(
        "{} of {STAYING} had their whole list, {late} after more than {bound:.0?}, \
         the last {last:.1?}",
        told.len()
    );
    assert!(told.len() == STAYING && late == 0);
}
