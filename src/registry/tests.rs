//! Tests of the registry with a simulated clock, and a journal that accepts or refuses all records.

use super::*;
use std::net::SocketAddr;

use crate::proto::{Code, Datagram, Profile, Room};

const ANA: &str = "203.0.113.9:1";
const BO: &str = "203.0.113.9:2";

/// A registry with a journal in memory, which accepts proposals when the test says so.
struct Journaled {
    config: Config,
    registry: Registry,
    /// The header of each window's journal, with the settings that held when it began.
    headers: Vec<Header>,
    journal: Vec<Record>,
    waiting: Vec<Entry>,
}

pub(crate) fn at(time: &str) -> Now {
    let wall: Wall = format!("2026-11-23T{time}Z").parse().unwrap();
    let start: Wall = "2026-11-23T00:00:00Z".parse().unwrap();
    Now { wall, mono: start.until(wall) }
}

pub(crate) fn window(time: &str) -> Window {
    format!("2026-11-23T{time}:00Z").parse().unwrap()
}

pub(crate) fn path(addr: &str) -> Path {
    Path::new(addr.parse().unwrap(), "198.51.100.10".parse().unwrap())
}

fn config() -> Config {
    Config { length: Length::MINUTE, cap: ListCap::new(200), caps: Caps::default() }
}

fn register(id: &str, seq: u64) -> Request {
    let id = (!id.is_empty()).then(|| id.parse().unwrap());
    Request::register(id, Some(seq), Profile::default())
}

fn leave(id: &str, seq: u64) -> Request {
    let id = (!id.is_empty()).then(|| id.parse().unwrap());
    Request::leave(id, Some(seq))
}

/// Replays a journal into a new registry, as a restart does.
fn replayed(it: &Journaled, config: Config, now: Now) -> Result<Registry, ResumeError> {
    let mut registry = Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), now);
    for header in &it.headers {
        let mut records = it.journal.iter().filter(|record| record.window() == header.window);
        if records.clone().next().is_some() {
            registry.begin(*header);
        }
        let entry = |record: &Record| Entry { ticket: None, record: record.clone() };
        assert!(records.all(|record| registry.commit(now, entry(record)).is_none()));
    }
    registry.resume(now).map(|()| registry)
}

impl Journaled {
    fn new(now: Now) -> Journaled {
        let secret = Arc::new(Secret::from_bytes([7; 32]));
        let (config, mut registry) = (config(), Registry::new(config(), secret, now));
        registry.resume(now).unwrap();
        let (headers, journal, waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut it = Journaled { config, registry, headers, journal, waiting };
        it.tick(now);
        it
    }

    fn restarted(&self, now: Now) -> Result<Journaled, ResumeError> {
        replayed(self, self.config, now)?;
        let Config { length, cap, .. } = self.config;
        Ok(self.restarted_with(length.seconds().into(), cap.peers(), now))
    }

    fn tick(&mut self, now: Now) {
        self.registry.handle_timeout(now);
        self.sync(now);
    }

    /// Makes all proposals durable, and returns the answers.
    fn sync(&mut self, now: Now) -> Vec<Vec<u8>> {
        self.collect();
        let mut answers = Vec::new();
        for entry in std::mem::take(&mut self.waiting) {
            self.begin(entry.record.window());
            self.journal.push(entry.record.clone());
            let answer = self.registry.commit(now, entry);
            answers.extend(answer.map(|transmit| transmit.payload));
        }
        answers
    }

    /// Notes the settings of a window whose journal begins, as the engine does.
    fn begin(&mut self, window: Window) {
        if !self.headers.iter().any(|header| header.window == window) {
            let Config { length, cap, .. } = self.config;
            self.headers.push(Header { window, length, cap: Some(cap) });
        }
    }

    fn collect(&mut self) {
        self.waiting.extend(self.registry.take_proposals());
    }

    fn refuse(&mut self, now: Now) -> Vec<Vec<u8>> {
        self.collect();
        let mut batch = std::mem::take(&mut self.waiting);
        batch.extend(self.registry.refuse(now));
        let told = batch.iter().filter_map(|entry| unavailable_answer(&entry.record));
        told.map(|transmit| transmit.payload).collect()
    }

    /// Sends a request, makes its record durable, and returns the answer.
    fn ask(&mut self, now: Now, addr: &str, request: Request) -> Option<Vec<u8>> {
        match self.registry.handle(now, path(addr), request, false) {
            Handled::Answer(transmit) | Handled::Refused(transmit, _) => Some(transmit.payload),
            Handled::Proposed => self.sync(now).pop(),
            Handled::Dropped(_) => None,
        }
    }

    fn told_window(&mut self, now: Now, addr: &str, request: Request) -> Window {
        let answer = self.ask(now, addr, request).expect("an answer");
        match Datagram::decode(&answer).unwrap() {
            Datagram::Registered(registered) => registered.window,
            Datagram::Left(left) => left.window,
            other => panic!("{other:?}"),
        }
    }

    fn members(&self) -> Vec<String> {
        let rosters = self.registry.current().rosters();
        let members = rosters.iter().flat_map(|roster| roster.members());
        members.map(|member| member.path.peer.to_string()).collect()
    }

    fn events(&mut self) -> Vec<(bool, Window, usize)> {
        let event = |event| match event {
            Event::Opened(frozen) => (true, frozen.window(), frozen.len()),
            Event::Missed(frozen) => (false, frozen.window(), frozen.len()),
            Event::Replayed(it) => (it.opened.is_some(), it.window, it.members),
        };
        std::iter::from_fn(|| self.registry.poll_event()).map(event).collect()
    }
}

#[test]
fn who_registers_is_in_the_next_minute_and_no_other() {
    let mut it = Journaled::new(at("11:28:00"));
    assert_eq!(it.told_window(at("11:28:34"), ANA, register("a", 1)), window("11:29"));
    assert_eq!(it.told_window(at("11:28:59.999"), BO, register("b", 1)), window("11:29"));
    assert_eq!(it.members(), [""; 0]);
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [ANA, BO]);
    it.tick(at("11:30:00"));
    assert_eq!(it.members(), [""; 0]);
}

