//! The simulated clocks of one host: they run a little fast or slow, and the wall clock can step.

use std::time::Duration;

use hit7::window::Wall;

const MILLION: i128 = 1_000_000;

/// The clocks of a host, computed from the world's time.
#[derive(Clone, Debug)]
pub(crate) struct HostClock {
    /// The wall clock's time at the beginning of the world, in milliseconds.
    pub(crate) base: i64,
    /// How much faster than the world's time the host's clocks run, in parts per million.
    pub(crate) ppm: i64,
    /// How far the wall clock has been stepped, in milliseconds.
    pub(crate) stepped: i64,
}

impl HostClock {
    /// Makes a clock that runs exactly with the world's time.
    pub(crate) fn right(base: Wall) -> HostClock {
        HostClock { base: base.millis(), ppm: 0, stepped: 0 }
    }

    /// Returns the monotonic clock at the world's time `t`.
    pub(crate) fn mono(&self, t: Duration) -> Duration {
        let nanos = t.as_nanos() as i128;
        Duration::from_nanos((nanos + nanos * i128::from(self.ppm) / MILLION) as u64)
    }

    /// Returns the wall clock at the world's time `t`.
    pub(crate) fn wall(&self, t: Duration) -> Wall {
        Wall::from_millis(self.base + self.stepped + self.mono(t).as_millis() as i64)
    }

    /// Returns the world's time at which the monotonic clock reaches `mono`.
    pub(crate) fn when(&self, mono: Duration) -> Duration {
        let nanos = mono.as_nanos() as i128 * MILLION / (MILLION + i128::from(self.ppm));
        let mut t = Duration::from_nanos(nanos.max(0) as u64);
        while self.mono(t) < mono {
            t += Duration::from_nanos(1);
        }
        t
    }

    /// Returns the world's time at which the wall clock reaches `wall`, if it is not stepped.
    pub(crate) fn when_wall(&self, wall: Wall) -> Duration {
        let millis = (wall.millis() - self.base - self.stepped).max(0);
        self.when(Duration::from_millis(millis as u64))
    }
}
