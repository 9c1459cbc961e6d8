//! The events that a peer reports to its caller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::{Code, Name, Room, Text};
use crate::window::Window;

/// The reason why a peer missed a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedWhy {
    /// The registry did not open the window, or this peer was not a member of it.
    NotAMember,
    /// The registry has answered nothing since the window opened.
    Silence,
    /// This peer was paused, and the registry has answered nothing since.
    Pause,
    /// The registry has answered since the window opened, but its list, which takes large
    /// datagrams, did not come or not whole.
    ListLost {
        /// How many parts of the list came.
        came: usize,
        /// How many parts the list has, if one came.
        of: Option<u32>,
    },
}

/// An event that a peer reports, to be shown or logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This peer is registered for a window; reported once for each, and again if its address
    /// changed, or if the registry answers again after it was reported as silent or refusing.
    Registered {
        /// The window that this peer is now in.
        window: Window,
        /// The time until that window opens; zero if open.
        opens_in: Duration,
        /// This peer's address as the registry sees it.
        you: SocketAddr,
        /// The room of the registration.
        room: Room,
    },
    /// The window is open, and this peer's own list is complete.
    Opened {
        /// The window that has opened.
        window: Window,
        /// The number of members in the roster, this peer included.
        count: u32,
        /// The peers on the own list in its order, without this peer.
        peers: Arc<[SocketAddr]>,
        /// The time until the window closes.
        closes_in: Duration,
        /// This peer's address in the roster.
        you: SocketAddr,
    },
    /// A peer answered a GREET: once for each peer of a window.
    Met {
        /// The peer's address in the roster.
        peer: SocketAddr,
        /// The name that the peer gave.
        name: Option<Name>,
        /// The round trip: the time from the GREET to its answer.
        rtt: Duration,
    },
    /// A peer's GREET arrived: once for each peer of a window.
    Greeted {
        /// The peer's address in the roster.
        peer: SocketAddr,
        /// The name that the peer gave.
        name: Option<Name>,
        /// The text of the greeting.
        text: Option<Text>,
    },
    /// The window of the last [`Event::Opened`] has closed.
    Closed {
        /// The window that has closed.
        window: Window,
        /// How many peers were met.
        met: usize,
        /// How many peers the own list had.
        of: usize,
        /// The peers that were not met, in the list's order.
        missing: Arc<[SocketAddr]>,
    },
    /// The window was missed: this peer was not a member, or did not get its own list.
    Missed {
        /// The window that was missed.
        window: Window,
        /// Why it was missed, as far as this peer can tell.
        why: MissedWhy,
    },
    /// The registry has begun anew at an earlier window: its clock was set back, or it is another
    /// registry. What it said of later windows no longer holds.
    WentBack {
        /// The latest window that was open before.
        latest: Window,
        /// The window that is open now.
        current: Window,
    },
    /// This many events were left out: the registry caused more than a peer reports.
    LeftOut(u64),
    /// The registry has confirmed LEAVE.
    Left,
    /// The registry refused a request: reported once, not for each retry. If the code is final,
    /// this peer registers no more.
    Refused {
        /// The reason for programs; [`Code::is_retryable`] says whether this peer tries again.
        code: Code,
        /// The reason as a sentence for a person.
        reason: String,
        /// How long to wait, where the registry says that waiting helps.
        retry_in: Option<Duration>,
    },
}

impl Event {
    /// Returns the list that the event carries, of at most 65,536 addresses; `None` if it has none.
    pub(crate) fn list(&self) -> Option<&Arc<[SocketAddr]>> {
        match self {
            Event::Opened { peers: list, .. } | Event::Closed { missing: list, .. } => Some(list),
            _ => None,
        }
    }
}
