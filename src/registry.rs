//! The registry (node D) as a pure state machine: decides which clients are in which window.
//!
//! ```text
//!               handle                       commit
//!   request ──────┬──▶ proposal ──▶ journal ──┬──▶ takes effect ──▶ answer
//!                 └──▶ answer at once         └──▶ `open`: Event::Opened
//!                      (nothing changes)
//!
//!   wall clock    11:28:34.1     11:28:59.99  11:29:00.000       11:29:00.1
//!                 register       register     open 11:29         register
//!   is for        11:29          11:29                           11:30
//! ```
//!
//! A window whose whole time passes before it could be opened is missed: its last record is then
//! `missed`, and not `open`.
//!
//! The effect of a request is decided once, when its record takes its place in the journal's
//! order; replaying the journal runs the same `commit`. Nothing else changes a roster.

mod answers;
mod caps;
mod in_flight;
mod requests;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::clock::{Alarm, Now, remedy_for_behind};
use crate::cookie::Secret;
use crate::mesh::ListCap;
use crate::path::{Path, Transmit};
use crate::proto::{Request, RequestKind};
use crate::record::{Entry, Header, Leaving, Missing, Opening, Record, Registration, Ticket};
use crate::roster::{Ended, FinalizedWindow, Member, NextWindow};
use crate::tally::{Code, DropReason};
use crate::window::{Length, Wall, Window};

pub use answers::unavailable_answer;
pub use caps::Caps;
use in_flight::InFlight;

/// How long after a refused batch the next one is proposed; sent to clients as `retry_in_ms`.
const REFUSAL_BACKOFF: Duration = Duration::from_millis(250);

/// The settings of a registry. After a restart, length and list cap hold from the first window on
/// that has no record yet: what clients were told of the windows before stands.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The length of new windows.
    pub length: Length,
    /// The most peers in an own list, the list that one member is sent, in new windows.
    pub cap: ListCap,
    /// The limits of members and rooms of a window.
    pub caps: Caps,
}

/// The result of handling a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Handled {
    /// The request changes nothing; this is its answer.
    Answer(Transmit),
    /// The request's record was proposed ([`Registry::take_proposals`] returns it), and is answered
    /// once it is durable.
    Proposed,
    /// The request is refused; this is the ERROR and its code.
    Refused(Transmit, Code),
    /// The request is dropped without an answer, for this reason.
    Dropped(DropReason),
}

/// An event that a registry reports to its caller.
#[derive(Debug)]
pub enum Event {
    /// A window has opened: its members must be told.
    Opened(Arc<FinalizedWindow>),
    /// A window with members has ended without being opened.
    Missed(Arc<FinalizedWindow>),
    /// A window was read back, in a replay, that had been opened or missed before.
    Replayed(Ended),
}

/// Why a registry cannot start from its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResumeError {
    /// The clock is earlier than the last opened window, but time never runs back (rule 6).
    #[error(
        "the clock says {now}, but window {last} has been opened already: {}",
        remedy_for_behind(now.until(last.opens()))
    )]
    ClockBehind {
        /// The last opened window.
        last: Window,
        /// The time of the wall clock.
        now: Wall,
    },
    /// The clock says a time before 1970 or after 9999, for which there are no windows.
    #[error(
        "the clock says a time before 1970 or after 9999, which has no windows: set the clock right"
    )]
    NoWindows,
}

/// A registry without sockets, disk or clock: time is passed in, answers and events are returned.
///
/// The caller hands requests to [`handle`](Registry::handle), calls
/// [`handle_timeout`](Registry::handle_timeout) when [`poll_timeout`](Registry::poll_timeout) says
/// so, brings what [`take_proposals`](Registry::take_proposals) yields into the journal in that
/// order, and then calls [`commit`](Registry::commit) for each record, or
/// [`refuse`](Registry::refuse) for all that are in flight.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    secret: Arc<Secret>,
    current: Arc<FinalizedWindow>,
    last_opened: Option<Window>,
    /// Whether the journal is being read back: closed windows are then not kept.
    is_replaying: bool,
    /// The window that the journal is filling.
    next: NextWindow,
    /// Whether the journal has a record of `next`, which holds its settings and is to be ended by
    /// `open` or `missed`.
    next_has_begun: bool,
    /// The window after `next`, with what is proposed for it while the opening of `next` is in
    /// flight.
    after: Option<NextWindow>,
    in_flight: InFlight,
    ticket: Ticket,
    /// Nothing is proposed before this moment of the monotonic clock, or ever while it is `None`.
    proposes_from: Option<Duration>,
    proposals: Vec<Entry>,
    /// Whether an opening is among the proposals.
    proposes_opening: bool,
    events: VecDeque<Event>,
}

