//! Measures for how long the disk has not ended what it was given to do.

use std::time::Duration;

use crate::clock::Now;

/// The longest time between two looks that counts as waiting: in a longer one the program was paused.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which something has been waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    longest: Duration,
    waited: Duration,
    looked_at: Duration,
}

impl Wait {
    /// Begins to wait at `now`, for `longest` at most.
    pub(super) fn new(now: Now, longest: Duration) -> Wait {
        Wait { longest, waited: Duration::ZERO, looked_at: now.mono }
    }

    /// Looks at the time, and returns whether the wait is too long.
    pub(super) fn is_too_long(&mut self, now: Now) -> bool {
        let since = now.mono.saturating_sub(self.looked_at);
        (self.waited, self.looked_at) = (self.waited + since.min(LOOK_INTERVAL), now.mono);
        self.waited >= self.longest
    }

    /// Returns when to look again at the latest.
    pub(super) fn look_at(&self) -> Duration {
        self.looked_at + LOOK_INTERVAL
    }
}
