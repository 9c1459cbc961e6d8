//! The kinds of simulated faults, and the random numbers: each kind draws from its own stream, so
//! that one can be switched off without changing the others.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

/// Declares every kind of fault, and every disturbance by people.
macro_rules! faults {
    ($($kind:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault {
            $($kind,)*
            /// Not a fault: random numbers that every world draws.
            Chance,
        }

        impl Fault {
            pub(crate) const ALL: &[Fault] = &[$(Fault::$kind),*];
        }
    };
}

faults! {
    Loss Delay Double Stale Partition NatTimeout NatChange Drift Step PeerStep
    Crash Down SyncFail Short Full Slow Hang Kept Torn
    PeerDeath Leaving Scripts Outsiders Forgers Crowd
    FullSocket HelperDeath Jump
    Flags Gone Documents
}

/// The kinds of fault that are switched on, as a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(u32);

impl Faults {
    pub(crate) fn of(kinds: &[Fault]) -> Faults {
        kinds.iter().fold(Faults::default(), |faults, &kind| faults.with(kind))
    }

    pub(crate) fn has(self, kind: Fault) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    pub(crate) fn with(self, kind: Fault) -> Faults {
        Faults(self.0 | 1 << kind as u32)
    }

    pub(crate) fn without(self, kind: Fault) -> Faults {
        Faults(self.0 & !(1 << kind as u32))
    }

    pub(crate) fn list(self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|&kind| self.has(kind)).collect()
    }
}

/// The random number generators of a world, all from one seed.
#[derive(Debug)]
pub(crate) struct Dice {
    on: Faults,
    streams: Vec<ChaCha8Rng>,
}

impl Dice {
    pub(crate) fn new(seed: u64, on: Faults) -> Dice {
        let stream = |kind: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(kind);
            rng
        };
        let streams = (0..=Fault::Chance as u64).map(stream).collect();
        Dice { on: on.with(Fault::Chance), streams }
    }

    pub(crate) fn has(&self, kind: Fault) -> bool {
        self.on.has(kind)
    }

    /// Returns `true` with the probability `chance`, and never if this kind is switched off.
    pub(crate) fn roll(&mut self, kind: Fault, chance: f64) -> bool {
        self.has(kind) && self.streams[kind as usize].random_bool(chance)
    }

    /// Returns a random number from `low` to below `high`.
    pub(crate) fn draw(&mut self, kind: Fault, low: u64, high: u64) -> u64 {
        self.streams[kind as usize].random_range(low..high)
    }

    pub(crate) fn millis(&mut self, kind: Fault, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.draw(kind, low * 1000, high * 1000))
    }

    pub(crate) fn any(&mut self, kind: Fault) -> u64 {
        self.streams[kind as usize].next_u64()
    }

    pub(crate) fn pick<'a, T>(&mut self, kind: Fault, of: &'a [T]) -> &'a T {
        &of[self.draw(kind, 0, of.len() as u64) as usize]
    }
}

/// How many times each fault, and each branch that matters, occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
