//! Publishes snapshots of the registry, its events, and the counts of rejected datagrams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Now};
use crate::events::EventSender;
use crate::node::{self, Node};
use crate::roster::Ended;
use crate::snapshot::{Past, Snapshot, Totals, Trouble};
use crate::tally::Tally;

use super::Event;
use super::workers::GateCounts;

/// The shortest time between two published snapshots, unless a window opens or is missed.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// How far the clock may be set back behind the last opening before that is reported.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// The shortest time between two reports of rejected datagrams: with a line for each, their sender
/// could fill the log.
const REPORT_REJECTED_EVERY: Duration = Duration::from_secs(10);

/// Publishes snapshots and events of the registry, at limited rates.
#[derive(Debug)]
pub(super) struct Reporter {
    events: EventSender<Event>,
    shown: watch::Sender<Arc<Snapshot>>,
    snapshot: Snapshot,
    show_at: Duration,
    /// The counts of rejected datagrams in the last report.
    last_reported: Tally,
    report_at: Duration,
}

/// Returns the first snapshot of a registry: its state at the start, with all counters 0.
pub(super) fn snapshot(node: &Node, clock: Clock) -> Snapshot {
    let (next, waiting) = node.next();
    Snapshot {
        at: clock.now().wall,
        length: node.length(),
        current: node.current().clone(),
        next,
        waiting,
        past: VecDeque::new(),
        totals: Totals::default(),
        rejected: Tally::default(),
        journal_works: true,
        troubles: Vec::new(),
    }
}

/// Returns what is wrong with a registry besides its journal; `doubted_step` is the step of the
/// wall clock that is not believed, in milliseconds.
fn troubles(now: Now, node: &Node, doubted_step: Option<i64>) -> Vec<Trouble> {
    let (current, (next, _)) = (node.current(), node.next());
    let is_behind =
        current.opened().is_some() && now.wall.plus(CLOCK_TOLERANCE) < current.window().opens();
    let (last, now) = (current.window(), now.wall);
    let behind = is_behind.then_some(Trouble::ClockBehind { last, next, now });
    let failing = node.failing_documents();
    let documents = (failing > 0).then_some(Trouble::Documents(failing));
    let doubt = doubted_step.map(Trouble::ClockInDoubt);
    [doubt, behind, documents].into_iter().flatten().collect()
}

impl Reporter {
    /// Creates a reporter that publishes to `shown`, which holds the first snapshot, and `events`.
    pub(super) fn new(
        shown: watch::Sender<Arc<Snapshot>>,
        events: mpsc::Sender<Event>,
    ) -> Reporter {
        let snapshot = shown.borrow().as_ref().clone();
        Reporter {
            events: EventSender::new(events, Event::NotShown),
            shown,
            snapshot,
            show_at: Duration::ZERO,
            last_reported: Tally::default(),
            report_at: Duration::ZERO,
        }
    }

    /// Updates the snapshot with an event of the node, and sends the event to the receiver.
    pub(super) fn note(&mut self, event: node::Event) {
        let event = match event {
            node::Event::Opened(window, late) => {
                self.snapshot.totals.opened += 1;
                Event::Window(self.remember(window.ended(), Some(late)))
            }
            node::Event::Missed(window) => {
                self.snapshot.totals.missed += 1;
                Event::Window(self.remember(window.ended(), None))
            }
            node::Event::Replayed(ended) => {
                let late = ended.opened.map(|opened| ended.window.opens().until(opened));
                self.remember(ended, late);
                return;
            }
            node::Event::JournalRefuses(why) => Event::JournalRefuses(why),
            node::Event::JournalRecovered => Event::JournalRecovered,
            node::Event::DocumentWritten(window) => Event::DocumentWritten(window),
            node::Event::DocumentFails(why) => Event::DocumentFails(why),
        };
        self.tell(event);
    }

    /// Adds a window to the snapshot's past windows, and makes the next snapshot due at once.
    fn remember(&mut self, ended: Ended, late: Option<Duration>) -> Past {
        let Ended { window, members, rooms, .. } = ended;
        let past = Past { window, members, rooms, late };
        self.snapshot.remember(past);
        self.show_at = Duration::ZERO;
        past
    }