/// One window as its journal tells it, without a registry around it: for its document.
#[derive(Debug)]
pub struct WindowReplay {
    /// The window with its members.
    pub filling: NextWindow,
    /// When the window opened; `None` if it was missed.
    pub opened: Option<Wall>,
}

impl WindowReplay {
    /// Makes a window whose journal begins with this header.
    pub fn new(Header { window, length, cap }: Header) -> WindowReplay {
        let filling = NextWindow::new(window, length, cap.unwrap_or_default());
        WindowReplay { filling, opened: None }
    }

    /// Applies a record of the window's journal.
    pub fn commit(&mut self, record: Record) {
        match record {
            Record::Open(opening) => self.opened = Some(opening.at),
            Record::Missed(_) => {}
            Record::Register(it) => enter(&mut self.filling, it, 0),
            Record::Leave(it) => self.filling.leave(it.id, it.path.peer, it.seq),
        }
    }
}

/// Adds the member of a registration, which was `heard` of then, to its window.
fn enter(window: &mut NextWindow, registration: Registration, heard: u32) {
    let Registration { at, path, id, seq, profile, .. } = registration;
    window.register(Member { path, id, profile, registered: at, heard }, seq);
}

impl Registry {
    /// Makes an empty registry. A journal is then replayed through [`commit`](Registry::commit)
    /// without tickets, and [`resume`](Registry::resume) is called.
    pub fn new(config: Config, secret: Arc<Secret>, now: Now) -> Registry {
        let window = config.length.window_at(now.wall);
        let before = config.length.window_at(Wall::from_millis(window.opens().millis() - 1));
        let nobody = NextWindow::new(before, config.length, config.cap);
        Registry {
            current: Arc::new(nobody.finalize(None, &secret)),
            next: NextWindow::new(window, config.length, config.cap),
            next_has_begun: false,
            after: None,
            config,
            secret,
            last_opened: None,
            is_replaying: true,
            in_flight: InFlight::default(),
            ticket: Ticket::FIRST,
            proposes_from: Some(Duration::ZERO),
            proposals: Vec::new(),
            proposes_opening: false,
            events: VecDeque::new(),
        }
    }

    /// Notes in a replay that the journal of a window begins, with the settings of that window.
    pub fn begin(&mut self, Header { window, length, cap }: Header) {
        self.miss_before(window);
        if self.next.is_empty() {
            self.next = NextWindow::new(window, length, cap.unwrap_or(self.config.cap));
            self.next_has_begun = true;
        }
    }

    /// Checks, after the replay, that the clock fits the journal.
    pub fn resume(&mut self, now: Now) -> Result<(), ResumeError> {
        self.is_replaying = false;
        match self.last_opened {
            Some(last) if now.wall.plus(self.current.length().span()) < last.opens() => {
                Err(ResumeError::ClockBehind { last, now: now.wall })
            }
            _ if now.wall.is_clamped() => Err(ResumeError::NoWindows),
            _ => Ok(()),
        }
    }

    /// Returns the current window, whose rosters are frozen.
    pub fn current(&self) -> &Arc<FinalizedWindow> {
        &self.current
    }

    /// Returns the window being filled, and the number of its members.
    pub fn next(&self) -> (Window, usize) {
        (self.next.window(), self.next.len())
    }

    /// Returns the length of the window being filled.
    pub fn next_length(&self) -> Length {
        self.next.length()
    }

    /// Returns whether the end of a window's registrations, `open` or `missed`, has been proposed
    /// and is not durable yet.
    pub fn is_opening(&self) -> bool {
        self.in_flight.has_ending()
    }

