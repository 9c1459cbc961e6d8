//! The rules that always hold, by name.

use std::fmt;

/// A rule of docs/TESTING.md.
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
    /// Each rule of the registry, and what people call it.
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

    /// An error that names this rule, and says `what` is wrong, unless all is well.
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

/// Which rule is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

/// What a check of the rules comes to.
pub(crate) type Check = Result<(), Broken>;
