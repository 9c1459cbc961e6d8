//! The rules that no mutation breaks alone: they accept what is right, and see what is not.

use std::net::SocketAddr;
use std::time::Duration;

use hit7::cookie::Secret;
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::record::{Opening, Record, Registration};
use hit7::roster::{FinalizedWindow, Member, NextWindow};
use hit7::window::{Length, Wall, Window};

use crate::model::{Check, Rule};

use super::PATIENCE;
use super::history::History;
use super::never_half_dead::NeverHalfDead;
use super::never_held_up::NeverHeldUp;

const LENGTH: Length = Length::MINUTE;

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n], 40_000))
}

fn window(minute: u64) -> Window {
    let begin: Wall = "2026-11-23T11:28:00Z".parse().unwrap();
    LENGTH.window_at(begin.plus(Duration::from_secs(60 * minute)))
}

fn broken_by(check: Check) -> Option<Rule> {
    check.err().map(|broken| broken.rule)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A window of two members that opens in its time.
fn of_two() -> FinalizedWindow {
    let mut filling = NextWindow::new(window(1), LENGTH);
    for n in [1, 2] {
        let path = Path::new(addr(n), [192, 0, 2, 1].into());
        let (profile, registered) = (Default::default(), window(0).opens());
        filling.register(Member { path, id: None, profile, registered, heard: 0 }, None);
    }
    let secret = Secret::from_bytes([7; 32]);
    filling.finalize(Some(window(1).opens()), &secret, ListCap::new(200))
}

#[test]
fn a_member_that_is_not_told_in_time_is_held_up() {
    let (opened, wall) = (ms(500), window(1).opens());
    let announced = || {
        let mut rule = NeverHeldUp::default();
        rule.on_opened(&of_two(), opened);
        assert_eq!(rule.on_told(window(1), addr(1), opened), Ok(()));
        rule
    };
    let rest = |mut rule: NeverHeldUp, after, wall| broken_by(rule.on_rest(opened + after, wall));
    assert_eq!(rest(announced(), ms(1), wall), None);
    assert_eq!(rest(announced(), ms(5000), wall), Some(Rule::NeverHeldUp));

    let mut late = announced();
    let told = late.on_told(window(1), addr(2), opened + ms(5000));
    assert_eq!(broken_by(told), Some(Rule::NeverHeldUp));
    assert_eq!(late.on_told(window(1), addr(1), opened + ms(5000)), Ok(()), "a repeat");

    let mut full = announced();
    full.on_full(addr(2));
    assert_eq!(rest(full, ms(5000), wall), None);
    let mut restarted = announced();
    restarted.on_start();
    assert_eq!(rest(restarted, ms(5000), wall), None);
    assert_eq!(rest(announced(), ms(5000), window(2).opens()), None, "it is over");
}

/// Two windows opened, the first with a member.
fn two_opened() -> (History, [Record; 3]) {
    let open = |minute| {
        let at = window(minute).opens();
        Record::Open(Opening { window: window(minute), length: LENGTH, at })
    };
    let register = Record::Register(Registration {
        window: window(1),
        at: window(0).opens(),
        path: Path::new(addr(1), [192, 0, 2, 1].into()),
        id: None,
        seq: None,
        profile: Default::default(),
    });
    let records = [register, open(1), open(2)];
    let mut history = History::new(LENGTH, 200);
    records.iter().for_each(|record| history.apply(record).unwrap());
    (history, records)
}

#[test]
fn a_closed_window_without_its_document_or_with_its_journal_is_half_dead() {
    let (history, records) = two_opened();
    let soon = window(2).opens().plus(ms(1));
    let later = window(2).opens().plus(PATIENCE);
    let mut rule = NeverHalfDead::default();
    rule.on_records(&records);
    let expect = |rule: &NeverHalfDead, broken| {
        assert_eq!(rule.on_rest(&history, soon, PATIENCE), Ok(()));
        assert_eq!(rule.on_rest(&history, later, ms(1)), Ok(()), "it is not steady");
        assert_eq!(broken_by(rule.on_rest(&history, later, PATIENCE)), broken);
        assert_eq!(broken_by(rule.on_end(&history, PATIENCE)), broken);
        assert_eq!(rule.on_end(&history, ms(1)), Ok(()));
    };
    expect(&rule, Some(Rule::NeverHalfDead));
    rule.on_document(window(1));
    expect(&rule, Some(Rule::NeverHalfDead));
    rule.on_discards([window(2)]);
    expect(&rule, None);
}
