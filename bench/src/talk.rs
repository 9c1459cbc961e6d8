//! What clients say, by protocol.

mod announce;
mod register;

pub use announce::Announce;
pub use register::{Register, Subject};

/// What a datagram from the server is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What was asked for.
    Answer,
    /// It is refused, or is to be asked again otherwise.
    Refused,
}

/// One protocol, spoken by many clients.
pub trait Talk {
    /// Writes a client's request of that number.
    fn ask(&mut self, client: usize, number: u64, out: &mut Vec<u8>);
    /// The number of the request that a datagram answers.
    fn number(&self, datagram: &[u8]) -> Option<u64>;
    /// What a client makes of its answer.
    fn hear(&mut self, client: usize, datagram: &[u8]) -> Heard;
    /// What comes unasked: who says something back, and what.
    fn reply(&mut self, _datagram: &[u8]) -> Option<(usize, Vec<u8>)> {
        None
    }
}
