//! Reads a room's current roster, page by page: once, or repeatedly to follow the room.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    Cause, ClientError, LONGEST_DELAY, LOOKUP_AFTER, Lookup, PauseWatch, Probe, Target, transmit,
};
use crate::ask::{Pace, PendingRequest, Reply, RetryLimits};
use crate::clock::Clock;
use crate::cookie::NO_COOKIE;
use crate::events::EventSender;
use crate::peer::{Added, PartialList, WholeList};
use crate::proto::{Code, Datagram, Peers, Refusal, Request, Room};
use crate::udp::{Inbox, Sockets};
use crate::window::Window;

/// The longest wait between two readings of a watched room.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The least wait between two readings: a registry may say that its window closes at once, always.
const MIN_WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// A quarter of the shortest window, for [`PauseWatch`]: a reader is not told how long a window is.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// The least time between two requests: 500 a second, as with greetings.
const QUERY_INTERVAL: Duration = Duration::from_millis(2);
/// How many requests may be sent at once.
const QUERY_BURST: u32 = 50;

/// The members of one room in the current window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The room whose members were requested.
    pub room: Room,
    /// The window that is current at the registry.
    pub window: Window,
    /// The number of members.
    pub count: u32,
    /// The members' addresses, in order.
    pub peers: Vec<SocketAddr>,
    /// The time from the registry's answer until the window closes.
    pub closes_in: Duration,
}

/// An event of a client that watches a room without taking part.
#[derive(Clone, Debug)]
pub enum Watched {
    /// The room's current roster, sent every few seconds, also if it is the same as before.
    Window(Roster),
    /// No registry has answered for this long, with what is known of why; the watcher keeps trying.
    Silent(Duration, Cause),
    /// This many events were dropped: the receiver was too slow.
    NotShown(u64),
}

/// Reads the whole current roster of a room, with one QUERY for each of its pages.
pub async fn peers(target: Target, room: Room, clock: Clock) -> Result<Roster, ClientError> {
    Reader::new(target, room, clock)?.roster().await
}

