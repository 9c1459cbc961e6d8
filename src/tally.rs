//! Counts the datagrams that were dropped or refused, by reason.

use std::fmt;

use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};

/// Why a datagram was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DropReason {
    /// The source is an address that nobody can have.
    NoSource,
    /// The datagram cannot be read, and its source is not sent an ERROR.
    Unreadable,
    /// The datagram has a type that registries and peers send, not clients.
    NoRequest,
    /// The ACK is from a client that was sent no list, or has the wrong pass.
    NoMember,
    /// The request is too short to be answered without amplification.
    TooShort,
    /// The request is older than another one from the same id.
    Old,
    /// The request repeats one that is being stored, which is answered then.
    UnderWay,
    /// The request retries a registration whose address was registered again since.
    Displaced,
    /// The source exceeds its rate, and has been sent an answer to slow down.
    TooOften,
    /// The source sends more ACKs than its rate allows, or has forged its address.
    AckTooOften,
    /// The ACK came while the queue for the registry's main thread was short of room.
    AckUnqueued,
    /// An answer could not be sent: the socket's buffer is full, or the system refused.
    UnsentAnswer,
    /// A CHALLENGE could not be sent: the socket's buffer is full, or the system refused.
    UnsentChallenge,
    /// A WINDOW could not be sent: the socket's buffer is full, or the system refused.
    UnsentWindow,
}

impl DropReason {
    /// Returns the reason's name in logs and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a request was refused, for programs: the `code` of an ERROR.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, EnumCount, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Code {
    /// The datagram is no JSON object with a `type`.
    Malformed,
    /// The datagram has an unknown `type`.
    UnknownType,
    /// A field is outside its limits, or missing.
    BadField,
    /// The datagram is longer than any datagram may be.
    TooLarge,
    /// A cap on members or rooms is reached.
    Full,
    /// The registration could not be stored, so no window is promised.
    Unavailable,
    /// Too many requests come from the source address.
    SlowDown,
    /// The registry is private, and none of its keys signed the request.
    Forbidden,
}

impl Code {
    /// Every code, in the order of docs/PROTOCOL.md.
    pub const ALL: &'static [Code] = Code::VARIANTS;

    /// Returns the code's name on the wire, in logs and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Code::Full | Code::Unavailable | Code::SlowDown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a datagram was dropped or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The datagram was dropped without an answer.
    Dropped(DropReason),
    /// The request was refused with an ERROR that has this code.
    Refused(Code),
}

impl RejectReason {
    /// Returns all reasons: first those for drops, then those for refusals.
    pub fn all() -> impl Iterator<Item = RejectReason> {
        let dropped = DropReason::VARIANTS.iter().copied().map(RejectReason::Dropped);
        dropped.chain(Code::VARIANTS.iter().copied().map(RejectReason::Refused))
    }

    /// Returns the reason's name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::Dropped(reason) => reason.name(),
            RejectReason::Refused(code) => code.name(),
        }
    }

    fn index(self) -> usize {
        match self {
            RejectReason::Dropped(reason) => reason as usize,
            RejectReason::Refused(code) => DropReason::COUNT + code as usize,
        }
    }
}

impl From<DropReason> for RejectReason {
    fn from(reason: DropReason) -> RejectReason {
        RejectReason::Dropped(reason)
    }
}

impl From<Code> for RejectReason {
    fn from(code: Code) -> RejectReason {
        RejectReason::Refused(code)
    }
}

/// How many datagrams were dropped or refused for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; DropReason::COUNT + Code::COUNT]);

impl Tally {
    /// Counts one more datagram for a reason.
    pub fn count(&mut self, reason: impl Into<RejectReason>) {
        self.0[reason.into().index()] += 1;
    }

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: &Tally) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    /// Sets the count of a reason that is counted elsewhere.
    pub fn set(&mut self, reason: impl Into<RejectReason>, count: u64) {
        self.0[reason.into().index()] = count;
    }

    /// Returns the count of a reason.
    pub fn of(&self, reason: impl Into<RejectReason>) -> u64 {
        self.0[reason.into().index()]
    }

    /// Returns what was counted since `before`, an earlier copy.
    pub fn since(&self, before: &Tally) -> Tally {
        Tally(std::array::from_fn(|k| self.0[k] - before.0[k]))
    }

    /// Returns each reason that was counted at least once, with its count.
    pub fn counted(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        RejectReason::all().map(|why| (why, self.of(why))).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let mut tally = Tally::default();
        for (k, why) in RejectReason::all().enumerate() {
            (0..k).for_each(|_| tally.count(why));
        }
        let counts: Vec<u64> = RejectReason::all().map(|why| tally.of(why)).collect();
        assert_eq!(counts, (0..counts.len() as u64).collect::<Vec<u64>>());
        let names: HashSet<&str> = RejectReason::all().map(RejectReason::name).collect();
        assert_eq!(names.len(), counts.len());
        assert!(["under_way", "unsent_answer", "slow_down"].iter().all(|it| names.contains(it)));
    }

    #[test]
    fn since_gives_only_the_later_counts() {
        let mut tally = Tally::default();
        tally.count(DropReason::Old);
        let before = tally;
        tally.count(Code::Full);
        tally.count(Code::Full);
        assert_eq!(tally.since(&before).counted().collect::<Vec<_>>(), [(Code::Full.into(), 2)]);
    }
}
