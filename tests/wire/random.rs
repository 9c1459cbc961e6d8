//! Random datagrams survive decoding and encoding unchanged, and no input makes the decoder panic.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hit7::proto::{Code, Datagram, Envelope, MAX_DATAGRAM, Name, Room, SEQ_END};
use hit7::window::{Length, Wall};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::samples::{bare, full};

fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), 1u16..).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn private_addr() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 2]>(), 1u16..)
        .prop_map(|([high, low], port)| SocketAddr::from(([192, 168, high, low], port)));
    let v6 = (any::<[u16; 7]>(), 1u16..).prop_map(|([b, c, d, e, f, g, h], port)| {
        SocketAddr::from(([0xfd00, b, c, d, e, f, g, h], port))
    });
    prop_oneof![v4, v6]
}

/// Generates up to eight entries of a list, each with one or two addresses.
fn peers() -> impl Strategy<Value = Vec<String>> {
    let entry = (addr(), prop::option::of(addr())).prop_map(|(addr, lan)| match lan {
        Some(lan) => format!("{addr} {lan}"),
        None => addr.to_string(),
    });
    prop::collection::vec(entry, 0..8)
}

fn text(regex: &str, most: usize) -> BoxedStrategy<Value> {
    let fits = move |text: &String| text.len() <= most;
    let texts = proptest::string::string_regex(regex).unwrap();
    texts.prop_filter("too long", fits).prop_map(Value::from).boxed()
}

/// Generates rooms or names, as they are once they have been read.
fn words<T: FromStr + Display>(regex: &str) -> BoxedStrategy<Value> {
    let texts = proptest::string::string_regex(regex).unwrap();
    let read = |text: String| text.parse::<T>().ok().map(|it| it.to_string().into());
    texts.prop_filter_map("a valid text", read).boxed()
}

fn window() -> impl Strategy<Value = String> {
    let second = Length::new(Duration::from_secs(1)).unwrap();
    any::<i64>().prop_map(move |at| second.window_at(Wall::from_millis(at >> 16)).to_string())
}

/// Generates valid values of a field; for a key that is not listed here, the sample's value.
fn values(key: &str, sample: &Value) -> BoxedStrategy<Value> {
    match key {
        "id" | "pass" => text("[0-9A-Za-z_-]{1,32}", 32),
        "room" => words::<Room>(r"[\p{L}\p{M}\p{Nd}._-]{1,9}"),
        "name" => words::<Name>(r"[\p{L}\p{M}\p{Nd}._'-]{1,5}( [\p{L}']{1,5})?"),
        "text" => text(r#"(\PC|["\\]){0,200}"#, 500),
        "cookie" | "mac" | "reason" => text(".{0,50}", 200),
        "seq" => (0..SEQ_END).prop_map(Value::from).boxed(),
        "count" => any::<u32>().prop_map(Value::from).boxed(),
        "part" => (0..3u32).prop_map(Value::from).boxed(),
        key if key.ends_with("_ms") => (0..100_000_000u64).prop_map(Value::from).boxed(),
        "code" => select(Code::ALL).prop_map(|code| code.name().into()).boxed(),
        "window" => window().prop_map(Value::from).boxed(),
        "you" | "as" => addr().prop_map(|addr| addr.to_string().into()).boxed(),
        "lan" => private_addr().prop_map(|addr| addr.to_string().into()).boxed(),
        "peers" => peers().prop_map(Value::from).boxed(),
        _ => match sample {
            Value::Object(inner) => object(inner, inner).prop_map(Value::from).boxed(),
            other => Just(other.clone()).boxed(),
        },
    }
}

/// Generates objects with the fields of `full`; those that `bare` lacks may be left out.
fn object(
    full: &Map<String, Value>,
    bare: &Map<String, Value>,
) -> BoxedStrategy<Map<String, Value>> {
    let field = |(key, sample): (&String, &Value)| {
        let (key, must) = (key.clone(), bare.contains_key(key));
        let value = (values(&key, sample), any::<bool>());
        value.prop_map(move |(value, given)| (must || given).then(|| (key.clone(), value)))
    };
    let fields: Vec<_> = full.iter().map(field).collect();
    fields.prop_map(|fields| fields.into_iter().flatten().collect()).boxed()
}

/// Generates a datagram of any type, as a JSON object.
fn datagram() -> impl Strategy<Value = Map<String, Value>> {
    let parsed = |(_, text): (_, &str)| serde_json::from_str(text).unwrap();
    let samples: Vec<(Map<_, _>, Map<_, _>)> =
        full().into_iter().map(parsed).zip(bare().into_iter().map(parsed)).collect();
    let each = samples.iter().map(|(full, bare)| object(full, bare)).collect::<Vec<_>>();
    proptest::strategy::Union::new(each)
}

/// Decodes bytes in every way that the program does with a received datagram.
fn read(bytes: &[u8]) {
    let _ = Datagram::decode(bytes);
    if let Ok(envelope) = Envelope::open(bytes) {
        let _ = (envelope.kind(), envelope.seq(), envelope.cookie(), envelope.mac());
        let _ = (envelope.request(), envelope.ack(), envelope.signed_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_read_is_written_again_as_it_was(object in datagram()) {
        let text = serde_json::to_string(&object).unwrap();
        prop_assume!(text.len() <= MAX_DATAGRAM);
        let datagram = Datagram::decode(text.as_bytes());
        prop_assert!(datagram.is_ok(), "{:?}: {}", datagram, text);
        let written = datagram.unwrap().encode();
        prop_assert_eq!(serde_json::from_slice::<Map<String, Value>>(&written).unwrap(), object);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        read(&bytes);
    }

    #[test]
    fn no_json_like_text_makes_the_decoder_panic(text in r#"(\{|\}|\[|\]|,|:|"type"|"REGISTER"|"QUERY"|"seq"|"id"|"peers"|"current"|"\\|-?[0-9]{1,20}|null| ){0,60}"#) {
        read(text.as_bytes());
    }

    #[test]
    fn no_damaged_datagram_makes_the_decoder_panic(
        which in 0..full().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = full()[which].1.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        read(&bytes);
    }
}
