//! Everyone meets: of the pairs that have to meet in a window, hardly any does not.

use super::*;

/// Two peers that have to meet, seen from one side.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) window: Window,
    /// The peers' places in the world, and the address of the second.
    pub(crate) places: [usize; 2],
    pub(crate) other: SocketAddr,
    pub(crate) begun: Duration,
    pub(crate) due: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct EveryoneMeets {
    /// Pairs that had to meet, and those that did not.
    pub(crate) pairs: u64,
    pub(crate) unmet: Vec<String>,
    /// Whether one pair that does not meet breaks the rule; else it counts.
    every_pair: bool,
    waiting: Vec<Pair>,
    /// GREETs sent, by place and `seq`; and who answered one.
    greets: BTreeSet<(usize, u64)>,
    answered: BTreeSet<(usize, Window, SocketAddr)>,
    met: BTreeSet<(usize, Window, SocketAddr)>,
    /// When each window ends, as was told first.
    ends: BTreeMap<Window, Duration>,
}

impl EveryoneMeets {
    pub(crate) fn new(every_pair: bool) -> EveryoneMeets {
        EveryoneMeets { every_pair, ..EveryoneMeets::default() }
    }

    /// A peer greets another one.
    pub(crate) fn on_greet(&mut self, place: usize, seq: u64) {
        self.greets.insert((place, seq));
    }

    /// A peer's greeting may have been answered.
    pub(crate) fn on_greeted(&mut self, place: usize, it: &Greeted) {
        if self.greets.contains(&(place, it.seq)) {
            self.answered.insert((place, it.window, it.from));
        }
    }

    /// A peer says that it has met another.
    pub(crate) fn on_met(&mut self, place: usize, id: &Id, peer: SocketAddr) -> Check {
        let answered = self.answered.iter().filter(|(at, _, by)| (*at, *by) == (place, peer));
        let answered: Vec<_> = answered.copied().collect();
        let silent = answered.is_empty();
        self.met.extend(answered);
        Rule::EveryoneMeets.require(!silent, || format!("{id} met {peer}, who is silent"))
    }

    /// Two peers in one room of a window that has just opened.
    pub(crate) fn expect(&mut self, pair: Pair) {
        self.waiting.push(pair);
    }

    /// Whether a window ends when its members were first told that it would. If the registry's
    /// clock was set meanwhile it does not, and for some of them it may be over.
    pub(crate) fn ends_as_told(&mut self, window: Window, due: Duration) -> bool {
        let first = *self.ends.entry(window).or_insert(due);
        due.abs_diff(first) < Duration::from_secs(2)
    }

    /// When the next pair's time is over.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|pair| pair.due).min()
    }

    /// Looks at the pairs whose time is over: `steady` tells since when nothing is wrong with a
    /// peer, and with the registry.
    pub(crate) fn on_due(&mut self, t: Duration, steady: impl Fn(usize) -> Duration) -> Check {
        for Pair { window, places: [place, second], other, begun, .. } in
            self.waiting.extract_if(.., |pair| pair.due <= t)
        {
            if steady(place).max(steady(second)) > begun {
                continue;
            }
            self.pairs += 1;
            if !self.met.contains(&(place, window, other)) {
                self.unmet.push(format!("{window}: peer {place} did not meet {other}"));
            }
        }
        let is_so = !self.every_pair || self.unmet.is_empty();
        Rule::EveryoneMeets.require(is_so, || self.unmet.join("; "))
    }
}
