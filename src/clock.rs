//! The only reader of time: the wall clock says which window it is, the monotonic one how long
//! ago something was.
//!
//! ```text
//!  wall ────┬──── sleep until the boundary, ───┬── read ──┬── read ──┬─ boundary
//!           now   but read at least every second                     handle_timeout
//! ```
//!
//! The wall clock can be stepped during a sleep, so it is read again at least every second. A step of
//! more than ten minutes is not believed before it has stood for two minutes ([`Belief`]).

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::window::Wall;

/// The longest sleep before the wall clock is read again.
pub const MAX_SLEEP: Duration = Duration::from_secs(1);
/// The resolution of tokio's timer, which wakes up to this much late. A sleep until a boundary is
/// shortened by this; a caller that wakes too early sleeps again.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// The largest step of the wall clock that is believed at once.
const MAX_STEP: Duration = Duration::from_secs(600);

/// How long a larger step must stand until it is believed, and the first reading until
/// [`Clock::proven`].
const PROBATION: Duration = Duration::from_secs(120);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The reading of the wall clock, or what it would be without a step that is not believed.
    pub wall: Wall,
    /// The reading of the monotonic clock: the time since its start, which never steps; the time that
    /// the machine was suspended counts.
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

/// Judges the steps of a wall clock by a clock that is never stepped and counts suspends.
///
/// A clock that jumps by days is more often wrong than right: a dead battery, a wrong command, a
/// virtual machine that was resumed. Windows of a time that never was would be opened, and none
/// when the clock is set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// How far the wall clock was ahead of the boot-time clock when last believed, in milliseconds.
    offset: i64,
    /// The offset that is not believed, and when it was first read by the boot-time clock.
    doubted: Option<(i64, Duration)>,
    /// When the first reading was made, by the boot-time clock.
    began: Duration,
}

impl Belief {
    /// Believes a first reading of the wall clock and the boot-time clock.
    pub fn new(wall: Wall, boot: Duration) -> Belief {
        Belief { offset: wall.millis() - millis(boot), doubted: None, began: boot }
    }

    /// Judges a reading of both clocks, and returns the time to go by.
    pub fn read(&mut self, wall: Wall, boot: Duration) -> Wall {
        let offset = wall.millis() - millis(boot);
        let is_small = |step: i64| step.unsigned_abs() <= millis(MAX_STEP).unsigned_abs();
        let since = match self.doubted {
            _ if is_small(offset - self.offset) => None,
            Some((doubted, since)) if is_small(offset - doubted) => Some(since),
            _ => Some(boot),
        };
        let is_doubted = |since: &Duration| boot < *since + PROBATION || wall.is_clamped();
        self.doubted = since.filter(is_doubted).map(|since| (offset, since));
        if self.doubted.is_none() {
            self.offset = offset;
        }
        Wall::from_millis(millis(boot) + self.offset)
    }

    /// Returns by how many milliseconds the wall clock was stepped, while that is not believed.
    pub fn doubted_step(&self) -> Option<i64> {
        self.doubted.map(|(offset, _)| offset - self.offset)
    }

    /// Returns whether the last reading, at `boot`, is not doubted, and the first one was made two
    /// minutes before or earlier: at a start, any clock is believed.
    pub fn is_proven(&self, boot: Duration) -> bool {
        self.doubted.is_none() && boot >= self.began + PROBATION
    }
}

/// Returns what helps when the clock is behind the last opened window `by` so much.
pub fn remedy_for_behind(by: Duration) -> &'static str {
    match by <= MAX_STEP {
        true => "set the clock right, or wait",
        false => {
            "set the clock right; only if it is right, and was wrong before, start with another \
             --data, without what was acked"
        }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// What this process believes of the machine's wall clock, from its first reading on.
static BELIEF: Mutex<Option<Belief>> = Mutex::new(None);

fn belief() -> MutexGuard<'static, Option<Belief>> {
    BELIEF.lock().expect("nobody panics while reading a clock")
}

