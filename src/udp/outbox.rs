//! What leaves: offered, and taken by the system now or not at all.
//!
//! ```text
//!                          ┌─ answers     ─▶ a socket; when it is full, one of eight more, by peer
//!  offer ──▶ local address ┼─ challenges  ─▶ the same again
//!  offer_train ─▶   "      └─ windows     ─▶ one of eight, by peer
//! ```
//!
//! A datagram takes room in the buffer of its socket until the interface has sent it, or until a
//! neighbour has answered ARP; one that does not exist is waited for three seconds. If one socket
//! sent everything, the slowest link, or whoever forges addresses of the registry's subnet, would
//! hold up all others. So each local address and class has sockets of its own that only send.
//!
//! Such a socket is bound to the registry's address and port and *connected* to that same address and
//! port, from which nobody else can send: so the system gives it nothing that arrives, and still
//! sends from it to anyone. Only what arrives between the bind and the connect is lost. Sockets are
//! opened when first used, up to a limit; without one, the receiving socket sends, as it does on
//! other systems than Linux. It does not wait either.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::egress::is_full;
use super::source::{Opener, Queue, Source};
use super::{Path, Sockets, Train, Transmit, batch};

/// The most local addresses that have sockets of their own.
const MOST_SOURCES: usize = 32;

/// After how many flushes it opens its sockets anew, if some could not be had: the addresses of a
/// host change.
const RENEW: u64 = 10_000;

/// Stands for all local addresses that have no sockets of their own.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
    /// Answers to strangers, whose addresses may be forged.
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
    /// By local address; the first stands for [`OTHERS`].
    sources: Vec<Source>,
    /// The source of the last offer, which is mostly that of the next.
    last: usize,
    opener: Opener,
    losses: Losses,
    flushes: u64,
    /// After how many flushes the sockets may be opened anew.
    renew_at: u64,
}

impl Outbox {
    /// An outbox that sends from the addresses of `sockets`. Each thread that sends has its own.
    pub fn new(sockets: Arc<Sockets>) -> Outbox {
        Outbox {
            sources: vec![Source::new(OTHERS)],
            last: 0,
            opener: Opener::new(sockets),
            losses: Losses::default(),
            flushes: 0,
            renew_at: RENEW,
        }
    }

    /// Adds a datagram to the batch of its class and local address. It leaves with the next
    /// [`flush`](Outbox::flush), or as soon as the batch is worth a system call.
    pub fn offer(&mut self, class: Class, transmit: Transmit) {
        let source = self.source(transmit.path.local);
        let batch = &mut self.sources[source].queue(class).batch;
        batch.push(transmit);
        if batch.len() >= batch::MOST {
            self.send(source, class);
        }
    }

    /// Sends what was offered. What the system does not take is dropped and counted.
    pub fn flush(&mut self) {
        for source in 0..self.sources.len() {
            self.send(source, Class::Answer);
            self.send(source, Class::Challenge);
        }
        self.flushes += 1;
        if self.opener.lacking && self.flushes >= self.renew_at {
            self.renew();
        }
    }

    /// Sends a train now. What there is no room for is given back, to be offered again some
    /// milliseconds later; there may well be room for trains to other peers meanwhile.
    pub fn offer_train(&mut self, mut train: Train) -> Result<(), Train> {
        let source = self.source(train.path.local);
        let Outbox { sources, opener, losses, .. } = self;
        let Source { local, windows, .. } = &mut sources[source];
        let done = match windows.of(&train.path, *local, opener) {
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

    /// How many datagrams have not left so far, and never will.
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
                self.opener.lacking = true;
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

    /// Closes the sockets; what they were given still leaves. Those in use are opened again.
    fn renew(&mut self) {
        self.sources.truncate(1);
        self.last = 0;
        self.opener = Opener::new(self.opener.sockets.clone());
        self.renew_at = self.flushes + RENEW;
    }
}

/// Counts what did not leave, and logs why.
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

    /// Logs each cause once: a line for each datagram would fill the log.
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
