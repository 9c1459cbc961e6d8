//! Tests the protocol by hand: what a person with `nc -u` on the registry's host sees.

use hit7_support::{assert_has, keys, text};
use serde_json::{Value, json};

use crate::HIT7;

/// Returns the ACK of a WINDOW.
fn ack(opened: &Value) -> String {
    json!({"type": "ACK", "window": opened["window"], "pass": opened["pass"]}).to_string()
}

#[test]
fn windows_are_pushed_again_until_acknowledged() {
    let registry = HIT7.serve(&["--window", "2s"]);
    let ana = registry.client();
    ana.send(r#"{"type":"REGISTER","name":"ana"}"#);
    let answer = ana.receive_text();
    assert_eq!(keys(&answer), "type room window opens_in_ms window_ms you current");
    let registered: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(registered["type"], "REGISTERED");
    assert_eq!((&registered["room"], &registered["window_ms"]), (&"main".into(), &2000.into()));
    assert_eq!(registered["you"], ana.addr());
    let current = answer.split_once(r#""current":"#).unwrap().1;
    assert_eq!(keys(&current[..current.len() - 1]), "window closes_in_ms part parts count peers");
    // Without an ACK come the push, and part 0 again after 250 ms and 1 s.
    let pushes = [ana.receive_text(), ana.receive_text(), ana.receive_text()];
    for (push, within) in pushes.iter().zip([2000, 1750, 1000]) {
        let shape = "type room window closes_in_ms you pass part parts count peers";
        assert_eq!(keys(push.trim_end()), shape);
        let opened: Value = serde_json::from_str(push).unwrap();
        assert_eq!((&opened["type"], &opened["window"]), (&"WINDOW".into(), &registered["window"]));
        assert!(opened["closes_in_ms"].as_u64().unwrap() <= within, "{push}");
        assert_eq!(opened["peers"], json!([ana.addr()]));
    }
    // With an ACK at once, the next WINDOW is that of the next window. On a busy machine an ACK may
    // be late once, but not each time.
    let is_acknowledged = (0..5).any(|_| {
        let next = ana.register();
        let mut opened = std::iter::repeat_with(|| ana.receive_type("WINDOW"));
        let opened = opened.find(|opened| opened["window"] == next).unwrap();
        ana.send(ack(&opened));
        let after = ana.register();
        ana.receive_type("WINDOW")["window"] == after
    });
    assert!(is_acknowledged, "WINDOW is repeated after an ACK");
}

#[test]
fn queries_and_leaving() {
    let registry = HIT7.serve(&["--window", "2s"]);
    let (ana, ben) = (registry.client(), registry.client());
    ana.send(r#"{"type":"REGISTER","id":"secret-a","seq":1,"name":"ana"}"#);
    let answer = ana.receive_text();
    assert_eq!(keys(&answer), "type id seq room window opens_in_ms window_ms you current");
    let opened = loop {
        ben.register();
        let opened = ana.receive_type("WINDOW");
        ana.send(r#"{"type":"REGISTER","id":"secret-a"}"#);
        if opened["count"] == 2 {
            break opened;
        }
    };
    ben.send(r#"{"type":"QUERY","seq":5}"#);
    let answer = loop {
        let answer = ben.receive_text();
        if answer.contains("PEERS") {
            break answer;
        }
    };
    assert_eq!(keys(&answer), "type seq room window closes_in_ms part parts count peers");
    assert!(!answer.contains("secret-a") && !answer.contains("pass"));
    ana.send(r#"{"type":"QUERY","id":"secret-a","seq":6}"#);
    let own = ana.receive_type("PEERS");
    assert_eq!((&own["pass"], &own["you"]), (&opened["pass"], &ana.addr().into()));
    // Both leave the next window; they stay in the current one.
    ben.send(r#"{"type":"LEAVE","seq":8}"#);
    let left = ben.receive_type("LEFT");
    assert_eq!(keys(&left.to_string()), "seq type window");
    ana.send(r#"{"type":"LEAVE","id":"secret-a","seq":9}"#);
    let left = ana.receive_type("LEFT");
    assert_eq!((&left["id"], &left["seq"]), (&"secret-a".into(), &9.into()));
    ana.send(r#"{"type":"QUERY","seq":10}"#);
    let peers = loop {
        let peers = ana.receive_type("PEERS");
        if peers["seq"] == 10 {
            break peers;
        }
    };
    assert_eq!(peers["count"], 2);
}

#[test]
fn who_left_is_not_in_the_next_window() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "2s"]);
    let (ana, ben) = (registry.client(), registry.client());
    let window = loop {
        let window = ana.register();
        ana.send(r#"{"type":"LEAVE"}"#);
        if text(&ana.receive_type("LEFT")["window"]) == window && ben.register() == window {
            break window;
        }
    };
    let members = &home.document(&window)["rooms"]["main"];
    assert_eq!(members.as_array().unwrap().len(), 1);
    assert_eq!(members[0]["addr"], ben.addr());
    assert!(members[0].get("name").is_none(), "it gave none");
}

/// Fields with values that break their limits, and what the ERROR must say.
const BAD_FIELDS: [(&str, &str, &str); 8] = [
    ("REGISTER", "id", r#"7|""|"a b"|"é"|null|[]|"123456789012345678901234567890123""#),
    ("REGISTER", "seq", r#"-1|1.5|"1"|9007199254740992|1e3|null|{}"#),
    ("REGISTER", "room", r#"7|""|"a b"|"a/b"|"\u001b[2J"|"123456789012345678901234567890123""#),
    (
        "REGISTER",
        "name",
        r#"7|""|"a  b"|" a"|"\ud800"|"a\u3164"|"\u0301"|"\u202ea"|"日本語日本語日本語日本語日本語日本語日本語日本語"|{}"#,
    ),
    (
        "REGISTER",
        "lan",
        r#"7|""|"192.168.1.7"|"203.0.113.9:40112"|"127.0.0.1:40112"|"192.168.1.7:0"|"host:1""#,
    ),
    ("REGISTER", "cookie", "7|null|[1]"),
    ("QUERY", "part", r#"-1|"0"|0.5|4294967296|1"#),
    ("LEAVE", "id", r#""a b"|true"#),
];

#[test]
fn a_bad_field_is_named() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let ana = registry.client();
    for (kind, field, values) in BAD_FIELDS {
        for value in values.split('|') {
            let bad = format!(r#"{{"type":"{kind}","{field}":{value}}}"#);
            ana.send(&bad);
            let answer = ana.receive_text();
            assert_eq!(keys(&answer), "type code reason", "{bad}: {answer}");
            let error: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!((&error["type"], &error["code"]), (&"ERROR".into(), &"bad_field".into()));
            let reason = text(&error["reason"]);
            assert!(reason.starts_with(&format!("{field} ")), "{bad}: {reason}");
        }
    }
    let error = ana.ask(r#"{"type":"REGISTER","seq":4,"name":"a  b"}"#);
    assert_eq!((&error["seq"], &error["code"]), (&4.into(), &"bad_field".into()));
    registry.serves();
}

#[test]
fn what_is_no_datagram_is_answered_with_an_error() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let ana = registry.client();
    let deep = [&b"{\"type\":\"QUERY\",\"x\":"[..], &[b'['; 1100]].concat();
    let large = format!(r#"{{"type":"QUERY","x":"{}"}}"#, "x".repeat(1232));
    let largest = vec![b'x'; 60_000];
    for (datagram, code) in [
        (&b"hello\n"[..], "malformed"),
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b"{}", "malformed"),
        (br#"{"type":7}"#, "malformed"),
        (br#"{"type":null}"#, "malformed"),
        (br#"{"type":"QUERY"}x"#, "malformed"),
        (br#"{"type":"QUERY"}{"type":"QUERY"}"#, "malformed"),
        (br#"{'type':'QUERY'}"#, "malformed"),
        (b"{\"type\":\"QUERY\",\"name\":\"\xff\"}", "malformed"),
        (b"\0\0\0\0", "malformed"),
        (&deep, "malformed"),
        (br#"{"type":"HELLO"}"#, "unknown_type"),
        (br#"{"type":"register"}"#, "unknown_type"),
        (br#"{"type":""}"#, "unknown_type"),
        (large.as_bytes(), "too_large"),
        (&largest, "too_large"),
    ] {
        let error = ana.ask(datagram);
        let shown = String::from_utf8_lossy(&datagram[..datagram.len().min(60)]);
        assert_eq!((&error["type"], &error["code"]), (&"ERROR".into(), &code.into()), "{shown}");
        assert!(text(&error["reason"]).len() > 10);
    }
    registry.serves();
}

#[test]
fn what_is_no_request_is_never_answered() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let ana = registry.client();
    for kind in
        ["CHALLENGE", "REGISTERED", "LEFT", "PEERS", "WINDOW", "ERROR", "GREET", "GREETED", "ACK"]
    {
        ana.send(format!(r#"{{"type":"{kind}"}}"#));
        ana.send(format!(r#"{{"type":"{kind}","seq":"bad","window":7,"code":"full"}}"#));
    }
    // The datagrams of one socket are handled in order.
    assert_eq!(ana.ask(r#"{"type":"QUERY","seq":3}"#)["seq"], 3);
}

#[test]
fn fields_come_in_any_order_and_unknown_ones_are_ignored() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let ana = registry.client();
    let answer = ana.ask("{ \"seq\" : 3, \"colour\": {\"red\": [1]}, \"room\":\"l\\u0061b\", \"type\":\"REGISTER\" } \r\n");
    let head = (&answer["type"], &answer["seq"], &answer["room"]);
    assert_eq!(head, (&"REGISTERED".into(), &3.into(), &"lab".into()));
}

#[test]
fn a_retry_gets_the_same_answer_and_an_old_one_none() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1day"]);
    let ana = registry.client();
    let ask = |seq: u64| format!(r#"{{"type":"REGISTER","id":"a","seq":{seq}}}"#);
    let first = ana.ask(ask(5));
    assert_eq!(ana.ask(ask(5))["window"], first["window"]);
    ana.send(ask(4));
    assert_eq!(ana.ask(ask(6))["seq"], 6, "4 is dropped in silence");
    let log = std::fs::read_to_string(home.journals().last().unwrap()).unwrap();
    assert_eq!(log.matches("\"register\"").count(), 2, "a retry is not written, a new seq is");
    assert_has(&log, &[r#""id":"a""#]);
}