#[test]
fn at_the_boundary_it_is_the_minute_after() {
    let mut it = Journaled::new(at("11:28:00"));
    assert_eq!(it.told_window(at("11:29:00.000"), ANA, register("a", 1)), window("11:30"));
    assert_eq!(it.registry.current().window(), window("11:29"));
}

#[test]
fn what_is_asked_while_an_opening_is_stored_is_for_the_minute_after() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.registry.handle_timeout(at("11:29:00"));
    assert_eq!(
        it.registry.handle(at("11:29:00.001"), path(BO), register("b", 1), false),
        Handled::Proposed
    );
    assert_eq!(it.registry.current().window(), window("11:28"), "not before it is durable");
    it.sync(at("11:29:00.002"));
    assert_eq!(it.members(), [ANA]);
    it.tick(at("11:30:00"));
    assert_eq!(it.members(), [BO]);
}

#[test]
fn a_retry_gets_the_same_window_across_the_boundary() {
    let mut it = Journaled::new(at("11:28:00"));
    let first = it.told_window(at("11:28:59.900"), ANA, register("a", 4));
    assert_eq!(first, window("11:29"));
    assert_eq!(it.told_window(at("11:29:00.100"), ANA, register("a", 4)), first);
    let mut it = it.restarted(at("11:29:10")).unwrap();
    assert_eq!(it.told_window(at("11:29:59.900"), ANA, register("a", 4)), first);
    assert_eq!(it.told_window(at("11:30:00.000"), ANA, register("a", 4)), window("11:31"));
}

#[test]
fn a_retry_changes_nothing() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    let lines = it.journal.len();
    let room = "other".parse().unwrap();
    let id = Some("a".parse().unwrap());
    let retry = Request::register(id, Some(1), Profile { room, ..Profile::default() });
    it.told_window(at("11:28:11"), ANA, retry);
    it.told_window(at("11:28:20"), BO, Request::register(None, Some(2), Profile::default()));
    let written = it.journal.len();
    it.told_window(at("11:28:21"), BO, Request::register(None, Some(3), Profile::default()));
    assert_eq!((lines + 1, it.journal.len()), (written, written), "neither is written again");
    it.tick(at("11:29:00"));
    assert_eq!(it.registry.current().rosters()[0].room(), &Room::default());
}

#[test]
fn an_older_request_comes_to_nothing() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 5));
    assert_eq!(it.ask(at("11:28:11"), BO, register("a", 4)), None);
    it.told_window(at("11:28:12"), ANA, leave("a", 6));
    assert_eq!(it.ask(at("11:28:13"), ANA, register("a", 5)), None);
    assert_eq!(it.told_window(at("11:28:14"), ANA, leave("a", 6)), window("11:29"));
    let mut it = it.restarted(at("11:28:20")).unwrap();
    assert_eq!(it.ask(at("11:28:21"), ANA, register("a", 5)), None);
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [""; 0]);
}

#[test]
fn a_request_without_a_seq_does_not_let_older_ones_in() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 5));
    it.tick(at("11:29:00"));
    let id = Some("a".parse().unwrap());
    let without = Request::register(id, None, Profile::default());
    assert_eq!(it.told_window(at("11:29:10"), BO, without), window("11:30"));
    assert_eq!(it.ask(at("11:29:11"), ANA, register("a", 4)), None);
    assert_eq!(it.told_window(at("11:29:12"), ANA, register("a", 5)), window("11:29"));
    it.tick(at("11:30:00"));
    assert_eq!(it.members(), [BO]);
}

#[test]
fn a_request_without_a_seq_that_is_under_way_does_not_either() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 5));
    let id = Some("a".parse().unwrap());
    let without = Request::register(id, None, Profile::default());
    let (now, path_of_bo) = (at("11:28:11"), path(BO));
    assert_eq!(it.registry.handle(now, path_of_bo, without, false), Handled::Proposed);
    let older = it.registry.handle(now, path(ANA), register("a", 4), false);
    assert_eq!(older, Handled::Dropped(DropReason::Old));
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [BO]);
}

#[test]
fn an_equal_seq_from_another_address_is_newer() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    it.told_window(at("11:28:11"), BO, register("a", 1));
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [BO]);
}

#[test]
fn a_displaced_id_does_not_come_back_by_an_old_copy() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    it.told_window(at("11:28:11"), ANA, register("b", 1));
    assert_eq!(it.ask(at("11:28:12"), ANA, register("a", 1)), None);
    let frozen =
        |it: &Journaled, id: &str| it.registry.current().find(&id.parse().unwrap()).is_some();
    it.tick(at("11:29:00"));
    assert!(frozen(&it, "b") && !frozen(&it, "a"));
}

#[test]
fn a_leave_never_touches_the_current_window() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    assert_eq!(it.told_window(at("11:29:10"), ANA, leave("a", 2)), window("11:30"));
    assert_eq!(it.members(), [ANA]);
    assert_eq!(it.told_window(at("11:29:11"), BO, leave("", 0)), window("11:30"));
}

#[test]
fn without_an_id_the_address_is_the_identity() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("", 9));
    it.told_window(at("11:28:11"), ANA, register("", 3));
    it.told_window(at("11:28:12"), BO, register("", 3));
    it.told_window(at("11:28:13"), BO, leave("", 0));
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [ANA]);
}

