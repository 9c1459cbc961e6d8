//! Tests of the node, with a journal that reports outcomes when the test says so.

use std::net::SocketAddr;

use super::*;
use crate::cookie::Secret;
use crate::mesh::ListCap;
use crate::proto::{Datagram, Kind, Profile};
use crate::record::Record;
use crate::registry::tests::{at, path, window};
use crate::registry::{Caps, Config};
use crate::window::Length;

const ANA: &str = "203.0.113.9:1";
const BO: &str = "203.0.113.9:2";

/// A node with all outputs that it has returned.
struct Harness {
    node: Node,
    now: Now,
    sent: Vec<Transmit>,
    told: Vec<SocketAddr>,
    batches: VecDeque<(Epoch, Vec<Entry>)>,
    archiving: VecDeque<DocumentSource>,
    discarded: Vec<Window>,
    events: Vec<Event>,
}

fn registry(length: Length, now: Now) -> Registry {
    let config = Config { length, cap: ListCap::new(200), caps: Caps::default() };
    Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), now)
}

impl Harness {
    /// Makes a node whose first window is open.
    fn new(time: &str) -> Harness {
        let now = at(time);
        let mut registry = registry(Length::MINUTE, now);
        registry.resume(now).unwrap();
        let node = Node::new(registry, [], now);
        let mut harness = Harness {
            node,
            now,
            sent: Vec::new(),
            told: Vec::new(),
            batches: VecDeque::new(),
            archiving: VecDeque::new(),
            discarded: Vec::new(),
            events: Vec::new(),
        };
        harness.work();
        harness.sync();
        harness
    }

    fn work(&mut self) {
        while let Some(output) = self.node.poll(self.now) {
            match output {
                Output::Send(transmit) => self.sent.push(transmit),
                Output::SendTrain(push) => self.told.push(push.train.path.peer),
                Output::Append(epoch, batch) => self.batches.push_back((epoch, batch)),
                Output::Archive(source) => self.archiving.push_back(source),
                Output::Discard(window) => self.discarded.push(window),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.work();
    }

    fn wait_until(&mut self, time: &str) {
        self.now = at(time);
        self.input(Input::Timeout);
    }

    fn ask(&mut self, id: &str, addr: &str, seq: u64) {
        let id = Some(id.parse().unwrap());
        let request = Request::register(id, Some(seq), Profile::default());
        self.input(Input::Request(Inbound { path: path(addr), request, trusted: false }));
    }

    /// Makes the first pending batch durable.
    fn sync(&mut self) {
        let (_, batch) = self.batches.pop_front().expect("a batch is under way");
        self.input(Input::Journal(Outcome::Durable(batch)));
    }

    fn refuse(&mut self) {
        let (epoch, batch) = self.batches.pop_front().expect("a batch is under way");
        self.input(Input::Journal(Outcome::Refused { epoch, batch, why: "full".to_owned() }));
    }

    /// Returns the kinds of datagrams sent since the last call.
    fn take_sent(&mut self) -> Vec<Kind> {
        let kind = |transmit: Transmit| match Datagram::decode(&transmit.payload).unwrap() {
            Datagram::Registered(_) => Kind::Registered,
            Datagram::Error(_) => Kind::Error,
            other => panic!("{other:?}"),
        };
        std::mem::take(&mut self.sent).into_iter().map(kind).collect()
    }

    fn leave(&mut self, id: &str, addr: &str, seq: Option<u64>) {
        let request = Request::leave(Some(id.parse().unwrap()), seq);
        self.input(Input::Request(Inbound { path: path(addr), request, trusted: false }));
    }

    /// Reports that the journal cannot say what becomes of what it has.
    fn go_down(&mut self) {
        self.input(Input::Journal(Outcome::Down("no answer".to_owned())));
    }

    /// Returns the documents being written that are made from their journal.
    fn archived_from_journal(&self) -> Vec<Window> {
        let from_journal = |source: &&DocumentSource| matches!(source, DocumentSource::Journal(_));
        self.archiving.iter().filter(from_journal).map(DocumentSource::window).collect()
    }

    fn archived(&mut self, result: Result<(), String>) -> Window {
        let window = self.archiving.pop_front().expect("a window is to be archived").window();
        self.input(Input::Archived(window, result));
        window
    }
}

#[test]
fn an_answer_leaves_after_its_record_is_durable_and_what_comes_meanwhile_shares_a_batch() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    assert!(!it.node.is_settled(), "its record is under way");
    it.ask("b", BO, 1);
    it.ask("c", "203.0.113.9:3", 1);
    assert_eq!((it.sent.len(), it.batches.len(), it.batches[0].1.len()), (0, 1, 1));
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
    assert_eq!((it.batches.len(), it.batches[0].1.len()), (1, 2));
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered; 2]);
    assert!(it.node.is_settled());
    let Counts { answered, recorded, .. } = *it.node.counts();
    assert_eq!((answered, recorded), (3, 4), "an opening has no answer");
}

