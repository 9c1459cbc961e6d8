//! Tests `hit7 peers`, which lists the members of the current window.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hit7_support::{Registry, UdpClient, assert_has, has_ipv6, keys, text};
use serde_json::{Value, json};

use crate::{HIT7, silent_registry};

/// Registers `count` clients for one window and waits until it opens; returns both.
fn fill(registry: &Registry, count: usize) -> (Vec<UdpClient>, String) {
    let members: Vec<UdpClient> = (0..count).map(|_| registry.client()).collect();
    loop {
        let windows: Vec<String> = members.iter().map(UdpClient::register).collect();
        if windows.iter().all(|window| *window == windows[0]) {
            while text(&members[0].receive_type("WINDOW")["window"]) != windows[0] {}
            return (members, windows.into_iter().next().unwrap());
        }
    }
}

/// Answers come from 127.0.0.1, also if the address was given as `::ffff:127.0.0.1`.
#[test]
fn a_mapped_address_is_ipv4() {
    let registry = HIT7.serve(&[]);
    if has_ipv6() {
        HIT7.run(&["peers", "::ffff:127.0.0.1", &registry.port()]).succeeded();
    }
}

#[test]
fn as_text_and_as_json_all_pages() {
    let registry = HIT7.serve(&["--window", "3s"]);
    let (members, window) = fill(&registry, 100);
    let lines = registry.peers(&["--json"]).succeeded();
    assert_eq!((lines.len(), keys(&lines[0]).as_str()), (1, "room window count peers"));
    let roster: Value = serde_json::from_str(&lines[0]).unwrap();
    let head = (text(&roster["room"]), text(&roster["window"]), &roster["count"]);
    assert_eq!(head, ("main".into(), window.clone(), &100.into()));
    let mut expected: Vec<String> = members.iter().map(UdpClient::addr).collect();
    expected.sort_by_key(|addr| addr.parse::<std::net::SocketAddr>().unwrap());
    let listed: Vec<String> = roster["peers"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(listed, expected);
    let lines = registry.peers(&[]).succeeded();
    assert_eq!(lines[0], format!("window {window}  100 members in room main"));
    assert_eq!(lines[1..], expected);
}

#[test]
fn nobody_is_no_error() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let lines = registry.peers(&["--room", "lab"]).succeeded();
    assert_eq!(lines.len(), 1);
    assert_has(&lines[0], &["0 members in room lab"]);
    let lines = registry.peers(&["--room", "lab", "--json"]).succeeded();
    assert_has(&lines[0], &[r#"{"room":"lab","window":""#, r#""count":0,"peers":[]}"#]);
}

#[test]
fn a_registry_that_does_not_answer_is_reported_in_time() {
    let (_silent, port) = silent_registry();
    let exit = HIT7.run(&["peers", "127.0.0.1", &port, "--timeout", "300ms"]);
    exit.failed(1, &["no registry answered", &format!("127.0.0.1:{port}"), "300ms"]);
}

#[test]
fn a_link_local_address_without_its_interface_is_told_at_once() {
    // Not after the 5 s that a registry has to answer.
    let exit = HIT7.run(&["peers", "fe80::1", "9", "--timeout", "1day"]);
    exit.failed(1, &["cannot send to fe80::1", "fe80::1%eth0"]);
}

#[test]
fn a_registry_that_refuses_for_now_is_no_silent_one_and_asked_when_it_says() {
    let (registry, port) = silent_registry();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut request = [0; 1500];
        while let Ok((len, from)) = registry.recv_from(&mut request) {
            let request: Value = serde_json::from_slice(&request[..len]).unwrap();
            // That which asks the network why nobody answers has no seq.
            count.fetch_add(usize::from(!request["seq"].is_null()), Relaxed);
            let refusal = json!({"type": "ERROR", "seq": request["seq"], "code": "slow_down",
                "reason": "too often", "retry_in_ms": 30_000});
            registry.send_to(refusal.to_string().as_bytes(), from).unwrap();
        }
    });
    let exit = HIT7.run(&["peers", "127.0.0.1", &port, "--timeout", "5s"]);
    exit.failed(1, &["the registry refused (slow_down): too often"]);
    assert_eq!(asked.load(Relaxed), 1);
    let mut watcher = HIT7.start(&["watch", "127.0.0.1", &port, "--timeout", "1s"]);
    assert_has(&watcher.error_line(), &["refused for now (slow_down): too often"]);
}
