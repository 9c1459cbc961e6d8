//! A client of a registry, from window to window, as a pure state machine.
//!
//! ```text
//!  11:28:34        :49                 11:29:00                  :17        11:30:00
//!  ───┼─────────────┼──────────────────────┼──────────────────────┼──────────────┼───▶
//!  REGISTER      REGISTER again,      WINDOW: the own list     REGISTER for   the window
//!  CHALLENGE     so that the NAT      ACK, or QUERY for        11:30, in the  closes: who was
//!  REGISTER      keeps its mapping    missing parts            first half     met, who was not
//!  REGISTERED    REGISTERED           GREET ◀──▶ GREETED       REGISTERED
//!  for 11:29                          with each peer
//! ```
//!
//! `requests` repeats each request to the registry until it is answered. `registration` gets this
//! client into a window, and `opening` follows that window from its opening to its close:
//! `partial_list` collects the own list, `greetings` greets its peers, and `reach` decides which
//! addresses are never sent to. What happens is reported as [`Event`]s.

mod config;
mod event;
mod greetings;
mod opening;
mod partial_list;
mod reach;
mod registration;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::ask::Pace;
use crate::clock::Now;
use crate::path::canonical;
use crate::proto::{Code, Datagram, Greet, Greeted, Pass};
use crate::window::{Length, Window};

pub use config::Config;
pub use event::{Event, MissedWhy};
use greetings::Greetings;
pub(crate) use partial_list::{Added, PartialList, WholeList};
use requests::{RegistryLink, RequestSlot};

/// The longest window; longer times in the registry's answers are cut to this.
const MAX_SPAN: Duration = Duration::from_secs(86_400);
/// The most queued answers; more are dropped. Polling after each datagram never leaves more than
/// two.
const MAX_OUTBOX: usize = 4096;

/// The least time between two events that a registry can cause, after a burst: in windows of one
/// second, the shortest, a client has three each.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);
/// How many events a registry can cause at once.
const EVENT_BURST: u32 = 20;

/// The least time between two meetings or greetings that are reported, after a burst: GREETs are sent
/// at 500 a second, so each of the two comes as often, in whatever room.
const MEETING_INTERVAL: Duration = Duration::from_millis(1);
/// How many meetings and greetings are reported at once.
const MEETING_BURST: u32 = 1000;

/// A window that the registry has registered this client for and that has not opened.
#[derive(Debug)]
struct PromisedWindow {
    window: Window,
    /// When the window opens, by this client's monotonic clock.
    opens_at: Duration,
    /// The `seq` of the REGISTER that the registry has confirmed, for keep-alives; `None` if the next
    /// one must be a new request.
    seq: Option<u64>,
}

/// A window that is open, from its opening to its close.
#[derive(Debug)]
struct OpenWindow {
    window: Window,
    /// When the window closes, by this client's monotonic clock.
    closes_at: Duration,
    /// The own list of the window, while parts of it are missing.
    list: PartialList<Membership>,
    /// The greetings of the window's peers, once the own list is complete.
    greetings: Option<Greetings>,
}

/// This client's place in the window, which the registry repeats with each part of the own list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    /// This client's address in the roster.
    you: SocketAddr,
    pass: Pass,
}

/// The windows that this client knows of from the registry.
#[derive(Debug, Default)]
struct Windows {
    /// The length of a window, once known.
    length: Option<Duration>,
    promised: Option<PromisedWindow>,
    open: Option<OpenWindow>,
    /// The latest window that the registry has shown to be open.
    latest: Option<Window>,
    /// The `seq` of the last request made before `latest` was shown.
    asked_before: u64,
}

impl Windows {
    fn length(&self) -> Duration {
        self.length.unwrap_or(Length::MINUTE.span())
    }

    /// Returns the longest delay between tries: a quarter of a window.
    fn longest_delay(&self) -> Duration {
        self.length() / 4
    }

    /// Returns the window that is open by this client's clock, if any.
    fn opened(&self) -> Option<Window> {
        self.open.as_ref().map(|open| open.window)
    }

    fn greetings(&mut self) -> Option<&mut Greetings> {
        self.open.as_mut()?.greetings.as_mut()
    }
}

