//! A whole registry as a pure state machine without sockets, disk or clock: decides in which order
//! requests, journal and announcements are handled.
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
//! The program's loop, the simulation and the tests on real files all run a [`Node`], and none of
//! them knows the order. A node waits for time, datagrams and the outcome of its journal, and for
//! nothing else.

mod documents;
#[cfg(test)]
mod tests;
mod wait;

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
use crate::roster::{Ended, FinalizedWindow};
use crate::tally::{Code, DropReason, Tally};
use crate::window::{Length, Window};

pub use documents::DocumentSource;
use documents::Documents;
use wait::Wait;

/// How long the journal may take for a batch until that is reported.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that passed the gate.
#[derive(Debug)]
pub struct Inbound {
    /// The path that the request came by.
    pub path: Path,
    /// The decoded request, REGISTER, LEAVE or QUERY.
    pub request: Request,
    /// Whether the source is in a trusted network (`--trust`).
    pub trusted: bool,
}

/// An event that is handed to a node.
#[derive(Debug)]
pub enum Input {
    /// A request passed the gate.
    Request(Inbound),
    /// A member acknowledged that it holds its whole list.
    Ack(Path, Ack),
    /// The journal reported the outcome of entries.
    Journal(Outcome),
    /// A window's document is durable, or could not be written, for this reason.
    Archived(Window, Result<(), String>),
    /// A push was not sent, as the socket was full.
    Returned(Push),
    /// Time has passed, and nothing else happened.
    Timeout,
}

/// An action that the caller must carry out for a node.
#[derive(Debug)]
pub enum Output {
    /// Send an answer to a proven or trusted source now, or drop it.
    Send(Transmit),
    /// Send a member's WINDOW now, or give it back as [`Input::Returned`].
    SendTrain(Push),
    /// Submit these entries to the journal, in this order.
    Append(Epoch, Vec<Entry>),
    /// Write a window's document. The next such output comes after [`Input::Archived`].
    Archive(DocumentSource),
    /// Discard the journal of this window, which is no longer needed.
    Discard(Window),
    /// Report this to the operator of the registry, in the log and on the status page.
    Event(Event),
}

/// An event for the operator of the registry.
#[derive(Debug)]
pub enum Event {
    /// A window has opened, later than it should by this duration.
    Opened(Arc<FinalizedWindow>, Duration),
    /// A window with members has ended without being opened.
    Missed(Arc<FinalizedWindow>),
    /// A window was read back at the start that had been opened or missed before.
    Replayed(Ended),
    /// The journal refuses records, cannot say what becomes of them, or says nothing for long: no
    /// registration is acked.
    JournalRefuses(String),
    /// The journal takes records again.
    JournalRecovered,
    /// A window's document is durable.
    DocumentWritten(Window),
    /// A window's document could not be written, for this reason; the write is retried.
    DocumentFails(String),
}

/// Counts of requests and records since the node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were granted and answered.
    pub answered: u64,
    /// Records that became durable.
    pub recorded: u64,
    /// Requests that the node dropped or refused, by reason.
    pub rejected: Tally,
}

/// The state of the journal, by its last outcome, or by the lack of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JournalState {
    /// The journal accepts records.
    Works,
    /// The journal refused the last batch, or was down without one.
    Refuses,
    /// The journal cannot say what becomes of the batches that it has taken.
    Down,
    /// The journal has said nothing for too long.
    Hangs,
}

/// Says that the disk has not ended a write of `what` for so long.
fn hangs(what: &str, longest: Duration) -> String {
    let seconds = longest.as_secs();
    format!("a write of {what} has not ended for {seconds} s: the disk of --data hangs")
}

