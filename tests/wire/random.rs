//! What is written can be read again, and no input makes the decoder panic.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hit7::proto::{
    Ack, Auth, Candidate, Challenge, Code, Current, Datagram, Envelope, Greet, Greeted, Id, Left,
    Listing, MAX_DATAGRAM, Name, Opened, Pass, Peers, Profile, Refusal, Registered, Request,
    RequestKind, Room, SEQ_END, Text,
};
use hit7::window::{Length, Wall, Window};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::samples::full;

/// Strategies for the fields, each within its limits.
fn id() -> impl Strategy<Value = Id> {
    "[0-9A-Za-z_-]{1,32}".prop_map(|text| text.parse().unwrap())
}

fn pass() -> impl Strategy<Value = Pass> {
    "[0-9A-Za-z_-]{22}".prop_map(|text| text.parse().unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    r"[\p{L}\p{Nd}._-]{1,32}".prop_filter_map("too long", |text| text.parse().ok())
}

fn room() -> impl Strategy<Value = Room> {
    r"[\p{L}\p{Nd}._-]{1,10}".prop_filter_map("too long", |text| text.parse().ok())
}

fn text() -> impl Strategy<Value = Text> {
    r#"(\PC|["\\]){0,200}"#.prop_filter_map("too long", |text| text.parse().ok())
}

fn seq() -> impl Strategy<Value = u64> {
    0..SEQ_END
}

fn ms() -> impl Strategy<Value = u64> {
    0..100_000_000u64
}

fn window() -> impl Strategy<Value = Window> {
    let second = Length::new(Duration::from_secs(1)).unwrap();
    any::<i64>().prop_map(move |millis| second.window_at(Wall::from_millis(millis >> 16)))
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), 1u16..).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn lan() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<u16>(), 1u16..).prop_map(|(host, port)| {
        let [high, low] = host.to_be_bytes();
        SocketAddr::from(([192, 168, high, low], port))
    });
    let v6 = (any::<[u16; 7]>(), 1u16..).prop_map(|([b, c, d, e, f, g, h], port)| {
        SocketAddr::from(([0xfd00, b, c, d, e, f, g, h], port))
    });
    prop_oneof![v4, v6]
}

/// A cookie, which is any text to a client.
fn cookie() -> impl Strategy<Value = String> {
    ".{0,64}"
}

/// A cookie and a MAC, as a client sends them.
fn auth() -> impl Strategy<Value = Auth> {
    (option::of(cookie()), option::of(".{0,32}")).prop_map(|(cookie, mac)| Auth { cookie, mac })
}

/// What a client may ask for.
fn kind() -> impl Strategy<Value = RequestKind> {
    let profile = (room(), option::of(name()), option::of(lan()))
        .prop_map(|(room, name, lan)| RequestKind::Register(Profile { room, name, lan }));
    let query = (room(), any::<u32>()).prop_map(|(room, part)| RequestKind::Query { room, part });
    prop_oneof![profile, Just(RequestKind::Leave), query]
}

/// A list, and the number of one of its pages.
fn list() -> impl Strategy<Value = (Listing, u32)> {
    let candidate = (addr(), option::of(addr())).prop_map(|(addr, lan)| Candidate { addr, lan });
    (prop::collection::vec(candidate, 0..60), any::<u32>()).prop_map(|(peers, part)| {
        let listing = Listing::render(peers);
        let part = part % listing.parts();
        (listing, part)
    })
}

/// Any datagram of a type without a list.
fn plain() -> impl Strategy<Value = Datagram<'static>> {
    prop_oneof![
        (option::of(id()), option::of(seq()), kind(), auth()).prop_map(|(id, seq, kind, auth)| {
            Datagram::Request(Request { id, seq, kind }, auth)
        }),
        (option::of(id()), window(), pass()).prop_map(|(id, window, pass)| Datagram::Ack(Ack {
            id,
            window,
            pass
        })),
        (option::of(seq()), cookie())
            .prop_map(|(seq, cookie)| Datagram::Challenge(Challenge { seq, cookie })),
        (option::of(id()), option::of(seq()), window())
            .prop_map(|(id, seq, window)| Datagram::Left(Left { id, seq, window })),
        (option::of(seq()), select(Code::ALL), ".{0,100}", option::of(ms())).prop_map(
            |(seq, code, reason, retry_in_ms)| {
                Datagram::Error(Refusal { seq, code, reason, retry_in_ms })
            }
        ),
        (room(), window(), pass(), seq(), addr(), option::of(name()), option::of(text())).prop_map(
            |(room, window, pass, seq, from, name, text)| {
                Datagram::Greet(Greet { room, window, pass, seq, from, name, text })
            }
        ),
        (room(), window(), seq(), addr(), option::of(name())).prop_map(
            |(room, window, seq, from, name)| {
                Datagram::Greeted(Greeted { room, window, seq, from, name })
            }
        ),
    ]
}

fn check_round_trip(datagram: &Datagram<'_>) -> Result<(), TestCaseError> {
    let bytes = datagram.encode();
    prop_assert!(bytes.len() <= MAX_DATAGRAM);
    let decoded = Datagram::decode(&bytes);
    prop_assert_eq!(decoded.as_ref(), Ok(datagram));
    Ok(())
}

/// Does all that is ever done with received bytes.
fn read(bytes: &[u8]) {
    let _ = Datagram::decode(bytes);
    if let Ok(envelope) = Envelope::open(bytes) {
        let _ = (envelope.kind(), envelope.seq(), envelope.cookie(), envelope.mac());
        let _ = (envelope.request(), envelope.signed_bytes());
    }
}

proptest! {
    #[test]
    fn what_is_written_can_be_read_again(datagram in plain()) {
        check_round_trip(&datagram)?;
    }

    #[test]
    fn what_is_written_with_a_list_can_be_read_again(
        (id, seq, room, window) in (option::of(id()), option::of(seq()), room(), window()),
        (opens_in_ms, window_ms, closes_in_ms) in (ms(), ms(), ms()),
        (you, pass, stranger) in (addr(), pass(), any::<bool>()),
        (listing, part) in list(),
        count in 0..=1_000_000usize,
    ) {
        let page = listing.page(part, count).unwrap();
        let current = Current { window, closes_in_ms, page: page.clone() };
        check_round_trip(&Datagram::Registered(Registered {
            id: id.clone(), seq, room: room.clone(), window, opens_in_ms, window_ms, you, current,
        }))?;
        let (member_you, member_pass) = if stranger { (None, None) } else { (Some(you), Some(pass.clone())) };
        check_round_trip(&Datagram::Peers(Peers {
            id: id.clone(), seq, room: room.clone(), window, closes_in_ms,
            you: member_you, pass: member_pass, page: page.clone(),
        }))?;
        check_round_trip(&Datagram::Window(Opened { id, room, window, closes_in_ms, you, pass, page }))?;
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
        cut in option::of(any::<prop::sample::Index>()),
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
