//! Tells that the journal takes too long to say what became of what was submitted: its disk hangs.

use std::time::Duration;

use crate::clock::Now;

/// How long the journal may take for a batch until that is reported.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The longest time between two looks that counts as waiting: in a longer one the program was paused.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which the outcome of the oldest batch has been pending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    waited: Duration,
    looked_at: Duration,
}

impl Wait {
    /// Begins to wait at `now`.
    pub(super) fn new(now: Now) -> Wait {
        Wait { waited: Duration::ZERO, looked_at: now.mono }
    }

    /// Looks at the time; returns the reason if the wait is too long.
    pub(super) fn look(&mut self, now: Now) -> Option<String> {
        let since = now.mono.saturating_sub(self.looked_at);
        (self.waited, self.looked_at) = (self.waited + since.min(LOOK_INTERVAL), now.mono);
        let seconds = MAX_WAIT.as_secs();
        let why = || format!("a write has not ended for {seconds} s: the disk of --data hangs");
        (self.waited >= MAX_WAIT).then(why)
    }

    /// Returns when to look again at the latest.
    pub(super) fn look_at(&self) -> Duration {
        self.looked_at + LOOK_INTERVAL
    }
}