#[test]
fn an_opening_does_not_wait_for_the_batch_before_it() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    assert_eq!(it.batches.len(), 2);
    assert!(matches!(it.batches[1].1[..], [Entry { record: Record::Open(_), .. }]));
    it.sync();
    it.sync();
    assert_eq!(it.node.current().len(), 1);
    assert_eq!(it.told, [ANA.parse().unwrap()]);
}

/// The batch with the opening was put together as if the one before it were in the journal.
#[test]
fn a_refusal_ends_the_epoch_of_all_that_is_under_way() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    it.ask("b", BO, 1);
    let epochs: Vec<Epoch> = it.batches.iter().map(|(epoch, _)| *epoch).collect();
    assert!(epochs.len() >= 2 && epochs.iter().all(|epoch| *epoch == Epoch::default()));
    while !it.batches.is_empty() {
        it.refuse();
    }
    assert_eq!(it.take_sent(), [Kind::Error; 2]);
    assert_eq!(it.node.counts().rejected.of(Code::Unavailable), 2);
    it.wait_until("11:29:00.300");
    assert_eq!(it.batches[0].0, Epoch::default().next(), "only one refusal was news");
    it.sync();
    assert_eq!((it.node.current().window(), it.node.current().len()), (window("11:29"), 0));
    let refusals = it.events.iter().filter(|event| matches!(event, Event::JournalRefuses(_)));
    assert_eq!(refusals.count(), 1);
    assert!(it.events.iter().any(|event| matches!(event, Event::JournalRecovered)));
}

#[test]
fn that_the_journal_is_gone_is_told_also_while_it_refuses_for_another_reason() {
    let mut it = Harness::new("11:28:00");
    let epoch = Epoch::default();
    it.ask("a", ANA, 1);
    it.refuse();
    for why in ["full", "gone", "gone"] {
        let (batch, why) = (Vec::new(), why.to_owned());
        it.input(Input::Journal(Outcome::Refused { epoch, batch, why }));
    }
    let told: Vec<&str> = it
        .events
        .iter()
        .filter_map(|event| match event {
            Event::JournalRefuses(why) => Some(why.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["full", "gone"]);
}

#[test]
fn a_journal_that_says_nothing_for_seconds_is_told_and_works_again_when_it_does() {
    let refusals = |it: &Harness| {
        let refusal = |event: &Event| match event {
            Event::JournalRefuses(why) => Some(why.clone()),
            _ => None,
        };
        it.events.iter().filter_map(refusal).collect::<Vec<_>>()
    };
    let why = "a write of the journal has not ended for 5 s: the disk of --data hangs";
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    for second in 1..=5 {
        assert!(it.node.journal_works());
        assert_eq!(it.node.poll_timeout(it.now).mono, Some(it.now.mono + Duration::from_secs(1)));
        it.wait_until(&format!("11:28:0{second}"));
    }
    assert!(!it.node.journal_works());
    assert_eq!(refusals(&it), [why]);
    it.sync();
    assert!(it.node.journal_works());
    // In a pause of the program nothing was waited for.
    it.ask("a", ANA, 2);
    it.wait_until("11:28:40");
    assert!(it.node.journal_works());
    it.sync();
    it.wait_until("11:28:55");
    assert_eq!(refusals(&it), [why], "nothing is waited for");
    let recovered = it.events.iter().filter(|event| matches!(event, Event::JournalRecovered));
    assert_eq!(recovered.count(), 1);
}

#[test]
fn each_outcome_begins_the_wait_for_the_next_and_the_last_ends_it() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    it.sync();
    for second in 1..=5 {
        assert!(it.node.journal_works(), "{second}");
        it.wait_until(&format!("11:29:0{second}"));
    }
    assert!(!it.node.journal_works(), "the opening is under way");
    it.sync();
    for second in 6..20 {
        it.wait_until(&format!("11:29:{second:02}"));
        assert!(it.node.journal_works(), "{second}");
    }
}

#[test]
fn a_journal_whose_storage_is_back_works_again_without_a_record() {
    let mut it = Harness::new("11:28:00");
    let (batch, why) = (Vec::new(), "it was moved away".to_owned());
    it.input(Input::Journal(Outcome::Refused { epoch: Epoch::default(), batch, why }));
    assert!(!it.node.journal_works());
    it.input(Input::Journal(Outcome::Durable(Vec::new())));
    assert!(it.node.journal_works());
}

#[test]
fn while_the_journal_is_down_clients_are_told_so() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.ask("c", "203.0.113.9:3", 1);
    it.input(Input::Journal(Outcome::Down("no answer".to_owned())));
    assert!(!it.node.journal_works());
    assert_eq!(it.take_sent(), [Kind::Error], "what was not submitted yet");
    it.ask("b", BO, 1);
    it.ask("c", "203.0.113.9:3", 1);
    assert_eq!(it.take_sent(), [Kind::Error; 2]);
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
    assert!(it.node.journal_works());
    it.ask("b", BO, 2);
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
}

