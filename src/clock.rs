//! The only reader of time: the wall clock says which window it is, the monotonic one how long
//! ago something was.
//!
//! ```text
//!  wall ────┬──── sleep until the boundary, ───┬── look ──┬── look ──┬─ boundary
//!           now   but look at least every second                     handle_timeout
//! ```
//!
//! A wall clock can be stepped while one sleeps; it is looked at again at least every second.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::window::Wall;

/// The longest sleep before the wall clock is looked at again.
const LOOK: Duration = Duration::from_secs(1);
/// What tokio's timer counts in: it wakes up to so much late. For a boundary it is asked for so much
/// less, and whoever wakes too early asks again.
const GRAIN: Duration = Duration::from_millis(1);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Of the wall clock.
    pub wall: Wall,
    /// Since the clock was started; never steps.
    pub mono: Duration,
}

impl Now {
    /// The monotonic clock in tenths of a second: 32 bits of them are 13 years.
    pub fn tenths(self) -> u32 {
        (self.mono.as_millis() / 100) as u32
    }
}

/// When to wake: at the earlier of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm {
    /// A moment of the wall clock: a boundary.
    pub wall: Option<Wall>,
    /// A moment of the monotonic clock: a retry or a pace.
    pub mono: Option<Duration>,
}

impl Alarm {
    /// An alarm of the monotonic clock.
    pub fn mono(at: Option<Duration>) -> Alarm {
        Alarm { wall: None, mono: at }
    }

    /// How long to sleep from `now`, at most until the next look.
    fn span(self, now: Now) -> Duration {
        let wall = self.wall.map_or(LOOK, |at| now.wall.until(at).saturating_sub(GRAIN));
        let mono = self.mono.map_or(LOOK, |at| at.saturating_sub(now.mono));
        wall.min(mono).min(LOOK)
    }
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Reads both.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        Now { wall: Wall::from_millis(wall), mono: self.origin.elapsed() }
    }

    /// Sleeps until `alarm`, or until the next look: the caller reads the clock and asks again.
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
    fn the_earlier_alarm_wakes() {
        let alarm =
            Alarm { wall: Some(Wall::from_millis(10_500)), mono: Some(Duration::from_millis(300)) };
        assert_eq!(alarm.span(now(10_000, 0)), Duration::from_millis(300));
        assert_eq!(alarm.span(now(10_400, 0)), Duration::from_millis(99));
        assert_eq!(alarm.span(now(11_000, 0)), Duration::ZERO);
        assert_eq!(alarm.span(now(10_000, 400)), Duration::ZERO);
    }

    #[test]
    fn a_far_boundary_is_looked_at_every_second() {
        let boundary = Alarm { wall: Some(Wall::from_millis(60_000)), mono: None };
        assert_eq!(boundary.span(now(0, 0)), LOOK);
        assert_eq!(Alarm::default().span(now(0, 0)), LOOK);
    }

    #[tokio::test]
    async fn a_sleep_never_ends_before_its_alarm() {
        let clock = Clock::start();
        let at = clock.now().mono + Duration::from_millis(3);
        clock.sleep(Alarm::mono(Some(at))).await;
        assert!(clock.now().mono >= at);
    }
}
