//! No datagram with a list is longer than 1232 bytes, with any values in its fields.

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

/// Returns a pass of 22 characters, as a registry makes it.
fn pass() -> Pass {
    "x".repeat(22).parse().unwrap()
}

/// Returns a page with the longest numbers: of a room with a hundred million members.
fn page(peers: &str) -> Page<'_> {
    Page { part: 9_999_998, parts: 9_999_999, count: 99_999_999, peers }
}

fn registered(peers: &str) -> Vec<u8> {
    // A REGISTERED has the first page only.
    let (window, page) = (window(), Page { part: 0, ..page(peers) });
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
fn the_room_of_this_test_has_the_most_bytes() {
    assert_eq!(room().as_str().len(), 32);
}

#[test]
fn around_a_list_there_are_at_most_379_of_412_bytes() {
    assert_eq!(registered("").len(), 379);
    assert!(peers("").len() <= 379);
    assert!(opened("").len() <= 379);
    assert_eq!(MAX_DATAGRAM - MAX_LIST, 412);
}

#[test]
fn a_full_list_fits_in_every_message() {
    let entry = r#""203.0.113.9:65535","#;
    let list = &entry.repeat(MAX_LIST / entry.len() + 1)[..];
    // Cut anywhere: only the length matters here.
    let list = &list[..MAX_LIST];
    assert!(registered(list).len() <= MAX_DATAGRAM);
    assert!(peers(list).len() <= MAX_DATAGRAM);
    assert!(opened(list).len() <= MAX_DATAGRAM);
}