/// The two clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// Starts the monotonic clock, from zero.
    pub fn start() -> Clock {
        Clock { origin: since_boot() }
    }

    /// Reads both clocks at once.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Now {
        let wall =
            Wall::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis));
        let boot = since_boot();
        let mut belief = belief();
        let wall = belief.get_or_insert_with(|| Belief::new(wall, boot)).read(wall, boot);
        Now { wall, mono: boot.saturating_sub(self.origin) }
    }

    /// Returns by how many milliseconds the wall clock was stepped, while that is not believed.
    pub fn doubted_step(&self) -> Option<i64> {
        belief().as_ref().and_then(Belief::doubted_step)
    }

    /// Returns the time by which something may be removed for good; `None` for the first two minutes
    /// of the process, and while the wall clock is not believed.
    pub fn proven(&self) -> Option<Wall> {
        let now = self.now();
        let is_proven = |belief: &Belief| belief.is_proven(self.origin + now.mono);
        belief().as_ref().is_some_and(is_proven).then_some(now.wall)
    }

    /// Sleeps until `alarm`, at most for a second: the caller reads the clock and sleeps again.
    pub async fn sleep(&self, alarm: Alarm) {
        tokio::time::sleep(alarm.span(self.now())).await;
    }
}

/// Reads the clock that never steps and goes on while the machine is suspended: CLOCK_BOOTTIME on
/// Linux; CLOCK_MONOTONIC elsewhere, which on macOS is such a clock. Where it stands still in a suspend,
/// the step of the wall clock after that is judged as any other.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let first = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let first = ClockId::CLOCK_MONOTONIC;
    let read = clock_gettime(first).or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC));
    read.expect("every system has a monotonic clock").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_433_340_000;
    const DAY: i64 = 86_400_000;

    fn wall(millis: i64) -> Wall {
        Wall::from_millis(START + millis)
    }

    /// Reads a clock that is `off` milliseconds wrong, `seconds` after the start.
    fn read(belief: &mut Belief, seconds: u64, off: i64) -> i64 {
        let reading = wall(seconds as i64 * 1000 + off);
        belief.read(reading, Duration::from_secs(1_000 + seconds)).millis() - START
    }

    fn belief() -> Belief {
        Belief::new(wall(0), Duration::from_secs(1_000))
    }

    #[test]
    fn a_step_of_up_to_ten_minutes_is_believed_at_once() {
        for off in [600_000, -600_000, 1] {
            let mut belief = belief();
            assert_eq!(read(&mut belief, 5, off), 5_000 + off);
            assert_eq!(belief.doubted_step(), None);
        }
    }

    #[test]
    fn a_larger_step_is_believed_when_it_has_stood_for_two_minutes() {
        for off in [40 * DAY, -40 * DAY, 600_001] {
            let mut belief = belief();
            assert_eq!(read(&mut belief, 5, off), 5_000);
            assert_eq!(belief.doubted_step(), Some(off));
            assert_eq!(read(&mut belief, 124, off + 70), 124_000);
            assert_eq!(read(&mut belief, 125, off + 70), 125_000 + off + 70);
            assert_eq!(belief.doubted_step(), None);
        }
    }

    #[test]
    fn a_time_before_1970_or_after_9999_is_never_believed() {
        for reading in [i64::MIN, i64::MAX].map(Wall::from_millis) {
            let mut belief = belief();
            for seconds in 0..1000 {
                let read = belief.read(reading, Duration::from_secs(1_000 + seconds));
                assert_eq!(read, wall(seconds as i64 * 1000));
            }
        }
    }

    #[test]
    fn a_step_that_is_taken_back_leaves_nothing() {
        let mut belief = belief();
        assert_eq!(read(&mut belief, 5, 40 * DAY), 5_000);
        assert_eq!(read(&mut belief, 20, 30), 20_030);
        assert_eq!(belief.doubted_step(), None);
        assert_eq!(read(&mut belief, 200, 40 * DAY), 200_030, "the time begins anew");
    }

    #[test]
    fn a_clock_that_jumps_about_is_not_believed() {
        let mut belief = belief();
        for minute in 1..10 {
            let off = if minute % 2 == 0 { 2 * DAY } else { -DAY };
            assert_eq!(read(&mut belief, 60 * minute, off), 60_000 * minute as i64);
        }
    }

    #[test]
    fn a_clock_is_proven_two_minutes_after_the_start_and_while_it_is_not_doubted() {
        let mut belief = belief();
        let mut is_proven = |seconds, off| {
            read(&mut belief, seconds, off);
            belief.is_proven(Duration::from_secs(1_000 + seconds))
        };
        assert!(!is_proven(0, 0) && !is_proven(119, 0) && is_proven(120, 0));
        assert!(!is_proven(200, 40 * DAY) && !is_proven(319, 40 * DAY) && is_proven(320, 40 * DAY));
    }

    #[test]
    fn a_suspend_is_no_step() {
        let mut belief = belief();
        assert_eq!(read(&mut belief, 8 * 3600, 0), 8 * 3_600_000);
        assert_eq!(belief.doubted_step(), None);
    }

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
