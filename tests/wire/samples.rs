//! Sample datagrams with their encoding: one of each type with all fields, one without the optional
//! fields.

use hit7::proto::{
    Ack, Auth, Challenge, Code, Current, Datagram, Greet, Greeted, Left, Opened, Page, Peers,
    Profile, Refusal, Registered, Request, Room,
};

fn read<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn some<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Option<T> {
    Some(read(text))
}

const WINDOW: &str = "2026-11-23T11:29:00Z";
const BEFORE: &str = "2026-11-23T11:28:00Z";
const PASS: &str = "5bLnNUgqDubYOqcD6DbF-g";
const ANA: &str = "203.0.113.9:40112";
const COOKIE: &str = "awQjfGkU0tbP4drN";
const MAC: &str = "Zx3yQ0fJH1cV8aLw2kT9-g";
const PEERS: &str = r#""203.0.113.9:40112 192.168.1.7:40112","[2001:db8::1]:5000""#;

fn page() -> Page<'static> {
    Page { part: 1, parts: 3, count: 90, peers: PEERS }
}

fn no_page() -> Page<'static> {
    Page { part: 0, parts: 1, count: 0, peers: "" }
}

/// Returns a datagram of every type with all fields, and its encoding.
pub(crate) fn full() -> Vec<(Datagram<'static>, &'static str)> {
    let auth = Auth { cookie: Some(COOKIE.to_owned()), mac: Some(MAC.to_owned()) };
    let profile =
        Profile { room: read("lab"), name: some("Ñandú"), lan: some("192.168.1.7:40112") };
    let register = Request::register(some("MGdtG_Q12DI"), Some(7), profile);
    let leave = Request::leave(some("x"), Some(8));
    let query = Request::query(some("x"), Some(9), read("lab"), 2);
    let current = |page| Current { window: read(BEFORE), closes_in_ms: 25_880, page };
    let mut samples = vec![
        (
            Datagram::Request(register, auth.clone()),
            r#"{"type":"REGISTER","id":"MGdtG_Q12DI","seq":7,"room":"lab","name":"Ñandú","lan":"192.168.1.7:40112","cookie":"awQjfGkU0tbP4drN","mac":"Zx3yQ0fJH1cV8aLw2kT9-g"}"#,
        ),
        (
            Datagram::Request(leave, auth.clone()),
            r#"{"type":"LEAVE","id":"x","seq":8,"cookie":"awQjfGkU0tbP4drN","mac":"Zx3yQ0fJH1cV8aLw2kT9-g"}"#,
        ),
        (
            Datagram::Request(query, auth),
            r#"{"type":"QUERY","id":"x","seq":9,"room":"lab","part":2,"cookie":"awQjfGkU0tbP4drN","mac":"Zx3yQ0fJH1cV8aLw2kT9-g"}"#,
        ),
        (
            Datagram::Ack(Ack { id: some("x"), window: read(WINDOW), pass: read(PASS) }),
            r#"{"type":"ACK","id":"x","window":"2026-11-23T11:29:00Z","pass":"5bLnNUgqDubYOqcD6DbF-g"}"#,
        ),
        (
            Datagram::Challenge(Challenge { seq: Some(7), cookie: COOKIE.to_owned() }),
            r#"{"type":"CHALLENGE","seq":7,"cookie":"awQjfGkU0tbP4drN"}"#,
        ),
        (
            Datagram::Registered(Registered {
                id: some("x"),
                seq: Some(7),
                room: read("lab"),
                window: read(WINDOW),
                opens_in_ms: 25_880,
                window_ms: 60_000,
                you: read(ANA),
                current: current(page()),
            }),
            r#"{"type":"REGISTERED","id":"x","seq":7,"room":"lab","window":"2026-11-23T11:29:00Z","opens_in_ms":25880,"window_ms":60000,"you":"203.0.113.9:40112","current":{"window":"2026-11-23T11:28:00Z","closes_in_ms":25880,"part":1,"parts":3,"count":90,"peers":["203.0.113.9:40112 192.168.1.7:40112","[2001:db8::1]:5000"]}}"#,
        ),
        (
            Datagram::Left(Left { id: some("x"), seq: Some(8), window: read(WINDOW) }),
            r#"{"type":"LEFT","id":"x","seq":8,"window":"2026-11-23T11:29:00Z"}"#,
        ),
        (
            Datagram::Peers(Peers {
                id: some("x"),
                seq: Some(9),
                room: read("lab"),
                window: read(WINDOW),
                closes_in_ms: 59_998,
                you: some(ANA),
                pass: some(PASS),
                page: page(),
            }),
            r#"{"type":"PEERS","id":"x","seq":9,"room":"lab","window":"2026-11-23T11:29:00Z","closes_in_ms":59998,"you":"203.0.113.9:40112","pass":"5bLnNUgqDubYOqcD6DbF-g","part":1,"parts":3,"count":90,"peers":["203.0.113.9:40112 192.168.1.7:40112","[2001:db8::1]:5000"]}"#,
        ),
    ];
    samples.extend(full_but_requests());
    samples
}