#[test]
fn a_journal_that_is_down_while_it_has_nothing_is_tried_again() {
    let mut it = Harness::new("11:28:00");
    it.input(Input::Journal(Outcome::Down("no answer".to_owned())));
    assert!(!it.node.journal_works());
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), [Kind::Error]);
    it.now.mono += Duration::from_secs(1);
    it.ask("a", ANA, 1);
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
    assert!(it.node.journal_works());
}

/// The engine refuses what was submitted behind a batch that it cannot speak of. Were more
/// submitted then, it would wait for that batch without an answer.
#[test]
fn a_refusal_behind_a_batch_without_an_outcome_does_not_end_an_outage() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    it.input(Input::Journal(Outcome::Down("no answer".to_owned())));
    let stuck = it.batches.pop_front().expect("a batch is under way");
    it.refuse();
    it.now = at("11:28:59");
    it.now.mono += Duration::from_secs(5);
    it.ask("b", BO, 1);
    assert_eq!(it.take_sent(), [Kind::Error], "at once");
    it.batches.push_front(stuck);
    it.refuse();
    assert_eq!(it.take_sent(), [Kind::Error]);
    it.now.mono += Duration::from_secs(1);
    it.ask("b", BO, 2);
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
    assert!(it.node.journal_works());
}

#[test]
fn an_outage_lasts_until_the_outcome_of_all_that_was_submitted_is_known() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    it.go_down();
    it.sync();
    assert!(!it.node.journal_works(), "nothing is known of the opening");
    it.sync();
    assert!(it.node.journal_works());
}

#[test]
fn a_refusal_of_an_epoch_that_has_ended_holds_up_nothing() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    it.refuse();
    it.wait_until("11:29:00.300");
    assert_eq!(it.batches.len(), 2, "the opening is submitted again");
    it.refuse();
    it.take_sent();
    it.ask("b", BO, 1);
    assert_eq!(it.take_sent(), []);
    it.sync();
    it.sync();
    assert_eq!(it.take_sent(), [Kind::Registered]);
}

/// Registers a member at half past 11:`minute`, and opens the window of the next minute.
fn turn_a_minute(it: &mut Harness, minute: u32) {
    it.now = at(&format!("11:{minute}:30"));
    it.ask("a", ANA, minute.into());
    it.sync();
    it.wait_until(&format!("11:{}:00", minute + 1));
    it.sync();
}

#[test]
fn a_journal_is_let_go_when_its_window_has_closed_and_its_document_is_durable() {
    let mut it = Harness::new("11:28:00");
    turn_a_minute(&mut it, 28);
    assert_eq!(it.archived(Ok(())), window("11:29"), "as soon as all have been told");
    assert!(matches!(it.events[..], [.., Event::DocumentWritten(it)] if it == window("11:29")));
    assert_eq!(it.discarded, [window("11:28")], "nobody was in it");
    turn_a_minute(&mut it, 29);
    assert_eq!(it.discarded, [window("11:28"), window("11:29")]);
    turn_a_minute(&mut it, 30);
    assert_eq!(it.discarded.len(), 2, "the document of 11:30 is not durable");
    assert_eq!(it.archived(Ok(())), window("11:30"));
    assert_eq!(it.discarded.last(), Some(&window("11:30")));
}