#[test]
fn nothing_is_answered_before_it_is_durable() {
    let mut it = Journaled::new(at("11:28:00"));
    let now = at("11:28:30");
    assert_eq!(it.registry.handle(now, path(ANA), register("a", 1), false), Handled::Proposed);
    let again = it.registry.handle(now, path(ANA), register("a", 1), false);
    assert_eq!(again, Handled::Dropped(DropReason::UnderWay));
    assert_eq!(it.registry.handle(now, path(ANA), register("a", 2), false), Handled::Proposed);
    assert_eq!(it.sync(now).len(), 2);
    assert!(matches!(
        it.registry.handle(now, path(ANA), register("a", 2), false),
        Handled::Answer(_)
    ));
}

#[test]
fn what_the_log_refuses_takes_no_effect_and_is_told() {
    let mut it = Journaled::new(at("11:28:00"));
    assert_eq!(
        it.registry.handle(at("11:28:30"), path(ANA), register("a", 1), false),
        Handled::Proposed
    );
    let told = it.refuse(at("11:28:30"));
    assert!(String::from_utf8_lossy(&told[0]).contains(r#""code":"unavailable""#));
    let resting = it.ask(at("11:28:30.100"), ANA, register("a", 1)).unwrap();
    assert!(String::from_utf8_lossy(&resting).contains(r#""retry_in_ms":250"#));
    assert_eq!(it.told_window(at("11:28:31"), ANA, register("a", 1)), window("11:29"));
}

#[test]
fn an_opening_that_is_refused_is_tried_again_and_late() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.registry.handle_timeout(at("11:29:00"));
    it.refuse(at("11:29:00"));
    it.tick(at("11:29:00.100"));
    assert_eq!(it.members(), [""; 0]);
    let refused = it.ask(at("11:29:00.100"), BO, register("b", 1)).unwrap();
    assert!(String::from_utf8_lossy(&refused).contains("unavailable"));
    let alarm = it.registry.poll_timeout(at("11:29:00.100"));
    assert_eq!(alarm, Alarm::mono(Some(at("11:29:00.250").mono)));
    it.tick(at("11:29:00.250"));
    assert_eq!(it.members(), [ANA]);
    assert_eq!(it.told_window(at("11:29:00.300"), BO, register("b", 1)), window("11:30"));
}

#[test]
fn a_window_whose_time_passed_is_missed_and_never_opened() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.events();
    let mut it = it.restarted(at("11:30:20")).unwrap();
    let expected =
        [(true, window("11:28"), 0), (false, window("11:29"), 1), (true, window("11:30"), 0)];
    assert_eq!(it.events(), expected);
    let mut again = it.restarted(at("11:30:30")).unwrap();
    assert_eq!(again.events(), expected);
}

#[test]
fn a_window_that_still_runs_is_opened_late() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let it = it.restarted(at("11:29:40")).unwrap();
    assert_eq!(it.members(), [ANA]);
}

#[test]
fn opened_windows_only_grow_whatever_the_clock_does() {
    let mut it = Journaled::new(at("11:28:00"));
    for time in ["11:29:00", "11:28:10", "10:00:00", "11:29:30", "12:00:05", "11:59:00"] {
        it.tick(at(time));
    }
    let opened: Vec<_> = it.events().into_iter().map(|(_, window, _)| window).collect();
    assert_eq!(opened, [window("11:28"), window("11:29"), window("12:00")]);
    assert_eq!(it.told_window(at("11:59:30"), ANA, register("a", 1)), window("12:01"));
}

#[test]
fn before_the_first_opening_a_clock_set_back_opens_nothing_early() {
    let secret = Arc::new(Secret::from_bytes([7; 32]));
    let registry = Registry::new(config(), secret, at("11:28:00"));
    let (headers, journal, waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut it = Journaled { config: config(), registry, headers, journal, waiting };
    assert_eq!(it.told_window(at("11:27:00"), ANA, register("a", 1)), window("11:28"));
    let mut registry = replayed(&it, config(), at("11:30:01")).unwrap();
    registry.handle_timeout(at("11:29:59"));
    let now = at("11:29:59").wall;
    let proposed = registry.take_proposals().into_iter().map(|entry| entry.record);
    let opening = Opening {
        window: window("11:29"),
        length: Length::MINUTE,
        cap: Some(config().cap),
        at: now,
    };
    let missing = Missing { window: window("11:28"), at: now };
    assert_eq!(proposed.collect::<Vec<_>>(), [Record::Missed(missing), Record::Open(opening)]);
}

#[test]
fn a_start_far_behind_the_log_is_refused() {
    let it = Journaled::new(at("11:28:00"));
    assert!(it.restarted(at("11:27:00")).is_ok());
    let error = it.restarted(at("11:26:59.999")).err();
    let (last, now) = (window("11:28"), at("11:26:59.999").wall);
    assert_eq!(error, Some(ResumeError::ClockBehind { last, now }));
    let said = |now: &str| it.restarted(at(now)).err().unwrap().to_string();
    assert!(said("11:18:00").ends_with(": set the clock right, or wait"), "ten minutes");
    assert!(said("11:17:59").ends_with("start with another --data, without what was acked"));
}

impl Journaled {
    /// Restarts the registry with other settings of new windows.
    fn restarted_with(&self, seconds: u64, peers: usize, now: Now) -> Journaled {
        let length = Length::new(Duration::from_secs(seconds)).unwrap();
        let config = Config { length, cap: ListCap::new(peers), ..config() };
        let (registry, headers) = (replayed(self, config, now).unwrap(), self.headers.clone());
        let (journal, waiting) = (self.journal.clone(), Vec::new());
        let mut it = Journaled { config, registry, headers, journal, waiting };
        it.tick(now);
        it
    }

    /// Returns the window being filled and its length in seconds.
    fn filling(&self) -> (Window, u32) {
        (self.registry.next.window(), self.registry.next.length().seconds())
    }

    fn members_on_the_list_of(&self, addr: &str) -> u32 {
        let (roster, member) = self.registry.current().find_at(addr.parse().unwrap()).unwrap();
        roster.own_list(member).len() as u32
    }
}

#[test]
fn another_length_holds_from_the_first_window_that_has_no_record() {
    let mut it = Journaled::new(at("11:28:00"));
    let mut other = it.restarted_with(90, 200, at("11:28:20"));
    assert_eq!(other.registry.current().closes(), window("11:29").opens(), "it is open");
    assert_eq!(other.filling(), (window("11:30"), 90), "the first that begins after that");
    let opened = other.told_window(at("11:28:30"), ANA, register("a", 1));
    assert_eq!(opened, window("11:30"));

    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let mut it = it.restarted_with(90, 200, at("11:28:40"));
    assert_eq!(it.filling(), (window("11:29"), 60), "clients were told of it");
    it.tick(at("11:29:00"));
    assert_eq!((it.members(), it.registry.current().length()), (vec![ANA.into()], Length::MINUTE));
    assert_eq!(it.filling(), (window("11:30"), 90));
    let it = it.restarted_with(60, 200, at("11:29:10"));
    assert_eq!(it.registry.current().closes(), window("11:30").opens());
    assert_eq!(it.filling(), (window("11:30"), 60), "it had no record");
}

#[test]
fn a_window_that_all_members_left_keeps_its_length() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.told_window(at("11:28:41"), ANA, leave("a", 2));
    let it = it.restarted_with(2, 200, at("11:28:42"));
    assert_eq!(it.filling(), (window("11:29"), 60), "its journal begins with that length");
}

#[test]
fn a_window_is_told_with_its_own_length() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let mut it = it.restarted_with(90, 200, at("11:28:40"));
    let told = |answer: Vec<u8>| String::from_utf8(answer).unwrap();
    let retried = told(it.ask(at("11:28:41"), ANA, register("a", 1)).unwrap());
    assert!(
        retried
            .contains(r#""window":"2026-11-23T11:29:00Z","opens_in_ms":19000,"window_ms":60000"#)
    );
    let next = told(it.ask(at("11:29:10"), BO, register("b", 1)).unwrap());
    assert!(
        next.contains(r#""window":"2026-11-23T11:30:00Z","opens_in_ms":50000,"window_ms":90000"#)
    );
    assert!(next.contains(r#""current":{"window":"2026-11-23T11:29:00Z","closes_in_ms":50000"#));
}

#[test]
fn after_a_missed_window_of_another_length_the_next_one_may_be_yet_to_come() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    // 11:29 closes at 11:30, and windows of two minutes begin at 11:28 and 11:30.
    let mut it = it.restarted_with(120, 200, at("11:30:00"));
    assert_eq!(it.events()[1..], [(false, window("11:29"), 1), (true, window("11:30"), 0)]);

    let mut it = Journaled::new(at("11:29:00"));
    it.told_window(at("11:29:30"), ANA, register("a", 1));
    let mut it = it.restarted_with(120, 200, at("11:31:10"));
    assert_eq!(it.events()[1..], [(false, window("11:30"), 1)], "11:30 is no window of its own");
    assert_eq!(it.filling(), (window("11:32"), 120));
    assert_eq!(it.told_window(at("11:31:20"), BO, register("b", 1)), window("11:32"));
    let mut it = it.restarted_with(120, 200, at("11:32:05"));
    assert_eq!(it.events()[1..], [(false, window("11:30"), 1), (true, window("11:32"), 1)]);
}

#[test]
fn another_list_cap_changes_no_list_that_was_told() {
    let mut it = Journaled::new(at("11:28:00"));
    let members: Vec<String> = (1..10).map(|port| format!("203.0.113.9:{port}")).collect();
    let register_all = |it: &mut Journaled, time: &str| {
        for (number, addr) in members.iter().enumerate() {
            it.told_window(
                at(time),
                addr,
                register(&format!("m{number}"), it.journal.len() as u64),
            );
        }
    };
    register_all(&mut it, "11:28:30");
    let mut it = it.restarted_with(60, 4, at("11:28:40"));
    it.tick(at("11:29:00"));
    assert_eq!(it.members_on_the_list_of(ANA), 9, "11:29 had records when the cap was 200");
    let mut it = it.restarted_with(60, 4, at("11:29:10"));
    assert_eq!(it.members_on_the_list_of(ANA), 9, "it is open");
    register_all(&mut it, "11:29:30");
    it.tick(at("11:30:00"));
    assert_eq!(it.members_on_the_list_of(ANA), 4);
    assert_eq!(it.restarted_with(60, 200, at("11:30:10")).members_on_the_list_of(ANA), 4);
}

#[test]
fn a_seq_that_was_obeyed_is_in_the_journal_also_if_nothing_else_changed() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    it.told_window(at("11:28:11"), ANA, register("a", 3));
    let mut it = it.restarted(at("11:28:20")).unwrap();
    assert_eq!(it.ask(at("11:28:21"), ANA, leave("a", 2)), None, "an older request");
    it.tick(at("11:29:00"));
    assert_eq!(it.members(), [ANA]);
}

#[test]
fn that_a_window_is_missed_is_decided_in_the_journal() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let it = it.restarted(at("11:30:20")).unwrap();
    let last = |of: &str| it.journal.iter().rfind(|record| record.window() == window(of));
    let at = at("11:30:20").wall;
    assert_eq!(last("11:29"), Some(&Record::Missed(Missing { window: window("11:29"), at })));
    // Without what came after, and with the clock set back into the window.
    let kept = it.journal.iter().filter(|record| record.window() <= window("11:29"));
    let it = Journaled { journal: kept.cloned().collect(), ..it };
    let mut it = it.restarted(self::at("11:29:30")).unwrap();
    assert_eq!(it.events(), [(true, window("11:28"), 0), (false, window("11:29"), 1)]);
    assert_eq!(it.told_window(self::at("11:29:31"), BO, register("b", 1)), window("11:30"));
}

#[test]
fn a_journal_of_format_1_has_no_missed() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let mut it = it.restarted(at("11:30:20")).unwrap();
    it.journal.retain(|record| !matches!(record, Record::Missed(_)));
    let events = it.events();
    assert_eq!(it.restarted(at("11:30:30")).unwrap().events(), events);
}

