//! What leaves: offered, and taken by the system now or not at all.
//!
//! ```text
//!                         ┌─ answers     ─▶ one socket, when it is full one of eight more, by peer
//!  offer ─▶ local address ┼─ challenges  ─▶ the same, of their own
//!  offer_train ─▶    "    └─ windows     ─▶ one of eight, by peer
//! ```
//!
//! A datagram keeps its place in the socket's buffer until the interface has sent it, or until a
//! neighbour has said where it is, which one that does not exist does for three seconds. So a socket
//! that all share is held up by the slowest link, or by whoever forges addresses of the own subnet.
//! Here each class and local address has sockets of its own, which only send: they are bound to the
//! registry's address and port, and *connected*, to that very address and port, from which nobody
//! sends. To such a socket the system hands nothing that anybody else sends, and it can still send to
//! anyone. They are opened when first used. Where there is none, the receiving socket sends, as it
//! does on other systems than Linux; it does not wait either.

use std::array;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::egress::{Egress, is_full};
use super::{Path, Sockets, Train, Transmit, batch};

/// Among how many sockets the peers of one local address are divided: an IPv4 peer that does not
/// answer holds up to half of what an ordinary socket may keep (`net.core.wmem_max`).
const SPREAD: usize = 8;

/// The most local addresses that have sockets of their own.
const MOST_LANES: usize = 32;

/// The most sockets that one outbox opens: some programs may have no more than 1024 files open.
const MOST_SOCKETS: usize = 64;

/// After how many flushes it begins anew if it has opened as many as it may, or could not open one:
/// the addresses of a host change.
const RENEW: u64 = 10_000;

/// The address of the lane for all that have none of their own.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a datagram is, and with which others it may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An answer to a source that is proven or trusted.
    Answer,
    /// An answer to a stranger, whose address may be forged.
    Challenge,
}

/// Datagrams that did not leave, by what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Answers to sources that are proven or trusted.
    pub answers: u64,
    /// Answers to strangers.
    pub challenges: u64,
    /// Datagrams of trains that can never leave; those given back do not count.
    pub windows: u64,
}

impl Unsent {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.answers + self.challenges + self.windows
    }
}

/// The sending side of a registry's sockets, owned by one thread. Nothing here ever waits.
#[derive(Debug)]
pub struct Outbox {
    /// By local address; the first is for all that have none of their own.
    lanes: Vec<Lane>,
    /// The lane of the last offer, which is mostly that of the next.
    last: usize,
    opener: Opener,
    losses: Losses,
    flushes: u64,
    /// From which flush on it may begin anew.
    renew_at: u64,
}

impl Outbox {
    /// An outbox that sends from the addresses of `sockets`. Each thread that sends has its own.
    pub fn new(sockets: Arc<Sockets>) -> Outbox {
        Outbox {
            lanes: vec![Lane::new(NOWHERE)],
            last: 0,
            opener: Opener { sockets, opened: 0, lacks: false, hasher: RandomState::new() },
            losses: Losses::default(),
            flushes: 0,
            renew_at: RENEW,
        }
    }

    /// Adds a datagram to the batch of its class and local address. It is sent by
    /// [`flush`](Outbox::flush), or as soon as that batch is worth a system call of its own.
    pub fn offer(&mut self, class: Class, transmit: Transmit) {
        let lane = self.lane(transmit.path.local);
        let batch = &mut self.lanes[lane].line(class).batch;
        batch.push(transmit);
        if batch.len() >= batch::MOST {
            self.send(lane, class);
        }
    }

    /// Sends what was offered. What the system does not take is dropped and counted.
    pub fn flush(&mut self) {
        for lane in 0..self.lanes.len() {
            self.send(lane, Class::Answer);
            self.send(lane, Class::Challenge);
        }
        self.flushes += 1;
        if self.opener.lacks && self.flushes >= self.renew_at {
            self.renew();
        }
    }

    /// Sends a train now. What there is no room for is given back, to be offered again some
    /// milliseconds later; meanwhile trains to other peers may well find room.
    pub fn offer_train(&mut self, mut train: Train) -> Result<(), Train> {
        let lane = self.lane(train.path.local);
        let Outbox { lanes, opener, losses, .. } = self;
        let Lane { local, windows, .. } = &mut lanes[lane];
        let done = match windows.of(&train.path, *local, opener) {
            Some(own) => own.send_train(&train, &mut |path, bytes, _| {
                let again = opener.sockets.put(&path, bytes);
                again.unwrap_or_else(|error| losses.window(&path, &error));
            }),
            None => opener
                .sockets
                .send_train(&train, &mut |path, _, error| losses.window(&path, &error)),
        };
        train.payload.drain(..done);
        if train.payload.is_empty() { Ok(()) } else { Err(train) }
    }

    /// The datagrams that did not leave so far.
    pub fn unsent(&self) -> Unsent {
        self.losses.unsent
    }

    fn lane(&mut self, local: IpAddr) -> usize {
        if self.lanes[self.last].local != local {
            self.last = self.find(local);
        }
        self.last
    }

    fn find(&mut self, local: IpAddr) -> usize {
        let known = self.lanes.iter().position(|lane| lane.local == local);
        known.unwrap_or_else(|| {
            if self.lanes.len() >= MOST_LANES {
                self.opener.lacks = true;
                return 0;
            }
            self.lanes.push(Lane::new(local));
            self.lanes.len() - 1
        })
    }

