//! Node C, a member's side of the minute, as a pure state machine.
//!
//! ```text
//!  11:28:34        :49                 11:29:00                  :17        11:30:00
//!  ───┼─────────────┼──────────────────────┼──────────────────────┼──────────────┼───▶
//!  REGISTER      REGISTER, the        WINDOW: the own list     REGISTER for   closed:
//!  CHALLENGE     NAT is to stay       ACK, or QUERY for what   11:30, in the  who was met,
//!  REGISTER      open                 lacks                    first half     and who not
//!  REGISTERED    REGISTERED           GREET ◀──▶ GREETED       REGISTERED
//!  for 11:29                          with each peer
//! ```
//!
//! `registration` gets it into a window, `opening` takes it from there: `share` gathers the own
//! list, `meeting` greets its peers, `reach` knows where nothing is ever sent. What it lives
//! through, it tells as [`Event`]s.

mod event;
mod meeting;
mod opening;
mod reach;
mod registration;
mod share;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

use crate::ask::{PendingRequest, Reply, RetryLimits};
use crate::clock::Now;
use crate::cookie::NO_COOKIE;
use crate::proto::{Code, Datagram, Greet, Greeted, Request};
use crate::window::{Length, Window};

pub use event::{Config, Event};
use meeting::Meeting;
use reach::{canonical, same};
use share::Share;

/// No window is longer, and no answer may speak of more.
const DAY: Duration = Duration::from_secs(86_400);
/// Answers that wait to be sent: whoever polls after each datagram never has more than two.
const MAX_OUT: usize = 4096;

/// The window that the registry has promised.
#[derive(Debug)]
struct Promised {
    window: Window,
    /// By the own monotonic clock.
    opens_at: Duration,
}

/// The window that is open.
#[derive(Debug)]
struct Open {
    window: Window,
    /// By the own monotonic clock.
    closes_at: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The own list is not whole.
    Gathering(Share),
    Meeting(Box<Meeting>),
}

/// One client of a registry.
///
/// Sans-IO: it has no socket and reads no clock. Whoever runs it hands in datagrams
/// ([`Peer::handle_datagram`]) and the time ([`Peer::handle_timeout`], not later than
/// [`Peer::poll_timeout`] says), and after each of these sends what [`Peer::poll_transmit`] gives
/// and shows what [`Peer::poll_event`] gives, until both give nothing. So a minute takes no time
/// in a test, and every run can be repeated.
#[derive(Debug)]
pub struct Peer {
    config: Config,
    rng: ChaCha8Rng,
    /// Of the last request; REGISTER, LEAVE and QUERY share it.
    seq: u64,
    cookie: String,
    /// Whether the registry has answered.
    heard: bool,
    /// Since when it has not answered what it was asked.
    unanswered: Option<Duration>,
    /// Of a window, once told.
    length: Option<Duration>,
    told: Option<Promised>,
    open: Option<Open>,
    /// The latest window that the registry has shown to be open.
    last: Option<Window>,
    /// REGISTER or LEAVE.
    errand: Option<PendingRequest>,
    register_at: Option<Duration>,
    query: Option<PendingRequest>,
    query_at: Option<Duration>,
    /// Left or finally refused: registers no more.
    done: bool,
    leaving: bool,
    announced: Option<(Window, SocketAddr)>,
    refused: Option<Code>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<Event>,
}

impl Peer {
    /// A peer that registers at once.
    pub fn new(mut config: Config, now: Now) -> Peer {
        config.registry = canonical(config.registry);
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        // Not from 1: who forges the registry's address has to guess it, as CHALLENGE and ERROR
        // echo nothing else. One of 2⁵², which leaves as many for the requests to come.
        let seq = rng.next_u64() >> 12;
        let mut peer = Peer {
            config,
            rng,
            seq,
            cookie: NO_COOKIE.to_owned(),
            heard: false,
            unanswered: None,
            length: None,
            told: None,
            open: None,
            last: None,
            errand: None,
            register_at: Some(now.mono),
            query: None,
            query_at: None,
            done: false,
            leaving: false,
            announced: None,
            refused: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        peer.advance(now);
        peer
    }

    /// Whether the registry has answered anything.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// Since when the registry has been silent although it was asked, by the monotonic clock.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.unanswered
    }

    /// Whether a window has been promised, or is open.
    pub fn has_window(&self) -> bool {
        self.told.is_some() || self.open.is_some()
    }