#[test]
fn a_document_that_cannot_be_written_holds_up_no_other_and_is_made_from_its_journal() {
    let mut it = Harness::new("11:28:00");
    turn_a_minute(&mut it, 28);
    assert_eq!(it.archived(Err("a folder is in its place".to_owned())), window("11:29"));
    assert_eq!((it.node.failing_documents(), it.node.is_archived()), (1, true));
    assert!(it.archiving.is_empty(), "not at once");
    turn_a_minute(&mut it, 29);
    assert_eq!(it.archived_from_journal(), [window("11:29")]);
    assert_eq!(it.archived(Err("a folder is in its place".to_owned())), window("11:29"));
    assert_eq!(it.archived(Ok(())), window("11:30"), "held in memory");
    turn_a_minute(&mut it, 30);
    assert!(!it.discarded.contains(&window("11:29")) && it.discarded.contains(&window("11:30")));
    it.archived(Ok(()));
    assert_eq!(it.archived(Ok(())), window("11:31"));
    assert!(it.discarded.contains(&window("11:29")));
    assert_eq!(it.node.failing_documents(), 0);
    let told = it.events.iter().filter(|event| matches!(event, Event::DocumentFails(..)));
    assert_eq!(told.count(), 1, "once for each document");
}

#[test]
fn a_document_that_takes_long_is_told_once_until_it_is_written() {
    let mut it = Harness::new("11:28:00");
    turn_a_minute(&mut it, 28);
    for second in 1..30 {
        assert_eq!(it.node.failing_documents(), usize::from(second > 10), "{second}");
        it.wait_until(&format!("11:29:{second:02}"));
    }
    let hang = "a write of the document of 2026-11-23T11:29:00Z has not ended for 10 s";
    let told = |event: &&Event| matches!(event, Event::DocumentFails(why) if why.contains(hang));
    assert_eq!(it.events.iter().filter(told).count(), 1);
    assert_eq!(it.archived(Ok(())), window("11:29"));
    assert_eq!(it.node.failing_documents(), 0);
}

#[test]
fn a_journal_that_recovers_makes_the_documents_due() {
    let mut it = Harness::new("11:28:00");
    turn_a_minute(&mut it, 28);
    it.archived(Err("the disk is full".to_owned()));
    assert!(it.archiving.is_empty());
    it.ask("a", ANA, 30);
    it.refuse();
    it.input(Input::Journal(Outcome::Durable(Vec::new())));
    assert_eq!(it.archived(Ok(())), window("11:29"));
}

#[test]
fn a_document_that_failed_and_is_written_makes_the_others_due() {
    let (mut documents, now) = (Documents::default(), at("11:40:00"));
    let [first, second] = ["11:29", "11:30"].map(window);
    for window in [first, second] {
        documents.push_replayed(window);
        documents.note_failed(now, window);
    }
    documents.note_written(first);
    assert_eq!(documents.poll(now).unwrap().window(), second);
}

#[test]
fn the_documents_are_settled_once_none_is_written_and_all_that_lack_have_failed() {
    let (mut documents, mut now) = (Documents::default(), at("11:40:00"));
    documents.push_replayed(window("11:29"));
    assert!(!documents.is_settled());
    documents.poll(now).unwrap();
    documents.note_failed(now, window("11:29"));
    assert!(documents.is_settled());
    now.mono += Duration::from_secs(1);
    documents.poll(now).unwrap();
    assert!(!documents.is_settled(), "it is tried again");
}

