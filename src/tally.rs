//! Counters: datagrams that were dropped or refused, by reason.

use std::fmt;

use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};

/// Why a datagram was dropped: nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DropReason {
    /// Its source is an address that nobody can have.
    NoSource,
    /// It is not one JSON object with a known type, and its source is not answered.
    Unreadable,
    /// It has a type that registries and peers send, not clients.
    NoRequest,
    /// It is an ACK of a client that was told no list, or without the pass.
    NoMember,
    /// It is too short to be answered without amplification.
    TooShort,
    /// It is older than what its id asked since.
    Old,
    /// Its first copy is being stored, and is answered then.
    UnderWay,
    /// It retries a registration whose address has been registered anew since.
    Displaced,
    /// Its address asks too often, and has been told so.
    TooOften,
    /// An answer could not be sent: the socket's buffer is full, or the system refused.
    UnsentAnswer,
    /// A CHALLENGE could not be sent: the socket's buffer is full, or the system refused.
    UnsentChallenge,
    /// A WINDOW could not be sent: the socket's buffer is full, or the system refused.
    UnsentWindow,
}

impl DropReason {
    /// The reason's name in logs and metrics.
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
    /// The datagram has a type that nobody knows.
    UnknownType,
    /// A field breaks its limits.
    BadField,
    /// The datagram has more bytes than any may have.
    TooLarge,
    /// A cap is reached.
    Full,
    /// Nothing is promised: the registration could not be stored.
    Unavailable,
    /// Too many requests come from the address.
    SlowDown,
    /// The registry is private, and no key of it signed the request.
    Forbidden,
}

impl Code {
    /// Every code, in the order of docs/PROTOCOL.md.
    pub const ALL: &'static [Code] = Code::VARIANTS;

    /// The code's name on the wire, in logs and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Code::Full | Code::Unavailable | Code::SlowDown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a datagram came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// It was dropped, and nobody was told.
    Dropped(DropReason),
    /// It was refused with an ERROR that has this code.
    Refused(Code),
}

impl RejectReason {
    /// Every reason there is: first what is dropped, then what is refused.
    pub fn all() -> impl Iterator<Item = RejectReason> {
        let dropped = DropReason::VARIANTS.iter().copied().map(RejectReason::Dropped);
        dropped.chain(Code::VARIANTS.iter().copied().map(RejectReason::Refused))
    }

    /// The reason's name in logs and metrics.
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

/// How often each reason came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; DropReason::COUNT + Code::COUNT]);

impl Tally {
    /// Counts one datagram more for a reason.
    pub fn count(&mut self, reason: impl Into<RejectReason>) {
        self.0[reason.into().index()] += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Tally) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    /// Sets a count that is kept elsewhere.
    pub fn set(&mut self, reason: impl Into<RejectReason>, count: u64) {
        self.0[reason.into().index()] = count;
    }

    /// How often a reason came.
    pub fn of(&self, reason: impl Into<RejectReason>) -> u64 {
        self.0[reason.into().index()]
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Tally) -> Tally {
        Tally(std::array::from_fn(|k| self.0[k] - before.0[k]))
    }

    /// Each reason that came at least once, and how often it came.
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
    fn what_came_since_is_told_once() {
        let mut tally = Tally::default();
        tally.count(DropReason::Old);
        let before = tally;
        tally.count(Code::Full);
        tally.count(Code::Full);
        assert_eq!(tally.since(&before).counted().collect::<Vec<_>>(), [(Code::Full.into(), 2)]);
    }
}
