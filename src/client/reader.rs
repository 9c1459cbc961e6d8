//! Reads a room's current roster, page by page: once, or repeatedly to follow the room.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{ClientError, LONGEST_DELAY, Target, transmit};
use crate::ask::{PendingRequest, Reply, RetryLimits};
use crate::clock::{Alarm, Clock};
use crate::cookie::NO_COOKIE;
use crate::events::EventSender;
use crate::peer::{PartialList, WholeList};
use crate::proto::{Code, Datagram, Peers, Refusal, Request, Room};
use crate::udp::{Inbox, Sockets};
use crate::window::Window;

/// The longest wait between two readings of a watched room.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

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
    /// No registry has answered for this long; the watcher keeps trying.
    Silent(Duration),
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
        let mut heard_at = clock.now().mono;
        loop {
            let (watched, wait) = match reader.roster().await {
                Ok(roster) => {
                    heard_at = clock.now().mono;
                    let wait = next_reading(roster.closes_in, getrandom::u64().unwrap_or(0));
                    (Watched::Window(roster), wait)
                }
                Err(ClientError::NoAnswer { .. }) => {
                    (Watched::Silent(clock.now().mono - heard_at), LONGEST_DELAY)
                }
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
    WATCH_INTERVAL.min(closes_in.saturating_add(jitter))
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

    /// Adds a page; returns whether it was new.
    fn add(&mut self, peers: &Peers<'_>) -> bool {
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
        Ok(Reader { target, sockets, clock, room, cookie: NO_COOKIE.to_owned(), seq })
    }

    /// Reads all pages, from the first of the registry's addresses that answers.
    async fn roster(&mut self) -> Result<Roster, ClientError> {
        let Target { registries, timeout, .. } = self.target.clone();
        let time_per_address = self.target.time_per_address();
        let whole = async {
            loop {
                for &registry in &registries {
                    let mut reading = RosterPages::new();
                    let first = self.read_page(registry, &mut reading);
                    if let Ok(first) = tokio::time::timeout(time_per_address, first).await {
                        first?;
                        return self.read_on(registry, reading).await;
                    }
                }
            }
        };
        let whole = tokio::time::timeout(timeout, whole).await;
        whole.unwrap_or(Err(ClientError::NoAnswer { registries, waited: timeout }))
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
                return Ok(Roster { room, window, count, peers, closes_in });
            }
            self.read_page(registry, &mut reading).await?;
        }
    }

    /// Asks `registry` for the first missing page, and retries until a new page has come.
    async fn read_page(
        &mut self,
        registry: SocketAddr,
        reading: &mut RosterPages,
    ) -> Result<(), ClientError> {
        let mut ask = self.ask(reading.list.missing());
        let mut inbox = Inbox::new();
        loop {
            let next = ask.poll_transmit(self.clock.now()).map(|bytes| transmit(registry, bytes));
            self.sockets.send_or_drop(next.as_slice());
            tokio::select! {
                received = self.sockets.recv(&mut inbox) => received.map_err(ClientError::Receive)?,
                () = self.clock.sleep(Alarm::mono(ask.poll_timeout())) => continue,
            }
            for (_, bytes) in inbox.datagrams().filter(|(path, _)| path.peer == registry) {
                let Ok(datagram) = Datagram::decode(bytes) else { continue };
                match (ask.handle(&datagram, self.clock.now()), datagram) {
                    (Reply::Answer, Datagram::Peers(peers)) if reading.add(&peers) => {
                        ask.cookie().clone_into(&mut self.cookie);
                        return Ok(());
                    }
                    (Reply::Error, Datagram::Error(refusal)) if !refusal.code.is_retryable() => {
                        return reading.refuse(refusal);
                    }
                    _ => {}
                }
            }
        }
    }

    fn ask(&mut self, part: u32) -> PendingRequest {
        self.seq += 1;
        let query = Request::query(None, Some(self.seq), self.room.clone(), part);
        let limits = RetryLimits { longest: LONGEST_DELAY, deadline: None };
        let ask = PendingRequest::new(query, &self.cookie, limits, self.seq, self.clock.now());
        ask.signed(self.target.key.clone())
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
        assert!(reading.list.add(window, &page));
        assert!(reading.refuse(refusal(Code::Forbidden)).is_err());
        assert!(reading.refuse(refusal(Code::BadField)).is_ok());
        assert_eq!(reading.list.missing(), 0);
    }

    #[test]
    fn a_watcher_reads_soon_after_the_opening_and_every_few_seconds() {
        let wait = |closes_in, random| next_reading(Duration::from_millis(closes_in), random);
        assert_eq!(wait(60_000, 7), WATCH_INTERVAL);
        assert_eq!(wait(1000, 0), Duration::from_millis(1020));
        assert_eq!(wait(1000, u64::MAX), Duration::from_millis(1020 + u64::MAX % 180));
        assert!(wait(0, 0) >= Duration::from_millis(20));
    }
}
