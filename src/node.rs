//! One registry whole, without sockets, disk or clock: the order in which it works.
//!
//! ```text
//!   Input                        Node                                        Output
//!   Request ───▶ registry judges ──▶ answered at once ─────────────────────▶ Send
//!                       └──▶ proposed ─▶ batch ─────────────────────────────▶ Append
//!   Journal(Durable) ─▶ registry commits ─▶ its answer ─────────────────────▶ Send
//!   time ──────▶ a window is due: `open` is proposed ───────────────────────▶ Append
//!   Journal(Durable) ─▶ registry opens ─▶ Event ─▶ fanout ──────────────────▶ SendTrain
//!   Ack ───────▶ fanout                     └─▶ all are told ───────────────▶ Archive
//!   Archived ──▶ its journal is needed no more ─────────────────────────────▶ Discard
//! ```
//!
//! The program's loop, the simulation and the tests on real files all run this, and none of them
//! knows the order. It waits for time, datagrams and the outcome of its journal, and for nothing
//! else.

mod documents;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Alarm, Now};
use crate::fanout::{Fanout, Push};
use crate::journal::{Epoch, Outcome};
use crate::path::{Path, Transmit};
use crate::proto::{Ack, Request};
use crate::record::Entry;
use crate::registry::{self, Handled, Registry};
use crate::roster::FinalizedWindow;
use crate::tally::{Code, DropReason, Tally};
use crate::window::Window;

use documents::Documents;

/// A request that passed the gate.
#[derive(Debug)]
pub struct Inbound {
    /// The way it took.
    pub path: Path,
    /// What it asks for.
    pub request: Request,
    /// Whether its source is trusted.
    pub trusted: bool,
}

/// What a node is told.
#[derive(Debug)]
pub enum Input {
    /// A request passed the gate.
    Request(Inbound),
    /// A member says that it holds its whole list.
    Ack(Path, Ack),
    /// The journal says what became of entries.
    Journal(Outcome),
    /// A document is durable, or why it could not be written.
    Archived(Window, Result<(), String>),
    /// A push found a full socket, and did not leave.
    Returned(Push),
    /// Time has passed: nothing else happened.
    Timeout,
}

/// What a node wants done.
#[derive(Debug)]
pub enum Output {
    /// An answer to a proven or trusted source: now, or never.
    Send(Transmit),
    /// A member's WINDOW: now, or it is given back as [`Input::Returned`].
    SendTrain(Push),
    /// Entries for the journal, to be submitted in this order.
    Append(Epoch, Vec<Entry>),
    /// A window whose document is to be written; one at a time, until [`Input::Archived`].
    Archive(Arc<FinalizedWindow>),
    /// A window whose journal is needed no more.
    Discard(Window),
    /// What the operator of the registry is told, in logs and on the page.
    Event(Event),
}

/// What happened, for people.
#[derive(Debug)]
pub enum Event {
    /// A window has opened, so late.
    Opened(Arc<FinalizedWindow>, Duration),
    /// A window with members was never opened, and its time is over.
    Missed(Arc<FinalizedWindow>),
    /// A window that was opened, or missed, before the start.
    Replayed(Arc<FinalizedWindow>),
    /// The journal refuses what is asked of it, or cannot say what becomes of it: clients are told
    /// `unavailable`.
    JournalRefuses(String),
    /// The journal takes records again.
    JournalRecovered,
    /// A window's document is durable.
    DocumentWritten(Window),
    /// A window's document could not be written; it is tried again.
    DocumentFails(String),
    /// Too many documents wait to be written: this one is written at the next start.
    DocumentPostponed(Window),
}

/// What a node has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered with what they asked for.
    pub answered: u64,
    /// Records that became durable.
    pub recorded: u64,
    /// Requests that were dropped or refused here, by reason.
    pub rejected: Tally,
}

/// The state of the journal, by its last outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JournalState {
    /// The journal accepts records.
    Works,
    /// The journal refused the last batch.
    Refuses,
    /// The journal cannot say what becomes of the batches that it has taken.
    Down,
}

/// One registry as a state machine.
///
/// Whoever runs it hands in what happens ([`Node::handle`], with [`Input::Timeout`] not later than
/// [`Node::poll_timeout`] says), and after each does what [`Node::poll`] yields, until it yields
/// nothing. Trains are the last that it yields: who has had enough of them may do something else
/// and come back.
#[derive(Debug)]
pub struct Node {
    registry: Registry,
    fanout: Option<Fanout>,
    /// What is submitted now; a refusal begins the next.
    epoch: Epoch,
    /// Entries that were submitted and of which nothing has been heard.
    submitted: usize,
    /// Entries that are durable and have not taken effect yet.
    durable: VecDeque<Entry>,
    journal_state: JournalState,
    /// Windows that have a journal.
    journals: BTreeSet<Window>,
    documents: Documents,
    outputs: VecDeque<Output>,
    counts: Counts,
}