#[test]
fn documents_that_fail_come_after_those_that_never_did_and_wait_though_others_succeed() {
    let (mut documents, mut now) = (Documents::default(), at("11:40:00"));
    let failing = [window("11:29"), window("11:30"), window("11:31")];
    failing.iter().for_each(|window| documents.push_replayed(*window));
    for window in failing {
        assert_eq!(documents.poll(now).unwrap().window(), window);
        documents.note_failed(now, window);
    }
    now.mono += Duration::from_secs(1);
    for good in [window("11:32"), window("11:33")] {
        documents.push_replayed(good);
        assert_eq!(documents.poll(now).unwrap().window(), good);
        documents.note_written(good);
    }
    for window in failing {
        assert_eq!(documents.poll(now).unwrap().window(), window);
        documents.note_failed(now, window);
    }
    documents.push_replayed(window("11:34"));
    documents.poll(now).unwrap();
    documents.note_written(window("11:34"));
    assert!(documents.poll(now).is_none(), "a success of another says nothing of them");
    now.mono += Duration::from_secs(2);
    documents.poll(now).unwrap();
    documents.note_written(window("11:29"));
    assert_eq!(documents.poll(now).unwrap().window(), window("11:30"));
    assert_eq!(documents.failing(), 2);
}

#[test]
fn each_document_that_fails_is_told_once_in_ten_seconds_alone_or_in_a_count() {
    let (mut documents, mut now) = (Documents::default(), at("11:40:00"));
    let start = now.mono;
    let mut told = Vec::new();
    for minute in ["11:29", "11:30", "11:31", "11:32"] {
        documents.push_replayed(window(minute));
    }
    let mut fail_due = |documents: &mut Documents, now: Now| {
        while let Some(source) = documents.poll(now) {
            let others = documents.note_failed(now, source.window());
            let seconds = (now.mono - start).as_secs();
            told.extend(others.map(|others| (seconds, source.window(), others)));
        }
    };
    for _ in 0..120 {
        fail_due(&mut documents, now);
        now.mono += Duration::from_secs(1);
    }
    documents.note_written(window("11:29"));
    documents.push_replayed(window("11:29"));
    fail_due(&mut documents, now);
    // A retry comes 1, 3, 7 and 15 s after the first failure.
    assert_eq!(
        told,
        [(0, window("11:29"), 0), (15, window("11:30"), 2), (120, window("11:29"), 0)]
    );
}

#[test]
fn the_report_of_a_document_that_fails_has_its_reason_and_the_count_of_others() {
    let minutes = ["11:29", "11:30", "11:31"];
    let entries =
        minutes.iter().flat_map(|minute| [registration("11:28:30", minute), opening(minute)]);
    let mut it = replayed("11:40:00", &minutes, entries.collect());
    for time in ["11:40:01", "11:40:20"] {
        while !it.archiving.is_empty() {
            let window = it.archiving[0].window();
            it.archived(Err(format!("{window} is full")));
        }
        it.wait_until(time);
    }
    for _ in 0..2 {
        it.archived(Err("a folder is in its place".to_owned()));
    }
    let told = it.events.iter().filter_map(|event| match event {
        Event::DocumentFails(why) => Some(why.as_str()),
        _ => None,
    });
    let others = "a folder is in its place; documents that cannot be written either: 1";
    assert_eq!(told.collect::<Vec<_>>(), ["2026-11-23T11:29:00Z is full", others]);
}