/// One registry as a state machine.
///
/// The caller hands in what happens ([`Node::handle`], with [`Input::Timeout`] no later than
/// [`Node::poll_timeout`] says), and after each input carries out what [`Node::poll`] returns,
/// until that is `None`. Trains are returned last: the caller may stop polling at them, handle
/// other inputs and poll again.
#[derive(Debug)]
pub struct Node {
    registry: Registry,
    fanout: Option<Fanout>,
    /// The epoch that batches are submitted in; a refusal begins the next one.
    epoch: Epoch,
    /// The number of entries that were submitted and whose outcome is pending.
    submitted: usize,
    /// The wait for the outcome of the oldest of them.
    wait: Option<Wait>,
    /// Entries that are durable and have not taken effect yet.
    durable: VecDeque<Entry>,
    journal_state: JournalState,
    /// Why the journal does not accept records, as last reported.
    last_refusal: String,
    /// The windows that have a journal.
    journals: BTreeSet<Window>,
    documents: Documents,
    outputs: VecDeque<Output>,
    counts: Counts,
}

impl Node {
    /// Makes a node from a registry that has replayed its journal; `journals` are the windows that
    /// have one. Archives the replayed windows, and announces the last if that has not closed yet.
    pub fn new(registry: Registry, journals: impl IntoIterator<Item = Window>, now: Now) -> Node {
        let mut node = Node {
            registry,
            fanout: None,
            epoch: Epoch::default(),
            submitted: 0,
            wait: None,
            durable: VecDeque::new(),
            journal_state: JournalState::Works,
            last_refusal: String::new(),
            journals: journals.into_iter().collect(),
            documents: Documents::default(),
            outputs: VecDeque::new(),
            counts: Counts::default(),
        };
        node.follow_replay(now);
        node.handle(now, Input::Timeout);
        node
    }

