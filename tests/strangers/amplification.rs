//! An unproven source is never sent more than three times the bytes it sent, and hit7's own client
//! never more than it sent (RFC 9000 §8). The table is in `docs/SECURITY.md`.

use std::net::Ipv4Addr;
use std::time::Duration;

use hit7_support::{DEADLINE, Registry, udp_socket};

use crate::wire::{TRUST_NOBODY, receive, socket};
use crate::{HIT7, peers};

/// The bytes in and out of a request, once in the shortest form and once as hit7's client sends it.
struct Row {
    name: &'static str,
    least: (usize, usize),
    own: (usize, usize),
}

/// Returns the bytes of a datagram, and those of all answers that come within a while. For the
/// first answer, where there is one, it waits as long as it takes.
fn measured(registry: &Registry, datagram: &[u8], is_answered: bool) -> (usize, usize) {
    let socket = socket([127, 0, 0, 1]);
    socket.send_to(datagram, registry.addr).unwrap();
    let first = is_answered.then(|| receive(&socket)).flatten();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answers = first.into_iter().chain(std::iter::from_fn(|| receive(&socket)));
    (datagram.len(), answers.map(|answer| answer.len()).sum())
}

fn rows(registry: &Registry) -> Vec<Row> {
    let [register, leave, query, ack] = peers::requests();
    let row = |name, least: &[u8], own: &[u8]| Row {
        name,
        least: measured(registry, least, name != "`ACK`"),
        own: measured(registry, own, name != "`ACK`"),
    };
    vec![
        row("`REGISTER`", br#"{"type":"REGISTER"}"#, &register),
        row("`LEAVE`", br#"{"type":"LEAVE"}"#, &leave),
        row("`QUERY`", br#"{"type":"QUERY"}"#, &query),
        row("`ACK`", br#"{"type":"ACK"}"#, &ack),
    ]
}

impl Row {
    fn markdown(&self) -> String {
        let Row { name, least, own } = self;
        let cell = |(into, out)| format!("{into} | {out} | {:.2} ×", ratio((into, out)));
        format!("| {name} | {} | {} |", cell(*least), cell(*own))
    }
}

fn ratio((into, out): (usize, usize)) -> f64 {
    out as f64 / into as f64
}

#[test]
fn no_request_of_a_stranger_is_amplified() {
    let registry = HIT7.serve(&TRUST_NOBODY);
    let page = include_str!("../../docs/SECURITY.md");
    let rows = rows(&registry);
    rows.iter().for_each(|row| println!("{}", row.markdown()));
    for row in rows {
        assert!(ratio(row.least) <= 3.0 && ratio(row.own) <= 1.0, "{}", row.markdown());
        assert_eq!(row.own.1 > 0, row.name != "`ACK`", "{}", row.markdown());
        assert!(page.contains(&row.markdown()), "docs/SECURITY.md lacks {}", row.markdown());
    }
}

/// Checks that the answers to any other datagram are no more than three times as long.
#[test]
fn nothing_of_a_stranger_is_amplified() {
    let registry = HIT7.serve(&TRUST_NOBODY);
    let padded = [br#"{"type":"QUERY"}"#, &[b' '; 1184][..]].concat();
    let strange: [&[u8]; 10] = [
        b"",
        b"x",
        b"{}",
        b"[]",
        br#"{"type":"HELLO"}"#,
        br#"{"type":"WINDOW"}"#,
        br#"{"type":"QUERY","seq":9007199254740991}"#,
        br#"{"type":"REGISTER","name":"a  b","room":"?","lan":"8.8.8.8:1"}"#,
        &padded,
        &[b' '; 4000],
    ];
    for datagram in strange {
        let (into, out) = measured(&registry, datagram, false);
        assert!(out <= 3 * into, "{into} bytes were answered with {out}");
    }
}

/// Checks the program's own first datagram, captured and sent by a stranger.
#[test]
fn what_the_program_sends_is_not_amplified() {
    let registry = HIT7.serve(&TRUST_NOBODY);
    for args in [&["join", "--name", "a"][..], &["join"], &["peers"], &["watch", "--room", "x"]] {
        let trap = udp_socket(Ipv4Addr::LOCALHOST, DEADLINE);
        let port = trap.local_addr().unwrap().port().to_string();
        let program = HIT7.start(&[args, &["127.0.0.1", &port]].concat());
        let first = receive(&trap).expect("a request");
        drop(program);
        let (into, out) = measured(&registry, &first, true);
        println!("{}: {into} bytes in, {out} out", args.join(" "));
        assert!(0 < out && out <= into, "{args:?}: {into} bytes were answered with {out}");
    }
}