/// One client of a registry.
///
/// Sans-IO: it has no socket and reads no clock. The caller hands in datagrams
/// ([`Peer::handle_datagram`]) and the time ([`Peer::handle_timeout`], not later than
/// [`Peer::poll_timeout`] says), and after each of these sends what [`Peer::poll_transmit`] returns
/// and shows what [`Peer::poll_event`] returns, until both return `None`. So a minute takes no time
/// in a test, and every run can be repeated.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    rng: ChaCha8Rng,
    registry: RegistryLink,
    windows: Windows,
    /// The requests to register, and in the end to leave.
    registration: RequestSlot,
    /// The requests (QUERY) for missing parts of the own list.
    query: RequestSlot,
    /// Whether this client registers for further windows: not once it leaves or is finally refused.
    registers: bool,
    leaving: bool,
    /// The window and own address of the last registration that was reported.
    last_registered: Option<(Window, SocketAddr)>,
    /// The codes of the refusals that were reported, until a registration succeeds.
    refused: Vec<Code>,
    /// When the pace of the last window's greetings allows the next.
    greet_at: Duration,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
    /// The pace of the events that a registry can cause.
    reports: Pace,
    /// The pace of the meetings and greetings: a registry can open windows and greet by itself.
    meetings: Pace,
    /// How many events a pace has held back since the last that one allowed.
    left_out: u64,
}

impl Peer {
    /// Returns a peer whose first REGISTER is due at once.
    pub fn new(config: Config, now: Now) -> Peer {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut peer = Peer {
            registry: RegistryLink::new(config.registry, &mut rng),
            config,
            rng,
            windows: Windows::default(),
            registration: RequestSlot { due: Some(now.mono), ..RequestSlot::default() },
            query: RequestSlot::default(),
            registers: true,
            leaving: false,
            last_registered: None,
            refused: Vec::new(),
            greet_at: Duration::ZERO,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            reports: Pace::new(EVENT_INTERVAL, EVENT_BURST),
            meetings: Pace::new(MEETING_INTERVAL, MEETING_BURST),
            left_out: 0,
        };
        peer.advance(now);
        peer
    }

    /// Returns whether the registry has answered anything.
    pub fn has_heard(&self) -> bool {
        self.registry.heard_at.is_some()
    }

    /// Returns a quarter of a window, the longest delay between tries.
    pub fn longest_delay(&self) -> Duration {
        self.windows.longest_delay()
    }

    /// Returns the address of the registry to which requests are sent.
    pub fn registry(&self) -> SocketAddr {
        self.registry.address
    }

