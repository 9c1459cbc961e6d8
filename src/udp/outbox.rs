//! Sends a registry's datagrams: the system takes what is offered at once, or not at all.
//!
//! ```text
//!                          ┌─ answers     ─▶ a socket; when it is full, one of eight more, by peer
//!  offer ──▶ local address ┼─ challenges  ─▶ the same again
//!  offer_train ─▶   "      └─ windows     ─▶ one of eight, by peer
//! ```
//!
//! A datagram takes room in the buffer of its socket until the interface has sent it, or until a
//! neighbour has answered ARP; for a missing neighbour that is three seconds. If one socket sent
//! everything, the slowest link, or an attacker who forges addresses of the registry's subnet,
//! would hold up all others. So each local address and class has send-only sockets of its own.
//!
//! Such a socket is bound to the registry's address and port and *connected* to that same address
//! and port, from which nobody else can send: so it receives nothing, and can still send to anyone.
//! Only what arrives between the bind and the connect is lost. Sockets are opened when first used,
//! up to a limit; without one, the receiving socket sends, as it does on other systems than Linux,
//! and never waits either. On a machine without IPv6, an IPv4 address that the registry is bound to
//! has no send-only socket, because that would have to be one of IPv6.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::egress::is_full;
use super::source::{Opener, Queue, Source};
use super::{Path, Sockets, Train, Transmit, batch};

/// The most local addresses that have send-only sockets of their own.
const MOST_SOURCES: usize = 32;

/// After how many flushes all sockets are reopened, if some could not be opened: the addresses of a
/// host change.
const REOPEN_AFTER_FLUSHES: u64 = 10_000;

/// Stands for all local addresses that have no send-only sockets of their own.
const OTHER_ADDRESSES: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The class of an answer: each class has its own queue and sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// An answer to a source that is proven or trusted.
    Answer,
    /// A CHALLENGE to an unproven source, whose address may be forged.
    Challenge,
}

/// How many datagrams were not sent, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// The number of answers to sources that are proven or trusted.
    pub answers: u64,
    /// The number of CHALLENGEs to unproven sources, whose addresses may be forged.
    pub challenges: u64,
    /// The number of datagrams of trains that can never be sent, without those given back.
    pub windows: u64,
}

impl Unsent {
    /// Returns the sum of all classes.
    pub fn total(&self) -> u64 {
        self.answers + self.challenges + self.windows
    }
}

/// The sending side of a registry's sockets, owned by one thread; never waits.
#[derive(Debug)]
pub struct Outbox {
    /// The queues and sockets of each local address; the first are those of [`OTHER_ADDRESSES`].
    sources: Vec<Source>,
    /// The index of the source last used, which is mostly that of the next datagram.
    last: usize,
    opener: Opener,
    losses: Losses,
    flushes: u64,
    /// The number of flushes from which on the sockets may be reopened.
    reopen_at: u64,
}

impl Outbox {
    /// Returns an outbox that sends from the addresses of `sockets`, for one thread.
    pub fn new(sockets: Arc<Sockets>) -> Outbox {
        Outbox {
            sources: vec![Source::new(OTHER_ADDRESSES)],
            last: 0,
            opener: Opener::new(sockets),
            losses: Losses::default(),
            flushes: 0,
            reopen_at: REOPEN_AFTER_FLUSHES,
        }
    }

    /// Queues a datagram in the batch of its class and local address. The next
    /// [`flush`](Outbox::flush) sends the batch, or `offer` itself once the batch is full.
    pub fn offer(&mut self, class: Class, transmit: Transmit) {
        let source = self.source(transmit.path.local);
        let batch = &mut self.sources[source].queue(class).batch;
        batch.push(transmit);
        if batch.len() >= batch::MAX_BATCH {
            self.send(source, class);
        }
    }

    /// Sends all queued datagrams; those that the system does not take are dropped and counted.
    pub fn flush(&mut self) {
        for source in 0..self.sources.len() {
            self.send(source, Class::Answer);
            self.send(source, Class::Challenge);
        }
        self.flushes += 1;
        if self.opener.open_failed && self.flushes >= self.reopen_at {
            self.reopen_sockets();
        }
    }

    /// Sends a train without waiting. `Err` has the part that there was no room for, to be offered
    /// again some milliseconds later; trains to other peers may still have room.
    pub fn offer_train(&mut self, mut train: Train) -> Result<(), Train> {
        let source = self.source(train.path.local);
        let Outbox { sources, opener, losses, .. } = self;
        let Source { local, windows, .. } = &mut sources[source];
        let done = match windows.socket_for(&train.path, *local, opener) {
            Some(own) => own.send_train(&train, &mut |path, bytes, _| {
                let again = opener.sockets.put(&path, bytes);
                again.unwrap_or_else(|error| losses.window(&path, &error));
            }),
            None => {
                let refused = &mut |path, _: &[u8], error| losses.window(&path, &error);
                opener.sockets.send_train(&train, refused)
            }
        };
        train.payload.drain(..done);
        if train.payload.is_empty() { Ok(()) } else { Err(train) }
    }

    /// Returns how many datagrams were dropped unsent so far.
    pub fn unsent(&self) -> Unsent {
        self.losses.unsent
    }

    fn source(&mut self, local: IpAddr) -> usize {
        if self.sources[self.last].local != local {
            self.last = self.find(local);
        }
        self.last
    }

    fn find(&mut self, local: IpAddr) -> usize {
        let known = self.sources.iter().position(|source| source.local == local);
        known.unwrap_or_else(|| {
            if self.sources.len() >= MOST_SOURCES {
                self.opener.open_failed = true;
                return 0;
            }
            self.sources.push(Source::new(local));
            self.sources.len() - 1
        })
    }

    fn send(&mut self, source: usize, class: Class) {
        let Outbox { sources, opener, losses, .. } = self;
        let source = &mut sources[source];
        let local = source.local;
        let Queue { batch, first, more } = source.queue(class);
        if batch.is_empty() {
            return;
        }
        match first.get(local, opener) {
            Some(own) => own.send(batch, &mut |path, bytes, error| {
                let again = match is_full(&error) {
                    true => {
                        more.socket_for(&path, local, opener).map(|it| it.put(&path, bytes, None))
                    }
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

    /// Closes the send-only sockets, which still send what they hold; the next use opens new ones.
    fn reopen_sockets(&mut self) {
        self.sources.truncate(1);
        self.last = 0;
        self.opener = Opener::new(self.opener.sockets.clone());
        self.reopen_at = self.flushes + REOPEN_AFTER_FLUSHES;
    }
}

/// Counts the datagrams that were not sent, and logs why.
#[derive(Debug, Default)]
struct Losses {
    unsent: Unsent,
    /// The kinds and numbers of the errors that have been logged.
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

    /// Logs each kind of error once: a line for each datagram would fill the log.
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
