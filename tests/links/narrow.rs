//! Links that take only short datagrams, also beyond a router: the registry's longer ones must arrive
//! all the same, in fragments.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::client::{Client, opens, read};
use crate::lab::Lab;
use crate::registry::Registry;
use crate::vanished::{listen, register};

/// Makes the registry's host `reg`, and the members' host `far` on the same narrow link.
fn narrow_link() -> Option<Lab> {
    let lab = Lab::new(&["reg", "far"])?;
    lab.cable(["reg", "eth0"], ["far", "eth0"]);
    lab.ip("reg", "link set eth0 mtu 1000\naddr add 10.77.0.1/16 dev eth0");
    lab.ip("far", "link set eth0 mtu 1000\nroute add 10.77.0.1 dev eth0");
    Some(lab)
}

/// Makes the same two hosts with a router between them; only the router's link to `far` is narrow. What
/// is too long for that link and must not be fragmented, the router drops without a word (no ICMP).
fn narrow_link_beyond_a_router() -> Option<Lab> {
    let lab = Lab::new(&["reg", "router", "far"])?;
    lab.cable(["reg", "eth0"], ["router", "to-reg"]);
    lab.cable(["router", "to-far"], ["far", "eth0"]);
    lab.ip("router", "link set to-far mtu 1000\naddr add 10.77.0.254/24 dev to-reg");
    lab.ip("router", "route add 10.77.1.0/24 dev to-far\nrule add ipproto icmp blackhole");
    lab.at("router", || fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    lab.ip("reg", "addr add 10.77.0.1/24 dev eth0\nroute add default via 10.77.0.254");
    lab.ip("far", "link set eth0 mtu 1000\nroute add 10.77.0.254 dev eth0");
    lab.ip("far", "route add default via 10.77.0.254");
    Some(lab)
}

/// Returns the parts of the window's list that came, and how many there are.
fn parts(came: &[(Instant, Vec<u8>)], window: &str) -> (BTreeSet<u64>, u64) {
    let read = came.iter().map(|(_, datagram)| read(datagram));
    let lists = read.filter(|it| it["type"] == "WINDOW" && it["window"] == window);
    let lists: Vec<Value> = lists.collect();
    let count = lists.first().map_or(1, |list| list["parts"].as_u64().unwrap());
    (lists.iter().map(|list| list["part"].as_u64().unwrap()).collect(), count)
}

/// Registers as many members on `far`, and fails unless each gets the whole list, and is then answered
/// with its first page. A part that was lost is asked for once more, as the program does.
fn all_are_told(lab: Option<Lab>, members: u8) {
    let Some(lab) = lab else { return };
    let own = |host: u8| format!("addr add 10.77.1.{host}/32 dev eth0\n");
    lab.ip("far", &(1..=members).map(own).collect::<String>());
    let registry = Registry::start(&lab, "reg", &["--window", "7s"]);
    let to = SocketAddr::from(([10, 77, 0, 1], registry.port));
    let client = |host: u8| Client::new([10, 77, 1, host].into(), to);
    let mut clients: Vec<Client> = lab.at("far", || (1..=members).map(client).collect());
    let window = register(&mut clients);
    let came = listen(&clients, opens(&window));
    let mut lost = 0;
    for (client, came) in clients.iter_mut().zip(&came) {
        client.socket.set_nonblocking(false).unwrap();
        let (had, count) = parts(came, &window);
        assert!(!had.is_empty(), "nothing came to one of {members}");
        for part in (0..count).filter(|part| !had.contains(part)) {
            lost += 1;
            assert!(client.query(part).is_some(), "part {part} of {count} never comes");
        }
    }
    println!("{members} members had their lists, {lost} parts by asking");
    assert!(clients[0].register(|_| {}).is_some(), "its answer has members of the window");
}

/// Tells a room of 61 members, and at the same time in another lab one of 200.
fn few_and_many_are_told(lab: fn() -> Option<Lab>) {
    thread::scope(|scope| {
        for members in [61, 200] {
            scope.spawn(move || all_are_told(lab(), members));
        }
    });
}

#[test]
fn all_members_on_a_narrow_link_are_told() {
    few_and_many_are_told(narrow_link);
}

#[test]
fn all_members_on_a_narrow_link_beyond_a_router_are_told() {
    few_and_many_are_told(narrow_link_beyond_a_router);
}
