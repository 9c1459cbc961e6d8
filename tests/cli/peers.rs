//! Who is in the current window.

use std::net::UdpSocket;

use serde_json::Value;

use crate::support::{Home, Netcat, Registry, has_ipv6, keys, run, says, text};

/// So many members of one window, which has opened when this returns; and its name.
fn fill(registry: &Registry, count: usize) -> (Vec<Netcat>, String) {
    let members: Vec<Netcat> = (0..count).map(|_| Netcat::to(registry.addr)).collect();
    loop {
        let windows: Vec<String> = members.iter().map(Netcat::register).collect();
        if windows.iter().all(|window| *window == windows[0]) {
            while text(&members[0].hear_type("WINDOW")["window"]) != windows[0] {}
            return (members, windows.into_iter().next().unwrap());
        }
    }
}

/// Answers come from 127.0.0.1, however that was written.
#[test]
fn a_mapped_address_is_ipv4() {
    let home = Home::new();
    let registry = home.serve(&[]);
    if has_ipv6() {
        run(&["peers", "::ffff:127.0.0.1", &registry.port()]).succeeded();
    }
}

#[test]
fn as_text_and_as_json_all_pages() {
    let home = Home::new();
    let registry = home.serve(&["--window", "3s"]);
    let (members, window) = fill(&registry, 100);
    let lines = registry.peers(&["--json"]).succeeded();
    assert_eq!((lines.len(), keys(&lines[0]).as_str()), (1, "room window count peers"));
    let roster: Value = serde_json::from_str(&lines[0]).unwrap();
    let head = (text(&roster["room"]), text(&roster["window"]), &roster["count"]);
    assert_eq!(head, ("main".into(), window.clone(), &100.into()));
    let mut expected: Vec<String> = members.iter().map(Netcat::addr).collect();
    expected.sort_by_key(|addr| addr.parse::<std::net::SocketAddr>().unwrap());
    let listed: Vec<String> = roster["peers"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(listed, expected);
    let lines = registry.peers(&[]).succeeded();
    assert_eq!(lines[0], format!("window {window}  room main  100 members"));
    assert_eq!(lines[1..], expected);
}

#[test]
fn nobody_is_no_error() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1day"]);
    let lines = registry.peers(&["--room", "lab"]).succeeded();
    assert_eq!(lines.len(), 1);
    says(&lines[0], &["room lab  0 members"]);
    let lines = registry.peers(&["--room", "lab", "--json"]).succeeded();
    says(&lines[0], &[r#"{"room":"lab","window":""#, r#""count":0,"peers":[]}"#]);
}

#[test]
fn no_registry_is_told_in_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let port = addr.port().to_string();
    let ended = run(&["peers", "127.0.0.1", &port, "--timeout", "300ms"]);
    ended.failed(1, &["no registry answered", &addr.to_string(), "300ms"]);
}
