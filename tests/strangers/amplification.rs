//! An unproven source is never sent more than three times what came from it; hit7's own client never
//! more than what it sent (RFC 9000 §8).

use std::time::Duration;

use hit7::cookie::NO_COOKIE;
use hit7::proto::{Ack, Leave, Query, Request};

use crate::registry::Registry;
use crate::wire::{TRUST_NOBODY, first_register, receive, socket};

/// Each request, as short as it can be and as hit7's client sends it.
fn requests() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let (id, seq) = (Some("0123456789a".parse().unwrap()), Some(1));
    let zeros = || Some(NO_COOKIE.to_owned());
    let leave = Leave { id: id.clone(), seq, cookie: zeros(), mac: None };
    let query = Query { id: id.clone(), seq, cookie: zeros(), ..Query::default() };
    let (window, pass) = ("2026-11-23T11:29:00Z".parse().unwrap(), "x".parse().unwrap());
    let ack = Ack { id, window, pass };
    vec![
        ("REGISTER", br#"{"type":"REGISTER"}"#.to_vec(), first_register().encode()),
        ("LEAVE", br#"{"type":"LEAVE"}"#.to_vec(), Request::Leave(leave).encode()),
        ("QUERY", br#"{"type":"QUERY"}"#.to_vec(), Request::Query(query).encode()),
        ("ACK", br#"{"type":"ACK"}"#.to_vec(), Request::Ack(ack).encode()),
        ("no type", b"{}".to_vec(), b"hello".to_vec()),
    ]
}

/// Bytes in, and all that comes back within a while.
fn measured(registry: &Registry, datagram: &[u8]) -> (usize, usize) {
    let socket = socket([127, 0, 0, 1]);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(datagram, registry.addr).unwrap();
    let out = std::iter::from_fn(|| receive(&socket)).map(|answer| answer.len()).sum();
    (datagram.len(), out)
}

#[test]
fn no_request_of_a_stranger_is_amplified() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start_with(0, &TRUST_NOBODY, data.path());
    println!("request   least in  out   ratio   client in  out   ratio");
    for (name, least, own) in requests() {
        let ((least_in, least_out), (own_in, own_out)) =
            (measured(&registry, &least), measured(&registry, &own));
        let ratio = |into, out| f64::from(out as u32) / f64::from(into as u32);
        let (least_ratio, own_ratio) = (ratio(least_in, least_out), ratio(own_in, own_out));
        println!(
            "{name:<9} {least_in:>8} {least_out:>4} {least_ratio:>7.2} {own_in:>11} {own_out:>4} {own_ratio:>7.2}"
        );
        assert!(least_ratio <= 3.0 && own_ratio <= 1.0, "{name}");
        assert_eq!(least_out > 0, name == "REGISTER" || name == "LEAVE" || name == "QUERY");
    }
}
