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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Length;

    fn past(second: i64, members: usize, late: Option<u64>) -> Past {
        let window = Length::MINUTE.window_at(Wall::from_millis(second * 1000));
        Past { window, members, rooms: 1, late: late.map(Duration::from_millis) }
    }

    #[test]
    fn nobody_waited_for_the_window_of_the_start_unless_it_has_members() {
        let started = Wall::from_millis(90_000);
        assert_eq!(lateness(&past(60, 0, Some(30_000)), started), None);
        let restarted = lateness(&past(60, 2, Some(30_000)), started);
        assert_eq!(restarted, Some(Duration::from_secs(30)));
        assert_eq!(lateness(&past(120, 0, Some(3)), started), Some(Duration::from_millis(3)));
        assert_eq!(lateness(&past(120, 2, None), started), None, "missed");
    }

    #[test]
    fn each_window_is_observed_once_and_none_of_an_earlier_run() {
        let mut lateness = Lateness::new(Wall::from_millis(0));
        let mut snapshot = Snapshot::example();
        snapshot.remember(past(60, 1, Some(5000)));
        lateness.observe(&snapshot);
        assert_eq!(lateness.seen, 0, "it was replayed");
        for second in [120, 180] {
            snapshot.remember(past(second, 1, Some(2)));
            snapshot.totals.opened += 1;
            lateness.observe(&snapshot);
            lateness.observe(&snapshot);
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("late", "Late", lateness.histogram());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("late_count 2\n") && text.contains("le=\"0.0025\"} 2\n"), "{text}");
    }
}
