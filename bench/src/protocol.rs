//! What clients send, by protocol.

mod announce;
mod register;

pub use announce::Announce;
pub use register::{Register, Subject};

/// What an answer of the server is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request was served.
    Served,
    /// The request was refused, or is to be sent again with a cookie or connection.
    Refused,
}

/// The requests and answers of many clients of one protocol.
pub trait Protocol {
    /// Writes a client's request of that number.
    fn write_request(&mut self, client: usize, number: u64, out: &mut Vec<u8>);
    /// The number of the request that a datagram answers.
    fn request_number(&self, datagram: &[u8]) -> Option<u64>;
    /// Takes the answer to a client's request.
    fn take_answer(&mut self, client: usize, datagram: &[u8]) -> Answer;
    /// What is sent back to a datagram that answers no request, and by which client.
    fn reply(&mut self, _datagram: &[u8]) -> Option<(usize, Vec<u8>)> {
        None
    }
}
