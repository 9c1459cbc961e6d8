//! The clocks of one host: they run a little fast or slow, and the wall clock is stepped.

use std::time::Duration;

use hit7::window::Wall;

const MILLION: i128 = 1_000_000;

/// What a host makes of the world's time.
#[derive(Clone, Debug)]
pub(crate) struct HostClock {
    /// What the wall clock said when the world began, in milliseconds.
    pub(crate) base: i64,
    /// How much faster than the world it runs, in millionths.
    pub(crate) ppm: i64,
    /// How far the wall clock has been stepped, in milliseconds.
    pub(crate) stepped: i64,
}

impl HostClock {
    /// A clock that is right.
    pub(crate) fn right(base: Wall) -> HostClock {
        HostClock { base: base.millis(), ppm: 0, stepped: 0 }
    }

    /// The monotonic clock at the world's time `t`.
    pub(crate) fn mono(&self, t: Duration) -> Duration {
        let nanos = t.as_nanos() as i128;
        Duration::from_nanos((nanos + nanos * i128::from(self.ppm) / MILLION) as u64)
    }

    /// The wall clock at the world's time `t`.
    pub(crate) fn wall(&self, t: Duration) -> Wall {
        Wall::from_millis(self.base + self.stepped + self.mono(t).as_millis() as i64)
    }

    /// The first moment of the world at which the monotonic clock says `mono`.
    pub(crate) fn when(&self, mono: Duration) -> Duration {
        let nanos = mono.as_nanos() as i128 * MILLION / (MILLION + i128::from(self.ppm));
        let mut t = Duration::from_nanos(nanos.max(0) as u64);
        while self.mono(t) < mono {
            t += Duration::from_nanos(1);
        }
        t
    }

    /// The first moment of the world at which the wall clock says `wall`, if it is not stepped.
    pub(crate) fn when_wall(&self, wall: Wall) -> Duration {
        let millis = (wall.millis() - self.base - self.stepped).max(0);
        self.when(Duration::from_millis(millis as u64))
    }
}