#[test]
fn a_retry_waits_longer_each_time_for_a_minute_at_most() {
    let (mut documents, mut now) = (Documents::default(), at("11:30:00"));
    documents.push_replayed(window("11:29"));
    let mut retried = || {
        documents.poll(now).expect("it is due");
        documents.note_failed(now, window("11:29"));
        let due = documents.poll_timeout().unwrap();
        assert!(documents.poll(now).is_none(), "not at once");
        let delay = due - now.mono;
        now.mono = due;
        delay.as_secs()
    };
    assert_eq!([(); 9].map(|()| retried()), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn while_no_document_can_be_written_two_windows_are_in_memory_and_the_journals_stay() {
    let mut it = Harness::new("11:00:00");
    for minute in 0..30 {
        let (now, next) = (format!("11:{minute:02}:30"), format!("11:{:02}:00", minute + 1));
        it.now = at(&now);
        it.ask("a", ANA, minute);
        it.sync();
        it.wait_until(&next);
        it.sync();
    }
    assert_eq!(it.archiving.len(), 1, "the first write hangs");
    assert_eq!(it.discarded, [window("11:00")], "a journal stays while its document is needed");
    let mut held = 0;
    while let Some(source) = it.archiving.front() {
        held += usize::from(matches!(source, DocumentSource::Held(_)));
        it.archived(Ok(()));
    }
    assert_eq!(held, 1 + 2, "the one being written, and two that wait");
    assert_eq!(it.discarded.len(), 30, "all but the current one");
}

/// Returns a registration for window `of`, made at `time`, as a replay yields it.
fn registration(time: &str, of: &str) -> Entry {
    let (path, id, seq, profile) = (path(ANA), None, None, Profile::default());
    let (window, at) = (window(of), at(time).wall);
    let record =
        Record::Register(crate::record::Registration { window, at, path, id, seq, profile });
    Entry { ticket: None, record }
}

/// Returns the opening of window `of`, as a replay yields it.
fn opening(of: &str) -> Entry {
    let (window, at) = (window(of), at(&format!("{of}:00.007")).wall);
    let opening = crate::record::Opening { window, length: Length::MINUTE, cap: None, at };
    let record = Record::Open(opening);
    Entry { ticket: None, record }
}

/// Makes a node that has replayed `entries` of the journals of `windows`.
fn replayed(starts: &str, windows: &[&str], entries: Vec<Entry>) -> Harness {
    let now = at(starts);
    let mut registry = registry(Length::MINUTE, now);
    let mut windows = windows.iter().map(|it| window(it)).peekable();
    let journals: Vec<Window> = windows.clone().collect();
    for entry in entries {
        while let Some(begun) = windows.next_if(|it| *it <= entry.record.window()) {
            registry.begin(crate::record::Header {
                window: begun,
                length: Length::MINUTE,
                cap: None,
            });
        }
        registry.commit(now, entry);
    }
    registry.resume(now).unwrap();
    let node = Node::new(registry, journals, now);
    let mut it =
        Harness { node, now, events: Vec::new(), discarded: Vec::new(), ..Harness::new(starts) };
    it.work();
    it
}

#[test]
fn what_was_replayed_is_announced_while_it_lasts_and_archived() {
    for (starts, announced) in [("11:29:30", true), ("11:30:30", false)] {
        let entries = vec![registration("11:28:30", "11:29"), opening("11:29")];
        let mut it = replayed(starts, &["11:29"], entries);
        assert_eq!(it.told.is_empty(), !announced, "{starts}");
        assert!(matches!(&it.events[0], Event::Replayed(ended) if ended.members == 1));
        assert_eq!(it.archived(Ok(())), window("11:29"));
    }
}

#[test]
fn the_journal_of_a_first_window_that_was_missed_stays_until_its_document_is_durable() {
    let mut it = replayed("11:40:00", &["11:29"], vec![registration("11:28:30", "11:29")]);
    assert_eq!(it.discarded, []);
    it.refuse();
    assert_eq!(it.discarded, [], "the disk is full");
    it.wait_until("11:40:01");
    it.sync();
    assert_eq!(it.archived(Ok(())), window("11:29"));
    assert_eq!(it.discarded, [window("11:29")]);
}

#[test]
fn a_start_writes_every_document_that_lacks() {
    let minutes: Vec<String> = (1..=30).map(|minute| format!("11:{minute:02}")).collect();
    let entries = |minute: &String| {
        let before: u32 = minute[3..].parse().unwrap();
        [registration(&format!("11:{:02}:30", before - 1), minute), opening(minute)]
    };
    let windows: Vec<&str> = minutes.iter().map(String::as_str).collect();
    let mut it = replayed("11:40:00", &windows, minutes.iter().flat_map(entries).collect());
    it.sync();
    for minute in &minutes {
        assert_eq!(it.archived_from_journal(), [window(minute)], "none is kept in memory");
        assert_eq!(it.archived(Ok(())), window(minute));
    }
}

#[test]
fn while_an_opening_is_under_way_one_batch_follows_it() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.wait_until("11:29:00");
    for seq in 0..100 {
        it.ask(&format!("b{seq}"), &format!("203.0.113.10:{}", seq + 1), 1);
    }
    assert_eq!(it.batches.len(), 2, "the first batch and the opening");
    it.sync();
    it.sync();
    assert_eq!((it.batches.len(), it.batches[0].1.len()), (1, 100));
}

#[test]
fn the_journal_of_a_window_that_was_missed_stays_until_its_document_is_durable() {
    // Replayed at once: a window without members, one that was missed, and the current one.
    let entries = vec![opening("11:29"), registration("11:29:30", "11:30"), opening("11:31")];
    let mut it = replayed("11:31:30", &["11:29", "11:30", "11:31"], entries);
    assert_eq!(it.discarded, [window("11:29")]);
    assert_eq!(it.archived(Ok(())), window("11:30"));
    assert_eq!(it.discarded, ["11:29", "11:30"].map(window));
}

/// Opens the window of 11:29, whose only member has not been told yet.
fn opened_untold() -> Harness {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.wait_until("11:29:00");
    let (_, batch) = it.batches.pop_front().unwrap();
    it.node.handle(it.now, Input::Journal(Outcome::Durable(batch)));
    while it.node.fanout.is_none() {
        let _ = it.node.poll(it.now).expect("the opening takes effect");
    }
    it
}

#[test]
fn an_announcement_that_ends_early_is_archived_all_the_same() {
    let mut it = opened_untold();
    it.node.finish_announcement();
    it.work();
    assert!(it.told.is_empty(), "nobody was told before the stop");
    assert!(!it.node.is_archived());
    assert_eq!(it.archived(Ok(())), window("11:29"));
    assert!(it.node.is_archived());
}

#[test]
fn an_announcement_that_lasts_until_the_next_opening_ends_with_its_document() {
    let mut it = opened_untold();
    it.wait_until("11:30:00");
    it.sync();
    assert!(it.told.is_empty(), "its window has closed");
    assert_eq!(it.archived(Ok(())), window("11:29"));
}

#[test]
fn a_window_that_has_closed_when_its_opening_takes_effect_is_archived_and_not_announced() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.wait_until("11:29:00");
    it.now = at("11:30:00");
    it.sync();
    assert!(it.told.is_empty());
    assert_eq!(it.archived(Ok(())), window("11:29"));
}

