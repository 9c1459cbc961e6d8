//! The only reader of time: the wall clock says which window it is, the monotonic one how long
//! ago something was.
//!
//! ```text
//!  wall ────┬──── sleep until the boundary, ───┬── read ──┬── read ──┬─ boundary
//!           now   but read at least every second                     handle_timeout
//! ```
//!
//! The wall clock can be stepped during a sleep, so it is read again at least every second.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::window::Wall;

/// The longest sleep before the wall clock is read again.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// The resolution of tokio's timer, which wakes up to this much late. A sleep until a boundary is
/// shortened by this; a caller that wakes too early sleeps again.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The reading of the wall clock.
    pub wall: Wall,
    /// The reading of the monotonic clock: the time since its start, which never steps.
    pub mono: Duration,
}

impl Now {
    /// Returns the monotonic clock in tenths of a second: 32 bits of them are 13 years.
    pub fn tenths(self) -> u32 {
        (self.mono.as_millis() / 100) as u32
    }
}

/// When to wake: at the earlier of two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    /// A moment of the wall clock: the boundary of a window.
    pub wall: Option<Wall>,
    /// A moment of the monotonic clock: a retry or a pace.
    pub mono: Option<Duration>,
}

impl Alarm {
    /// Returns an alarm of the monotonic clock alone.
    pub fn mono(at: Option<Duration>) -> Alarm {
        Alarm { wall: None, mono: at }
    }

    /// Returns how long to sleep from `now`: until the alarm, but at most [`MAX_SLEEP`].
    fn span(self, now: Now) -> Duration {
        let wall =
            self.wall.map_or(MAX_SLEEP, |at| now.wall.until(at).saturating_sub(TIMER_RESOLUTION));
        let mono = self.mono.map_or(MAX_SLEEP, |at| at.saturating_sub(now.mono));
        wall.min(mono).min(MAX_SLEEP)
    }
}

/// The two clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock, from zero.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Reads both clocks at once.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        Now { wall: Wall::from_millis(wall), mono: self.origin.elapsed() }
    }

    /// Sleeps until `alarm`, at most for a second: the caller reads the clock and sleeps again.
    pub async fn sleep(&self, alarm: Alarm) {
        tokio::time::sleep(alarm.span(self.now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall: i64, mono: u64) -> Now {
        Now { wall: Wall::from_millis(wall), mono: Duration::from_millis(mono) }
    }

    #[test]
    fn a_sleep_ends_at_the_earlier_moment() {
        let alarm =
            Alarm { wall: Some(Wall::from_millis(10_500)), mono: Some(Duration::from_millis(300)) };
        assert_eq!(alarm.span(now(10_000, 0)), Duration::from_millis(300));
        assert_eq!(alarm.span(now(10_400, 0)), Duration::from_millis(99));
        assert_eq!(alarm.span(now(11_000, 0)), Duration::ZERO);
        assert_eq!(alarm.span(now(10_000, 400)), Duration::ZERO);
    }

    #[test]
    fn before_a_far_boundary_the_clock_is_read_every_second() {
        let boundary = Alarm { wall: Some(Wall::from_millis(60_000)), mono: None };
        assert_eq!(boundary.span(now(0, 0)), MAX_SLEEP);
        assert_eq!(Alarm::default().span(now(0, 0)), MAX_SLEEP);
    }

    #[tokio::test]
    async fn a_sleep_never_ends_before_its_alarm() {
        let clock = Clock::start();
        let at = clock.now().mono + Duration::from_millis(3);
        clock.sleep(Alarm::mono(Some(at))).await;
        assert!(clock.now().mono >= at);
    }
}
