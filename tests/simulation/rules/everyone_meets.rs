//! Rule "Everyone meets": nearly all pairs that have to meet in a window do.

use super::*;

/// Two peers that have to meet, seen from one side.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) window: Window,
    /// The indexes of both peers in the world.
    pub(crate) places: [usize; 2],
    pub(crate) other: SocketAddr,
    pub(crate) begun: Duration,
    pub(crate) due: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct EveryoneMeets {
    /// The number of pairs that had to meet.
    pub(crate) pairs: u64,
    pub(crate) unmet: Vec<String>,
    /// Whether a single pair that does not meet breaks the rule; else it is counted.
    every_pair: bool,
    waiting: Vec<Pair>,
    /// The GREETs sent, by the peer's index and `seq`.
    greets: BTreeSet<(usize, u64)>,
    answered: BTreeSet<(usize, Window, SocketAddr)>,
    met: BTreeSet<(usize, Window, SocketAddr)>,
    /// When each window ends, by the first datagram that says so.
    ends: BTreeMap<Window, Duration>,
}

impl EveryoneMeets {
    pub(crate) fn new(every_pair: bool) -> EveryoneMeets {
        EveryoneMeets { every_pair, ..EveryoneMeets::default() }
    }

    /// Notes that a peer sends a GREET.
    pub(crate) fn on_greet(&mut self, place: usize, seq: u64) {
        self.greets.insert((place, seq));
    }

    /// Notes that a GREETED has come to a peer.
    pub(crate) fn on_greeted(&mut self, place: usize, it: &Greeted) {
        if self.greets.contains(&(place, it.seq)) {
            self.answered.insert((place, it.window, it.from));
        }
    }

    /// Checks that a peer that reports a meeting has greeted that other peer.
    pub(crate) fn on_met(&mut self, place: usize, id: &Id, peer: SocketAddr) -> Check {
        let answered = self.answered.iter().filter(|(at, _, by)| (*at, *by) == (place, peer));
        let answered: Vec<_> = answered.copied().collect();
        let silent = answered.is_empty();
        self.met.extend(answered);
        Rule::EveryoneMeets.require(!silent, || format!("{id} met {peer}, who is silent"))
    }

    /// Notes that two peers in one room of a window have to meet.
    pub(crate) fn expect(&mut self, pair: Pair) {
        self.waiting.push(pair);
    }

    /// Returns whether a window ends when its members were first told. If the registry's clock was
    /// set meanwhile it does not, and for some members it may have ended.
    pub(crate) fn ends_as_told(&mut self, window: Window, due: Duration) -> bool {
        let first = *self.ends.entry(window).or_insert(due);
        due.abs_diff(first) < Duration::from_secs(2)
    }

    /// Returns when the next pair's window ends.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|pair| pair.due).min()
    }

    /// Checks the pairs whose window has ended: `steady` returns since when a peer and the registry
    /// have been free of faults.
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