#[test]
fn a_replayed_window_that_is_announced_has_no_document_before_all_are_told() {
    let (mut documents, now) = (Documents::default(), at("11:29:30"));
    documents.push_replayed(window("11:29"));
    documents.expect(window("11:29"));
    assert!(documents.poll(now).is_none());
    assert!(documents.needs_journal(window("11:29")));
}

#[test]
fn a_push_that_found_a_full_socket_is_sent_soon_and_a_repeat_that_did_is_counted() {
    let mut it = opened_untold();
    let unsent = |it: &Harness| it.node.counts().rejected.of(DropReason::UnsentWindow);
    let push = |it: &mut Harness| loop {
        if let Output::SendTrain(push) = it.node.poll(it.now).expect("a push is due") {
            return push;
        }
    };
    let returned = push(&mut it);
    it.input(Input::Returned(returned));
    assert!(it.told.is_empty(), "not at once");
    it.wait_until("11:29:00.010");
    assert_eq!((&it.told[..], unsent(&it)), (&[ANA.parse().unwrap()][..], 0));
    it.now = at("11:29:00.300");
    let repeat = push(&mut it);
    it.input(Input::Returned(repeat));
    assert_eq!((it.told.len(), unsent(&it)), (1, 1));
}

#[test]
fn an_ack_ends_the_repeats_and_that_of_a_stranger_is_counted() {
    let mut it = Harness::new("11:28:00");
    turn_a_minute(&mut it, 28);
    let pass = it.node.current().rosters()[0].pass().clone();
    let ack = Ack { id: Some("a".parse().unwrap()), window: window("11:29"), pass };
    let strange = Ack { id: Some("b".parse().unwrap()), ..ack.clone() };
    for (from, ack) in [(BO, strange), (ANA, ack)] {
        it.input(Input::Ack(path(from), ack));
        assert_eq!(it.node.counts().rejected.of(DropReason::NoMember), 1, "{from}");
    }
    it.wait_until("11:29:02");
    assert_eq!(it.told.len(), 1);
}

#[test]
fn after_a_restart_with_another_length_the_window_that_is_open_keeps_its_own() {
    let now = at("11:29:30");
    // Windows of 20 s follow at once, and those of an hour at 12:00.
    for (new, length) in [(20, 60), (3600, 3600)] {
        let seconds = |seconds| Length::new(Duration::from_secs(seconds)).unwrap();
        let mut registry = registry(seconds(new), now);
        let (window, length_then) = (window("11:29"), Length::MINUTE);
        registry.begin(crate::record::Header { window, length: length_then, cap: None });
        registry.commit(now, opening("11:29"));
        registry.resume(now).unwrap();
        assert_eq!(Node::new(registry, [], now).length(), seconds(length));
    }
}

