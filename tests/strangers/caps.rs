//! Who registers rooms and names without end from one address is held at its caps, and others are
//! not touched.

use std::net::UdpSocket;

use hit7::proto::{Code, Profile};

use crate::registry::Registry;
use crate::wire::{
    TRUST_NOBODY, Told, answer, cookie, metric, register, register_as, socket, told,
};

const FLAGS: [&str; 10] = [
    "--trust",
    "192.0.2.1",
    "--max-per-ip",
    "20",
    "--rate",
    "0",
    "--window",
    "1day",
    "--http",
    "127.0.0.1:0",
];

fn taken_or_full(registry: &Registry, socket: &UdpSocket, register: &[u8]) -> bool {
    match told(&answer(socket, registry.addr, register).unwrap()) {
        Told::Registered => true,
        Told::Error(Code::Full) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ten_thousand_rooms_and_names_from_one_address_are_held_at_its_caps() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &FLAGS, data.path());
    let clients: Vec<(UdpSocket, String)> = (0..50)
        .map(|_| {
            let socket = socket([127, 0, 0, 1]);
            let cookie = cookie(&socket, registry.addr);
            (socket, cookie)
        })
        .collect();
    let (mut taken, mut full) = (0, 0);
    for (client, (socket, cookie)) in clients.iter().enumerate() {
        for n in 0..200 {
            let (room, name) = (format!("room-{client}-{n}"), format!("name-{client}-{n}"));
            let (room, name) = (room.parse().unwrap(), Some(name.parse().unwrap()));
            let profile = Profile { room, name, ..Profile::default() };
            let register = register_as(&format!("client-{client}"), n, cookie, profile);
            match taken_or_full(&registry, socket, &register) {
                true => taken += 1,
                false => full += 1,
            }
        }
    }
    // Twenty sockets are let in, and an address has one registration: the latest stands.
    println!("10,000 rooms and names: {full} were refused as full, 20 stand");
    assert_eq!((taken, full), (20 * 200, 30 * 200));
    assert_eq!(metric(&registry, "hit7_next_window_members"), 20);
    // Nor do ids help, each of which is remembered: four for each member that may be.
    let (socket, cookie) = &clients[0];
    let new = |k: &u32| taken_or_full(&registry, socket, &register(&format!("new-{k}"), cookie));
    assert_eq!((0..10_000).filter(new).count(), 3 * 20);
    others_are_not_touched(&registry);
}

fn others_are_not_touched(registry: &Registry) {
    for k in 0..20 {
        let other = socket([127, 0, 0, 9]);
        let cookie = cookie(&other, registry.addr);
        assert!(taken_or_full(registry, &other, &register(&format!("other-{k}"), &cookie)));
    }
}

#[test]
fn who_asks_too_often_is_told_once_a_second() {
    let data = tempfile::tempdir().unwrap();
    let flags = [&TRUST_NOBODY[..], &["--rate", "1", "--burst", "5"]].concat();
    let registry = Registry::start_with(0, &flags, data.path());
    let fast = socket([127, 0, 0, 1]);
    let fast_cookie = cookie(&fast, registry.addr);
    let ask = register("fast", &fast_cookie);
    for _ in 0..100 {
        fast.send_to(&ask, registry.addr).unwrap();
    }
    fast.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let answers: Vec<Told> =
        std::iter::from_fn(|| crate::wire::receive(&fast)).map(|answer| told(&answer)).collect();
    let slow_downs = answers.iter().filter(|told| **told == Told::Error(Code::SlowDown)).count();
    assert!((1..=2).contains(&slow_downs), "{answers:?}");
    assert!(answers.len() <= 8, "{answers:?}");
    let other = socket([127, 0, 0, 9]);
    let other_cookie = cookie(&other, registry.addr);
    let other = answer(&other, registry.addr, &register("other", &other_cookie));
    assert_eq!(told(&other.unwrap()), Told::Registered);
}

#[test]
fn more_workers_are_one_registry_with_one_rate() {
    let data = tempfile::tempdir().unwrap();
    let flags = [&TRUST_NOBODY[..], &["--workers", "4", "--rate", "1", "--burst", "64"]].concat();
    let registry = Registry::start_with(0, &flags, data.path());
    let clients = 64;
    let mut told_so = [0, 0];
    for n in 0..2 * clients {
        // The system spreads them by their ports; their address is one, and so is its rate.
        let socket = socket([127, 0, 0, 1]);
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let cookie = cookie(&socket, registry.addr);
        match answer(&socket, registry.addr, &register(&format!("id-{n}"), &cookie)) {
            Some(answer) if told(&answer) == Told::Registered => told_so[0] += 1,
            Some(answer) => assert_eq!(told(&answer), Told::Error(Code::SlowDown)),
            None => told_so[1] += 1,
        }
    }
    // A token a second comes back meanwhile.
    assert!((clients..clients + 30).contains(&told_so[0]), "{told_so:?}");
    assert!(told_so[1] > 0, "{told_so:?}");
}