    /// Handles an input: the actions that follow from it are returned by [`Node::poll`].
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Request(inbound) => self.handle_request(now, inbound),
            Input::Ack(path, ack) => self.handle_ack(path, &ack),
            Input::Journal(outcome) => {
                self.handle_outcome(now, outcome);
                self.wait = (self.submitted > 0).then(|| Wait::new(now, JOURNAL_TIMEOUT));
            }
            Input::Archived(window, result) => self.handle_archived(now, window, result),
            Input::Returned(push) => self.handle_returned(now, &push),
            Input::Timeout => {}
        }
        self.look_for_hangs(now);
        self.registry.handle_timeout(now);
    }

    /// Returns the next action to carry out, if any.
    pub fn poll(&mut self, now: Now) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            // One entry at a time: after a stall of the disk thousands of answers may be due.
            match self.durable.pop_front() {
                Some(entry) => self.commit(now, entry),
                None => break,
            }
        }
        self.poll_append(now).or_else(|| self.poll_archive(now)).or_else(|| self.poll_train(now))
    }

    /// Returns when [`Input::Timeout`] is due, if nothing happens before.
    pub fn poll_timeout(&self, now: Now) -> Alarm {
        let Alarm { wall, mono } = self.registry.poll_timeout(now);
        let fanout = self.fanout.as_ref().and_then(|fanout| fanout.poll_timeout(now));
        let wait = self.wait.map(|wait| wait.look_at());
        let moments = [mono, fanout, self.documents.poll_timeout(), wait];
        Alarm { wall, mono: moments.into_iter().flatten().min() }
    }

    /// Returns the current window, whose rosters are frozen.
    pub fn current(&self) -> &Arc<FinalizedWindow> {
        self.registry.current()
    }

    /// Returns the window being filled, and the number of its members.
    pub fn next(&self) -> (Window, usize) {
        self.registry.next()
    }

    /// Returns the time from the opening before to the next, or the length of the window being
    /// filled if none has opened just before.
    pub fn length(&self) -> Length {
        let current = self.current();
        match current.opened().is_some() && current.closes() == self.next().0.opens() {
            true => current.length(),
            false => self.registry.next_length(),
        }
    }

    /// Returns whether the journal accepts records.
    pub fn journal_works(&self) -> bool {
        self.journal_state == JournalState::Works
    }

    /// Returns the counts of requests and records since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Returns whether everything submitted is durable or refused, and the answers are polled.
    pub fn is_settled(&self) -> bool {
        self.submitted == 0 && self.durable.is_empty() && self.outputs.is_empty()
    }

    /// Ends the announcement of the current window, even if some members have not been sent it, and
    /// archives the window.
    pub fn finish_announcement(&mut self) {
        if let Some(fanout) = self.fanout.take() {
            self.archive_announced(fanout.window());
        }
    }

    /// Returns whether each document is written that can be.
    pub fn is_archived(&self) -> bool {
        self.documents.is_settled()
    }

    /// Returns the number of documents that could not be written when they were last tried.
    pub fn failing_documents(&self) -> usize {
        self.documents.failing()
    }

    /// Notes that the disk does not end a write of the journal or of a document.
    fn look_for_hangs(&mut self, now: Now) {
        let is_too_long = self.wait.as_mut().is_some_and(|wait| wait.is_too_long(now));
        if is_too_long && self.journal_works() {
            self.note_failing(JournalState::Hangs, hangs("the journal", JOURNAL_TIMEOUT));
        }
        if let Some((window, longest)) = self.documents.look_for_hang(now) {
            let what = format!("the document of {window}");
            self.report(Event::DocumentFails(hangs(&what, longest)));
        }
    }

    fn handle_request(&mut self, now: Now, Inbound { path, request, trusted }: Inbound) {
        match self.registry.handle(now, path, request, trusted) {
            Handled::Answer(transmit) => self.answer(transmit),
            Handled::Refused(transmit, code) => self.refuse(transmit, code),
            Handled::Dropped(reason) => self.counts.rejected.count(reason),
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
            Outcome::Refused { epoch, batch, why } => self.handle_refusal(now, epoch, &batch, why),
            // Against the contract: with nothing pending, no outcome would ever end the outage.
            Outcome::Down(why) if self.submitted == 0 => {
                self.back_off(now);
                self.note_failing(JournalState::Refuses, why);
            }
            Outcome::Down(why) => {
                let proposed = self.registry.suspend();
                self.tell_refused(&proposed);
                self.note_failing(JournalState::Down, why);
            }
        }
    }

    fn handle_refusal(&mut self, now: Now, epoch: Epoch, batch: &[Entry], why: String) {
        self.submitted -= batch.len();
        self.tell_refused(batch);
        let ends_epoch = epoch >= self.epoch;
        self.epoch = self.epoch.max(epoch.next());
        if self.stays_down() {
            return self.registry.forget(batch);
        }
        if ends_epoch || self.journal_state == JournalState::Down {
            self.back_off(now);
        }
        self.note_failing(JournalState::Refuses, why.clone());
        // A journal that has lost its storage may have refused for another reason before.
        if batch.is_empty() && self.last_refusal != why {
            self.report_refusal(why);
        }
    }

    fn handle_archived(&mut self, now: Now, window: Window, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.documents.note_written(window);
                self.report(Event::DocumentWritten(window));
                self.discard_closed();
            }
            Err(why) => {
                if let Some(others) = self.documents.note_failed(now, window) {
                    self.report(Event::DocumentFails(match others {
                        0 => why,
                        _ => format!("{why}; documents that cannot be written either: {others}"),
                    }));
                }
            }
        }
    }

    fn handle_returned(&mut self, now: Now, push: &Push) {
        let is_retried = self.fanout.as_mut().is_some_and(|fanout| fanout.retry_later(now, push));
        if !is_retried {
            self.counts.rejected.count(DropReason::UnsentWindow);
        }
    }

    /// Applies a durable entry to the registry, and queues the answer.
    fn commit(&mut self, now: Now, entry: Entry) {
        if let Some(transmit) = self.registry.commit(now, entry) {
            self.answer(transmit);
        }
        self.follow_events(now);
    }

    fn follow_replay(&mut self, now: Now) {
        while let Some(event) = self.registry.poll_event() {
            let registry::Event::Replayed(ended) = event else { continue };
            if ended.members > 0 {
                self.documents.push_replayed(ended.window);
            }
            self.report(Event::Replayed(ended));
        }
        let current = self.registry.current();
        if current.opened().is_some() && now.wall < current.closes() {
            self.announce(now, current.clone());
        }
        self.discard_closed();
    }

    fn follow_events(&mut self, now: Now) {
        let mut next = self.registry.poll_event();
        if next.is_none() {
            return;
        }
        while let Some(event) = next {
            self.report(match &event {
                // Late by the clock, not by the record's time: the disk may have added a delay.
                registry::Event::Opened(window) => {
                    Event::Opened(window.clone(), window.window().opens().until(now.wall))
                }
                registry::Event::Missed(window) => Event::Missed(window.clone()),
                registry::Event::Replayed(ended) => Event::Replayed(*ended),
            });
            self.follow_event(now, event);
            next = self.registry.poll_event();
        }
        self.discard_closed();
    }

    fn follow_event(&mut self, now: Now, event: registry::Event) {
        match event {
            registry::Event::Opened(window) => self.announce(now, window),
            registry::Event::Missed(window) => self.documents.push(window),
            registry::Event::Replayed(_) => {}
        }
    }

    /// Starts to tell the members of a window that it has opened, unless it has closed already.
    fn announce(&mut self, now: Now, window: Arc<FinalizedWindow>) {
        self.finish_announcement();
        if window.is_empty() {
            // Without members there is nothing to announce or to write.
        } else if now.wall < window.closes() {
            self.documents.expect(window.window());
            self.fanout = Some(Fanout::new(window, now));
        } else {
            self.documents.push(window);
        }
    }

    /// Archives the window that is announced, unless that has been done already.
    fn archive_announced(&mut self, window: &Arc<FinalizedWindow>) {
        if self.documents.is_expected(window.window()) {
            self.documents.push(window.clone());
        }
    }

    /// Discards the journals of windows that have closed and whose document is durable. The window
    /// being filled may lie in the past, if it was missed and none has opened since.
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

    /// Returns the next batch for the journal, once the batch before is durable: proposals that
    /// come meanwhile share the next sync. An opening, which many wait for, is not held back.
    fn poll_append(&mut self, now: Now) -> Option<Output> {
        if self.submitted > 0 && !self.registry.proposes_opening() {
            return None;
        }
        let batch = self.registry.take_proposals();
        if batch.is_empty() {
            return None;
        }
        self.submitted += batch.len();
        self.wait.get_or_insert_with(|| Wait::new(now, JOURNAL_TIMEOUT));
        self.journals.extend(batch.iter().map(|entry| entry.record.window()));
        Some(Output::Append(self.epoch, batch))
    }

    /// Returns the next window whose document is to be written. The current window's turn comes
    /// once all its members have been sent their first push, so that the disk is not busy before.
    fn poll_archive(&mut self, now: Now) -> Option<Output> {
        if let Some(fanout) = self.fanout.as_ref().filter(|fanout| fanout.has_pushed_to_all()) {
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
        for transmit in batch.iter().filter_map(|entry| registry::unavailable_answer(&entry.record))
        {
            self.refuse(transmit, Code::Unavailable);
        }
    }

    /// Drops everything in flight and proposes nothing for a while; tells those who wait for a
    /// proposal that was not submitted yet.
    fn back_off(&mut self, now: Now) {
        let proposed = self.registry.refuse(now);
        self.tell_refused(&proposed);
    }

    /// Takes records again, unless an outage lasts.
    fn note_durable(&mut self) {
        if self.stays_down() {
            return;
        }
        self.registry.end_suspension();
        if std::mem::replace(&mut self.journal_state, JournalState::Works) != JournalState::Works {
            self.documents.retry_now();
            self.report(Event::JournalRecovered);
        }
    }

    /// Returns whether the journal is still down: an outage ends when the outcome of all submitted
    /// entries is known. What is submitted before its end would wait without an answer.
    fn stays_down(&self) -> bool {
        self.journal_state == JournalState::Down && self.submitted > 0
    }

    /// Notes that the journal does not accept records, and reports the first time.
    fn note_failing(&mut self, state: JournalState, why: String) {
        if std::mem::replace(&mut self.journal_state, state) == JournalState::Works {
            self.report_refusal(why);
        }
    }

    fn report_refusal(&mut self, why: String) {
        self.last_refusal.clone_from(&why);
        self.report(Event::JournalRefuses(why));
    }

    fn report(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
