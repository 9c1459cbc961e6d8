//! Datagrams are read with fields in any order, unknown fields and white space.

use hit7::proto::{Auth, Datagram, Envelope, MAX_DATAGRAM, Profile, Request};
use serde_json::{Map, Value, json};

use super::samples::{bare, full};

/// Rewrites a datagram with its fields in reverse order, one a line, with unknown ones between.
fn rewritten(text: &str) -> String {
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap();
    let mut entries: Vec<String> =
        fields.iter().rev().map(|(key, value)| format!("{}: {value}", json!(key))).collect();
    entries.insert(1, r#""later" : [{"type": null}, 1e400, "\ud83d\ude00"]"#.to_owned());
    entries.push(r#""x-trace":"","Type":7"#.to_owned());
    format!("{{\n  {}\n}}\n", entries.join(" ,\n\t"))
}

#[test]
fn order_unknown_fields_and_white_space_change_nothing() {
    for (datagram, text) in full().into_iter().chain(bare()) {
        let rewritten = rewritten(text);
        assert_eq!(Datagram::decode(rewritten.as_bytes()), Ok(datagram), "{rewritten}");
    }
}

#[test]
fn padding_changes_nothing_up_to_the_longest_datagram() {
    for (datagram, text) in full() {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(MAX_DATAGRAM, b' ');
        assert_eq!(Datagram::decode(&padded), Ok(datagram));
        padded.push(b'\n');
        assert!(Datagram::decode(&padded).is_err());
    }
}

#[test]
fn rooms_and_names_are_read_as_nfc_and_signed_as_sent() {
    let typed =
        "{\"type\":\"REGISTER\",\"room\":\"cafe\u{301}\",\"name\":\"luci\\u0301a Pe\u{301}rez\"}";
    let expected = Profile {
        room: "café".parse().unwrap(),
        name: Some("lucía Pérez".parse().unwrap()),
        lan: None,
    };
    let expected = Datagram::Request(Request::register(None, None, expected), Auth::NONE);
    assert_eq!(Datagram::decode(typed.as_bytes()).as_ref(), Ok(&expected));
    let signed = |datagram: &[u8]| Envelope::open(datagram).unwrap().signed_bytes();
    let in_nfd = "\0\u{6}cafe\u{301}\0\u{f}luci\u{301}a Pe\u{301}rez";
    assert!(signed(typed.as_bytes()).windows(in_nfd.len()).any(|it| it == in_nfd.as_bytes()));
    assert_ne!(signed(typed.as_bytes()), signed(&expected.encode()));
}

#[test]
fn what_is_typed_into_netcat_is_read() {
    let typed = b"{\"type\":\"REGISTER\",\"name\":\"ana\"}\n";
    let profile = Profile { name: Some("ana".parse().unwrap()), ..Profile::default() };
    let expected = Datagram::Request(Request::register(None, None, profile), Auth::NONE);
    assert_eq!(Datagram::decode(typed), Ok(expected));
}
