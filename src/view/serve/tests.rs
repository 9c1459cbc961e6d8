use super::*;
use crate::cookie::Secret;
use crate::mesh::ListCap;
use crate::path::Path;
use crate::proto::Profile;
use crate::roster::{Member, NextWindow};
use crate::snapshot::{Past, Totals};
use crate::tally::Code;
use crate::view::tests::{assert_in_place, at, drawn, try_every_size};
use crate::window::{Length, Wall, Window};

fn window(minute: u32) -> Window {
    format!("2026-11-23T11:{minute:02}:00Z").parse().unwrap()
}

fn member(k: u16, room: &str) -> Member {
    let addr = SocketAddr::from(([203, 0, 113, 9], 40_000 + k));
    Member {
        id: None,
        path: Path::new(addr, "127.0.0.1".parse().unwrap()),
        profile: Profile { room: room.parse().unwrap(), ..Profile::default() },
        registered: Wall::from_millis(0),
        heard: 0,
    }
}

fn snapshot(minute: u32, rooms: &[(&str, u16)]) -> Snapshot {
    let mut next = NextWindow::new(window(minute), Length::MINUTE, ListCap::default());
    let mut k = 0;
    for (room, members) in rooms {
        for _ in 0..*members {
            k += 1;
            next.register(member(k, room), None);
        }
    }
    let opened = Some(window(minute).opens());
    let current = next.finalize(opened, &Secret::from_bytes([7; 32]));
    let (members, rooms) = (usize::from(k), rooms.len());
    let late = Some(Duration::from_millis(1));
    Snapshot {
        at: window(minute).opens(),
        length: Length::MINUTE,
        current: Arc::new(current),
        next: window(minute + 1),
        waiting: 7,
        past: [Past { window: window(minute), members, rooms, late }].into(),
        totals: Totals::default(),
        rejected: Tally::default(),
        journal_works: true,
        troubles: Vec::new(),
    }
}

fn serve(snapshot: Snapshot) -> Serve {
    let (_, snapshots) = watch::channel(Arc::new(snapshot));
    let listening = vec!["127.0.0.1:8080".parse().unwrap()];
    Serve::new(listening, "hit7-data".to_owned(), snapshots)
}

#[test]
fn the_current_window_is_shown_with_its_rooms() {
    let mut serve = serve(snapshot(28, &[("ana", 2), ("main", 30)]));
    let lines = drawn(&mut serve, at(45_000), (80, 24));
    assert!(lines[0].starts_with(" hit7 serve · listening on 127.0.0.1:8080 "), "{lines:#?}");
    assert!(lines[1].contains("next window 11:29:00"));
    assert!(lines[2].starts_with("│ 15 s █") && lines[3].starts_with("│7 members so far "));
    assert!(lines[5].contains("current 11:28:00 · 32 in 2 rooms"), "{lines:#?}");
    assert!(lines[7].contains("│     30  main "), "{lines:#?}");
    assert!(lines[8].contains("│      2  ana "), "{lines:#?}");
    assert!(lines[7].starts_with("│11:28:00       32      2  1 ms late"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("a log line")));
    let mut late = snapshot(28, &[("main", 1)]);
    late.past[0].late = Some(Duration::from_secs(86_400));
    let lines = drawn(&mut self::serve(late), at(45_000), (80, 24));
    assert!(lines[7].contains("  24:00:00 h late│"), "{lines:#?}");
}

#[test]
fn members_of_the_next_window_are_not_named() {
    let lines = drawn(&mut serve(snapshot(28, &[("main", 30)])), at(45_000), (200, 50));
    assert!(!lines.join("").contains("203.0.113.9"), "{lines:#?}");
}

#[test]
fn after_an_opening_the_rooms_are_those_of_the_new_window() {
    let mut serve = serve(snapshot(28, &[("old", 3)]));
    serve.update(at(60_000), Arc::new(snapshot(29, &[("new", 1)])));
    let text = drawn(&mut serve, at(60_000), (200, 50)).join("\n");
    assert!(text.contains("current 11:29:00 · 1 in 1 room"), "{text}");
    assert!(text.contains("  new ") && !text.contains("  old "), "{text}");
    assert!(text.contains("next window 11:30:00") && text.contains("│ 1:00 ░"), "{text}");
}

#[test]
fn a_room_from_right_to_left_stays_in_its_cell() {
    let mut serve = serve(snapshot(28, &[("חדר", 2), ("غرفة", 30), ("main", 1)]));
    for size in [(40, 24), (80, 24), (200, 50)] {
        let lines = drawn(&mut serve, at(45_000), size);
        assert!(lines.join("").contains(" 2  חדר "), "{lines:#?}");
        lines.iter().for_each(|line| assert_in_place(line));
    }
}

#[test]
fn rates_are_measured_over_a_few_seconds() {
    let mut serve = serve(snapshot(28, &[]));
    assert_eq!(serve.rates(), [0.0; 4]);
    for second in 0..60 {
        let mut snapshot = snapshot(28, &[]);
        snapshot.totals.received = second * 10;
        snapshot.rejected.set(Code::Full, second);
        serve.update(at(second * 1000), Arc::new(snapshot));
    }
    assert_eq!(serve.rates(), [10.0, 0.0, 0.0, 1.0]);
    assert!(serve.samples.len() <= 7);
    let text = drawn(&mut serve, at(0), (80, 24)).join("\n");
    assert!(text.contains("turned away: full 59"), "{text}");
    assert!(text.contains("│in all           590"), "{text}");
}

#[test]
fn a_missed_window_and_a_journal_that_fails_are_shown() {
    let mut snapshot = snapshot(28, &[]);
    snapshot.journal_works = false;
    snapshot.past[0].late = None;
    let text = drawn(&mut serve(snapshot), at(0), (80, 24)).join("\n");
    assert!(text.contains("missed") && text.contains("the journal cannot be written"), "{text}");
}

#[test]
fn every_size_can_be_drawn() {
    let rooms: Vec<String> = (0..100).map(|k| format!("{k}{}", "長".repeat(9))).collect();
    let rooms: Vec<(&str, u16)> = rooms.iter().map(|room| (room.as_str(), 1)).collect();
    let mut serve = serve(snapshot(28, &rooms));
    serve.scroll(Motion::Last);
    try_every_size(&mut serve, at(45_000));
}
