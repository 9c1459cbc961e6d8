//! Rule "Never held up": each member is sent WINDOW at once, even if other members' sockets are
//! full.

use super::*;

/// The longest time from an opening until its last member is sent WINDOW, by the fan-out's pace.
const MAX_DELAY: Duration = Duration::from_millis(10);

/// The window that opened last, and its members that have not been sent WINDOW yet.
#[derive(Debug, Default)]
pub(crate) struct NeverHeldUp {
    opened: Option<(Window, Duration)>,
    closes: Option<Wall>,
    untold: BTreeSet<SocketAddr>,
}

impl NeverHeldUp {
    /// Forgets the announcement, which a restarted registry begins again.
    pub(crate) fn on_start(&mut self) {
        self.untold.clear();
    }

    /// Notes a window that opened at `t` of the world's time.
    pub(crate) fn on_opened(
        &mut self,
        (window, closes): (Window, Wall),
        members: impl Iterator<Item = SocketAddr>,
        t: Duration,
    ) {
        (self.opened, self.closes) = (Some((window, t)), Some(closes));
        self.untold = members.collect();
    }

    /// Excuses a member whose socket is full.
    pub(crate) fn on_full(&mut self, member: SocketAddr) {
        self.untold.remove(&member);
    }

    /// Notes that a part of WINDOW was sent to a member, and checks that it was in time.
    pub(crate) fn on_told(&mut self, window: Window, member: SocketAddr, t: Duration) -> Check {
        let Some((_, opened)) = self.opened.filter(|(it, _)| *it == window) else { return Ok(()) };
        let in_time = !self.untold.remove(&member) || t <= opened + MAX_DELAY;
        Rule::NeverHeldUp.require(in_time, || {
            format!("{member} is told of {window} {:?} after its opening", t - opened)
        })
    }

    /// Checks that no member has waited for WINDOW for too long; a closed window does not count.
    pub(crate) fn on_rest(&mut self, t: Duration, wall: Wall) -> Check {
        if self.closes.is_some_and(|closes| wall >= closes) {
            self.untold.clear();
        }
        let Some((window, opened)) = self.opened else { return Ok(()) };
        let held_up = self.untold.first().filter(|_| t > opened + MAX_DELAY);
        Rule::NeverHeldUp.require(held_up.is_none(), || {
            format!("{held_up:?} has not been told of {window}, {:?} after its opening", t - opened)
        })
    }
}
