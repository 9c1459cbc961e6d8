//! Rule "Bounded": no more datagrams are sent than are due, and no more journals kept than needed.

use super::*;

/// The WINDOW datagrams of the current window that this process of the registry has sent.
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

    /// Notes a member's valid ACK: it must not be sent WINDOW any more.
    pub(crate) fn on_ack(&mut self, member: SocketAddr, window: Window) {
        self.acked.insert((member, window));
    }

    /// Checks that a part of WINDOW is sent once, part 0 up to three times, and none after the ACK.
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
