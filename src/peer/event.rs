//! What a peer reports to whoever runs it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::proto::{Code, Name, Room, Text};
use crate::window::Window;

/// Something that happened to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Registered for a window; reported once for each, and again if the own address changed.
    Registered {
        /// The window that this peer is now in.
        window: Window,
        /// The time until it opens; zero if it is open.
        opens_in: Duration,
        /// The own address as the registry sees it.
        you: SocketAddr,
        /// The room of the registration.
        room: Room,
    },
    /// The window is open, and the own list is whole.
    Opened {
        /// The window that has opened.
        window: Window,
        /// The size of the roster, oneself included.
        count: u32,
        /// The own list in its order, without oneself.
        peers: Vec<SocketAddr>,
        /// The time until the window closes.
        closes_in: Duration,
        /// The own address in the roster.
        you: SocketAddr,
    },
    /// A peer answered a GREET: once for each peer of a window.
    Met {
        /// The peer's address in the roster.
        peer: SocketAddr,
        /// The name that the peer gave.
        name: Option<Name>,
        /// The time from that GREET to its answer.
        rtt: Duration,
    },
    /// A peer's GREET came: once for each peer of a window.
    Greeted {
        /// The peer's address in the roster.
        peer: SocketAddr,
        /// The name that the peer gave.
        name: Option<Name>,
        /// The text of the greeting.
        text: Option<Text>,
    },
    /// The window that was [`Event::Opened`] is over.
    Closed {
        /// The window that has closed.
        window: Window,
        /// How many peers were met.
        met: usize,
        /// How many peers the own list had.
        of: usize,
        /// The peers that were not met, in the list's order.
        missing: Vec<SocketAddr>,
    },
    /// The window passed without this peer, or without its list.
    Missed {
        /// The window that was missed.
        window: Window,
    },
    /// The registry has confirmed LEAVE.
    Left,
    /// The registry refused: reported once, not for each retry. If the code is final, this peer
    /// registers no more.
    Refused {
        /// The reason for programs; [`Code::is_retryable`] says whether it is tried again.
        code: Code,
        /// The reason as a sentence for a person.
        reason: String,
        /// How long to wait, where the registry says that waiting helps.
        retry_in: Option<Duration>,
    },
}