/// A LEAVE may be in the file. A REGISTER that was acked without regard to it would be lost if the
/// registry is killed and the start finds the LEAVE.
#[test]
fn nothing_is_acked_over_a_leave_in_doubt() {
    let mut it = Harness::new("11:28:10");
    it.ask("a", ANA, 1);
    it.sync();
    it.take_sent();
    it.leave("a", ANA, Some(2));
    it.go_down();
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), [], "an old copy");
    it.ask("a", ANA, 3);
    assert_eq!(it.take_sent(), [Kind::Error]);
}

#[test]
fn left_is_not_sent_while_a_registration_is_in_doubt() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.go_down();
    it.leave("a", ANA, None);
    assert_eq!(it.take_sent(), [Kind::Error]);
    it.sync();
    assert_eq!((it.take_sent(), it.node.next().1), (vec![Kind::Registered], 1));
}

#[test]
fn what_may_be_in_the_journal_is_not_refused() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.go_down();
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), []);
    it.sync();
    assert_eq!((it.take_sent(), it.node.next().1), (vec![Kind::Registered], 1));
}

/// The engine refuses what was submitted behind the batch in doubt.
#[test]
fn a_refusal_does_not_forget_the_batch_in_doubt_before_it() {
    let mut it = Harness::new("11:28:10");
    it.ask("a", ANA, 1);
    it.sync();
    it.leave("a", ANA, Some(2));
    it.wait_until("11:29:00");
    it.go_down();
    it.batches.pop_front().expect("the LEAVE is under way");
    it.refuse();
    it.take_sent();
    it.now.wall = at("11:28:59").wall;
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), [], "an old copy");
    it.ask("a", ANA, 3);
    assert_eq!(it.take_sent(), [Kind::Error]);
}

#[test]
fn an_opening_in_doubt_is_opened_once() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.wait_until("11:29:00");
    it.go_down();
    it.wait_until("11:29:05");
    it.sync();
    assert_eq!((it.node.current().window(), it.node.current().len()), (window("11:29"), 1));
    while !it.batches.is_empty() {
        it.sync();
    }
    assert_eq!((it.node.current().window(), it.node.current().len()), (window("11:29"), 1));
    let opened = it
        .events
        .iter()
        .filter(|it| matches!(it, Event::Opened(of, _) if of.window() == window("11:29")));
    assert_eq!(opened.count(), 1);
}

#[test]
fn after_a_refused_opening_a_new_request_is_not_for_the_window_that_is_due() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.take_sent();
    it.wait_until("11:29:00");
    it.refuse();
    it.now = at("11:29:00.100");
    it.ask("a", ANA, 2);
    assert_eq!(it.take_sent(), [Kind::Error]);
}

#[test]
fn during_an_outage_a_new_request_is_not_for_the_window_that_is_due() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.take_sent();
    it.wait_until("11:29:00");
    it.go_down();
    it.now = at("11:35:00");
    it.ask("a", ANA, 2);
    assert_eq!(it.take_sent(), [Kind::Error]);
}

#[test]
fn the_members_are_counted_right_after_an_outage() {
    let mut it = Harness::new("11:28:00");
    for n in 1..=3 {
        it.ask(&format!("i{n}"), &format!("203.0.113.9:{n}"), 1);
    }
    it.go_down();
    it.sync();
    it.now.mono += Duration::from_secs(1);
    it.ask("i9", "203.0.113.9:9", 1);
    it.sync();
    assert_eq!(it.node.next().1, 2);
}

#[test]
fn during_an_outage_a_retry_is_not_for_a_window_that_has_closed() {
    let mut it = Harness::new("11:28:00");
    it.ask("a", ANA, 1);
    it.sync();
    it.take_sent();
    it.wait_until("11:29:00");
    it.go_down();
    it.now = at("11:29:30");
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), [Kind::Registered]);
    it.now = at("11:30:00");
    it.ask("a", ANA, 1);
    assert_eq!(it.take_sent(), [Kind::Error]);
}
