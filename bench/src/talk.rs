//! What clients say, by protocol.

mod announce;
mod register;

pub use announce::Announce;
pub use register::{Register, Subject};

/// What a datagram from the server is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to the request of that number.
    Answer(u64),
    /// It is refused, or is to be asked again otherwise.
    Refused(u64),
    /// The client says something back that is no request, and hears nothing of it.
    Reply,
    /// Nothing that a request was waiting for.
    Other,
}

/// One protocol, spoken by many clients.
pub trait Talk {
    /// Writes a client's request of that number.
    fn ask(&mut self, client: usize, number: u64, out: &mut Vec<u8>);
    /// What it makes of a datagram; `out` gets what it says back to [`Heard::Reply`].
    fn hear(&mut self, client: usize, datagram: &[u8], out: &mut Vec<u8>) -> Heard;
}
