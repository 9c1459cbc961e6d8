//! Tests of the two rules about omissions: correct behaviour passes, an omission fails.

use hit7::record::Registration;
use hit7::window::Length;

use super::*;

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

#[test]
fn a_member_that_is_not_told_in_time_is_held_up() {
    let (opened, soon, late) = (Duration::ZERO, Duration::from_millis(1), Duration::from_secs(5));
    let wall = window(1).opens();
    let mut rule = NeverHeldUp::default();
    let open = |rule: &mut NeverHeldUp| {
        let members = [addr(1), addr(2)].into_iter();
        rule.on_opened((window(1), window(2).opens()), members, opened);
        assert_eq!(rule.on_told(window(1), addr(1), opened), Ok(()));
    };
    open(&mut rule);
    assert_eq!(rule.on_rest(soon, wall), Ok(()));
    assert_eq!(broken_by(rule.on_rest(late, wall)), Some(Rule::NeverHeldUp));
    assert_eq!(broken_by(rule.on_told(window(1), addr(2), late)), Some(Rule::NeverHeldUp));
    assert_eq!(rule.on_told(window(1), addr(1), late), Ok(()), "a repeat");
    for excused in [|rule: &mut NeverHeldUp| rule.on_full(addr(2)), NeverHeldUp::on_start] {
        open(&mut rule);
        excused(&mut rule);
        assert_eq!(rule.on_rest(late, wall), Ok(()));
    }
    open(&mut rule);
    assert_eq!(rule.on_rest(late, window(2).opens()), Ok(()), "it is over");
}

/// Returns records of two opened windows, the first with a member.
fn two_opened() -> [Record; 3] {
    let open = |minute| {
        let at = window(minute).opens();
        Record::Open(Opening { window: window(minute), length: LENGTH, cap: None, at })
    };
    let (at, path) = (window(0).opens(), Path::new(addr(1), [192, 0, 2, 1].into()));
    let (id, seq, profile) = (None, None, Default::default());
    let registration = Registration { window: window(1), at, path, id, seq, profile };
    [Record::Register(registration), open(1), open(2)]
}

#[test]
fn a_closed_window_without_its_document_or_with_its_journal_is_half_dead() {
    let mut history = History::new(Settings { length: LENGTH, cap: 200 });
    two_opened().iter().for_each(|record| history.apply(record).unwrap());
    let mut rule = NeverHalfDead::default();
    rule.on_journals(two_opened().iter().map(Record::window));
    let (soon, late) = (window(2).opens(), window(2).opens().plus(PATIENCE));
    let expect = |rule: &NeverHalfDead, broken| {
        let t = Duration::ZERO;
        assert_eq!(rule.on_rest(&history, t, soon, PATIENCE), Ok(()));
        assert_eq!(rule.on_rest(&history, t, late, Duration::ZERO), Ok(()), "it is not steady");
        assert_eq!(broken_by(rule.on_rest(&history, t, late, PATIENCE)), broken);
        assert_eq!(broken_by(rule.on_end(&history, t, PATIENCE)), broken);
    };
    expect(&rule, Some(Rule::NeverHalfDead));
    rule.on_document(window(1));
    expect(&rule, Some(Rule::NeverHalfDead));
    rule.on_discards([window(2)]);
    expect(&rule, None);
}