#[test]
fn another_length_begins_when_the_current_window_closes() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.tick(at("11:29:00"));
    let mut it = it.restarted_with(7, 200, at("11:29:10"));
    assert_eq!(it.registry.current().window(), window("11:29"));
    assert_eq!(it.registry.next().0.to_string(), "2026-11-23T11:30:02Z");
    it.registry.handle_timeout(at("11:30:01"));
    assert!(it.registry.take_proposals().is_empty());
    let told = it.told_window(at("11:30:01"), ANA, register("a", 1));
    assert_eq!(told.to_string(), "2026-11-23T11:30:02Z", "what 11:29 knew is forgotten");
}

#[test]
fn a_restart_keeps_roster_pass_and_lists() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    it.told_window(at("11:28:31"), BO, register("b", 1));
    it.tick(at("11:29:00"));
    let ask = |it: &mut Journaled| {
        let query = Request::query(Some("a".parse().unwrap()), None, Room::default(), 0);
        it.ask(at("11:29:30"), ANA, query).unwrap()
    };
    let before = ask(&mut it);
    assert!(String::from_utf8_lossy(&before).contains(r#""you":"203.0.113.9:1","pass":""#));
    assert_eq!(ask(&mut it.restarted(at("11:29:20")).unwrap()), before);
}

#[test]
fn only_a_member_is_told_the_pass() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:30"), ANA, register("a", 1));
    let peers = |it: &mut Journaled, time: &str, id: Option<&str>| {
        let id = id.map(|id| id.parse().unwrap());
        let query = Request::query(id, None, Room::default(), 0);
        String::from_utf8(it.ask(at(time), BO, query).unwrap()).unwrap()
    };
    for id in [Some("a"), None] {
        let text = peers(&mut it, "11:28:59.999", id);
        assert!(text.contains(r#""count":0,"peers":[]"#) && !text.contains("pass"), "{text}");
    }
    it.tick(at("11:29:00"));
    assert!(peers(&mut it, "11:29:00", Some("a")).contains("pass"));
    for id in [Some("b"), None] {
        let text = peers(&mut it, "11:29:00", id);
        assert!(text.contains(r#""peers":["203.0.113.9:1"]"#) && !text.contains("pass"));
    }
}

#[test]
fn a_part_out_of_range_is_a_bad_field() {
    let mut it = Journaled::new(at("11:28:00"));
    let query = Request::query(None, Some(2), Room::default(), 1);
    let answer = it.ask(at("11:28:30"), ANA, query).unwrap();
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        r#"{"type":"ERROR","seq":2,"code":"bad_field","reason":"part must be 0: the list has one part"}"#
    );
}

fn capped(caps: Caps) -> Journaled {
    let mut it = Journaled::new(at("11:28:00"));
    it.registry.config.caps = caps;
    it
}

fn in_room(id: &str, room: &str) -> Request {
    let (id, room) = (Some(id.parse().unwrap()), room.parse().unwrap());
    Request::register(id, Some(1), Profile { room, ..Profile::default() })
}

fn is_full(it: &mut Journaled, addr: &str, request: Request) -> bool {
    is_full_at(it, at("11:28:30"), addr, request)
}

fn is_full_at(it: &mut Journaled, now: Now, addr: &str, request: Request) -> bool {
    let answer = it.ask(now, addr, request).expect("an answer");
    matches!(
        Datagram::decode(&answer).unwrap(),
        Datagram::Error(refusal) if refusal.code == Code::Full && refusal.retry_in_ms == Some(30_000)
    )
}

#[test]
fn an_address_is_held_at_its_cap_and_others_are_not_touched() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    assert!(!is_full(&mut it, ANA, register("a", 1)));
    assert!(!is_full(&mut it, BO, register("b", 1)));
    assert!(is_full(&mut it, "203.0.113.9:3", register("c", 1)));
    assert!(!is_full(&mut it, "203.0.113.10:3", register("d", 1)));
    assert!(!is_full(&mut it, BO, register("b", 2)), "who is in may change its room or name");
    assert!(!is_full(&mut it, "203.0.113.9:4", register("b", 3)), "or its port");
    let trusted = it.registry.handle(at("11:28:31"), path("203.0.113.9:5"), register("e", 1), true);
    assert_eq!(trusted, Handled::Proposed);
}

#[test]
fn of_ipv6_a_slash_64_is_one_address() {
    let mut it = capped(Caps { per_ip: 1, ..Caps::default() });
    assert!(!is_full(&mut it, "[2001:db8::1]:5", register("a", 1)));
    assert!(is_full(&mut it, "[2001:db8::ffff:2]:5", register("b", 1)));
    assert!(!is_full(&mut it, "[2001:db8:0:1::1]:5", register("c", 1)));
}

#[test]
fn rooms_and_windows_have_their_caps() {
    let mut it = capped(Caps { room: 1, rooms: 2, ..Caps::default() });
    assert!(!is_full(&mut it, ANA, in_room("a", "one")));
    assert!(is_full(&mut it, BO, in_room("b", "one")));
    assert!(!is_full(&mut it, BO, in_room("b", "two")));
    assert!(is_full(&mut it, "203.0.113.9:3", in_room("c", "three")));
    let mut it = capped(Caps { window: 1, ..Caps::default() });
    assert!(!is_full(&mut it, ANA, register("a", 1)));
    assert!(is_full(&mut it, BO, register("b", 1)));
    it.ask(at("11:28:40"), ANA, leave("a", 2));
    assert!(!is_full(&mut it, BO, register("b", 1)), "who leaves makes room");
}

#[test]
fn what_is_under_way_counts() {
    let mut it = capped(Caps { per_ip: 2, rooms: 1, ..Caps::default() });
    let now = at("11:28:30");
    for (addr, id) in [(ANA, "a"), (BO, "b")] {
        let handled = it.registry.handle(now, path(addr), register(id, 1), false);
        assert_eq!(handled, Handled::Proposed);
    }
    let third = it.registry.handle(now, path("203.0.113.9:3"), register("c", 1), false);
    assert!(matches!(third, Handled::Refused(_, Code::Full)));
    let room = it.registry.handle(now, path("203.0.113.7:1"), in_room("d", "two"), false);
    assert!(matches!(room, Handled::Refused(_, Code::Full)));
    it.refuse(now);
    let later = at("11:28:31");
    let third = it.registry.handle(later, path("203.0.113.9:3"), register("c", 1), false);
    assert_eq!(third, Handled::Proposed, "what was refused does not count");
}

#[test]
fn who_is_displaced_in_flight_does_not_come_in_past_the_cap() {
    for caps in [Caps { window: 1, ..Caps::default() }, Caps { room: 1, ..Caps::default() }] {
        let (mut it, now) = (capped(caps), at("11:28:40"));
        assert!(!is_full(&mut it, ANA, register("a", 1)));
        let displaces = it.registry.handle(now, path(ANA), register("b", 1), false);
        assert_eq!(displaces, Handled::Proposed);
        let displaced = it.registry.handle(now, path(BO), register("a", 2), false);
        assert!(matches!(displaced, Handled::Refused(_, Code::Full)), "{displaced:?}");
        it.sync(now);
        assert_eq!(it.registry.next().1, 1);
    }
}

/// Ids that come and go from one address are remembered, so their number must be limited.
#[test]
fn ids_from_one_address_come_to_an_end() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    for k in 0..8 {
        assert!(!is_full(&mut it, ANA, register(&format!("id{k}"), 1)), "{k}");
    }
    assert!(is_full(&mut it, ANA, register("id8", 1)));
    let recorded = it.journal.len();
    it.ask(at("11:28:40"), ANA, leave("id9", 1)).expect("LEFT, although nothing is remembered");
    assert_eq!((it.journal.len(), it.registry.next.ids()), (recorded, 8));
    assert!(!is_full(&mut it, BO, register("id3", 2)), "who is known goes on");
    it.ask(at("11:28:41"), BO, leave("id3", 3)).unwrap();
    assert!(!is_full(&mut it, BO, register("id3", 4)), "also out and in again");
    assert!(!is_full(&mut it, "203.0.113.10:3", register("d", 1)), "others are not touched");
    it.tick(at("11:29:00"));
    assert!(!is_full_at(&mut it, at("11:29:30"), ANA, register("id8", 1)), "a window's alone");
}

#[test]
fn ids_from_everywhere_come_to_an_end() {
    let mut it = capped(Caps { window: 1, per_ip: 0, ..Caps::default() });
    for k in 0..4 {
        assert!(!is_full(&mut it, ANA, register(&format!("id{k}"), 1)), "{k}");
    }
    assert!(is_full(&mut it, ANA, register("id4", 1)));
    assert!(!is_full(&mut it, ANA, register("", 1)), "without an id nothing is remembered");
}

#[test]
fn while_the_disk_stands_still_what_waits_is_bounded() {
    let mut it = capped(Caps { per_ip: 0, room: 0, window: 0, rooms: 0 });
    let now = at("11:28:30");
    let mut ask = |k: u32| {
        let [_, a, b, c] = k.to_be_bytes();
        let path = Path::new(SocketAddr::from(([10, a, b, c], 5)), [198, 51, 100, 10].into());
        it.registry.handle(now, path, register("", 1), true)
    };
    let proposed = (0..100_000).take_while(|k| ask(*k) == Handled::Proposed).count();
    assert_eq!(proposed, 1 << 16);
    assert!(matches!(ask(200_000), Handled::Refused(_, Code::Unavailable)));
    it.sync(now);
    it.tick(at("11:29:00"));
    assert_eq!(it.registry.current().len(), 1 << 16, "it opens all the same");
}

/// At 11:29:00 the window of 11:29 is full, and its opening is on its way to the disk: what comes
/// meanwhile is for 11:30, which has its own count.
#[test]
fn while_an_opening_is_in_flight_the_caps_count_the_window_after_alone() {
    let mut it = capped(Caps { per_ip: 2, room: 2, window: 2, rooms: 1 });
    for (id, addr) in [("a", ANA), ("b", BO)] {
        assert!(!is_full(&mut it, addr, register(id, 1)));
    }
    let now = at("11:29:00");
    it.registry.handle_timeout(now);
    let mut handle = |id, addr| it.registry.handle(now, path(addr), register(id, 9), false);
    assert_eq!(handle("c", ANA), Handled::Proposed);
    assert_eq!(handle("d", BO), Handled::Proposed);
    let third = handle("e", "203.0.113.9:3");
    assert!(matches!(third, Handled::Refused(_, Code::Full)), "{third:?}");
    it.sync(now);
    assert_eq!((it.registry.current().len(), it.registry.next().1), (2, 2));
}

#[test]
fn what_is_refused_counts_no_more() {
    let mut it = capped(Caps { per_ip: 1, room: 1, window: 1, rooms: 1 });
    let now = at("11:28:30");
    assert_eq!(it.registry.handle(now, path(ANA), register("a", 1), false), Handled::Proposed);
    assert_eq!(it.refuse(now).len(), 1);
    let later = at("11:28:31");
    assert_eq!(it.registry.handle(later, path(BO), register("b", 1), false), Handled::Proposed);
    it.sync(later);
    assert_eq!(it.registry.next().1, 1);
}

#[test]
fn while_the_journal_is_down_nothing_is_proposed() {
    let mut it = Journaled::new(at("11:28:00"));
    it.registry.suspend();
    let asked = it.registry.handle(at("11:28:30"), path(ANA), register("a", 1), false);
    assert!(matches!(asked, Handled::Refused(_, Code::Unavailable)));
    it.registry.handle_timeout(at("11:29:00"));
    assert!(it.registry.take_proposals().is_empty());
    assert_eq!(it.registry.poll_timeout(at("11:29:00")), Alarm::default());
    it.registry.end_suspension();
    it.tick(at("11:29:00"));
    assert_eq!(it.registry.current().window(), window("11:29"));
}

#[test]
fn ids_of_leaves_in_flight_count() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    let now = at("11:28:30");
    for n in 0..100 {
        it.registry.handle(now, path(ANA), leave(&format!("x{n}"), 1), false);
    }
    it.sync(now);
    assert!(it.registry.next.ids() <= 8, "{} ids from one address", it.registry.next.ids());
}