impl Node {
    /// A node that goes on from what `registry` has replayed; `journals` are the windows that have
    /// one. What it replayed is archived, and announced if its time is not over.
    pub fn new(registry: Registry, journals: impl IntoIterator<Item = Window>, now: Now) -> Node {
        let mut node = Node {
            registry,
            fanout: None,
            epoch: Epoch::default(),
            submitted: 0,
            durable: VecDeque::new(),
            journal_state: JournalState::Works,
            journals: journals.into_iter().collect(),
            documents: Documents::new(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
        };
        node.follow_replay(now);
        node.handle(now, Input::Timeout);
        node
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Request(inbound) => self.handle_request(now, inbound),
            Input::Ack(path, ack) => self.handle_ack(path, &ack),
            Input::Journal(outcome) => self.handle_outcome(now, outcome),
            Input::Archived(window, result) => self.handle_archived(now, window, result),
            Input::Returned(push) => self.handle_returned(now, &push),
            Input::Timeout => {}
        }
        self.registry.handle_timeout(now);
    }

    /// What is to be done next.
    pub fn poll(&mut self, now: Now) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            // One at a time: after a stall of the disk thousands of answers may be due.
            match self.durable.pop_front() {
                Some(entry) => self.commit(now, entry),
                None => break,
            }
        }
        self.poll_append().or_else(|| self.poll_archive(now)).or_else(|| self.poll_train(now))
    }

    /// When [`Input::Timeout`] has something to do, if nothing happens before.
    pub fn poll_timeout(&self, now: Now) -> Alarm {
        let Alarm { wall, mono } = self.registry.poll_timeout(now);
        let fanout = self.fanout.as_ref().and_then(|fanout| fanout.poll_timeout(now));
        let moments = [mono, fanout, self.documents.poll_timeout()];
        Alarm { wall, mono: moments.into_iter().flatten().min() }
    }

    /// The window that is current: its rosters are frozen.
    pub fn current(&self) -> &Arc<FinalizedWindow> {
        self.registry.current()
    }

    /// The window being filled, and how many members it has.
    pub fn next(&self) -> (Window, usize) {
        self.registry.next()
    }

    /// Whether the journal takes records.
    pub fn journal_works(&self) -> bool {
        self.journal_state == JournalState::Works
    }

    /// What it has done since its start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether everything that was submitted is durable or refused, and its askers are told.
    pub fn is_settled(&self) -> bool {
        self.submitted == 0 && self.durable.is_empty() && self.outputs.is_empty()
    }

    /// Ends the announcement of the current window, whoever has not been told: it is archived.
    pub fn finish_announcement(&mut self) {
        if let Some(fanout) = self.fanout.take() {
            self.archive_announced(fanout.window());
        }
    }

    /// Whether no document waits to be written.
    pub fn is_archived(&self) -> bool {
        self.documents.is_empty()
    }

    fn handle_request(&mut self, now: Now, Inbound { path, request, trusted }: Inbound) {
        match self.registry.handle(now, path, request, trusted) {
            Handled::Answer(transmit) => self.answer(transmit),
            Handled::Refused(transmit, code) => self.refuse(transmit, code),
            Handled::Nothing(reason) => self.counts.rejected.count(reason),
            Handled::Proposed => {}
        }
    }

    fn handle_ack(&mut self, path: Path, ack: &Ack) {
        if !self.fanout.as_mut().is_some_and(|fanout| fanout.handle_ack(path, ack)) {
            self.counts.rejected.count(DropReason::NoMember);
        }
    }

    fn handle_outcome(&mut self, now: Now, outcome: Outcome) {
        match outcome {
            Outcome::Durable(entries) => {
                let own = entries.iter().filter(|entry| entry.ticket.is_some()).count();
                self.submitted -= own;
                self.counts.recorded += entries.len() as u64;
                self.note_durable();
                match self.durable.is_empty() {
                    true => self.durable = entries.into(),
                    false => self.durable.extend(entries),
                }
            }
            Outcome::Refused { epoch, batch, why } => {
                self.submitted -= batch.len();
                self.tell_refused(&batch);
                if epoch >= self.epoch {
                    self.epoch = epoch.next();
                    let proposed = self.registry.refuse(now);
                    self.tell_refused(&proposed);
                }
                self.note_refused(why);
            }
            Outcome::Down(why) => {
                let proposed = self.registry.suspend();
                self.tell_refused(&proposed);
                self.note_failing(JournalState::Down, why);
            }
        }
    }

    fn handle_archived(&mut self, now: Now, window: Window, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.documents.note_written(window);
                self.event(Event::DocumentWritten(window));
                self.discard_closed();
            }
            Err(why) => {
                if self.documents.note_failed(now, window) {
                    self.event(Event::DocumentFails(why));
                }
            }
        }
    }

    fn handle_returned(&mut self, now: Now, push: &Push) {
        let offered_again = self.fanout.as_mut().is_some_and(|fanout| fanout.give_back(now, push));
        if !offered_again {
            self.counts.rejected.count(DropReason::UnsentWindow);
        }
    }

    /// A durable entry takes effect.
    fn commit(&mut self, now: Now, entry: Entry) {
        if let Some(transmit) = self.registry.commit(now, entry) {
            self.answer(transmit);
        }
        self.follow_events(now);
    }

    fn follow_replay(&mut self, now: Now) {
        while let Some(event) = self.registry.poll_event() {
            let (registry::Event::Opened(window) | registry::Event::Missed(window)) = &event;
            self.event(Event::Replayed(window.clone()));
            self.follow(now, event);
        }
        self.documents.end_replay();
        self.discard_closed();
    }

    fn follow_events(&mut self, now: Now) {
        let mut next = self.registry.poll_event();
        if next.is_none() {
            return;
        }
        while let Some(event) = next {
            self.event(match &event {
                // By the clock, not by the journal: its disk may have made it later than that.
                registry::Event::Opened(window) => {
                    Event::Opened(window.clone(), window.window().opens().until(now.wall))
                }
                registry::Event::Missed(window) => Event::Missed(window.clone()),
            });
            self.follow(now, event);
            next = self.registry.poll_event();
        }
        self.discard_closed();
    }

    fn follow(&mut self, now: Now, event: registry::Event) {
        match event {
            registry::Event::Opened(window) => self.announce(now, window),
            registry::Event::Missed(window) => self.archive(window),
        }
    }

    /// Tells the members of a window, unless its time is over already: it was replayed.
    fn announce(&mut self, now: Now, window: Arc<FinalizedWindow>) {
        self.finish_announcement();
        if window.is_empty() {
            // There is nobody to tell, and nothing to write.
        } else if now.wall < window.closes() {
            self.documents.expect(window.window());
            self.fanout = Some(Fanout::new(window, now));
        } else {
            self.archive(window);
        }
    }

    /// Archives the window that is announced, unless that has been done.
    fn archive_announced(&mut self, window: &Arc<FinalizedWindow>) {
        if self.documents.is_expected(window.window()) {
            self.archive(window.clone());
        }
    }

    fn archive(&mut self, window: Arc<FinalizedWindow>) {
        if let Some(postponed) = self.documents.push(window) {
            self.event(Event::DocumentPostponed(postponed));
        }
    }

    /// Lets go of the journals of windows that have closed and whose document is durable. The
    /// window being filled may be of the past, if none has opened since it was: it was missed.
    fn discard_closed(&mut self) {
        let current = self.registry.current().window().min(self.registry.next().0);
        let closed: Vec<Window> = self.journals.range(..current).copied().collect();
        for window in closed {
            if !self.documents.needs_journal(window) {
                self.journals.remove(&window);
                self.outputs.push_back(Output::Discard(window));
            }
        }
    }

    /// One batch at a time: what comes meanwhile waits, and shares the next sync. An opening, which
    /// many wait for, waits for nothing.
    fn poll_append(&mut self) -> Option<Output> {
        if self.submitted > 0 && !self.registry.proposes_opening() {
            return None;
        }
        let batch = self.registry.take_proposals();
        if batch.is_empty() {
            return None;
        }
        self.submitted += batch.len();
        self.journals.extend(batch.iter().map(|entry| entry.record.window()));
        Some(Output::Append(self.epoch, batch))
    }

    /// The next document; of the current window once all its members have been told, so that the
    /// disk is not busy before.
    fn poll_archive(&mut self, now: Now) -> Option<Output> {
        if let Some(fanout) = self.fanout.as_ref().filter(|fanout| fanout.has_told_all()) {
            let window = fanout.window().clone();
            self.archive_announced(&window);
        }
        self.documents.poll(now).map(Output::Archive).or_else(|| self.outputs.pop_front())
    }

    fn poll_train(&mut self, now: Now) -> Option<Output> {
        self.fanout.as_mut()?.poll_transmit(now).map(Output::SendTrain)
    }

    fn answer(&mut self, transmit: Transmit) {
        self.counts.answered += 1;
        self.outputs.push_back(Output::Send(transmit));
    }

    fn refuse(&mut self, transmit: Transmit, code: Code) {
        self.counts.rejected.count(code);
        self.outputs.push_back(Output::Send(transmit));
    }

    fn tell_refused(&mut self, batch: &[Entry]) {
        for transmit in batch.iter().filter_map(|entry| registry::refused(&entry.record)) {
            self.refuse(transmit, Code::Unavailable);
        }
    }

    fn note_durable(&mut self) {
        if self.stays_down() {
            return;
        }
        self.registry.go_on();
        if std::mem::replace(&mut self.journal_state, JournalState::Works) != JournalState::Works {
            self.event(Event::JournalRecovered);
        }
    }

    fn note_refused(&mut self, why: String) {
        if self.stays_down() {
            self.registry.suspend();
        } else {
            self.registry.go_on();
            self.note_failing(JournalState::Refuses, why);
        }
    }

    /// Whether an outage lasts: it ends when the outcome of all that was submitted is known. What is
    /// submitted before that would wait without an answer.
    fn stays_down(&self) -> bool {
        self.journal_state == JournalState::Down && self.submitted > 0
    }

    fn note_failing(&mut self, state: JournalState, why: String) {
        if std::mem::replace(&mut self.journal_state, state) == JournalState::Works {
            self.event(Event::JournalRefuses(why));
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
