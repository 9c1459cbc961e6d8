//! No datagram with a list is longer than 1200 bytes, whatever its fields hold.

use std::net::SocketAddr;

use hit7::proto::{
    Current, Datagram, Id, MAX_DATAGRAM, MAX_LIST, Opened, Page, Pass, Peers, Registered, Room,
    SEQ_END,
};
use hit7::window::Window;

fn id() -> Option<Id> {
    Some("x".repeat(32).parse().unwrap())
}

fn room() -> Room {
    "日本語日本語日本語日xx".parse().unwrap()
}

fn window() -> Window {
    "9999-12-31T23:59:59Z".parse().unwrap()
}

fn you() -> SocketAddr {
    "[2001:db80:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap()
}

/// 22 characters: what a registry makes.
fn pass() -> Pass {
    "x".repeat(22).parse().unwrap()
}

/// A million peers are 7 digits; 101 MB of text are 5 digits of pages and a bit, were each full.
fn page(peers: &str) -> Page<'_> {
    Page { part: 99_998, parts: 99_999, count: 1_000_000, peers }
}

fn registered(peers: &str) -> Vec<u8> {
    let (window, page) = (window(), page(peers));
    Datagram::Registered(Registered {
        id: id(),
        seq: Some(SEQ_END - 1),
        room: room(),
        window,
        opens_in_ms: u64::MAX,
        window_ms: u64::MAX,
        you: you(),
        current: Current { window, closes_in_ms: u64::MAX, page },
    })
    .encode()
}

fn peers(peers: &str) -> Vec<u8> {
    Datagram::Peers(Peers {
        id: id(),
        seq: Some(SEQ_END - 1),
        room: room(),
        window: window(),
        closes_in_ms: u64::MAX,
        you: Some(you()),
        pass: Some(pass()),
        page: page(peers),
    })
    .encode()
}

fn opened(peers: &str) -> Vec<u8> {
    Datagram::Window(Opened {
        id: id(),
        room: room(),
        window: window(),
        closes_in_ms: u64::MAX,
        you: you(),
        pass: pass(),
        page: page(peers),
    })
    .encode()
}

#[test]
fn the_longest_room_fills_its_limit() {
    assert_eq!(room().as_str().len(), 32);
}

#[test]
fn the_longest_head_is_376_bytes() {
    let head = |datagram: Vec<u8>, tail: &str| {
        let text = String::from_utf8(datagram).unwrap();
        text.strip_suffix(tail).unwrap().len()
    };
    assert_eq!(head(registered(""), "[]}}"), 376);
    assert!(head(peers(""), "[]}") <= 376);
    assert!(head(opened(""), "[]}") <= 376);
}

#[test]
fn a_full_list_fits_in_every_message() {
    let entry = r#""203.0.113.9:65535","#;
    let list = &entry.repeat(MAX_LIST / entry.len() + 1)[..];
    // Cut to the byte: only the length counts here.
    let list = &list[..MAX_LIST];
    assert_eq!(registered(list).len(), MAX_DATAGRAM);
    assert!(peers(list).len() <= MAX_DATAGRAM);
    assert!(opened(list).len() <= MAX_DATAGRAM);
}