#[test]
fn while_an_opening_is_in_flight_nobody_is_let_into_a_window_that_is_due() {
    let mut it = Journaled::new(at("11:27:00"));
    it.registry.handle_timeout(at("11:28:59.999"));
    assert!(it.registry.is_opening());
    let asked = it.registry.handle(at("11:29:00.001"), path(ANA), register("a", 1), false);
    it.collect();
    let windows: Vec<Window> = it
        .waiting
        .iter()
        .filter(|e| !matches!(e.record, Record::Open(_)))
        .map(|e| e.record.window())
        .collect();
    assert!(!windows.contains(&window("11:29")), "asked at 11:29:00.001: {asked:?} {windows:?}");
}

#[test]
fn left_is_not_sent_at_the_cap_of_ids_while_the_registration_is_in_flight() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    let now = at("11:28:30");
    for n in 0..7 {
        it.ask(now, ANA, leave(&format!("x{n}"), 1));
    }
    assert_eq!(it.registry.handle(now, path(BO), register("b", 1), false), Handled::Proposed);
    let left = it.registry.handle(now, path(BO), leave("b", 2), false);
    assert_eq!(left, Handled::Proposed);
    it.sync(now);
    assert!(it.registry.next.is_empty());
}

#[test]
fn leaves_of_neighbours_in_flight_keep_nobody_in() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    let now = at("11:28:30");
    assert_eq!(it.registry.handle(now, path(BO), register("b", 1), false), Handled::Proposed);
    for n in 0..7 {
        it.registry.handle(now, path(ANA), leave(&format!("x{n}"), 1), false);
    }
    assert_eq!(it.registry.handle(now, path(BO), leave("b", 2), false), Handled::Proposed);
    it.sync(now);
    assert!(it.registry.next.is_empty());
}

