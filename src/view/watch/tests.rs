use std::net::SocketAddr;

use super::*;
use crate::view::tests::{assert_in_place, at, drawn, try_every_size};

fn roster(minute: u32, peers: u16, closes_in: u64) -> Watched {
    let addr = |k| SocketAddr::from(([203, 0, 113, 9], 40_000 + k));
    Watched::Window(Roster {
        room: Room::default(),
        window: format!("2026-11-23T11:{minute:02}:00Z").parse().unwrap(),
        count: peers.into(),
        peers: (1..=peers).map(addr).collect(),
        closes_in: Duration::from_millis(closes_in),
    })
}

fn watch() -> Watch {
    Watch::new(Room::default(), "localhost port 8080".to_owned())
}

#[test]
fn a_new_window_replaces_the_one_before() {
    let mut watch = watch();
    assert!(drawn(&mut watch, at(0), (80, 24))[3].contains("asking the registry"));
    watch.handle(at(0), roster(28, 4, 60_000));
    watch.handle(at(30_000), roster(28, 4, 30_000));
    let lines = drawn(&mut watch, at(30_000), (80, 24));
    assert_eq!(lines[2], format!("│ 30 s {}{}│", "█".repeat(36), "░".repeat(36)));
    assert!(lines[5].contains("current window 11:28:00 · 4 members"));
    let row = "│203.0.113.9:40001   203.0.113.9:40002   203.0.113.9:40003";
    assert!(lines[6].starts_with(row), "{lines:#?}");
    watch.handle(at(60_000), roster(29, 1, 60_000));
    let lines = drawn(&mut watch, at(60_000), (200, 50));
    assert!(lines[5].contains("current window 11:29:00 · 1 member"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("11:29:00  window 11:29:00Z")));
    assert_eq!(
        watch.summary(),
        ["2 windows of room main seen, the last at 11:29:00 with 1 member"]
    );
}

#[test]
fn a_room_from_right_to_left_turns_nothing_around() {
    let mut watch = Watch::new("חדר".parse().unwrap(), "127.0.0.1 port 8080".to_owned());
    watch.handle(at(0), roster(28, 4, 60_000));
    for width in [40, 41, 80] {
        drawn(&mut watch, at(0), (width, 24)).iter().for_each(|line| assert_in_place(line));
    }
    watch.summary().iter().for_each(|line| assert_in_place(line));
}

#[test]
fn silence_is_shown_until_the_registry_answers() {
    let mut watch = watch();
    watch.handle(at(0), Watched::Silent(Duration::from_secs(5), Cause::Unknown));
    assert!(
        drawn(&mut watch, at(0), (80, 24))[3].contains("no answer from the registry for 5.0 s")
    );
    watch.handle(at(0), Watched::Silent(Duration::from_secs(5), Cause::LargeAnswersLost));
    let (lines, why) = (drawn(&mut watch, at(0), (80, 24)), Cause::LargeAnswersLost.to_string());
    assert!(lines[3].ends_with("…│"), "{lines:#?}");
    let words = lines.iter().flat_map(|line| line.trim_matches(['│', ' ']).split_whitespace());
    assert!(words.collect::<Vec<_>>().join(" ").contains(&why), "{lines:#?}");
    assert!(watch.summary()[1].contains(&why));
    watch.handle(at(0), roster(28, 0, 60_000));
    assert!(drawn(&mut watch, at(0), (80, 24))[3].contains("until the next window opens"));
    assert_eq!(watch.summary().len(), 1);
}

#[test]
fn up_after_end_goes_back_one_row_of_peers() {
    let mut watch = watch();
    watch.handle(at(0), roster(28, 1000, 60_000));
    let is_shown = |watch: &mut Watch, port| {
        drawn(watch, at(0), (80, 24)).join("\n").contains(&format!(":{port}"))
    };
    is_shown(&mut watch, 41_000);
    watch.scroll(Motion::Last);
    assert!(is_shown(&mut watch, 41_000));
    watch.scroll(Motion::LineUp);
    assert!(!is_shown(&mut watch, 41_000), "four peers in a row: 40997 to 41000");
    assert!(is_shown(&mut watch, 40_996));
}

#[test]
fn every_size_can_be_drawn() {
    let mut watch = watch();
    try_every_size(&mut watch, at(0));
    watch.handle(at(0), roster(28, 1000, 60_000));
    watch.scroll(Motion::Last);
    try_every_size(&mut watch, at(0));
}