    fn send(&mut self, lane: usize, class: Class) {
        let Outbox { lanes, opener, losses, .. } = self;
        let lane = &mut lanes[lane];
        let local = lane.local;
        let Line { batch, first, more } = lane.line(class);
        if batch.is_empty() {
            return;
        }
        match first.get(local, opener) {
            Some(own) => own.send(batch, &mut |path, bytes, error| {
                let again = match is_full(&error) {
                    true => more.of(&path, local, opener).map(|it| it.put(&path, bytes, None)),
                    false => Some(opener.sockets.put(&path, bytes)),
                };
                let sent = again.unwrap_or(Err(error));
                sent.unwrap_or_else(|error| losses.answer(class, &path, &error));
            }),
            None => {
                let refused = &mut |path, _: &[u8], error| losses.answer(class, &path, &error);
                opener.sockets.send(batch, refused);
            }
        }
        batch.clear();
    }

    /// Closes its sockets, which takes back nothing that they have; those in use are opened anew.
    fn renew(&mut self) {
        self.lanes.truncate(1);
        self.last = 0;
        (self.opener.opened, self.opener.lacks) = (0, false);
        self.renew_at = self.flushes + RENEW;
    }
}

/// What leaves from one local address.
#[derive(Debug)]
struct Lane {
    local: IpAddr,
    answers: Line,
    challenges: Line,
    windows: Spread,
}

impl Lane {
    fn new(local: IpAddr) -> Lane {
        let (answers, challenges) = (Line::default(), Line::default());
        Lane { local, answers, challenges, windows: Spread::default() }
    }

    fn line(&mut self, class: Class) -> &mut Line {
        match class {
            Class::Answer => &mut self.answers,
            Class::Challenge => &mut self.challenges,
        }
    }
}

/// What leaves in batches.
#[derive(Debug, Default)]
struct Line {
    batch: Vec<Transmit>,
    first: Place,
    /// For what the first has no room for: whoever filled it does not fill all of these.
    more: Spread,
}

/// Sockets among which peers are divided.
#[derive(Debug)]
struct Spread([Place; SPREAD]);

impl Default for Spread {
    fn default() -> Spread {
        Spread(array::from_fn(|_| Place::default()))
    }
}

impl Spread {
    /// The one of a path's peer. By its whole address: neighbours of one network share no queue.
    fn of(&mut self, path: &Path, local: IpAddr, opener: &mut Opener) -> Option<&Egress> {
        let hash = opener.hasher.hash_one(path.peer.ip());
        self.0[hash as usize % SPREAD].get(local, opener)
    }
}

/// Where a socket that only sends is, or will be when it is needed.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Untried,
    Open(Egress),
    /// It could not be had: the receiving socket sends.
    Without,
}

impl Place {
    fn get(&mut self, local: IpAddr, opener: &mut Opener) -> Option<&Egress> {
        if let Place::Untried = self {
            *self = opener.open(local).map_or(Place::Without, Place::Open);
        }
        match self {
            Place::Open(egress) => Some(egress),
            _ => None,
        }
    }
}

/// Opens sockets that only send, not without end.
#[derive(Debug)]
struct Opener {
    sockets: Arc<Sockets>,
    opened: usize,
    /// Whether there was one that it could not open.
    lacks: bool,
    /// Divides peers in a way that nobody outside can know.
    hasher: RandomState,
}

impl Opener {
    fn open(&mut self, local: IpAddr) -> Option<Egress> {
        if !can_be_own(local) {
            return None;
        }
        match self.try_open(local) {
            Ok(egress) => {
                self.opened += 1;
                Some(egress)
            }
            Err(error) => {
                if !mem::replace(&mut self.lacks, true) {
                    tracing::info!(%local, %error, "no socket of its own to send from there");
                }
                None
            }
        }
    }

    fn try_open(&self, local: IpAddr) -> io::Result<Egress> {
        if self.opened >= MOST_SOCKETS {
            return Err(io::Error::other("as many are open as may be"));
        }
        self.sockets.send_only(local)
    }
}

/// Whether a socket can be bound to it: an address of an interface alone has no scope here.
fn can_be_own(local: IpAddr) -> bool {
    let is_link_local = matches!(local, IpAddr::V6(ip) if ip.is_unicast_link_local());
    cfg!(target_os = "linux") && !local.is_unspecified() && !is_link_local
}

/// What did not leave, and why.
#[derive(Debug, Default)]
struct Losses {
    unsent: Unsent,
    /// The causes that have been logged.
    told: Vec<(ErrorKind, Option<i32>)>,
}

impl Losses {
    fn answer(&mut self, class: Class, path: &Path, error: &io::Error) {
        match class {
            Class::Answer => self.unsent.answers += 1,
            Class::Challenge => self.unsent.challenges += 1,
        }
        self.tell(path, error);
    }

    fn window(&mut self, path: &Path, error: &io::Error) {
        self.unsent.windows += 1;
        self.tell(path, error);
    }

    /// Each cause once, never a line a datagram.
    fn tell(&mut self, path: &Path, error: &io::Error) {
        let cause = (error.kind(), error.raw_os_error());
        if !self.told.contains(&cause) {
            self.told.push(cause);
            let Path { peer, local } = path;
            tracing::info!(%peer, %local, %error, "a datagram did not leave; more are only counted");
        }
    }
}

#[cfg(test)]
mod tests;
