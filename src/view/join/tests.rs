use std::net::SocketAddr;

use super::*;
use crate::view::tests::{assert_in_place, at, drawn, try_every_size};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

fn peer(k: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 40_000 + k))
}

fn window(minute: u32) -> Window {
    format!("2026-11-23T11:{minute:02}:00Z").parse().unwrap()
}

fn join() -> Join {
    let (name, room) = (Some("ana".parse().unwrap()), Room::default());
    Join::new(Participant { name, room, registry: "localhost port 8080".to_owned(), once: false })
}

fn happens(join: &mut Join, now: Now, event: peer::Event) {
    join.handle(now, Event::Peer(event));
}

fn registered(join: &mut Join, now: Now, minute: u32, left: u64) {
    let (window, room) = (window(minute), Room::default());
    let opens_in = Duration::from_millis(left);
    happens(join, now, peer::Event::Registered { window, opens_in, you: peer(0), room });
}

fn opened(join: &mut Join, now: Now, minute: u32, peers: u16) {
    let event = peer::Event::Opened {
        window: window(minute),
        count: u32::from(peers) + 1,
        peers: (1..=peers).map(peer).collect(),
        closes_in: Duration::from_secs(60),
        you: peer(0),
    };
    happens(join, now, event);
}

fn met(join: &mut Join, now: Now, k: u16, name: &str) {
    let (name, rtt) = (Some(name.parse().unwrap()), Duration::from_micros(412));
    happens(join, now, peer::Event::Met { peer: peer(k), name, rtt });
}

fn greeted(join: &mut Join, now: Now, k: u16, text: &str) {
    let (name, text) = (None, Some(text.parse().unwrap()));
    happens(join, now, peer::Event::Greeted { peer: peer(k), name, text });
}

#[test]
fn before_a_window_opens_the_wait_is_shown() {
    let mut join = join();
    registered(&mut join, at(30_000), 29, 30_000);
    let lines = drawn(&mut join, at(45_000), SMALL);
    assert_eq!(
        lines[0],
        " hit7 join · ana in room main at localhost port 8080               UTC 11:28:45"
    );
    assert_eq!(lines[1][..40], *"╭ next window 11:29:00 ───────────────────────"[..40].to_owned());
    let bar = format!("│ 15 s {}{}│", "█".repeat(36), "░".repeat(36));
    assert_eq!(lines[2], bar);
    assert!(lines[3].starts_with("│registered as 203.0.113.9:40000 "), "{lines:#?}");
    assert!(lines[6].contains("nobody knows who is in a window before it opens"));
    assert_eq!(lines[23], " q or Ctrl-C leaves · ↑ ↓ scroll");
}

#[test]
fn the_peers_of_an_open_window_are_in_a_table() {
    let mut join = join();
    registered(&mut join, at(0), 29, 60_000);
    opened(&mut join, at(60_000), 29, 3);
    met(&mut join, at(60_010), 1, "bob");
    greeted(&mut join, at(60_020), 1, "hola a todos");
    greeted(&mut join, at(60_020), 2, "salut");
    let lines = drawn(&mut join, at(60_100), SMALL);
    assert!(lines[2].starts_with("│ 1:00 ░"), "{lines:#?}");
    assert!(lines[3].contains("registers again in the first half of this window"));
    assert!(lines[5].contains("current window 11:29:00 · 4 members · met 1 of 3"));
    let table = [
        "│address            name  met  round trip  greeted by  text",
        "│203.0.113.9:40001  bob   yes      0.4 ms  yes         hola a todos",
        "│203.0.113.9:40002        no               yes         salut",
        "│203.0.113.9:40003        no               no",
    ];
    for (line, expected) in lines[6..].iter().zip(table) {
        assert_eq!(line.trim_end_matches('│').trim_end(), expected);
    }
    assert!(lines.iter().any(|line| line.contains("11:29:00  met bob at 203.0.113.9:40001")));
    assert!(lines.iter().any(|line| line.contains("a log line")));
}

