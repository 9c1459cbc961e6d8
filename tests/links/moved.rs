//! A client whose host moves to another network: it tells its new private address.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use hit7_support::{DEADLINE, Program};
use serde_json::{Value, json};

use crate::lab::Lab;

/// Reads the next request; returns it, and where it came from.
fn request(registry: &UdpSocket) -> (Value, SocketAddr) {
    let mut datagram = [0; 1500];
    let (len, from) = registry.recv_from(&mut datagram).unwrap();
    (serde_json::from_slice(&datagram[..len]).unwrap(), from)
}

/// Answers a REGISTER: the window opens in a minute, and a keep-alive comes every two seconds.
fn answer(registry: &UdpSocket, (request, from): &(Value, SocketAddr)) {
    let current = json!({"window": "2026-11-23T11:28:52Z", "closes_in_ms": 60_000, "part": 0,
        "parts": 1, "count": 0, "peers": []});
    let answer = json!({"type": "REGISTERED", "id": request["id"], "seq": request["seq"],
        "room": "main", "window": "2026-11-23T11:29:00Z", "opens_in_ms": 60_000,
        "window_ms": 8000, "you": from, "current": current});
    registry.send_to(answer.to_string().as_bytes(), from).unwrap();
}

/// Reads requests up to one with another `seq` than `last`; fails unless it tells the address `ip`.
fn moved_to(registry: &UdpSocket, ip: &str, last: &Value) -> (Value, SocketAddr) {
    let mut requests = std::iter::repeat_with(|| request(registry));
    let new = requests.find(|(it, _)| it["seq"] != last["seq"]).unwrap();
    assert_eq!(new.1.ip().to_string(), ip);
    assert_eq!(new.0["lan"], new.1.to_string(), "{new:?}");
    new
}

#[test]
fn a_client_whose_host_moves_tells_its_new_private_address() {
    let Some(lab) = Lab::new(&["reg", "far"]) else { return };
    lab.cable(["reg", "eth0"], ["far", "eth0"]);
    lab.ip("reg", "addr add 10.77.0.1/16 dev eth0");
    lab.ip("far", "addr add 10.77.0.2/16 dev eth0");
    let registry = lab.at("reg", || UdpSocket::bind("10.77.0.1:0").unwrap());
    registry.set_read_timeout(Some(DEADLINE)).unwrap();
    let port = registry.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hit7"));
    command.args(["join", "10.77.0.1", &port, "--json", "--name", "ana"]);
    let mut ana = lab.at("far", || Program::start(command));
    let first = moved_to(&registry, "10.77.0.2", &Value::Null);
    answer(&registry, &first);
    ana.event("registered");
    // While it sleeps.
    ana.signal("STOP");
    lab.ip("far", "addr del 10.77.0.2/16 dev eth0\naddr add 10.77.0.3/16 dev eth0");
    thread::sleep(Duration::from_millis(2500));
    ana.signal("CONT");
    let second = moved_to(&registry, "10.77.0.3", &first.0);
    // While it is awake: it looks when it is registered.
    lab.ip(
        "far",
        "addr add 10.77.0.4/16 dev eth0\nroute replace 10.77.0.0/16 dev eth0 src 10.77.0.4",
    );
    answer(&registry, &second);
    moved_to(&registry, "10.77.0.4", &second.0);
}
