//! Reads a room's current roster, page by page: once, or again and again to follow it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{ClientError, LONGEST, Target, open, transmit};
use crate::ask::{Ask, Heard, Terms};
use crate::clock::{Alarm, Clock};
use crate::cookie::{Key, NO_COOKIE};
use crate::events::EventSender;
use crate::proto::{Code, Datagram, Peers, Query, Refusal, Request, Room};
use crate::udp::{Inbox, Socket};
use crate::window::Window;

/// The longest wait between a watcher's looks.
const LOOK: Duration = Duration::from_secs(5);

/// The members of one room in the current window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Which room.
    pub room: Room,
    /// The current window.
    pub window: Window,
    /// How many.
    pub count: u32,
    /// Their addresses, in order.
    pub peers: Vec<SocketAddr>,
    /// Until the window closes, from when the registry answered.
    pub closes_in: Duration,
}

/// What a watcher of a room sees.
#[derive(Clone, Debug)]
pub enum Watched {
    /// The current window's roster: again and again, the same one while the window is open.
    Window(Roster),
    /// No registry has answered for so long; it is tried on.
    Silent(Duration),
    /// So many of these were lost: the receiver was too slow.
    NotShown(u64),
}

/// Asks for all pages of the current roster of a room.
pub async fn peers(target: Target, room: Room, clock: Clock) -> Result<Roster, ClientError> {
    Reader::new(target, room, clock)?.roster().await
}

/// Follows a room until `shutdown`: asks when a window has opened, and every few seconds.
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
                    let wait = until_look(roster.closes_in, getrandom::u64().unwrap_or(0));
                    (Watched::Window(roster), wait)
                }
                Err(ClientError::NoAnswer { .. }) => {
                    (Watched::Silent(clock.now().mono - heard_at), LONGEST)
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

/// When a watcher looks again: soon after the opening, each a little later than others, for there
/// may be many; and every few seconds, for the registry may have been started anew.
fn until_look(closes_in: Duration, random: u64) -> Duration {
    let jitter = Duration::from_millis(20 + random % 180);
    LOOK.min(closes_in.saturating_add(jitter))
}

/// Reads a roster page by page.
struct Reader {
    registries: Vec<SocketAddr>,
    patience: Duration,
    /// How long each address is tried.
    turn: Duration,
    socket: Socket,
    clock: Clock,
    room: Room,
    cookie: String,
    key: Option<Key>,
    seq: u64,
}

/// A roster as far as it has been read.
struct Reading {
    roster: Roster,
    parts: u32,
}

impl Reader {
    fn new(target: Target, room: Room, clock: Clock) -> Result<Reader, ClientError> {
        let target = target.reachable()?;
        let socket = open(&target)?;
        let seq = getrandom::u64().map_err(ClientError::Random)? >> 12;
        let turn = target.turn();
        let Target { registries, patience, key, .. } = target;
        let cookie = NO_COOKIE.to_owned();
        Ok(Reader { registries, patience, turn, socket, clock, room, cookie, key, seq })
    }

    /// All pages, from the first registry that answers.
    async fn roster(&mut self) -> Result<Roster, ClientError> {
        let (registries, waited, turn) = (self.registries.clone(), self.patience, self.turn);
        let asked = async {
            loop {
                for &registry in &registries {
                    let first = tokio::time::timeout(turn, self.page(registry, 0)).await;
                    if let Ok(first) = first {
                        return self.read_on(registry, first?).await;
                    }
                }
            }
        };
        match tokio::time::timeout(waited, asked).await {
            Ok(roster) => roster,
            Err(_) => Err(ClientError::NoAnswer { registries, waited }),
        }
    }

    /// Reads the other pages; from the start again if a window opens meanwhile.
    async fn read_on(
        &mut self,
        registry: SocketAddr,
        first: Option<Reading>,
    ) -> Result<Roster, ClientError> {
        let (mut whole, mut part) = (first, 1);
        loop {
            match &mut whole {
                Some(reading) if part < reading.parts => {
                    let next = self.page(registry, part).await?;
                    match next.filter(|next| next.roster.window == reading.roster.window) {
                        Some(next) => reading.roster.peers.extend(next.roster.peers),
                        None => whole = None,
                    }
                    part += 1;
                }
                Some(_) => return Ok(whole.expect("it is some").roster),
                None => (whole, part) = (self.page(registry, 0).await?, 1),
            }
        }
    }

    /// One page; `None` if there is no such page.
    async fn page(
        &mut self,
        registry: SocketAddr,
        part: u32,
    ) -> Result<Option<Reading>, ClientError> {
        let mut ask = self.ask(part);
        let mut inbox = Inbox::new();
        loop {
            let next = ask.poll_transmit(self.clock.now()).map(|bytes| transmit(registry, bytes));
            self.socket.send(next.as_slice()).await;
            tokio::select! {
                received = self.socket.recv(&mut inbox) => received.map_err(ClientError::Receive)?,
                () = self.clock.sleep(Alarm::mono(ask.poll_timeout())) => continue,
            }
            for (_, bytes) in inbox.datagrams().filter(|(path, _)| path.peer == registry) {
                let Ok(datagram) = Datagram::decode(bytes) else { continue };
                match (ask.handle(&datagram, self.clock.now()), datagram) {
                    (Heard::Answered, Datagram::Peers(peers)) => {
                        self.cookie = ask.cookie().to_owned();
                        return Ok(Some(Reading::from(peers)));
                    }
                    (Heard::Refused, Datagram::Error(refusal)) if !refusal.code.is_retryable() => {
                        return no_page(refusal, part);
                    }
                    _ => {}
                }
            }
        }
    }

    fn ask(&mut self, part: u32) -> Ask {
        self.seq += 1;
        let room = self.room.clone();
        let query = Query { seq: Some(self.seq), room, part, ..Query::default() };
        let terms = Terms { longest: LONGEST, deadline: None };
        let now = self.clock.now();
        Ask::new(Request::Query(query), &self.cookie, terms, self.seq, now).signed(self.key.clone())
    }
}

impl From<Peers<'_>> for Reading {
    fn from(peers: Peers<'_>) -> Reading {
        let candidates = peers.page.candidates().unwrap_or_default();
        let addrs = candidates.iter().map(|candidate| candidate.addr).collect();
        let Peers { room, window, page, closes_in_ms, .. } = peers;
        let closes_in = Duration::from_millis(closes_in_ms);
        let roster = Roster { room, window, count: page.count, peers: addrs, closes_in };
        Reading { roster, parts: page.parts }
    }
}

/// A later page that is gone means that another window has opened, whose roster is smaller.
fn no_page(refusal: Refusal, part: u32) -> Result<Option<Reading>, ClientError> {
    let Refusal { code, reason, .. } = refusal;
    if code == Code::BadField && part > 0 {
        return Ok(None);
    }
    Err(ClientError::Refused { code, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_looks_soon_after_the_opening_and_every_few_seconds() {
        let wait = |closes_in, random| until_look(Duration::from_millis(closes_in), random);
        assert_eq!(wait(60_000, 7), LOOK);
        assert_eq!(wait(1000, 0), Duration::from_millis(1020));
        assert_eq!(wait(1000, u64::MAX), Duration::from_millis(1020 + u64::MAX % 180));
        assert!(wait(0, 0) >= Duration::from_millis(20));
    }
}