#[test]
fn a_name_from_right_to_left_stays_in_its_cell() {
    let mut join = join();
    join.participant.name = Some("מרים כהן".parse().unwrap());
    join.participant.room = "חדר".parse().unwrap();
    registered(&mut join, at(0), 29, 60_000);
    opened(&mut join, at(60_000), 29, 2);
    met(&mut join, at(60_010), 1, "سلام علاء");
    greeted(&mut join, at(60_020), 1, "שלום לך");
    greeted(&mut join, at(60_020), 2, "שלום");
    for width in [40, 41, 44, 80, 200] {
        let lines = drawn(&mut join, at(60_100), (width, 24));
        lines.iter().for_each(|line| assert_in_place(line));
    }
    let lines = drawn(&mut join, at(60_100), SMALL);
    assert!(lines[7].contains("سلام علاء  yes      0.4 ms  yes         שלום לך"), "{lines:#?}");
    assert_eq!(join.summary()[1], "1 window and 1 meeting in room חדר");
    join.summary().iter().for_each(|line| assert_in_place(line));
}

#[test]
fn a_closed_window_shows_which_peers_were_not_met() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 2);
    met(&mut join, at(60_010), 1, "bob");
    registered(&mut join, at(80_000), 30, 40_000);
    let (window, missing) = (window(29), vec![peer(2)]);
    happens(
        &mut join,
        at(120_000),
        peer::Event::Closed { window, met: 1, of: 2, missing: missing.into() },
    );
    let lines = drawn(&mut join, at(120_000), LARGE);
    assert!(lines[1].contains("next window 11:30:00"));
    assert!(lines[2].starts_with("│  now █"));
    assert!(lines[5].contains("closed window 11:29:00 · 3 members · met 1 of 2"));
    assert!(lines[8].starts_with("│203.0.113.9:40002        no "), "{lines:#?}");
    assert_eq!(
        join.summary(),
        [
            "window 2026-11-23T11:29:00Z: met 1 of 2: bob at 203.0.113.9:40001",
            "1 window and 1 meeting in room main"
        ]
    );
}

#[test]
fn an_answer_about_the_same_opening_does_not_restart_the_wait() {
    let mut join = join();
    registered(&mut join, at(0), 29, 60_000);
    registered(&mut join, at(30_000), 29, 29_990);
    assert_eq!(join.wait.unwrap().from, Duration::ZERO);
    opened(&mut join, at(60_000), 29, 1);
    assert_eq!(join.wait.unwrap().from, Duration::from_secs(60));
}

#[test]
fn refusals_and_silence_are_shown_in_place_of_the_registration() {
    let mut join = join();
    join.handle(at(0), Event::Silent(Duration::from_secs(30), client::Cause::Unknown));
    assert!(drawn(&mut join, at(0), SMALL)[3].contains("no answer from the registry for 30.0 s"));
    let (code, reason) = (crate::proto::Code::Full, "no\u{1b}[2J room".to_owned());
    happens(&mut join, at(0), peer::Event::Refused { code, reason, retry_in: None });
    assert!(
        drawn(&mut join, at(0), SMALL)[3].contains("refused for now (full): no\\u{1b}[2J room")
    );
}

#[test]
fn names_and_texts_cannot_move_the_cursor() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 3);
    greeted(&mut join, at(60_000), 1, "\u{202e}evil\u{200f}");
    greeted(&mut join, at(60_000), 2, &"日本語".repeat(40));
    met(&mut join, at(60_000), 3, &"長".repeat(10));
    for size in [SMALL, LARGE] {
        let lines = drawn(&mut join, at(60_000), size);
        assert!(lines[7].contains("\\u{202e}evil"), "{lines:#?}");
        assert!(lines[6..10].iter().all(|line| line.ends_with('│')), "{lines:#?}");
    }
    assert!(drawn(&mut join, at(60_000), SMALL)[8].contains('…'));
}

#[test]
fn a_long_list_is_scrolled() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 200);
    assert!(drawn(&mut join, at(60_000), SMALL)[7].contains(":40001"));
    join.scroll(Motion::Last);
    let lines = drawn(&mut join, at(60_000), SMALL);
    assert!(lines.iter().any(|line| line.contains(":40200")), "{lines:#?}");
    join.scroll(Motion::First);
    (0..3).for_each(|_| join.scroll(Motion::LineDown));
    assert!(drawn(&mut join, at(60_000), SMALL)[7].contains(":40004"));
}

/// The ports of the peers that are shown, less 40000.
fn shown(join: &mut Join, size: (u16, u16)) -> Vec<u16> {
    let lines = drawn(join, at(60_000), size);
    let ports = lines.iter().filter_map(|line| line.strip_prefix("│203.0.113.9:")?.get(..5));
    ports.map(|port| port.parse::<u16>().unwrap() - 40_000).collect()
}

