//! The send-only sockets of an outbox, by the local address that they send from.

use std::array;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Once};

use super::egress::Egress;
use super::{Class, Path, Sockets, Transmit};

/// The number of sockets over which the peers of one local address are spread. On Linux, a
/// neighbour that does not answer can occupy 208 KiB of a buffer, and an ordinary socket has 416
/// KiB.
pub(super) const SOCKETS_PER_ADDRESS: usize = 8;

/// The queues and send-only sockets of one local address.
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

/// The queued datagrams of one class, and the sockets that send them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) batch: Vec<Transmit>,
    pub(super) first: Slot,
    /// The sockets for what `first` has no room for: the few peers that filled it cannot fill all.
    pub(super) more: Spread,
}

/// The sockets over which the peers of one local address are spread.
#[derive(Debug)]
pub(super) struct Spread(pub(super) [Slot; SOCKETS_PER_ADDRESS]);

impl Default for Spread {
    fn default() -> Spread {
        Spread(array::from_fn(|_| Slot::default()))
    }
}

impl Spread {
    /// Returns the socket for the peer of `path`, if one can be opened. The whole IP address
    /// decides, not its network: neighbours of one IPv6 network must not all share one socket.
    pub(super) fn socket_for(
        &mut self,
        path: &Path,
        local: IpAddr,
        opener: &mut Opener,
    ) -> Option<&Egress> {
        let hash = opener.hasher.hash_one(path.peer.ip());
        self.0[hash as usize % SOCKETS_PER_ADDRESS].get(local, opener)
    }
}

/// A send-only socket that is opened when first used.
#[derive(Debug, Default)]
pub(super) enum Slot {
    #[default]
    Unused,
    Open(Egress),
    /// No socket could be opened: the receiving socket sends instead.
    Unavailable,
}

impl Slot {
    pub(super) fn get(&mut self, local: IpAddr, opener: &mut Opener) -> Option<&Egress> {
        if let Slot::Unused = self {
            *self = opener.open(local).map_or(Slot::Unavailable, Slot::Open);
        }
        match self {
            Slot::Open(egress) => Some(egress),
            _ => None,
        }
    }
}

/// Opens send-only sockets, up to what [`Sockets::limit_send_only`] allows.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) sockets: Arc<Sockets>,
    opened: usize,
    /// Whether a socket could not be opened, or a local address found no place in the outbox.
    pub(super) open_failed: bool,
    /// Spreads the peers by a random key, so that nobody outside can predict their sockets.
    hasher: RandomState,
}

impl Opener {
    pub(super) fn new(sockets: Arc<Sockets>) -> Opener {
        Opener { sockets, opened: 0, open_failed: false, hasher: RandomState::new() }
    }

    fn open(&mut self, local: IpAddr) -> Option<Egress> {
        static TOLD: Once = Once::new();
        if !can_be_bound(local) {
            return None;
        }
        let opened = self.open_send_only(local).inspect_err(|error| {
            self.open_failed = true;
            // Once for all workers.
            TOLD.call_once(|| {
                tracing::info!(%local, %error, "no socket of its own to send from there");
            });
        });
        self.opened += usize::from(opened.is_ok());
        opened.ok()
    }

    fn open_send_only(&self, local: IpAddr) -> io::Result<Egress> {
        if self.opened >= self.sockets.most_send_only() {
            return Err(io::Error::other("as many are open as may be"));
        }
        self.sockets.send_only(local)
    }
}

/// Returns whether a socket can be bound to an address. A path does not say which interface a
/// link-local address belongs to; other systems than Linux have no send-only sockets.
fn can_be_bound(local: IpAddr) -> bool {
    let is_link_local = matches!(local, IpAddr::V6(ip) if ip.is_unicast_link_local());
    cfg!(target_os = "linux") && !local.is_unspecified() && !is_link_local
}
