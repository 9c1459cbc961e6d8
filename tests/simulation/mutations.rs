//! Mutations: deliberate defects at the edges of the simulated world, one for each way to break a
//! rule, which the simulation must catch. None of them is in the shipped code.

use crate::model::Rule::{self, *};

/// Declares a mutation per line: its name, the rules of which one must catch it, what it does.
macro_rules! mutations {
    ($($name:ident $rules:tt $what:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Mutation { $($name),* }

        impl Mutation {
            pub(crate) const ALL: &[(Mutation, &[Rule], &str)] =
                &[$((Mutation::$name, &$rules, $what)),*];
        }
    };
}

mutations! {
    WindowTooFar [NextMinute] "registrations are written for the window after the next"
    OpenFirst [NextMinute, AckedMeansIn, TimeNeverRunsBack] "`open` is written before the registrations that wait with it"
    AckBeforeSync [AckedMeansIn, TimeNeverRunsBack] "the journal says durable before the sync"
    LastNotWritten [AckedMeansIn] "the journal drops the last record of a batch"
    RoomForgotten [AckedMeansIn] "the journal is handed another room than was asked for"
    Reversed [NextMinute, AckedMeansIn, Frozen, Once] "the journal writes a batch in reverse"
    NewSecret [Frozen] "a restart makes a new secret: other passes"
    DiscardsEarly [Frozen, TimeNeverRunsBack] "the journal of the current window is let go"
    PageChanged [Frozen] "QUERY is answered without the roster's first member"
    LeakNext [NoPeeking] "REGISTERED lists a member of the next window"
    OpensEarly [NoPeeking] "the registry's clock is 700 ms early at boundaries"
    SeqForgotten [Once] "a restart forgets every `seq`"
    OldTakenForNew [Once] "a request with a lower `seq` is taken for a new one"
    ResumeUnchecked [TimeNeverRunsBack] "a start with the clock far behind is not refused"
    OpenForgotten [AckedMeansIn, Frozen, TimeNeverRunsBack] "a restart forgets that windows were opened"
    OpensTheFirst [TimeNeverRunsBack] "`open` names the window before"
    OpensLate [NextMinute, TimeNeverRunsBack] "the registry's clock is 20 s late"
    OpensTooLate [TimeNeverRunsBack] "the journal says durable of an opening whose window has closed"
    BelievesAtOnce [TimeNeverRunsBack] "each jump of the clock is believed at once"
    Mute [EveryoneMeets, NeverHeldUp] "WINDOW and PEERS are never sent"
    NoGreeted [EveryoneMeets] "peers do not answer GREET"
    PaddedChallenge [NoAmplifier] "CHALLENGE is padded to 1232 bytes"
    NoProof [NoAmplifier] "the gate takes any cookie for proof"
    NeverDiscards [Bounded, NeverHalfDead] "the journal of closed windows is never let go"
    DeafToAcks [Bounded] "ACKs are not heeded"
    Chatty [Bounded] "every answer is sent three times"
    NoFence [NextMinute, AckedMeansIn, Once, TimeNeverRunsBack] "the journal takes batches of an epoch that ended with a refusal"
    RefusedStays [AckedMeansIn, Once] "what the journal refused stays in its file"
    AckWhileHung [AckedMeansIn, TimeNeverRunsBack] "the journal says durable while a sync hangs"
    WaitsForSockets [NeverHeldUp] "the registry waits for a socket that is full"
    SilentOutage [NeverHeldUp] "the journal does not say that it is down"
    LengthAtOnce [Frozen, TimeNeverRunsBack] "a restart gives the new length to a window that has begun"
    ListCapAtOnce [Frozen] "a restart gives the new list cap to the open window"
    CapsForgotten [Bounded] "the caps are not heeded"
    RateForgotten [Bounded] "the gate takes requests at any rate"
    WritesElsewhere [AckedMeansIn, Frozen, Once, TimeNeverRunsBack] "the journal writes on while its files are gone"
    DiscardForgotten [Bounded, NeverHalfDead] "what is let go while the journal's files are gone stays when they are back"
    LossUnnoticed [NeverHalfDead] "the journal does not look for its files while nothing is written"
    HoldsWhatFails [Bounded] "a window whose document cannot be written stays in memory"
    FailureTakenForDone [NeverHalfDead] "a document that could not be written is taken for written"
    OneHoldsUpAll [NeverHalfDead] "a document that cannot be written holds up the others"
    HelperDiesInSilence [NeverHalfDead] "the archive's thread dies, and nobody notices"
}
