//! Node D as a pure state machine: who is in which window.
//!
//! ```text
//!               handle                       commit
//!   request ──────┬──▶ proposal ──▶ log ──────┬──▶ takes effect ──▶ answer
//!                 └──▶ answer at once         └──▶ `open`: Event::Opened
//!                      (nothing changes)
//!
//!   wall clock    11:28:34.1     11:28:59.99  11:29:00.000       11:29:00.1
//!                 register       register     open 11:29         register
//!   is for        11:29          11:29                           11:30
//! ```
//!
//! What a request means is decided once, when its record takes its place in the log's order;
//! replaying the log runs the same `commit`. Nothing else changes a roster.

mod answers;
mod caps;
mod in_flight;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::clock::{Alarm, Now};
use crate::cookie::Secret;
use crate::mesh::ListCap;
use crate::path::{Path, Transmit};
use crate::proto::{Id, Profile, Request, RequestKind};
use crate::record::{Leaving, Opening, Record, Registration, Ticket};
use crate::roster::{FinalizedWindow, Member, Memory, NextWindow, Slot, Standing};
use crate::tally::{Code, DropReason};
use crate::window::{Length, Wall, Window};

pub use caps::Caps;
use in_flight::{Action, InFlight};

/// How long after a refused batch the next one is tried; told to clients as `retry_in_ms`.
const REFUSAL_BACKOFF: Duration = Duration::from_millis(250);

/// What a registry is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long its windows are.
    pub length: Length,
    /// How many peers an own list holds.
    pub cap: ListCap,
    /// How many members a window takes.
    pub caps: Caps,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Handled {
    /// It changes nothing; here is its answer.
    Answer(Transmit),
    /// It is answered when its record is durable: [`Registry::poll_proposal`] has it.
    Proposed,
    /// It is refused; here is the ERROR.
    Refused(Transmit, Code),
    /// Nothing.
    Nothing(DropReason),
}

/// What a registry tells its surroundings.
#[derive(Debug)]
pub enum Event {
    /// A window has opened: tell its members.
    Opened(Arc<FinalizedWindow>),
    /// A window with members was never opened, and its time is over.
    Missed(Arc<FinalizedWindow>),
}

/// RejectReason a registry cannot go on from its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResumeError {
    /// Time never runs back (rule 6).
    #[error(
        "the clock says {now}, but window {last} has been opened already: set the clock right, or \
         start with another --data"
    )]
    ClockBehind {
        /// The last opened window.
        last: Window,
        /// What the clock says.
        now: Wall,
    },
    /// Who was told a window must be in it, and it cannot be if windows begin elsewhere.
    #[error(
        "{} for window {window}, made with --window {was}s: start with that until it has opened, or \
         with another --data",
        waiting(*.members)
    )]
    OtherLength {
        /// The window that they were told.
        window: Window,
        /// How many wait.
        members: usize,
        /// Its length in seconds.
        was: u32,
    },
}

fn waiting(members: usize) -> String {
    if members == 1 { "1 member waits".to_owned() } else { format!("{members} members wait") }
}

/// A registry without sockets, disk or clock: time is passed in, bytes and events come out.
///
/// The caller hands requests to [`handle`](Registry::handle), calls
/// [`handle_timeout`](Registry::handle_timeout) when [`poll_timeout`](Registry::poll_timeout) says
/// so, brings what [`poll_proposal`](Registry::poll_proposal) yields into the log in that order,
/// and then calls [`commit`](Registry::commit) for each record, or [`refuse`](Registry::refuse)
/// for all that are under way.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    secret: Arc<Secret>,
    current: Arc<FinalizedWindow>,
    last_opened: Option<Window>,
    next: NextWindow,
    in_flight: InFlight,
    tickets: u64,
    resting_until: Duration,
    proposals: VecDeque<(Ticket, Record)>,
    events: VecDeque<Event>,
}

/// What a request is, given what its id asked before (rule 5).
#[derive(Debug)]
enum Verdict<'a> {
    New,
    /// A retry of what was granted: where its member stands, or `None` if that was to leave.
    Retry(Window, Option<&'a Member>),
    Nothing(DropReason),
}

