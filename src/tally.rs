//! Counters: datagrams that were dropped or refused, by reason.

/// RejectReason a datagram was dropped, or refused with an ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Dropped: its source can be nobody's.
    NoSource,
    /// Dropped: not one JSON object with a known type, from a source that is not answered.
    Unreadable,
    /// Dropped: a type that registries and peers send, not clients.
    NoRequest,
    /// Dropped: an ACK of nobody who was told, or without the pass.
    NoMember,
    /// Dropped: too short to be answered without amplifying.
    TooShort,
    /// Dropped: older than what its id asked since.
    Old,
    /// Dropped: its first copy is being stored, and is answered then.
    UnderWay,
    /// Dropped: its address has been registered again since.
    Displaced,
    /// Dropped: its address asks too often, and has been told.
    TooOften,
    /// An answer, or a WINDOW, that could not be sent.
    Unsent,
    /// Refused: no JSON object with a type.
    Malformed,
    /// Refused: a type that nobody knows.
    UnknownType,
    /// Refused: a field breaks its limits.
    BadField,
    /// Refused: more bytes than any datagram has.
    TooLarge,
    /// Refused: a cap is reached.
    Full,
    /// Refused: it could not be stored.
    Unavailable,
    /// Refused: its address asks too often.
    SlowDown,
    /// Refused: no key vouches for it.
    Forbidden,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [RejectReason; 18] = [
        RejectReason::NoSource,
        RejectReason::Unreadable,
        RejectReason::NoRequest,
        RejectReason::NoMember,
        RejectReason::TooShort,
        RejectReason::Old,
        RejectReason::UnderWay,
        RejectReason::Displaced,
        RejectReason::TooOften,
        RejectReason::Unsent,
        RejectReason::Malformed,
        RejectReason::UnknownType,
        RejectReason::BadField,
        RejectReason::TooLarge,
        RejectReason::Full,
        RejectReason::Unavailable,
        RejectReason::SlowDown,
        RejectReason::Forbidden,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::NoSource => "no_source",
            RejectReason::Unreadable => "unreadable",
            RejectReason::NoRequest => "no_request",
            RejectReason::NoMember => "no_member",
            RejectReason::TooShort => "too_short",
            RejectReason::Old => "old",
            RejectReason::UnderWay => "under_way",
            RejectReason::Displaced => "displaced",
            RejectReason::TooOften => "too_often",
            RejectReason::Unsent => "unsent",
            RejectReason::Malformed => "malformed",
            RejectReason::UnknownType => "unknown_type",
            RejectReason::BadField => "bad_field",
            RejectReason::TooLarge => "too_large",
            RejectReason::Full => "full",
            RejectReason::Unavailable => "unavailable",
            RejectReason::SlowDown => "slow_down",
            RejectReason::Forbidden => "forbidden",
        }
    }
}

/// How often each reason came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; RejectReason::ALL.len()]);

impl Tally {
    /// Counts one.
    pub fn count(&mut self, why: RejectReason) {
        self.0[why as usize] += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Tally) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    /// Takes a count over from where it is counted.
    pub fn set(&mut self, why: RejectReason, count: u64) {
        self.0[why as usize] = count;
    }

    /// How often it came.
    pub fn of(&self, why: RejectReason) -> u64 {
        self.0[why as usize]
    }

    /// What came since `before`.
    pub fn since(&self, before: &Tally) -> Tally {
        Tally(std::array::from_fn(|k| self.0[k] - before.0[k]))
    }

    /// Each reason that came, and how often.
    pub fn counted(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        RejectReason::ALL.into_iter().map(|why| (why, self.of(why))).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let mut tally = Tally::default();
        for (k, why) in RejectReason::ALL.into_iter().enumerate() {
            (0..k).for_each(|_| tally.count(why));
        }
        let counts: Vec<u64> = RejectReason::ALL.into_iter().map(|why| tally.of(why)).collect();
        assert_eq!(counts, (0..18).collect::<Vec<u64>>());
        let mut names: Vec<&str> = RejectReason::ALL.into_iter().map(RejectReason::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 18);
    }

    #[test]
    fn what_came_since_is_told_once() {
        let mut tally = Tally::default();
        tally.count(RejectReason::Old);
        let before = tally;
        tally.count(RejectReason::Full);
        tally.count(RejectReason::Full);
        assert_eq!(tally.since(&before).counted().collect::<Vec<_>>(), [(RejectReason::Full, 2)]);
    }
}
