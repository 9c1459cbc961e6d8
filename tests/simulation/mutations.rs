//! Defects put in at the seams of the world, one for each way to break a rule: the simulation is
//! worth what it catches. Nothing of them is in the shipped code.

/// One defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutation {
    WindowTooFar,
    OpenLast,
    AckBeforeSync,
    LastNotWritten,
    NewSecret,
    PageChanged,
    LeakNext,
    OpensEarly,
    SeqForgotten,
    OldTakenForNew,
    ResumeUnchecked,
    OpenForgotten,
    OpensTheFirst,
    Mute,
    NoGreeted,
    PaddedChallenge,
    NoProof,
    NeverDiscards,
    Chatty,
    RoomForgotten,
    Reversed,
    DiscardsEarly,
    OpensLate,
    DeafToAcks,
}

impl Mutation {
    /// Each, the rules one of which has to catch it, and what it does.
    pub(crate) const ALL: [(Mutation, &'static [u8], &'static str); 24] = [
        (Mutation::WindowTooFar, &[1], "registrations are written for the window after the next"),
        (Mutation::OpenLast, &[1], "within a batch, `open` is written behind the registrations"),
        (Mutation::AckBeforeSync, &[2, 6], "the log says durable before the sync"),
        (Mutation::LastNotWritten, &[2], "the log drops the last record of a batch"),
        (Mutation::RoomForgotten, &[2], "the log is handed another room than was asked for"),
        (Mutation::Reversed, &[2, 3, 5], "the log writes a batch in reverse"),
        (Mutation::NewSecret, &[3], "a restart makes a new secret: other passes"),
        (Mutation::DiscardsEarly, &[3, 6], "the log of the current window is let go"),
        (Mutation::PageChanged, &[3], "QUERY is answered without the roster's first member"),
        (Mutation::LeakNext, &[4], "REGISTERED lists a member of the next window"),
        (Mutation::OpensEarly, &[4], "the registry's clock is 700 ms early at boundaries"),
        (Mutation::SeqForgotten, &[5], "a restart forgets every `seq`"),
        (Mutation::OldTakenForNew, &[5], "a request with a lower `seq` is taken for a new one"),
        (Mutation::ResumeUnchecked, &[6], "a start with the clock far behind is not refused"),
        (Mutation::OpenForgotten, &[3, 6], "a restart forgets that windows were opened"),
        (Mutation::OpensTheFirst, &[6], "`open` names the window before"),
        (Mutation::OpensLate, &[6], "the registry's clock is 20 s late"),
        (Mutation::Mute, &[7], "WINDOW and PEERS are never sent"),
        (Mutation::NoGreeted, &[7], "peers do not answer GREET"),
        (Mutation::PaddedChallenge, &[8], "CHALLENGE is padded to 1232 bytes"),
        (Mutation::NoProof, &[8], "the gate takes any cookie for proof"),
        (Mutation::NeverDiscards, &[9], "the log of closed windows is never let go"),
        (Mutation::DeafToAcks, &[9], "ACKs are not heeded"),
        (Mutation::Chatty, &[9], "every answer is sent three times"),
    ];
}