fn full_but_requests() -> Vec<(Datagram<'static>, &'static str)> {
    vec![
        (
            Datagram::Window(Opened {
                id: some("x"),
                room: read("lab"),
                window: read(WINDOW),
                closes_in_ms: 59_998,
                you: read(ANA),
                pass: read(PASS),
                page: page(),
            }),
            r#"{"type":"WINDOW","id":"x","room":"lab","window":"2026-11-23T11:29:00Z","closes_in_ms":59998,"you":"203.0.113.9:40112","pass":"5bLnNUgqDubYOqcD6DbF-g","part":1,"parts":3,"count":90,"peers":["203.0.113.9:40112 192.168.1.7:40112","[2001:db8::1]:5000"]}"#,
        ),
        (
            Datagram::Error(Refusal {
                seq: Some(7),
                code: Code::SlowDown,
                reason: "your address asks too often".to_owned(),
                retry_in_ms: Some(120),
            }),
            r#"{"type":"ERROR","seq":7,"code":"slow_down","reason":"your address asks too often","retry_in_ms":120}"#,
        ),
        (
            Datagram::Greet(Greet {
                room: read("lab"),
                window: read(WINDOW),
                pass: read(PASS),
                seq: 5_212_771_902_340_114,
                from: read(ANA),
                name: some("ana"),
                text: some("¿qué \"tal\"?"),
            }),
            r#"{"type":"GREET","room":"lab","window":"2026-11-23T11:29:00Z","pass":"5bLnNUgqDubYOqcD6DbF-g","seq":5212771902340114,"as":"203.0.113.9:40112","name":"ana","text":"¿qué \"tal\"?"}"#,
        ),
        (
            Datagram::Greeted(Greeted {
                room: read("lab"),
                window: read(WINDOW),
                seq: 5_212_771_902_340_114,
                from: read("[2001:db8::1]:5000"),
                name: some("bob"),
            }),
            r#"{"type":"GREETED","room":"lab","window":"2026-11-23T11:29:00Z","seq":5212771902340114,"as":"[2001:db8::1]:5000","name":"bob"}"#,
        ),
    ]
}

/// Returns a datagram of every type without its optional fields, and its encoding.
pub(crate) fn bare() -> Vec<(Datagram<'static>, &'static str)> {
    let window = read(WINDOW);
    let (room, you, pass) = (Default::default(), read(ANA), read(PASS));
    let current = Current { window: read(BEFORE), closes_in_ms: 0, page: no_page() };
    let (page, closes_in_ms) = (no_page(), 0);
    vec![
        (
            Datagram::Request(Request::register(None, None, Profile::default()), Auth::NONE),
            r#"{"type":"REGISTER","room":"main"}"#,
        ),
        (Datagram::Request(Request::leave(None, None), Auth::NONE), r#"{"type":"LEAVE"}"#),
        (
            Datagram::Request(Request::query(None, None, Room::default(), 0), Auth::NONE),
            r#"{"type":"QUERY","room":"main","part":0}"#,
        ),
        (
            Datagram::Ack(Ack { id: None, window, pass: read(PASS) }),
            r#"{"type":"ACK","window":"2026-11-23T11:29:00Z","pass":"5bLnNUgqDubYOqcD6DbF-g"}"#,
        ),
        (
            Datagram::Challenge(Challenge { seq: None, cookie: COOKIE.to_owned() }),
            r#"{"type":"CHALLENGE","cookie":"awQjfGkU0tbP4drN"}"#,
        ),
        (
            Datagram::Registered(Registered {
                id: None,
                seq: None,
                room: read("main"),
                window,
                opens_in_ms: 0,
                window_ms: 1000,
                you,
                current,
            }),
            r#"{"type":"REGISTERED","room":"main","window":"2026-11-23T11:29:00Z","opens_in_ms":0,"window_ms":1000,"you":"203.0.113.9:40112","current":{"window":"2026-11-23T11:28:00Z","closes_in_ms":0,"part":0,"parts":1,"count":0,"peers":[]}}"#,
        ),
        (
            Datagram::Left(Left { id: None, seq: None, window }),
            r#"{"type":"LEFT","window":"2026-11-23T11:29:00Z"}"#,
        ),
        (
            Datagram::Peers(Peers {
                id: None,
                seq: None,
                room: read("main"),
                window,
                closes_in_ms,
                you: None,
                pass: None,
                page: page.clone(),
            }),
            r#"{"type":"PEERS","room":"main","window":"2026-11-23T11:29:00Z","closes_in_ms":0,"part":0,"parts":1,"count":0,"peers":[]}"#,
        ),
        (
            Datagram::Window(Opened { id: None, room, window, closes_in_ms, you, pass, page }),
            r#"{"type":"WINDOW","room":"main","window":"2026-11-23T11:29:00Z","closes_in_ms":0,"you":"203.0.113.9:40112","pass":"5bLnNUgqDubYOqcD6DbF-g","part":0,"parts":1,"count":0,"peers":[]}"#,
        ),
        (
            Datagram::Error(Refusal {
                seq: None,
                code: Code::Malformed,
                reason: String::new(),
                retry_in_ms: None,
            }),
            r#"{"type":"ERROR","code":"malformed","reason":""}"#,
        ),
        (
            Datagram::Greet(Greet {
                room: read("main"),
                window,
                pass: read(PASS),
                seq: 0,
                from: you,
                name: None,
                text: None,
            }),
            r#"{"type":"GREET","room":"main","window":"2026-11-23T11:29:00Z","pass":"5bLnNUgqDubYOqcD6DbF-g","seq":0,"as":"203.0.113.9:40112"}"#,
        ),
        (
            Datagram::Greeted(Greeted {
                room: read("main"),
                window,
                seq: 0,
                from: you,
                name: None,
            }),
            r#"{"type":"GREETED","room":"main","window":"2026-11-23T11:29:00Z","seq":0,"as":"203.0.113.9:40112"}"#,
        ),
    ]
}