impl Registry {
    /// A registry that remembers nothing. Its log, if it has one, is replayed through
    /// [`commit`](Registry::commit) without tickets, then [`resume`](Registry::resume) is called.
    pub fn new(config: Config, secret: Arc<Secret>, now: Now) -> Registry {
        let window = config.length.window_at(now.wall);
        let before = config.length.window_at(Wall::from_millis(window.opens().millis() - 1));
        let nobody = NextWindow::new(before, config.length);
        Registry {
            current: Arc::new(nobody.finalize(None, &secret, config.cap)),
            next: NextWindow::new(window, config.length),
            config,
            secret,
            last_opened: None,
            in_flight: InFlight::default(),
            tickets: 0,
            resting_until: Duration::ZERO,
            proposals: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// In replay: the log of `window`, which is `length` long, begins.
    pub fn begin(&mut self, window: Window, length: Length) {
        self.miss_before(window);
        if self.next.is_empty() {
            self.next = NextWindow::new(window, length);
        }
    }

    /// Checks, after the replay, that the log can be gone on with.
    pub fn resume(&mut self, now: Now) -> Result<(), ResumeError> {
        let Config { length, .. } = self.config;
        if let Some(last) = self.last_opened {
            if now.wall.plus(length.span()) < last.opens() {
                return Err(ResumeError::ClockBehind { last, now: now.wall });
            }
            let first = length.first_from(self.current.closes());
            if self.next.is_empty() && (self.next.window(), self.next.length()) != (first, length) {
                self.next = NextWindow::new(first, length);
            }
        }
        if self.next.is_empty() || self.next.length() == length {
            return Ok(());
        }
        Err(ResumeError::OtherLength {
            window: self.next.window(),
            members: self.next.len(),
            was: self.next.length().seconds(),
        })
    }

    /// The current window.
    pub fn current(&self) -> &Arc<FinalizedWindow> {
        &self.current
    }

    /// The window being filled, and how many members it has.
    pub fn next(&self) -> (Window, usize) {
        (self.next.window(), self.next.len())
    }

    /// Whether the log is to say, or is being asked, that a window opens.
    pub fn is_opening(&self) -> bool {
        self.in_flight.opening.is_some()
    }

    /// Takes a request that passed the gate; of a trusted source there may be any number.
    pub fn handle(&mut self, now: Now, path: Path, request: Request, trusted: bool) -> Handled {
        self.handle_timeout(now);
        match request.kind {
            RequestKind::Register(profile) => {
                self.handle_register(now, path, request.id, request.seq, profile, trusted)
            }
            RequestKind::Leave => self.handle_leave(now, path, request.id, request.seq, trusted),
            RequestKind::Query { ref room, part } => {
                self.answer_query(now, path, &request, room, part)
            }
        }
    }

    /// Proposes `open` when the next window's time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.is_due(now) || self.in_flight.opening.is_some() || self.is_resting(now) {
            return;
        }
        let length = self.config.length;
        // Not before the one being filled, which comes after the last one opened (rule 6).
        let window = length.window_at(now.wall).max(self.next.window());
        self.propose(Record::Open(Opening { window, length, at: now.wall }), None);
    }

    /// What is to go into the log next.
    pub fn poll_proposal(&mut self) -> Option<(Ticket, Record)> {
        self.proposals.pop_front()
    }

    /// All of it at once: a batch that moves as it is, however many records are in it.
    pub fn poll_proposals(&mut self) -> Vec<(Ticket, Record)> {
        std::mem::take(&mut self.proposals).into()
    }

    /// What the surroundings should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Registry::handle_timeout) has something to do.
    pub fn poll_timeout(&self, now: Now) -> Alarm {
        if self.in_flight.opening.is_some() {
            Alarm::default()
        } else if self.is_due(now) {
            Alarm::mono(Some(self.resting_until))
        } else {
            Alarm { wall: Some(self.next.window().opens()), mono: None }
        }
    }

    /// A record is in the log: it takes effect, and its asker is answered. In replay there is no
    /// ticket, and nobody to answer.
    pub fn commit(&mut self, now: Now, ticket: Option<Ticket>, record: Record) -> Option<Transmit> {
        if let Some(ticket) = ticket {
            self.in_flight.remove(ticket, &record);
        }
        self.miss_before(record.window());
        match record {
            Record::Open(opening) => {
                self.open(opening);
                None
            }
            Record::Register(it) => {
                let answer = ticket.map(|_| self.answer_registration(now, &it));
                let Registration { at, path, id, seq, profile, .. } = it;
                self.next.register(Member { path, id, profile, registered: at }, seq);
                answer
            }
            Record::Leave(Leaving { window, path, id, seq, .. }) => {
                self.next.leave(id.clone(), path.peer, seq);
                ticket.map(|_| answers::left(path, id, seq, window))
            }
        }
    }

