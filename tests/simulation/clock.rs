//! The simulated clocks of one host: they run a little fast or slow, and the wall clock can step. The
//! registry goes by what the program's own judge of steps believes of it.

use std::time::Duration;

use hit7::clock::Belief;
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
    belief: Option<Belief>,
}

impl HostClock {
    /// Makes a clock that runs exactly with the world's time.
    pub(crate) fn right(base: Wall) -> HostClock {
        HostClock::new(base, 0)
    }

    /// Makes a clock that runs so much faster than the world's time, in parts per million.
    pub(crate) fn new(base: Wall, ppm: i64) -> HostClock {
        HostClock { base: base.millis(), ppm, stepped: 0, belief: None }
    }

    /// Believes the wall clock as it is, as a process does that starts.
    pub(crate) fn believe(&mut self, t: Duration) {
        self.belief = Some(Belief::new(self.reading(t), self.mono(t)));
    }

    /// Reads the wall clock as the registry's process does.
    pub(crate) fn look(&mut self, t: Duration) {
        let (reading, mono) = (self.reading(t), self.mono(t));
        if let Some(belief) = &mut self.belief {
            belief.read(reading, mono);
        }
    }

    /// Returns how much of the steps is not believed, in milliseconds.
    pub(crate) fn doubted(&self) -> i64 {
        self.belief.as_ref().and_then(Belief::doubted_step).unwrap_or(0)
    }

    /// Returns what the wall clock says at the world's time `t`.
    pub(crate) fn reading(&self, t: Duration) -> Wall {
        Wall::from_millis(self.base + self.stepped + self.mono(t).as_millis() as i64)
    }

    /// Returns the monotonic clock at the world's time `t`.
    pub(crate) fn mono(&self, t: Duration) -> Duration {
        let nanos = t.as_nanos() as i128;
        Duration::from_nanos((nanos + nanos * i128::from(self.ppm) / MILLION) as u64)
    }

    /// Returns the time by which the host goes at the world's time `t`: the wall clock's, as far as
    /// that is believed.
    pub(crate) fn wall(&self, t: Duration) -> Wall {
        Wall::from_millis(self.reading(t).millis() - self.doubted())
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

    /// Returns the world's time at which [`HostClock::wall`] reaches `wall`, if that is not stepped.
    pub(crate) fn when_wall(&self, wall: Wall) -> Duration {
        let millis = (wall.millis() - self.base - self.stepped + self.doubted()).max(0);
        self.when(Duration::from_millis(millis as u64))
    }
}