#[test]
fn up_after_end_goes_back_one_row() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 200);
    shown(&mut join, SMALL);
    join.scroll(Motion::Last);
    assert_eq!(shown(&mut join, SMALL).last(), Some(&200));
    join.scroll(Motion::LineUp);
    assert_eq!(shown(&mut join, SMALL).last(), Some(&199));
}

#[test]
fn up_goes_back_one_row_after_the_terminal_has_grown() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 200);
    shown(&mut join, SMALL);
    join.scroll(Motion::Last);
    shown(&mut join, SMALL);
    assert_eq!(shown(&mut join, LARGE).last(), Some(&200));
    join.scroll(Motion::LineUp);
    assert_eq!(shown(&mut join, LARGE).last(), Some(&199));
}

#[test]
fn a_page_down_leaves_no_row_out() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 200);
    let first = shown(&mut join, SMALL);
    join.scroll(Motion::PageDown);
    let second = shown(&mut join, SMALL);
    assert!(second[0] <= first.last().unwrap() + 1, "{first:?}, then {second:?}");
}

#[test]
fn keys_pressed_while_all_rows_fit_are_not_remembered() {
    let mut join = join();
    opened(&mut join, at(60_000), 29, 20);
    assert_eq!(shown(&mut join, LARGE).len(), 20);
    (0..5).for_each(|_| join.scroll(Motion::LineDown));
    assert_eq!(shown(&mut join, LARGE)[0], 1);
    assert_eq!(shown(&mut join, SMALL)[0], 1);
}

#[test]
fn every_size_can_be_drawn() {
    let mut join = join();
    try_every_size(&mut join, at(0));
    opened(&mut join, at(60_000), 29, 200);
    met(&mut join, at(60_000), 3, "長い名前");
    greeted(&mut join, at(60_000), 3, "\u{202e}evil");
    join.scroll(Motion::Last);
    try_every_size(&mut join, at(60_000));
}

#[test]
fn a_summary_names_some_peers_or_that_no_window_opened() {
    assert_eq!(join().summary(), ["left before a window opened"]);
    let mut join = join();
    opened(&mut join, at(60_000), 29, 12);
    (1..=12).for_each(|k| met(&mut join, at(60_000), k, "bob"));
    assert!(join.summary()[0].ends_with("bob at 203.0.113.9:40008 and 4 more"));
}

#[test]
fn a_silence_is_over_when_a_window_opens_or_the_registration_is_confirmed_again() {
    let mut join = join();
    registered(&mut join, at(0), 29, 60_000);
    let silent = || Event::Silent(Duration::from_secs(9), client::Cause::Unknown);
    let state = |join: &mut Join| drawn(join, at(50_000), SMALL)[3].clone();
    join.handle(at(20_000), silent());
    assert!(state(&mut join).contains("no answer from the registry for 9.0 s"));
    registered(&mut join, at(21_000), 29, 39_000);
    assert!(state(&mut join).contains("registered as 203.0.113.9:40000"));
    join.handle(at(30_000), silent());
    opened(&mut join, at(60_000), 29, 2);
    assert!(state(&mut join).contains("registers again in the first half"), "{}", state(&mut join));
}

#[test]
fn why_the_registry_does_not_answer_and_what_helps_can_be_read() {
    let mut join = join();
    let missed = peer::Event::Missed {
        window: window(29),
        why: peer::MissedWhy::ListLost { came: 1, of: Some(3) },
    };
    happens(&mut join, at(0), missed);
    let read = |join: &mut Join| {
        let lines = drawn(join, at(0), SMALL);
        let words = lines.iter().flat_map(|line| line.trim_matches(['│', ' ']).split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    };
    assert!(read(&mut join).contains("small MTU, or a firewall that drops fragments"));
    join.handle(at(0), Event::Silent(Duration::from_secs(30), client::Cause::LargeAnswersLost));
    let why = client::Cause::LargeAnswersLost.to_string();
    assert!(read(&mut join).contains(&format!("{why}; trying on")), "{}", read(&mut join));
    assert!(join.summary()[1].contains(&why), "{:?}", join.summary());
    registered(&mut join, at(0), 30, 60_000);
    assert_eq!(join.summary().len(), 1, "it answers again");
    happens(&mut join, at(0), peer::Event::Left);
    assert_eq!(join.summary().len(), 1, "to leave is no failure");
}