    /// The log refused what was proposed, and so everything that is under way: nothing of it takes
    /// effect, and its askers are told.
    pub fn refuse(&mut self, now: Now, batch: Vec<(Ticket, Record)>) -> Vec<Transmit> {
        self.in_flight = InFlight::default();
        self.resting_until = now.mono + REFUSAL_BACKOFF;
        let behind = std::mem::take(&mut self.proposals);
        batch
            .into_iter()
            .chain(behind)
            .filter_map(|(_, record)| answers::refused(&record))
            .collect()
    }

    fn is_due(&self, now: Now) -> bool {
        now.wall >= self.next.window().opens()
    }

    fn is_resting(&self, now: Now) -> bool {
        now.mono < self.resting_until
    }

    /// Puts a record into the log's order. `known` is the highest `seq` of its id before.
    fn propose(&mut self, record: Record, known: Option<u64>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.in_flight.insert(ticket, &record, known);
        self.proposals.push_back((ticket, record));
    }

    /// The window that a record proposed now is for.
    fn head(&self) -> Window {
        match &self.in_flight.opening {
            Some(opening) => self.after(opening),
            None => self.next.window(),
        }
    }

    /// The window to be filled once `opening` has taken effect.
    fn after(&self, opening: &Opening) -> Window {
        self.config.length.first_from(opening.length.closes(opening.window))
    }