/// Follows a room until `shutdown`: reads its roster after each opening, and every few seconds.
pub async fn watch(
    target: Target,
    room: Room,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
    seen: mpsc::Sender<Watched>,
) -> Result<(), ClientError> {
    let mut reader = Reader::new(target, room, clock)?;
    let mut seen = EventSender::new(seen, Watched::NotShown);
    let follow = async {
        loop {
            let (watched, wait) = match reader.roster().await {
                Ok(roster) => {
                    let wait = next_reading(roster.closes_in, getrandom::u64().unwrap_or(0));
                    (Watched::Window(roster), wait)
                }
                Err(ClientError::NoAnswer { cause, .. }) => {
                    (Watched::Silent(reader.silence(), cause), LONGEST_DELAY)
                }
                Err(ClientError::Refused { code, reason }) if code.is_retryable() => (
                    Watched::Silent(reader.silence(), Cause::Refused { code, reason }),
                    LONGEST_DELAY,
                ),
                Err(error) => return Err(error),
            };
            if !seen.send(watched) {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        done = follow => done,
        () = shutdown => Ok(()),
    }
}

/// Returns how long a watcher waits before it reads again: until just after the opening, with
/// jitter to spread many watchers, and at most `WATCH_INTERVAL`, as the registry may be restarted.
fn next_reading(closes_in: Duration, random: u64) -> Duration {
    let jitter = Duration::from_millis(20 + random % 180);
    closes_in.saturating_add(jitter).clamp(MIN_WATCH_INTERVAL, WATCH_INTERVAL)
}

/// Reads the rosters of one room.
struct Reader {
    target: Target,
    sockets: Sockets,
    clock: Clock,
    room: Room,
    /// The latest cookie that a registry gave.
    cookie: String,
    seq: u64,
    pace: Pace,
    /// When a roster was last read, or this reader made, on the monotonic clock.
    read_at: Duration,
    /// Why the system last refused to send, or that only small answers came, in this reading.
    cause: Cause,
}

/// The pages of a roster that have come so far.
struct RosterPages {
    list: PartialList<Window>,
    closes_in: Duration,
}

impl RosterPages {
    fn new() -> RosterPages {
        RosterPages { list: PartialList::new(usize::MAX), closes_in: Duration::ZERO }
    }

    /// Adds a page, and returns what that did to the list.
    fn add(&mut self, peers: &Peers<'_>) -> Added {
        self.closes_in = Duration::from_millis(peers.closes_in_ms);
        self.list.add(peers.window, &peers.page)
    }

    /// Handles an ERROR: `bad_field` for a later page means that another window has opened, whose
    /// roster has fewer pages, so reading restarts; any other code is returned as an error.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), ClientError> {
        let Refusal { code, reason, .. } = refusal;
        if code == Code::BadField && self.list.missing() > 0 {
            *self = RosterPages::new();
            return Ok(());
        }
        Err(ClientError::Refused { code, reason })
    }
}

impl Reader {
    fn new(target: Target, room: Room, clock: Clock) -> Result<Reader, ClientError> {
        let (target, sockets) = target.open()?;
        let seq = getrandom::u64().map_err(ClientError::Random)? >> 12;
        let (cookie, read_at) = (NO_COOKIE.to_owned(), clock.now().mono);
        let (pace, cause) = (Pace::new(QUERY_INTERVAL, QUERY_BURST), Cause::Unknown);
        Ok(Reader { target, sockets, clock, room, cookie, seq, pace, read_at, cause })
    }

    /// Returns for how long no roster was read.
    fn silence(&self) -> Duration {
        self.clock.now().mono.saturating_sub(self.read_at)
    }

    /// Reads all pages within the timeout; fails with what is known of why that is not possible.
    async fn roster(&mut self) -> Result<Roster, ClientError> {
        let (timeout, first) = (self.target.timeout, self.target.probe_after());
        let (registries, own) = (self.target.registries.clone(), self.sockets.local_addrs());
        self.cause = Cause::Unknown;
        let probe = {
            let mut whole = pin!(self.read_any());
            if let Ok(done) = tokio::time::timeout(first, &mut whole).await {
                return done;
            }
            let probe = Probe::send(&registries, &own);
            if let Ok(done) = tokio::time::timeout(timeout - first, whole).await {
                return done;
            }
            probe
        };
        let cause = match &self.cause {
            Cause::Refused { code, reason } => {
                return Err(ClientError::Refused { code: *code, reason: reason.clone() });
            }
            Cause::Unknown | Cause::System { .. } => self.target.cause(Some(&probe), &self.cause),
            cause => cause.clone(),
        };
        let registries = self.target.registries.clone();
        Err(ClientError::NoAnswer { registries, waited: timeout, cause })
    }

    /// Reads all pages, from the first of the registry's addresses that answers.
    async fn read_any(&mut self) -> Result<Roster, ClientError> {
        let time_per_address = self.target.time_per_address();
        // The requests go on from turn to turn: what a registry said of when to try again holds.
        let mut requests = HashMap::new();
        loop {
            if self.silence() >= LOOKUP_AFTER {
                self.target.lookup.iter().for_each(Lookup::request);
                self.target.take_found(&self.sockets);
            }
            for registry in self.target.registries.clone() {
                let mut reading = RosterPages::new();
                let request = requests.entry(registry).or_insert_with(|| self.query(0));
                let first = self.read_page(registry, &mut reading, request);
                if let Ok(first) = tokio::time::timeout(time_per_address, first).await {
                    first?;
                    return self.read_on(registry, reading).await;
                }
            }
        }
    }

    /// Asks `registry` for the pages that are still missing, and returns the whole roster.
    async fn read_on(
        &mut self,
        registry: SocketAddr,
        mut reading: RosterPages,
    ) -> Result<Roster, ClientError> {
        loop {
            if let Some(WholeList { head: window, count, peers }) = reading.list.take_whole() {
                let peers = peers.into_iter().map(|peer| peer.addr).collect();
                let (room, closes_in) = (self.room.clone(), reading.closes_in);
                self.read_at = self.clock.now().mono;
                return Ok(Roster { room, window, count, peers, closes_in });
            }
            let mut request = self.query(reading.list.missing());
            self.read_page(registry, &mut reading, &mut request).await?;
        }
    }

    /// Sends `request` for the first missing page to `registry` until a new page has come.
    async fn read_page(
        &mut self,
        registry: SocketAddr,
        reading: &mut RosterPages,
        request: &mut PendingRequest,
    ) -> Result<(), ClientError> {
        let (mut inbox, mut pauses) = (Inbox::new(), PauseWatch { last: self.clock.now().mono });
        loop {
            self.send(registry, request);
            let alarm = request.poll_timeout().map(|at| at.max(self.pace.ready_at()));
            let received = tokio::select! {
                received = self.sockets.recv(&mut inbox) => received.map_err(ClientError::Receive).map(|()| true)?,
                () = self.clock.sleep(pauses.alarm(alarm, LONGEST_SLEEP)) => false,
            };
            if pauses.has_paused(self.clock.now(), LONGEST_SLEEP) {
                // What came meanwhile is as old as the pause.
                *request = self.query(reading.list.missing());
            }
            for (_, bytes) in
                inbox.datagrams().filter(|(path, _)| received && path.peer == registry)
            {
                let Ok(datagram) = Datagram::decode(bytes) else { continue };
                match (request.handle(&datagram, self.clock.now()), datagram) {
                    (Reply::Answer, Datagram::Peers(peers)) => {
                        request.cookie().clone_into(&mut self.cookie);
                        self.cause = Cause::ListNotWhole;
                        if reading.add(&peers) != Added::New {
                            tokio::time::sleep(LONGEST_DELAY).await;
                        }
                        return Ok(());
                    }
                    (Reply::Error, Datagram::Error(refusal)) if !refusal.code.is_retryable() => {
                        return reading.refuse(refusal);
                    }
                    (reply, datagram) => self.note_cause(&reply, datagram),
                }
            }
        }
    }

    /// Notes what an answer that brings no page says of why none comes.
    fn note_cause(&mut self, reply: &Reply, datagram: Datagram) {
        let is_told = matches!(self.cause, Cause::ListNotWhole | Cause::Refused { .. });
        match (reply, datagram) {
            (Reply::Error, Datagram::Error(Refusal { code, reason, .. })) => {
                self.cause = Cause::Refused { code, reason };
            }
            (Reply::Challenge, _) if !is_told => self.cause = Cause::LargeAnswersLost,
            _ => {}
        }
    }

    /// Sends a request that is due, if the pace allows it.
    fn send(&mut self, registry: SocketAddr, request: &mut PendingRequest) {
        let now = self.clock.now();
        if self.pace.ready_at() > now.mono {
            return;
        }
        let Some(bytes) = request.poll_transmit(now) else { return };
        self.pace.take(now.mono);
        let cause = &mut self.cause;
        self.sockets.send_each(&[transmit(registry, bytes)], |to, error| {
            *cause = Cause::of(to, &error);
        });
    }

    fn query(&mut self, part: u32) -> PendingRequest {
        self.seq += 1;
        let query = Request::query(None, Some(self.seq), self.room.clone(), part);
        let limits = RetryLimits { longest: LONGEST_DELAY, deadline: None };
        let request = PendingRequest::new(query, &self.cookie, limits, self.seq, self.clock.now());
        request.signed(self.target.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Page;

    #[test]
    fn a_later_page_that_is_gone_restarts_the_reading() {
        let refusal = |code| Refusal { seq: None, code, reason: String::new(), retry_in_ms: None };
        let mut reading = RosterPages::new();
        assert!(reading.refuse(refusal(Code::BadField)).is_err(), "there is always a first page");
        let page = Page { part: 0, parts: 2, count: 60, peers: r#""192.0.2.1:5""# };
        let window = "2026-11-23T11:29:00Z".parse().unwrap();
        assert_eq!(reading.list.add(window, &page), Added::New);
        assert!(reading.refuse(refusal(Code::Forbidden)).is_err());
        assert!(reading.refuse(refusal(Code::BadField)).is_ok());
        assert_eq!(reading.list.missing(), 0);
    }

    #[test]
    fn a_watcher_reads_soon_after_the_opening_and_every_few_seconds() {
        let wait = |closes_in, random| next_reading(Duration::from_millis(closes_in), random);
        assert_eq!(wait(60_000, 7), WATCH_INTERVAL);
        assert_eq!(wait(0, 0), MIN_WATCH_INTERVAL, "a registry may always say so");
        assert_eq!(wait(1000, 0), Duration::from_millis(1020));
        assert_eq!(wait(1000, u64::MAX), Duration::from_millis(1020 + u64::MAX % 180));
    }
}