    /// Sends an event. A receiver that is gone is no error: events are optional.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.send(event);
    }

    /// Returns when [`Reporter::report`] is due to publish a snapshot; `None` if nobody watches.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        (!self.shown.is_closed()).then_some(self.show_at)
    }

    /// Publishes the snapshot and the counts of rejected datagrams if they are due; `counts`
    /// returns the sum of all gates.
    pub(super) fn report(
        &mut self,
        now: Now,
        node: &Node,
        doubted_step: Option<i64>,
        counts: impl FnOnce() -> GateCounts,
    ) {
        self.note_troubles(troubles(now, node, doubted_step));
        let shows = now.mono >= self.show_at && !self.shown.is_closed();
        let reports = now.mono >= self.report_at;
        if !shows && !reports {
            return;
        }
        let mut counts = counts();
        counts.rejected.add(&node.counts().rejected);
        if reports {
            self.report_rejected(now, counts.rejected);
        }
        if shows {
            self.show(now, node, &counts);
        }
    }

    /// Sends an event when the clock is in trouble, or no more, and when documents are no more. (The
    /// node reports those that fail.)
    fn note_troubles(&mut self, troubles: Vec<Trouble>) {
        let is_of_documents = |trouble: &Trouble| matches!(trouble, Trouble::Documents(_));
        let of_clock = |troubles: &[Trouble]| {
            troubles.iter().copied().find(|trouble| !is_of_documents(trouble))
        };
        let fails = |troubles: &[Trouble]| troubles.iter().any(is_of_documents);
        if fails(&self.snapshot.troubles) && !fails(&troubles) {
            self.tell(Event::DocumentsRecovered);
        }
        let (before, after) = (of_clock(&self.snapshot.troubles), of_clock(&troubles));
        self.snapshot.troubles = troubles;
        match (before, after) {
            (None, None) => {}
            (Some(_), None) => self.tell(Event::ClockRight),
            (Some(was), Some(trouble)) if was.code() == trouble.code() => {}
            (_, Some(trouble)) => self.tell(Event::ClockWrong(trouble)),
        }
    }

    fn report_rejected(&mut self, now: Now, rejected: Tally) {
        if rejected != self.last_reported {
            self.tell(Event::Rejected(rejected.since(&self.last_reported)));
            (self.last_reported, self.report_at) = (rejected, now.mono + REPORT_REJECTED_EVERY);
        }
    }

    fn show(&mut self, now: Now, node: &Node, counts: &GateCounts) {
        self.show_at = now.mono + SHOW_EVERY;
        let snapshot = &mut self.snapshot;
        (snapshot.next, snapshot.waiting) = node.next();
        (snapshot.at, snapshot.length) = (now.wall, node.length());
        snapshot.current = node.current().clone();
        snapshot.totals.received = counts.received;
        snapshot.totals.challenged = counts.challenged;
        snapshot.totals.answered = node.counts().answered;
        snapshot.totals.recorded = node.counts().recorded;
        snapshot.rejected = counts.rejected;
        snapshot.journal_works = node.journal_works();
        self.shown.send_replace(Arc::new(snapshot.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::journal::Outcome;
    use crate::mesh::ListCap;
    use crate::node::{Input, Output};
    use crate::record::Header;
    use crate::registry::tests::{at, window};
    use crate::registry::{Caps, Config, Registry};
    use crate::tally::DropReason;
    use crate::window::Length;

    /// A reporter with all that it publishes, for a node whose first window, 11:28, is open.
    struct Harness {
        reporter: Reporter,
        shown: watch::Receiver<Arc<Snapshot>>,
        events: mpsc::Receiver<Event>,
        node: Node,
    }

    impl Harness {
        fn new() -> Harness {
            Harness::of(Length::MINUTE, None)
        }

        /// Makes the harness of a registry with windows of `length`, whose journal begins with `header`.
        fn of(length: Length, header: Option<Header>) -> Harness {
            let now = at("11:28:00");
            let config = Config { length, cap: ListCap::default(), caps: Caps::default() };
            let mut registry = Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), now);
            header.into_iter().for_each(|header| registry.begin(header));
            registry.resume(now).unwrap();
            let mut it = Harness::watching(Node::new(registry, [], now));
            it.work(now);
            it
        }

        fn watching(node: Node) -> Harness {
            let snapshot = snapshot(&node, Clock::start());
            let (sender, shown) = watch::channel(Arc::new(snapshot));
            let (told, events) = mpsc::channel(64);
            Harness { reporter: Reporter::new(sender, told), shown, events, node }
        }

        /// Has the node do what is due; its journal works.
        fn work(&mut self, now: Now) {
            let node = &mut self.node;
            node.handle(now, Input::Timeout);
            while let Some(output) = node.poll(now) {
                if let Output::Append(_, batch) = output {
                    node.handle(now, Input::Journal(Outcome::Durable(batch)));
                }
            }
        }

        /// Has the reporter report; `rejected` is how many datagrams all gates have rejected.
        fn report(&mut self, now: Now, doubted_step: Option<i64>, rejected: u64) {
            let mut counts = GateCounts { received: 9, challenged: 8, rejected: Tally::default() };
            counts.rejected.set(DropReason::NoMember, rejected);
            self.reporter.report(now, &self.node, doubted_step, || counts);
        }

        /// Returns whether a snapshot was published since the last call.
        fn has_shown(&mut self) -> bool {
            let has_changed = self.shown.has_changed().unwrap();
            self.shown.mark_unchanged();
            has_changed
        }

        fn told(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.events.try_recv().ok()).collect()
        }
    }

    fn after(now: Now, span: Duration) -> Now {
        Now { wall: now.wall.plus(span), mono: now.mono + span }
    }

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_snapshot_is_published_four_times_a_second_and_at_an_opening() {
        let (mut it, now) = (Harness::new(), at("11:28:10"));
        assert!(it.reporter.poll_timeout() <= Some(now.mono), "at once");
        it.report(now, None, 0);
        assert!(it.has_shown());
        let shown = it.shown.borrow().clone();
        assert_eq!((shown.totals.received, shown.totals.challenged), (9, 8));
        assert_eq!((shown.at, shown.next), (now.wall, window("11:29")));
        assert_eq!(it.reporter.poll_timeout(), Some(now.mono + SHOW_EVERY));
        it.report(after(now, SHOW_EVERY - MILLI), None, 0);
        assert!(!it.has_shown());
        let opened = node::Event::Opened(it.node.current().clone(), MILLI);
        it.reporter.note(opened);
        it.report(after(now, SHOW_EVERY - MILLI), None, 0);
        assert!(it.has_shown());
        assert_eq!(it.shown.borrow().past.back().unwrap().late, Some(MILLI));
        it.report(after(now, 2 * SHOW_EVERY), None, 0);
        assert!(it.has_shown());
        let (_, nobody) = watch::channel(it.shown.borrow().clone());
        it.shown = nobody;
        assert_eq!(it.reporter.poll_timeout(), None, "nobody watches");
    }

    #[test]
    fn a_window_has_its_own_length_after_a_start_with_another() {
        let length = |it: &Harness| it.shown.borrow().length.seconds();
        let header = Header { window: window("11:28"), length: Length::MINUTE, cap: None };
        let mut it = Harness::of(Length::new(Duration::from_secs(2)).unwrap(), Some(header));
        let mut shown = |time: &str| {
            it.work(at(time));
            it.report(at(time), None, 0);
            (it.node.current().window(), length(&it))
        };
        assert_eq!(shown("11:28:30"), (window("11:28"), 60));
        assert_eq!(shown("11:28:59.999"), (window("11:28"), 60), "the next opens at 11:29");
        assert_eq!(shown("11:29:01"), (window("11:29"), 2));
    }

    #[test]
    fn rejected_datagrams_are_told_each_ten_seconds_if_there_are_more() {
        let (mut it, now) = (Harness::new(), at("11:28:10"));
        let mut told = |seconds: u64, rejected| {
            it.report(after(now, Duration::from_secs(seconds)), None, rejected);
            let count = |event| match event {
                Event::Rejected(tally) => tally.of(DropReason::NoMember),
                other => panic!("{other:?}"),
            };
            it.told().into_iter().map(count).collect::<Vec<_>>()
        };
        assert!(told(0, 0).is_empty());
        assert_eq!(told(1, 5), [5]);
        assert!(told(10, 7).is_empty());
        assert_eq!(told(11, 9), [4], "since the last report");
        assert!(told(40, 9).is_empty(), "no more");
        assert_eq!(told(41, 10), [1], "at once after a pause");
    }

    #[test]
    fn what_is_wrong_with_the_clock_is_told_when_it_begins_changes_and_ends() {
        let mut it = Harness::new();
        let mut told = |time: &str, doubted_step| {
            it.report(at(time), doubted_step, 0);
            let code = |event| match event {
                Event::ClockWrong(trouble) => trouble.code(),
                Event::ClockRight => "right",
                other => panic!("{other:?}"),
            };
            it.told().into_iter().map(code).collect::<Vec<_>>()
        };
        assert!(told("11:28:10", None).is_empty());
        assert!(told("11:27:59", None).is_empty(), "a second is tolerated");
        assert_eq!(told("11:27:58.999", None), ["clock_behind"]);
        assert!(told("11:27:30", None).is_empty(), "once");
        assert_eq!(told("11:27:30", Some(-90_000)), ["clock_in_doubt"]);
        assert!(told("11:28:10", Some(-91_000)).is_empty(), "once");
        assert_eq!(told("11:28:10", None), ["right"]);
        let in_doubt = Trouble::ClockInDoubt(5);
        assert_eq!(troubles(at("11:28:10"), &it.node, Some(5)), [in_doubt]);
    }

    #[test]
    fn documents_that_are_written_again_are_told_once() {
        let mut it = Harness::new();
        let mut told = |troubles: &[Trouble]| {
            it.reporter.note_troubles(troubles.to_vec());
            it.told().iter().map(|event| format!("{event:?}")).collect::<Vec<_>>()
        };
        let (few, doubt) = (Trouble::Documents(1), Trouble::ClockInDoubt(5));
        assert!(told(&[few]).is_empty() && told(&[Trouble::Documents(2)]).is_empty());
        assert_eq!(told(&[doubt, few]).len(), 1, "the clock");
        assert_eq!(told(&[doubt]), ["DocumentsRecovered"]);
        assert!(told(&[doubt]).is_empty());
    }

    #[test]
    fn the_events_of_the_node_are_counted_and_passed_on() {
        let mut it = Harness::new();
        let current = it.node.current().clone();
        it.reporter.note(node::Event::Opened(current.clone(), MILLI));
        it.reporter.note(node::Event::Missed(current.clone()));
        it.reporter.note(node::Event::JournalRefuses("full".to_owned()));
        it.reporter.note(node::Event::JournalRecovered);
        it.reporter.note(node::Event::DocumentWritten(window("11:28")));
        it.reporter.note(node::Event::DocumentFails("full".to_owned()));
        let told: Vec<String> = it.told().iter().map(|event| format!("{event:?}")).collect();
        let starts = ["Window(", "Window(", "JournalRefuses(", "JournalRecovered"];
        let starts = starts.iter().chain(&["DocumentWritten(", "DocumentFails("]);
        assert_eq!(told.len(), 6);
        assert!(told.iter().zip(starts).all(|(told, start)| told.starts_with(start)), "{told:?}");
        it.reporter.note(node::Event::Replayed(current.ended()));
        assert!(it.told().is_empty(), "what was before the start is no news");
        it.report(at("11:28:10"), None, 0);
        let shown = it.shown.borrow();
        assert_eq!((shown.totals.opened, shown.totals.missed, shown.past.len()), (1, 1, 3));
        let late = shown.past.iter().map(|past| past.late).collect::<Vec<_>>();
        assert_eq!(late, [Some(MILLI), None, Some(Duration::ZERO)]);
    }
}