#[test]
fn an_id_in_flight_counts_once() {
    let mut it = capped(Caps { per_ip: 2, ..Caps::default() });
    let now = at("11:28:30");
    for seq in 1..=8 {
        it.registry.handle(now, path(ANA), leave("z", seq), false);
    }
    let asked = it.registry.handle(now, path(BO), register("b", 1), false);
    assert_eq!(asked, Handled::Proposed, "one id is known");
}

#[test]
fn before_the_first_opening_the_window_before_is_current_without_members() {
    let registry = Registry::new(config(), Arc::new(Secret::from_bytes([7; 32])), at("11:28:10"));
    assert_eq!((registry.current().window(), registry.current().len()), (window("11:27"), 0));
}

#[test]
fn a_window_whose_time_passed_is_missed_only_if_it_has_records() {
    for asks in [false, true] {
        let mut it = Journaled::new(at("11:28:00"));
        if asks {
            it.registry.handle(at("11:28:30"), path(ANA), register("a", 1), false);
        }
        it.registry.handle_timeout(at("11:35:10"));
        it.collect();
        let missed = it.waiting.iter().filter(|it| matches!(it.record, Record::Missed(_))).count();
        assert_eq!(missed, usize::from(asks));
        assert!(matches!(it.waiting.last().unwrap().record, Record::Open(_)));
    }
}

