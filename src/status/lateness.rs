//! How late a window opened, and the histogram of that over all windows, for the metrics.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::snapshot::{Past, Snapshot};
use crate::window::Wall;

/// Upper bounds of the histogram's buckets, in seconds.
const BUCKET_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Returns how late a window opened; `None` if it was missed, or if it had no members and its time
/// began before the program was started.
pub(super) fn lateness(past: &Past, started: Wall) -> Option<Duration> {
    past.late.filter(|_| past.members > 0 || past.window.opens() >= started)
}

/// The histogram of how late windows opened since the program was started.
pub(super) struct Lateness {
    histogram: Histogram,
    started: Wall,
    /// How many windows, opened or missed, have been observed.
    seen: u64,
}

impl Lateness {
    /// Creates an empty histogram; `started` is when the program was started.
    pub(super) fn new(started: Wall) -> Lateness {
        Lateness { histogram: Histogram::new(BUCKET_SECONDS), started, seen: 0 }
    }

    /// Returns a handle of the histogram, which shares its counts.
    pub(super) fn histogram(&self) -> Histogram {
        self.histogram.clone()
    }

    /// Adds each window that is new in `snapshot` to the histogram, once; windows replayed from an
    /// earlier run of the registry are left out.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
        let all = snapshot.totals.opened + snapshot.totals.missed;
        let new = all.saturating_sub(self.seen) as usize;
        let new = snapshot.past.iter().rev().take(new);
        new.filter_map(|past| lateness(past, self.started))
            .for_each(|late| self.histogram.observe(late.as_secs_f64()));
        self.seen = all;
    }
}