    fn handle_register(
        &mut self,
        now: Now,
        path: Path,
        id: Option<Id>,
        seq: Option<u64>,
        mut profile: Profile,
        trusted: bool,
    ) -> Handled {
        match self.judge(now, Action::Register, id.as_ref(), seq, path.peer) {
            Verdict::Nothing(why) => return Handled::Nothing(why),
            Verdict::Retry(_, None) => return Handled::Nothing(DropReason::Old),
            Verdict::Retry(window, Some(member)) => {
                let room = member.profile.room.clone();
                return Handled::Answer(self.registered(now, path, id, seq, room, window));
            }
            Verdict::New => {}
        }
        let (window, at) = (self.head(), now.wall);
        profile.lan.take_if(|lan| *lan == path.peer);
        let registration = Registration { window, at, path, id, seq, profile };
        let holder = self.next.holder(path.peer);
        if self.changes_nothing(&registration, holder) {
            let answer = self.answer_registration(now, &registration);
            if let Some(id) = &registration.id {
                self.next.touch(id, seq);
            }
            return Handled::Answer(answer);
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable(path, seq), Code::Unavailable);
        }
        if let Some(cap) = self.reached_cap(&registration, holder, trusted) {
            let opens_in = now.wall.until(window.opens());
            return Handled::Refused(answers::full(path, seq, cap, opens_in), Code::Full);
        }
        let known = self.known_before(now, registration.id.as_ref(), seq);
        self.propose(Record::Register(registration), known);
        Handled::Proposed
    }

    fn handle_leave(
        &mut self,
        now: Now,
        path: Path,
        id: Option<Id>,
        seq: Option<u64>,
        trusted: bool,
    ) -> Handled {
        let window = self.head();
        match self.judge(now, Action::Leave, id.as_ref(), seq, path.peer) {
            Verdict::Nothing(why) => return Handled::Nothing(why),
            Verdict::Retry(_, Some(_)) => return Handled::Nothing(DropReason::Old),
            Verdict::Retry(window, None) => {
                return Handled::Answer(answers::left(path, id, seq, window));
            }
            Verdict::New => {}
        }
        let unknown = |id| self.reached_cap_of_ids(id, path.peer, trusted).is_some();
        if !self.leaves_a_trace(id.as_ref(), seq, path.peer) || id.as_ref().is_some_and(unknown) {
            return Handled::Answer(answers::left(path, id, seq, window));
        }
        if self.cannot_propose(now) {
            return Handled::Refused(answers::unavailable(path, seq), Code::Unavailable);
        }
        let known = self.known_before(now, id.as_ref(), seq);
        let leaving = Leaving { window, at: now.wall, path, id, seq };
        self.propose(Record::Leave(leaving), known);
        Handled::Proposed
    }

    /// Whether the log is not to be asked now: it has just refused, has too much to do, or an
    /// opening that is due must come first.
    fn cannot_propose(&self, now: Now) -> bool {
        let waits = self.is_due(now) && self.in_flight.opening.is_none();
        self.is_resting(now) || self.is_overfull() || waits
    }

    /// Rule 5: a higher `seq` is a new request, an equal one a retry, a lower one is old. An equal
    /// one from another address is new: its NAT has forgotten it. What the current window knows
    /// counts until it closes.
    fn judge(
        &self,
        now: Now,
        action: Action,
        id: Option<&Id>,
        seq: Option<u64>,
        addr: SocketAddr,
    ) -> Verdict<'_> {
        let (Some(id), Some(seq)) = (id, seq) else { return Verdict::New };
        if let Some(pending) = self.in_flight.of(id) {
            return match pending.seq {
                Some(known) if seq < known => Verdict::Nothing(DropReason::Old),
                Some(known) if seq > known || pending.addr != addr => Verdict::New,
                Some(_) if pending.action == action => Verdict::Nothing(DropReason::UnderWay),
                Some(_) => Verdict::Nothing(DropReason::Old),
                None => Verdict::New,
            };
        }
        // What it asked without a `seq` since says nothing of the order of those with one.
        if let Some(memory) = self.next.memory(id).filter(|memory| memory.seq.is_some()) {
            let window = self.next.window();
            return recall(memory, seq, addr, window, |slot| self.next.member(slot));
        }
        match self.current.memory(id) {
            Some(memory) if !self.is_due(now) => {
                let window = self.current.window();
                recall(memory, seq, addr, window, |slot| self.current.member_in(slot))
            }
            _ => Verdict::New,
        }
    }

    /// The highest `seq` of an id before a new request that may be below it: one without a `seq`, or
    /// one that comes when the current window is over, whose time a clock that is set back brings
    /// back.
    fn known_before(&self, now: Now, id: Option<&Id>, seq: Option<u64>) -> Option<u64> {
        let id = id.filter(|_| seq.is_none() || self.is_due(now))?;
        let pending = self.in_flight.of(id).and_then(|pending| pending.seq);
        let filling = self.next.memory(id).and_then(|memory| memory.seq);
        pending.max(filling).max(self.current.memory(id).and_then(|memory| memory.seq))
    }

    /// Whether a registration finds itself in the next window already, as the `holder` of its
    /// address, and nothing under way can change that before it.
    fn changes_nothing(&self, registration: &Registration, holder: Option<&Member>) -> bool {
        let Registration { at: _, window: _, path, id, seq: _, profile } = registration;
        let same = |known: &Member| (&known.path, &known.id, &known.profile) == (path, id, profile);
        holder.is_some_and(same)
            && !self.in_flight.touches(id.as_ref(), path.peer)
            && self.in_flight.opening.is_none()
    }

    /// Whether a LEAVE changes anything: who is in gets out, and a `seq` is remembered.
    fn leaves_a_trace(&self, id: Option<&Id>, seq: Option<u64>, addr: SocketAddr) -> bool {
        if self.in_flight.touches(id, addr) {
            return true;
        }
        let filling = self.in_flight.opening.is_none().then_some(&self.next);
        match id {
            Some(id) => {
                let memory = filling.and_then(|next| next.memory(id));
                seq.is_some() || memory.is_some_and(|m| matches!(m.standing, Standing::In(_)))
            }
            None => {
                let holder = filling.and_then(|next| next.holder(addr));
                holder.is_some_and(|member| member.id.is_none())
            }
        }
    }

    fn open(&mut self, opening: Opening) {
        let Opening { window, length, at } = opening;
        let after = NextWindow::new(self.after(&opening), self.config.length);
        let filling = match self.next.window() == window {
            true => std::mem::replace(&mut self.next, after),
            false => NextWindow::new(window, length),
        };
        self.current = Arc::new(filling.finalize(Some(at), &self.secret, self.config.cap));
        self.last_opened = Some(window);
        self.events.push_back(Event::Opened(self.current.clone()));
    }

    /// The log has gone on to `window`: what was being filled for an earlier one was missed.
    fn miss_before(&mut self, window: Window) {
        if self.next.window() >= window {
            return;
        }
        let next = NextWindow::new(window, self.config.length);
        let missed = std::mem::replace(&mut self.next, next);
        if !missed.is_empty() {
            let missed = missed.finalize(None, &self.secret, self.config.cap);
            self.events.push_back(Event::Missed(Arc::new(missed)));
        }
    }
}

/// What a durable memory says of a request from `addr` with `seq`.
fn recall<'a>(
    memory: &Memory,
    seq: u64,
    addr: SocketAddr,
    window: Window,
    member: impl Fn(Slot) -> &'a Member,
) -> Verdict<'a> {
    match memory.seq {
        Some(known) if seq < known => return Verdict::Nothing(DropReason::Old),
        Some(known) if seq == known => {}
        _ => return Verdict::New,
    }
    match &memory.standing {
        Standing::In(slot) if member(*slot).path.peer == addr => {
            Verdict::Retry(window, Some(member(*slot)))
        }
        Standing::Left(from) if **from == addr => Verdict::Retry(window, None),
        Standing::Displaced(from) if **from == addr => Verdict::Nothing(DropReason::Displaced),
        _ => Verdict::New,
    }
}
