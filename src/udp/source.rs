//! The sockets that only send, by the local address that they send from.

use std::array;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use super::egress::Egress;
use super::{Class, Path, Sockets, Transmit};

/// Among how many sockets the peers of one local address are divided. Linux lets a neighbour that
/// does not answer keep 208 KiB waiting, and an ordinary socket keeps 416 KiB.
pub(super) const SPREAD: usize = 8;

/// The most sockets that one outbox opens: many a process may have no more than 1024 files open.
pub(super) const MOST_SOCKETS: usize = 64;

/// What leaves from one local address.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) local: IpAddr,
    pub(super) answers: Queue,
    pub(super) challenges: Queue,
    pub(super) windows: Spread,
}

impl Source {
    pub(super) fn new(local: IpAddr) -> Source {
        let (answers, challenges) = (Queue::default(), Queue::default());
        Source { local, answers, challenges, windows: Spread::default() }
    }

    pub(super) fn queue(&mut self, class: Class) -> &mut Queue {
        match class {
            Class::Answer => &mut self.answers,
            Class::Challenge => &mut self.challenges,
        }
    }
}

/// Datagrams of one class that were offered, and the sockets that send them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) batch: Vec<Transmit>,
    pub(super) first: Slot,
    /// For what the first has no room for: the few peers that filled it do not fill all of these.
    pub(super) more: Spread,
}

/// Sockets among which the peers are divided.
#[derive(Debug)]
pub(super) struct Spread(pub(super) [Slot; SPREAD]);

impl Default for Spread {
    fn default() -> Spread {
        Spread(array::from_fn(|_| Slot::default()))
    }
}

impl Spread {
    /// The socket for the peer of a path. The whole address decides, not its network: neighbours of
    /// one IPv6 network must not all share one socket.
    pub(super) fn of(
        &mut self,
        path: &Path,
        local: IpAddr,
        opener: &mut Opener,
    ) -> Option<&Egress> {
        let hash = opener.hasher.hash_one(path.peer.ip());
        self.0[hash as usize % SPREAD].get(local, opener)
    }
}

/// A socket that is opened when it is first needed.
#[derive(Debug, Default)]
pub(super) enum Slot {
    #[default]
    Unused,
    Open(Egress),
    /// There is none to be had: the receiving socket sends.
    Without,
}

impl Slot {
    pub(super) fn get(&mut self, local: IpAddr, opener: &mut Opener) -> Option<&Egress> {
        if let Slot::Unused = self {
            *self = opener.open(local).map_or(Slot::Without, Slot::Open);
        }
        match self {
            Slot::Open(egress) => Some(egress),
            _ => None,
        }
    }
}

/// Opens the sockets, up to a limit.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) sockets: Arc<Sockets>,
    opened: usize,
    /// Whether there was a socket, or a source, that could not be had.
    pub(super) lacking: bool,
    /// Divides peers in a way that nobody outside can know.
    hasher: RandomState,
}

impl Opener {
    pub(super) fn new(sockets: Arc<Sockets>) -> Opener {
        Opener { sockets, opened: 0, lacking: false, hasher: RandomState::new() }
    }

    fn open(&mut self, local: IpAddr) -> Option<Egress> {
        if !can_be_bound(local) {
            return None;
        }
        let opened = self.try_open(local).inspect_err(|error| {
            if !mem::replace(&mut self.lacking, true) {
                tracing::info!(%local, %error, "no socket of its own to send from there");
            }
        });
        self.opened += usize::from(opened.is_ok());
        opened.ok()
    }

    fn try_open(&self, local: IpAddr) -> io::Result<Egress> {
        if self.opened >= MOST_SOCKETS {
            return Err(io::Error::other("as many are open as may be"));
        }
        self.sockets.send_only(local)
    }
}

/// Whether a socket can be bound to an address. A path does not say which interface a link-local
/// address belongs to; other systems than Linux have no such sockets.
fn can_be_bound(local: IpAddr) -> bool {
    let is_link_local = matches!(local, IpAddr::V6(ip) if ip.is_unicast_link_local());
    cfg!(target_os = "linux") && !local.is_unspecified() && !is_link_local
}
