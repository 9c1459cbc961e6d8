//! Bounded: no datagram more than are due, and no journal more than are needed.

use super::*;

/// What was told of the current window in this life of the registry.
#[derive(Debug, Default)]
pub(crate) struct Bounded {
    /// How often each part of WINDOW was sent to a member.
    told: BTreeMap<(SocketAddr, Window, u32), u32>,
    acked: BTreeSet<(SocketAddr, Window)>,
}

impl Bounded {
    pub(crate) fn on_start(&mut self) {
        *self = Bounded::default();
    }

    /// A member's ACK has come, with the right pass: it is told no more.
    pub(crate) fn on_ack(&mut self, member: SocketAddr, window: Window) {
        self.acked.insert((member, window));
    }

    /// A part of WINDOW is sent once, the first one three times; after the ACK none.
    pub(crate) fn on_window(&mut self, to: SocketAddr, window: Window, part: u32) -> Check {
        let times = self.told.entry((to, window, part)).or_default();
        *times += 1;
        let (times, most) = (*times, if part == 0 { 3 } else { 1 });
        let again = times > 1 && self.acked.contains(&(to, window));
        Rule::Bounded.require(times <= most && !again, || {
            format!("{to} is told part {part} of {window} {times} times, acked: {again}")
        })
    }
}