    /// Returns whether `open` or `missed` is among the proposals that have not been taken yet.
    pub fn proposes_opening(&self) -> bool {
        self.proposes_opening
    }

    /// Handles a request that passed the gate; a trusted source has no cap of members per address.
    pub fn handle(&mut self, now: Now, path: Path, request: Request, trusted: bool) -> Handled {
        self.handle_timeout(now);
        match request.kind {
            RequestKind::Register(profile) => {
                self.handle_register(now, path, (request.id, request.seq), profile, trusted)
            }
            RequestKind::Leave => self.handle_leave(now, path, (request.id, request.seq), trusted),
            RequestKind::Query { ref room, part } => {
                self.answer_query(now, path, &request, room, part)
            }
        }
    }

    /// Proposes `open` when the next window's time has come; once that has passed, `missed`, and
    /// `open` for the window whose time it is.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.is_due(now) || self.is_opening() || self.is_backing_off(now) {
            return;
        }
        let (window, at) = (self.next.window(), now.wall);
        let (length, cap) = (self.next.length(), self.next.cap());
        if at < self.next.closes() {
            return self.propose_opening(Opening { window, length, cap: Some(cap), at });
        }
        if self.next_has_begun || self.in_flight.records() > 0 {
            self.propose_end(Record::Missed(Missing { window, at }), self.next.closes());
        }
        let Config { length, cap, .. } = self.config;
        let window = length.window_at(at);
        // After a window of another length, the next one may be yet to come.
        if window.opens() >= self.next.closes() {
            self.propose_opening(Opening { window, length, cap: Some(cap), at });
        }
    }

    fn propose_opening(&mut self, opening: Opening) {
        self.propose_end(Record::Open(opening), opening.length.closes(opening.window));
    }

    /// Proposes the last record of a window; what is proposed from now on is for the first window
    /// that begins when that one has closed, or later.
    fn propose_end(&mut self, end: Record, closes: Wall) {
        self.propose(end);
        self.proposes_opening = true;
        self.after = Some(self.window_from(closes));
    }

    /// Takes the proposed records, which must be appended to the journal in this order.
    pub fn take_proposals(&mut self) -> Vec<Entry> {
        self.proposes_opening = false;
        std::mem::take(&mut self.proposals)
    }

    /// Returns the next event for the caller, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`handle_timeout`](Registry::handle_timeout) must be called next.
    pub fn poll_timeout(&self, now: Now) -> Alarm {
        if self.is_opening() {
            Alarm::default()
        } else if self.is_due(now) {
            Alarm::mono(self.proposes_from)
        } else {
            Alarm { wall: Some(self.next.window().opens()), mono: None }
        }
    }

    /// Applies a record that is durable in the journal, and returns the answer to the client that
    /// asked for it; `None` for an opening, and in a replay, where records have no ticket.
    pub fn commit(&mut self, now: Now, Entry { ticket, record }: Entry) -> Option<Transmit> {
        if let Some(ticket) = ticket {
            self.in_flight.remove(ticket, &record, &mut self.next);
        }
        self.miss_before(record.window());
        match record {
            Record::Open(opening) => {
                self.open(opening);
                None
            }
            Record::Missed(Missing { window, .. }) => {
                if self.next.window() == window {
                    self.miss();
                }
                None
            }
            Record::Register(it) => {
                let answer = ticket.map(|_| self.answer_registration(now, &it));
                let heard = if ticket.is_some() { now.tenths() } else { 0 };
                enter(&mut self.next, it, heard);
                self.next_has_begun = true;
                answer
            }
            Record::Leave(Leaving { window, path, id, seq, .. }) => {
                self.next.leave(id.clone(), path.peer, seq);
                self.next_has_begun = true;
                ticket.map(|_| answers::left_answer(path, id, seq, window))
            }
        }
    }

    /// Drops everything in flight, after the journal has refused a batch and all that was proposed
    /// after it, and proposes nothing for a while. Returns the proposals that had not been taken: the clients that sent them get an
    /// ERROR.
    pub fn refuse(&mut self, now: Now) -> Vec<Entry> {
        self.proposes_from = Some(now.mono + REFUSAL_BACKOFF);
        self.in_flight.clear(&mut self.next);
        self.after = None;
        self.take_proposals()
    }

    /// Stops proposing until [`Registry::end_suspension`]: the journal cannot say what becomes of
    /// what it has taken, which stays in flight. Returns the proposals that had not been taken: the
    /// clients that sent them get an ERROR.
    pub fn suspend(&mut self) -> Vec<Entry> {
        self.proposes_from = None;
        let proposals = self.take_proposals();
        self.forget(&proposals);
        proposals
    }

    /// Drops the records of a refused batch alone, while the journal cannot say what becomes of
    /// others.
    pub fn forget(&mut self, gone: &[Entry]) {
        self.in_flight.forget(gone, &mut self.next, self.after.as_mut());
        if !self.is_opening() {
            self.after = None;
        }
    }

    /// Allows proposals again after [`Registry::suspend`]. Until then, the journal must have
    /// reported the outcome of every record that it had taken.
    pub fn end_suspension(&mut self) {
        self.proposes_from.get_or_insert(Duration::ZERO);
    }

    fn is_due(&self, now: Now) -> bool {
        now.wall >= self.next.window().opens()
    }

    fn is_backing_off(&self, now: Now) -> bool {
        self.proposes_from.is_none_or(|from| now.mono < from)
    }

    /// Proposes a record: gives it the next ticket, its place in the journal's order.
    fn propose(&mut self, record: Record) {
        let ticket = self.ticket;
        self.ticket = ticket.next();
        let filling = self.after.as_mut().unwrap_or(&mut self.next);
        self.in_flight.insert(ticket, &record, filling);
        self.proposals.push(Entry { ticket: Some(ticket), record });
    }

    /// Returns the window that a record proposed now is for, with its members so far.
    fn window_to_fill(&self) -> &NextWindow {
        self.after.as_ref().unwrap_or(&self.next)
    }

    /// Makes an empty window: the first one that begins at `moment` or later.
    fn window_from(&self, moment: Wall) -> NextWindow {
        let Config { length, cap, .. } = self.config;
        NextWindow::new(length.first_from(moment), length, cap)
    }

    fn open(&mut self, opening: Opening) {
        let Opening { window, length, cap, at } = opening;
        let after = self.take_after(length.closes(window));
        let cap = cap.unwrap_or(self.config.cap);
        let filling = match self.next.window() == window {
            true => self.fill(after).with_cap(cap),
            false => NextWindow::new(window, length, cap),
        };
        self.current = Arc::new(filling.finalize(Some(at), &self.secret));
        self.last_opened = Some(window);
        self.events.push_back(match self.is_replaying {
            true => Event::Replayed(self.current.ended()),
            false => Event::Opened(self.current.clone()),
        });
    }

    /// Marks the window being filled as missed.
    fn miss(&mut self) {
        let after = self.take_after(self.next.closes());
        let missed = self.fill(after);
        self.report_missed(missed);
    }

    /// If the window being filled is earlier than `window`, which the journal has reached, marks it
    /// as missed and fills `window`. A journal of format 1 has no `missed`.
    fn miss_before(&mut self, window: Window) {
        if self.next.window() < window {
            let missed = self.fill(NextWindow::new(window, self.config.length, self.config.cap));
            self.report_missed(missed);
        }
    }

    fn report_missed(&mut self, missed: NextWindow) {
        let (window, members, rooms) = (missed.window(), missed.len(), missed.census().rooms());
        if members == 0 {
            return;
        }
        self.events.push_back(match self.is_replaying {
            true => Event::Replayed(Ended { window, opened: None, members, rooms }),
            false => Event::Missed(Arc::new(missed.finalize(None, &self.secret))),
        });
    }

    /// Takes the window to fill after the one that closes then, with what has been proposed for it;
    /// while another `open` or `missed` is in flight, that is a later one.
    fn take_after(&mut self, closes: Wall) -> NextWindow {
        let own = if self.is_opening() { None } else { self.after.take() };
        own.unwrap_or_else(|| self.window_from(closes))
    }

    /// Fills `window` from now on, and returns the one that was being filled.
    fn fill(&mut self, window: NextWindow) -> NextWindow {
        self.next_has_begun = false;
        std::mem::replace(&mut self.next, window)
    }
}