    /// Takes a datagram that came from `from`.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        self.advance(now);
        let from = canonical(from);
        match Datagram::decode(datagram) {
            Ok(Datagram::Greet(greet)) => self.on_greet(now, from, greet),
            Ok(Datagram::Greeted(greeted)) => self.on_greeted(now, greeted),
            Ok(datagram) if same(from, self.config.registry) => {
                self.unanswered = None;
                self.on_registry(now, &datagram);
            }
            _ => {}
        }
        self.advance(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// The next datagram to send, and where to.
    pub fn poll_transmit(&mut self, now: Now) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(transmit) = self.out.pop_front() {
            return Some(transmit);
        }
        let asks = [&mut self.errand, &mut self.query];
        let request = asks.into_iter().flatten().find_map(|ask| ask.poll_transmit(now));
        match request {
            Some(request) => {
                self.unanswered.get_or_insert(now.mono);
                Some((self.config.registry, request))
            }
            None => self.meeting()?.poll_transmit(now.mono),
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Peer::handle_timeout`] at the latest, by the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let meeting = match self.open.as_ref().map(|open| &open.stage) {
            Some(Stage::Meeting(meeting)) => meeting.poll_timeout(),
            _ => None,
        };
        let ask =
            |ask: &Option<PendingRequest>| ask.as_ref().and_then(PendingRequest::poll_timeout);
        let moments = [
            meeting,
            ask(&self.errand),
            ask(&self.query),
            self.register_at,
            self.query_at,
            self.told.as_ref().map(|told| told.opens_at),
            self.open.as_ref().map(|open| open.closes_at),
        ];
        moments.into_iter().flatten().min()
    }

    /// The boundaries first: a request that is due belongs to the window that has come.
    fn advance(&mut self, now: Now) {
        if let Some(told) = self.told.take_if(|told| told.opens_at <= now.mono) {
            self.turn(now, told.window, told.opens_at.saturating_add(self.length()));
        }
        if self.open.as_ref().is_some_and(|open| open.closes_at <= now.mono) {
            self.close(now);
        }
        if self.query_at.take_if(|at| *at <= now.mono).is_some() {
            self.query(now);
        }
        if self.register_at.take_if(|at| *at <= now.mono).is_some() {
            self.register(now);
        }
    }

    fn length(&self) -> Duration {
        self.length.unwrap_or(Length::MINUTE.span())
    }

    fn quarter(&self) -> Duration {
        self.length() / 4
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn ask(&mut self, now: Now, request: Request, deadline: Option<Duration>) -> PendingRequest {
        let limits = RetryLimits { longest: self.quarter(), deadline };
        let seed = self.rng.next_u64();
        let ask = PendingRequest::new(request, &self.cookie, limits, seed, now);
        ask.signed(self.config.key.clone())
    }

    fn on_registry(&mut self, now: Now, datagram: &Datagram<'_>) {
        if let Datagram::Window(opened) = datagram {
            return self.on_window(now, opened);
        }
        let to_errand = hear(&mut self.errand, &mut self.cookie, datagram, now);
        let to_query = hear(&mut self.query, &mut self.cookie, datagram, now);
        // What answers nothing was forged, or is late: it says nothing of who is there.
        self.heard |= to_errand != Reply::Unrelated || to_query != Reply::Unrelated;
        if is_end(to_errand) {
            self.on_errand(now, datagram);
        }
        if is_end(to_query) {
            self.on_query(now, datagram);
        }
    }

    fn on_greet(&mut self, now: Now, from: SocketAddr, greet: Greet) {
        let Some(meeting) = self.meeting() else { return };
        let Some(reply) = meeting.on_greet(now.mono, from, &greet) else { return };
        self.send(from, reply.datagram);
        if reply.first {
            let Greet { from: peer, name, text, .. } = greet;
            self.events.push_back(Event::Greeted { peer, name, text });
        }
    }

    fn on_greeted(&mut self, now: Now, greeted: Greeted) {
        let Some(meeting) = self.meeting() else { return };
        if let Some(met) = meeting.on_greeted(now.mono, &greeted) {
            let meeting::Met { peer, rtt } = met;
            self.events.push_back(Event::Met { peer, name: greeted.name, rtt });
        }
    }

    fn send(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.out.len() < MAX_OUT {
            self.out.push_back((to, datagram));
        }
    }
}

/// Hands a datagram to what may have asked for it. A new cookie is kept for later requests.
fn hear(
    asked: &mut Option<PendingRequest>,
    cookie: &mut String,
    datagram: &Datagram<'_>,
    now: Now,
) -> Reply {
    let Some(ask) = asked else { return Reply::Unrelated };
    let heard = ask.handle(datagram, now);
    if heard == Reply::Challenge {
        ask.cookie().clone_into(cookie);
    }
    asked.take_if(|ask| ask.poll_timeout().is_none());
    heard
}

/// Whether a request has been answered or refused.
fn is_end(heard: Reply) -> bool {
    matches!(heard, Reply::Answer | Reply::Error)
}

/// A window's length: at least a second, or the delays that are a part of it would be none.
fn whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_millis().div_ceil(1000).max(1) as u64)
}

/// A span as told, within reason.
fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis).min(DAY)
}
