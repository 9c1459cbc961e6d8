//! How late windows opened: of one window, and counted over all of them for the metrics.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::snapshot::{Past, Snapshot};
use crate::window::Wall;

/// Upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How late a window opened, if it did. The one in which the registry was first started does not
/// count: nobody waited for it, and that it began before the program was started is no lateness.
pub(super) fn lateness(past: &Past, started: Wall) -> Option<Duration> {
    past.late.filter(|_| past.members > 0 || past.window.opens() >= started)
}

/// Counts the lateness of each window since the program was started.
pub(super) struct Lateness {
    histogram: Histogram,
    started: Wall,
    /// How many windows, opened or missed, have been looked at.
    seen: u64,
}

impl Lateness {
    /// Counts from the start of the program.
    pub(super) fn new(started: Wall) -> Lateness {
        Lateness { histogram: Histogram::new(BUCKETS), started, seen: 0 }
    }

    /// The counts so far and from now on.
    pub(super) fn histogram(&self) -> Histogram {
        self.histogram.clone()
    }

    /// Counts the windows that are new in `snapshot`, each once, also if several are; those of an
    /// earlier run, which stand before them, are not counted.
    pub(super) fn observe(&mut self, snapshot: &Snapshot) {
        let all = snapshot.totals.opened + snapshot.totals.missed;
        let new = all.saturating_sub(self.seen) as usize;
        let new = snapshot.past.iter().rev().take(new);
        new.filter_map(|past| lateness(past, self.started))
            .for_each(|late| self.histogram.observe(late.as_secs_f64()));
        self.seen = all;
    }
}
