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
use crate::window::Length;

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
pub(super) fn snapshot(node: &Node, length: Length, clock: Clock) -> Snapshot {
    let (next, waiting) = node.next();
    Snapshot {
        at: clock.now().wall,
        length,
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
    let behind = is_behind.then(|| Trouble::ClockBehind { last: current.window(), next });
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

    /// Sends an event when the clock is in trouble, or no more. (The node reports documents.)
    fn note_troubles(&mut self, troubles: Vec<Trouble>) {
        let of_clock = |troubles: &[Trouble]| {
            troubles.iter().copied().find(|trouble| !matches!(trouble, Trouble::Documents(_)))
        };
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
        snapshot.at = now.wall;
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
