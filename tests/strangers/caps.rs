//! A source that registers ever more rooms and names from one address is stopped by the caps, and
//! other sources are not affected.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hit7::proto::{Auth, Code, Profile, Request};

use hit7_support::{Registry, until};

use crate::HIT7;
use crate::wire::{Reply, TRUST_NOBODY, answer, cookie, metric, receive, register, reply, socket};

/// Sends a REGISTER; returns whether it was accepted, and not refused as `full`.
fn is_taken(registry: &Registry, socket: &UdpSocket, register: &[u8]) -> bool {
    match reply(socket, registry.addr, register) {
        Reply::Registered => true,
        Reply::Error(Code::Full) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ten_thousand_rooms_and_names_from_one_address_are_held_at_its_caps() {
    let caps = ["--max-per-ip", "20", "--rate", "0", "--http", "127.0.0.1:0"];
    let registry = HIT7.serve(&[&TRUST_NOBODY[..], &caps].concat());
    let sockets: Vec<UdpSocket> = (0..50).map(|_| socket([127, 0, 0, 1])).collect();
    let cookies = sockets.iter().map(|socket| cookie(socket, registry.addr)).collect::<Vec<_>>();
    let (mut taken, mut full) = (0, 0);
    for (client, (socket, cookie)) in sockets.iter().zip(&cookies).enumerate() {
        for n in 0..200 {
            let (room, name) = (format!("room-{client}-{n}"), format!("name-{client}-{n}"));
            let id = format!("client-{client}").parse().ok();
            let (room, name) = (room.parse().unwrap(), name.parse().ok());
            let request = Request::register(id, Some(n), Profile { room, name, lan: None });
            let register = request.encode(&Auth::with_cookie(cookie));
            match is_taken(&registry, socket, &register) {
                true => taken += 1,
                false => full += 1,
            }
        }
    }
    // Twenty sockets are members, as an address has one registration, the latest.
    println!("10,000 rooms and names: {full} were refused as full, 20 stand");
    assert_eq!((taken, full), (20 * 200, 30 * 200));
    assert_eq!(metric(&registry, "hit7_next_window_members"), 20);
    // Ids do not help either: four are remembered for each member that the cap allows.
    let (socket, cookie) = (&sockets[0], &cookies[0]);
    let new = |k: &u32| is_taken(&registry, socket, &register(&format!("new-{k}"), cookie));
    assert_eq!((0..500).filter(new).count(), 3 * 20);
    others_are_not_affected(&registry);
}

fn others_are_not_affected(registry: &Registry) {
    for k in 0..20 {
        let other = socket([127, 0, 0, 9]);
        let cookie = cookie(&other, registry.addr);
        assert!(is_taken(registry, &other, &register(&format!("other-{k}"), &cookie)));
    }
}

#[test]
fn who_asks_too_often_is_told_to_slow_down_once_a_second() {
    let flags = [&TRUST_NOBODY[..], &["--rate", "1", "--burst", "5"]].concat();
    let registry = HIT7.serve(&flags);
    let fast = socket([127, 0, 0, 1]);
    let fast_cookie = cookie(&fast, registry.addr);
    let ask = register("fast", &fast_cookie);
    for _ in 0..100 {
        fast.send_to(&ask, registry.addr).unwrap();
    }
    let first = receive(&fast);
    fast.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answers = first.into_iter().chain(std::iter::from_fn(|| receive(&fast)));
    let answers: Vec<Reply> = answers.map(|answer| Reply::of(&answer)).collect();
    let slow_downs = answers.iter().filter(|reply| **reply == Reply::Error(Code::SlowDown)).count();
    assert!((1..=2).contains(&slow_downs), "{answers:?}");
    assert!(answers.len() <= 8, "{answers:?}");
    let other = socket([127, 0, 0, 9]);
    let other_cookie = cookie(&other, registry.addr);
    let other = answer(&other, registry.addr, &register("other", &other_cookie));
    assert_eq!(Reply::of(&other.unwrap()), Reply::Registered);
}

#[test]
fn more_workers_are_one_registry_with_one_rate() {
    let flags = [&TRUST_NOBODY[..], &["--workers", "4", "--rate", "1", "--burst", "32"]].concat();
    let registry = HIT7.serve(&flags);
    let (clients, begun) = (32, Instant::now());
    let mut counts = [0, 0];
    for n in 0..2 * clients {
        // The kernel spreads the clients over workers by port, but one address has one rate.
        let socket = socket([127, 0, 0, 1]);
        let cookie = cookie(&socket, registry.addr);
        if n >= clients {
            // Most of these are not answered at all.
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        match answer(&socket, registry.addr, &register(&format!("id-{n}"), &cookie)) {
            Some(answer) if Reply::of(&answer) == Reply::Registered => counts[0] += 1,
            Some(answer) => assert_eq!(Reply::of(&answer), Reply::Error(Code::SlowDown)),
            None => counts[1] += 1,
        }
    }
    // A token a second comes back meanwhile.
    let seconds = begun.elapsed().as_secs() + 1;
    assert!((clients..=clients + seconds).contains(&counts[0]), "{counts:?} in {seconds} s");
    assert!(counts[1] > 0, "{counts:?}");
}

#[test]
fn all_members_behind_one_address_leave_at_the_same_moment() {
    let flags = ["--max-per-ip", "300", "--http", "127.0.0.1:0"];
    let registry = HIT7.serve(&[&TRUST_NOBODY[..], &flags].concat());
    let members: Vec<(UdpSocket, String)> = (0..300)
        .map(|_| {
            let socket = socket([127, 0, 0, 1]);
            let cookie = cookie(&socket, registry.addr);
            (socket, cookie)
        })
        .collect();
    let id = |n: usize| format!("id-{n}").parse().ok();
    for (n, (socket, cookie)) in members.iter().enumerate() {
        assert!(is_taken(&registry, socket, &register(&format!("id-{n}"), cookie)));
    }
    let has_members =
        |count| (metric(&registry, "hit7_next_window_members") == count).then_some(());
    until("all are members", || has_members(300));
    // The address has used up its rate of other requests.
    let (busy, cookie) = &members[0];
    while is_registered_once_more(&registry, busy, cookie) {}
    let leave = |(n, (socket, cookie)): (usize, &(UdpSocket, String))| {
        let leave = Request::leave(id(n), Some(2)).encode(&Auth::with_cookie(cookie));
        socket.send_to(&leave, registry.addr).unwrap();
    };
    members.iter().enumerate().for_each(leave);
    until("all have left", || has_members(0));
}

/// Sends a retry of REGISTER; returns whether it was within the rate.
fn is_registered_once_more(registry: &Registry, socket: &UdpSocket, cookie: &str) -> bool {
    reply(socket, registry.addr, &register("id-0", cookie)) == Reply::Registered
}
