//! Why a datagram, or a line of the journal, cannot be read.

use thiserror::Error;

use super::{Code, Kind, MAX_DATAGRAM};

/// Why a datagram cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The datagram is longer than [`MAX_DATAGRAM`] bytes.
    #[error("a datagram is at most {MAX_DATAGRAM} bytes")]
    TooLarge,
    /// The datagram is not one JSON object with a `type`.
    #[error("not one json object in utf-8 with a type: {0}")]
    Malformed(String),
    /// The `type` is unknown, or not one that a client may send.
    #[error("the type is none of {}", client_types())]
    UnknownType,
    /// A field is outside its limits, or a required field is missing.
    #[error("{field} {why}")]
    BadField {
        /// The key of the field.
        field: &'static str,
        /// What the field must be.
        why: String,
    },
}

/// Lists the types that clients send: `REGISTER, LEAVE, QUERY and ACK`.
fn client_types() -> String {
    let requests = Kind::ALL.iter().filter(|kind| kind.is_request()).map(|kind| kind.name());
    format!("{} and {}", requests.collect::<Vec<_>>().join(", "), Kind::Ack.name())
}

impl DecodeError {
    /// Returns the code of the ERROR that reports this error.
    pub fn code(&self) -> Code {
        match self {
            DecodeError::TooLarge => Code::TooLarge,
            DecodeError::Malformed(_) => Code::Malformed,
            DecodeError::UnknownType => Code::UnknownType,
            DecodeError::BadField { .. } => Code::BadField,
        }
    }
}
