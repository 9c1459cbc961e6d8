//! What a peer is told at its start, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::cookie::Key;
use crate::proto::{Code, Id, Name, Room, Text};
use crate::window::Window;

/// Who registers where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry's address.
    pub registry: SocketAddr,
    /// The registry's key, if it is private.
    pub key: Option<Key>,
    /// The own secret, made once per process.
    pub id: Id,
    /// The group to meet.
    pub room: Room,
    /// What people call this peer.
    pub name: Option<Name>,
    /// What its greetings say.
    pub text: Option<Text>,
    /// Its private address, for peers behind the same NAT.
    pub lan: Option<SocketAddr>,
    /// The subnets of its own interfaces.
    pub interfaces: Vec<IpNet>,
    /// Draws all that is random: delays, and the `seq`s that nobody may guess.
    pub seed: u64,
    /// Whether to register for the window after, once one is open.
    pub renew: bool,
}

/// What a peer lives through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// In for a window; told once for each, and again if the own address changed.
    Registered {
        /// The window.
        window: Window,
        /// Until it opens; zero if it is open.
        opens_in: Duration,
        /// The own address as the registry sees it.
        you: SocketAddr,
        /// The room.
        room: Room,
    },
    /// The window is open, and the own list is whole.
    Opened {
        /// The window.
        window: Window,
        /// The size of the roster, oneself included.
        count: u32,
        /// The own list in its order, without oneself.
        peers: Vec<SocketAddr>,
        /// Until it closes.
        closes_in: Duration,
        /// The own address in the roster.
        you: SocketAddr,
    },
    /// A peer answered a GREET: once for each peer of a window.
    Met {
        /// Its address in the roster.
        peer: SocketAddr,
        /// Its name.
        name: Option<Name>,
        /// From that GREET to its answer.
        rtt: Duration,
    },
    /// A peer's GREET came: once for each peer of a window.
    Greeted {
        /// Its address in the roster.
        peer: SocketAddr,
        /// Its name.
        name: Option<Name>,
        /// What it says.
        text: Option<Text>,
    },
    /// The window that was [`Event::Opened`] is over.
    Closed {
        /// The window.
        window: Window,
        /// How many peers were met.
        met: usize,
        /// Of how many in the own list.
        of: usize,
        /// Those that were not met, in the list's order.
        missing: Vec<SocketAddr>,
    },
    /// The window went by without us, or without its list.
    Missed {
        /// The window.
        window: Window,
    },
    /// The registry answered LEAVE.
    Left,
    /// The registry refused: told once, not for each retry. If the code is final, this peer
    /// registers no more.
    Refused {
        /// For programs; [`Code::is_retryable`] tells whether it is tried again.
        code: Code,
        /// A sentence for a person.
        reason: String,
        /// When the registry says that waiting helps.
        retry_in: Option<Duration>,
    },
}
