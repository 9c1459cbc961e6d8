//! Never held up: a window is told to each member at once, whatever the sockets of others do.

use super::*;

/// From an opening until the last of its members has been told, by the pace of the fan-out.
const BOUND: Duration = Duration::from_millis(10);

/// The window that opened last, and its members who have not been told of it yet.
#[derive(Debug, Default)]
pub(crate) struct NeverHeldUp {
    opened: Option<(Window, Duration)>,
    closes: Option<Wall>,
    untold: BTreeSet<SocketAddr>,
}

impl NeverHeldUp {
    /// Whoever was to be told is told again, from the journal.
    pub(crate) fn on_start(&mut self) {
        self.untold.clear();
    }

    /// At `t` of the world's time.
    pub(crate) fn on_opened(
        &mut self,
        (window, closes): (Window, Wall),
        members: impl Iterator<Item = SocketAddr>,
        t: Duration,
    ) {
        (self.opened, self.closes) = (Some((window, t)), Some(closes));
        self.untold = members.collect();
    }

    /// Nothing can be sent to this member at present, nor need it be.
    pub(crate) fn on_full(&mut self, member: SocketAddr) {
        self.untold.remove(&member);
    }

    /// A part of WINDOW leaves for a member.
    pub(crate) fn on_told(&mut self, window: Window, member: SocketAddr, t: Duration) -> Check {
        let Some((_, opened)) = self.opened.filter(|(it, _)| *it == window) else { return Ok(()) };
        let in_time = !self.untold.remove(&member) || t <= opened + BOUND;
        Rule::NeverHeldUp.require(in_time, || {
            format!("{member} is told of {window} {:?} after its opening", t - opened)
        })
    }

    /// A window that is over is told to nobody.
    pub(crate) fn on_rest(&mut self, t: Duration, wall: Wall) -> Check {
        if self.closes.is_some_and(|closes| wall >= closes) {
            self.untold.clear();
        }
        let Some((window, opened)) = self.opened else { return Ok(()) };
        let held_up = self.untold.first().filter(|_| t > opened + BOUND);
        Rule::NeverHeldUp.require(held_up.is_none(), || {
            format!("{held_up:?} has not been told of {window}, {:?} after its opening", t - opened)
        })
    }
}
