//! The rules of docs/TESTING.md by name, and the error that says which one is broken.

use std::fmt;

/// A rule of docs/TESTING.md that must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    NextMinute,
    AckedMeansIn,
    Frozen,
    NoPeeking,
    Once,
    TimeNeverRunsBack,
    EveryoneMeets,
    NoAmplifier,
    Bounded,
    NeverHeldUp,
    NeverHalfDead,
    /// The code under test, or a check, panicked.
    Panic,
}

impl Rule {
    /// All rules of the registry with their names in docs/TESTING.md.
    pub(crate) const ALL: [(Rule, &str); 11] = [
        (Rule::NextMinute, "next minute"),
        (Rule::AckedMeansIn, "acked means in"),
        (Rule::Frozen, "frozen"),
        (Rule::NoPeeking, "no peeking"),
        (Rule::Once, "once"),
        (Rule::TimeNeverRunsBack, "time never runs back"),
        (Rule::EveryoneMeets, "everyone meets"),
        (Rule::NoAmplifier, "no amplifier"),
        (Rule::Bounded, "bounded"),
        (Rule::NeverHeldUp, "never held up"),
        (Rule::NeverHalfDead, "never half dead"),
    ];

    /// Returns an error with this rule and `what` is wrong, unless `holds`.
    pub(crate) fn require(self, holds: bool, what: impl FnOnce() -> String) -> Check {
        if holds { Ok(()) } else { Err(Broken { rule: self, what: what() }) }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Rule::ALL.iter().find(|(rule, _)| rule == self);
        out.write_str(named.map_or("no panic", |(_, name)| name))
    }
}

/// The error of a broken rule: which one, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

/// The result of a check: an error if a rule is broken.
pub(crate) type Check = Result<(), Broken>;