#[test]
fn a_suspension_takes_back_an_opening_that_was_not_taken_and_no_other() {
    for (is_taken, fills) in [(false, "11:29"), (true, "11:30")] {
        let mut it = Journaled::new(at("11:28:00"));
        it.registry.handle_timeout(at("11:29:00"));
        if is_taken {
            it.collect();
        }
        it.registry.suspend();
        assert_eq!(it.registry.window_to_fill().window(), window(fills));
    }
}

/// While the journal is down, the window that is due is still the one to fill.
#[test]
fn from_the_moment_at_which_a_window_is_due_it_is_told_to_nobody_more() {
    let mut it = Journaled::new(at("11:28:00"));
    let mut ask = |time| it.ask(at(time), ANA, register("", 1)).unwrap();
    ask("11:28:10");
    it.registry.suspend();
    let mut again = |time| it.registry.handle(at(time), path(ANA), register("", 1), false);
    assert!(matches!(again("11:28:59.999"), Handled::Answer(_)));
    assert!(matches!(again("11:29:00"), Handled::Refused(_, Code::Unavailable)));
}

#[test]
fn a_private_address_is_kept_unless_it_is_the_public_one() {
    for (lan, is_kept) in [(BO, true), (ANA, false)] {
        let mut it = Journaled::new(at("11:28:00"));
        let profile = Profile { lan: Some(lan.parse().unwrap()), ..Profile::default() };
        it.told_window(at("11:28:10"), ANA, Request::register(None, None, profile));
        let member = it.registry.next.member_at(ANA.parse().unwrap()).unwrap();
        assert_eq!(member.profile.lan.is_some(), is_kept);
    }
}