    /// Returns since when the registry has not answered, by the monotonic clock; `None` if it has. A
    /// CHALLENGE is no answer.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.registry.unanswered_since
    }

    /// Returns whether the registry has sent a CHALLENGE, but not the answer.
    pub fn is_only_challenged(&self) -> bool {
        self.registry.unanswered_since.is_some_and(|since| self.registry.heard_at > Some(since))
    }

    /// Returns whether a QUERY for parts of the own list is unanswered.
    pub fn asks_for_list(&self) -> bool {
        self.query.under_way.is_some()
    }

    /// Reports the next registration also if it is the one that was reported last: it tells that the
    /// registry answers again.
    pub fn note_silence(&mut self) {
        self.last_registered = None;
    }

    /// Returns whether a window has been promised, or is open.
    pub fn has_window(&self) -> bool {
        self.windows.promised.is_some() || self.windows.open.is_some()
    }

    /// Processes a datagram that came from `from`.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        self.advance(now);
        let from = canonical(from);
        match Datagram::decode(datagram) {
            Ok(Datagram::Greet(greet)) => self.on_greet(now, from, greet),
            Ok(Datagram::Greeted(greeted)) => self.on_greeted(now, greeted),
            Ok(datagram) if self.registry.was_asked(from) => {
                self.on_registry(now, from, &datagram);
            }
            _ => {}
        }
        self.advance(now);
    }

    /// Takes over where this host is now: its private address, which the next REGISTER tells, and the
    /// subnets of its interfaces, which hold from the next window on.
    pub fn set_network(&mut self, lan: Option<SocketAddr>, interfaces: Vec<IpNet>) {
        if self.config.lan != lan {
            // Of a REGISTER with the same `seq` the registry takes nothing new.
            self.windows.promised.iter_mut().for_each(|promised| promised.seq = None);
        }
        (self.config.lan, self.config.interfaces) = (lan, interfaces);
    }

    /// Asks anew after a pause in which this client did not run: what came meanwhile is as old as
    /// the pause. Answers to earlier requests, and WINDOW until a new one is answered, do not count.
    pub fn handle_pause(&mut self, now: Now) {
        self.registry.may_be_old = true;
        self.advance(now);
        if self.leaving {
            return;
        }
        let asked = self.registration.under_way.take().is_some();
        let waits = self.windows.promised.as_mut().map(|promised| promised.seq = None).is_some();
        self.query.under_way = None;
        if asked || waits || self.windows.open.is_none() {
            self.register(now);
        }
        if let Some(greetings) = self.windows.greetings() {
            greetings.forget_tries();
        }
        self.query(now);
    }

    /// Opens and closes windows and makes requests, as due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// Returns the next datagram to send, with its destination.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(transmit) = self.outbox.pop_front() {
            return Some(transmit);
        }
        let mut slots = [&mut self.registration, &mut self.query].into_iter();
        let ready = self.registry.pace.ready_at() <= now.mono;
        match slots.find_map(|slot| if ready { slot.poll_transmit(now) } else { None }) {
            Some(request) => {
                self.registry.pace.take(now.mono);
                self.registry.unanswered_since.get_or_insert(now.mono);
                Some((self.registry.address, request))
            }
            None => self.windows.greetings()?.poll_transmit(now.mono),
        }
    }

    /// Returns the next event to report.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Peer::handle_timeout`] at the latest, by the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let open = self.windows.open.as_ref();
        let moments = [
            self.windows.promised.as_ref().map(|promised| promised.opens_at),
            open.map(|open| open.closes_at),
            open.and_then(|open| open.greetings.as_ref()?.poll_timeout()),
            self.registration.poll_timeout().map(|at| at.max(self.registry.pace.ready_at())),
            self.query.poll_timeout().map(|at| at.max(self.registry.pace.ready_at())),
        ];
        moments.into_iter().flatten().min()
    }

    /// Opens and closes windows first, then makes the requests that are due: they belong to the
    /// window that has just opened.
    fn advance(&mut self, now: Now) {
        let windows = &mut self.windows;
        if let Some(promised) = windows.promised.take_if(|promised| promised.opens_at <= now.mono) {
            let closes_at = promised.opens_at.saturating_add(windows.length());
            self.open_window(now, promised.window, closes_at, promised.seq);
        }
        if self.windows.open.as_ref().is_some_and(|open| open.closes_at <= now.mono) {
            self.close_window(now);
        }
        if self.query.take_due(now) {
            self.query(now);
        }
        if self.registration.take_due(now) {
            self.register(now);
        }
    }

    fn on_greet(&mut self, now: Now, from: SocketAddr, greet: Greet) {
        let Some(greetings) = self.windows.greetings() else { return };
        let Some(reply) = greetings.on_greet(now.mono, from, &greet) else { return };
        self.send(from, reply.datagram);
        if reply.first {
            let Greet { from: peer, name, text, .. } = greet;
            self.report(now, Event::Greeted { peer, name, text });
        }
    }

    fn on_greeted(&mut self, now: Now, greeted: Greeted) {
        let Some(greetings) = self.windows.greetings() else { return };
        if let Some(rtt) = greetings.on_greeted(now.mono, &greeted) {
            let Greeted { from: peer, name, .. } = greeted;
            self.report(now, Event::Met { peer, name, rtt });
        }
    }

    /// Queues an event that a registry can cause; if its pace does not allow it, only counts it.
    fn report(&mut self, now: Now, event: Event) {
        let is_meeting = matches!(event, Event::Met { .. } | Event::Greeted { .. });
        let pace = if is_meeting { &mut self.meetings } else { &mut self.reports };
        if !pace.take(now.mono) {
            self.left_out += 1;
            return;
        }
        // Not with each meeting: that would double them.
        if !is_meeting && self.left_out > 0 {
            self.events.push_back(Event::LeftOut(std::mem::take(&mut self.left_out)));
        }
        self.events.push_back(event);
    }

    fn send(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back((to, datagram));
        }
    }
}

/// Rounds a window's length up to whole seconds, at least one: delays that are a part of it must
/// not be zero.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_millis().div_ceil(1000).max(1) as u64)
}

/// Converts milliseconds from a datagram to a duration of at most a day.
fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis).min(MAX_SPAN)
}