#[test]
fn until_its_window_has_closed_a_leave_is_answered_again_without_a_record() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    assert_eq!(it.told_window(at("11:28:11"), ANA, leave("a", 2)), window("11:29"));
    it.registry.suspend();
    let mut ask = |time, addr| it.registry.handle(at(time), path(addr), leave("a", 2), false);
    for time in ["11:28:12", "11:29:59.999"] {
        assert!(matches!(ask(time, ANA), Handled::Answer(_)), "{time}");
    }
    let refused = [("11:30:00", ANA), ("11:28:12", BO)].map(|(time, addr)| ask(time, addr));
    let is_refused = |it: &Handled| matches!(it, Handled::Refused(_, Code::Unavailable));
    assert!(refused.iter().all(is_refused), "closed, or from another address: {refused:?}");
}

#[test]
fn a_displaced_id_comes_back_from_another_address() {
    let mut it = Journaled::new(at("11:28:00"));
    it.told_window(at("11:28:10"), ANA, register("a", 1));
    it.told_window(at("11:28:11"), ANA, register("b", 1));
    assert_eq!(it.told_window(at("11:28:12"), BO, register("a", 1)), window("11:29"));
}

#[test]
fn of_what_is_under_way_only_the_same_request_is_a_retry() {
    let (mut it, now) = (Journaled::new(at("11:28:00")), at("11:28:30"));
    assert_eq!(it.registry.handle(now, path(ANA), register("a", 1), false), Handled::Proposed);
    let again = it.registry.handle(now, path(ANA), register("a", 1), false);
    assert_eq!(again, Handled::Dropped(DropReason::UnderWay));
    let other = it.registry.handle(now, path(ANA), leave("a", 1), false);
    assert_eq!(other, Handled::Dropped(DropReason::Old));
}

#[test]
fn a_leave_of_nobody_is_answered_without_a_record() {
    let mut it = Journaled::new(at("11:28:00"));
    for id in [None, Some("a".parse().unwrap())] {
        let left = it.registry.handle(at("11:28:30"), path(ANA), Request::leave(id, None), false);
        assert!(matches!(left, Handled::Answer(_)), "{left:?}");
    }
}

#[test]
fn a_record_in_flight_is_known_by_its_id_and_its_address_until_the_last_is_durable() {
    let (mut it, now) = (Journaled::new(at("11:28:00")), at("11:28:30"));
    for id in ["a", "b"] {
        it.registry.handle(now, path(ANA), register(id, 1), false);
    }
    it.collect();
    let has = |it: &Journaled, id: &str, addr: &str| {
        let id = (!id.is_empty()).then(|| id.parse().unwrap());
        it.registry.in_flight.has_record_of(id.as_ref(), addr.parse().unwrap())
    };
    assert!(has(&it, "a", BO) && has(&it, "b", BO) && has(&it, "c", ANA) && has(&it, "", ANA));
    assert!(!has(&it, "c", BO) && !has(&it, "", BO));
    for (id, is_last) in [("a", false), ("b", true)] {
        let entry = it.waiting.remove(0);
        it.registry.commit(now, entry);
        assert_eq!((has(&it, id, BO), has(&it, "", ANA)), (false, !is_last));
    }
}

#[test]
fn who_changes_rooms_needs_a_place_there_and_who_changes_addresses_has_one() {
    let mut it = capped(Caps { room: 1, ..Caps::default() });
    let in_room = |id: &str, seq, room: &str| {
        let (id, room) = (Some(id.parse().unwrap()), room.parse().unwrap());
        Request::register(id, Some(seq), Profile { room, ..Profile::default() })
    };
    assert!(!is_full(&mut it, ANA, in_room("a", 1, "one")));
    assert!(!is_full(&mut it, BO, in_room("b", 1, "two")));
    assert!(is_full(&mut it, BO, in_room("b", 2, "one")));
    assert!(!is_full(&mut it, ANA, in_room("a", 2, "one")));
    assert!(!is_full(&mut it, BO, in_room("a", 3, "one")), "the address of another");
}

#[test]
fn the_highest_seq_under_way_counts_when_an_earlier_record_becomes_durable() {
    let (mut it, now) = (Journaled::new(at("11:28:00")), at("11:28:30"));
    for seq in [1, 5] {
        it.registry.handle(now, path(ANA), register("a", seq), false);
    }
    it.collect();
    let first = it.waiting.remove(0);
    it.registry.commit(now, first);
    let old = it.registry.handle(now, path(ANA), register("a", 3), false);
    assert_eq!(old, Handled::Dropped(DropReason::Old));
}
