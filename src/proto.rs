//! The datagrams: one UTF-8 JSON object each, which `tcpdump -A` shows and `nc -u` can send as
//! typed.
//!
//! `docs/PROTOCOL.md` describes them for other languages. Here each datagram is declared once, in a
//! table from which the macros of `table` make its struct, its encoder and its decoder; `request`
//! assembles requests. `value` reads and writes each type of value, `field` has the text types and
//! their limits, `words` what rooms and names are made of, `list` the lists of peers and their pages. `decode` starts reading: `fields` and
//! `plain` find the text of each field. `object` writes.

#[macro_use]
mod table;

mod decode;
mod decode_error;
mod field;
mod list;
mod plain;
mod request;

pub(crate) mod fields;
pub(crate) mod object;
pub(crate) mod value;
pub(crate) mod words;

use std::net::SocketAddr;

use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};

use crate::window::Window;
use fields::Fields;
use object::Object;
use value::Group;

pub use crate::tally::Code;
pub use decode::Envelope;
pub use decode_error::DecodeError;
pub use field::{FieldError, Id, Name, Pass, Room, Text};
pub use list::{Candidate, ListError, Listing, MAX_LIST, Page};
pub use request::{Request, RequestKind};
pub use words::WordError;

/// The longest datagram in bytes, sent or received: the smallest IPv6 MTU (RFC 8200 §5, 1280 bytes)
/// less the headers of IPv6 and UDP.
pub const MAX_DATAGRAM: usize = 1280 - 40 - 8;

/// The exclusive upper bound of every `seq`: JSON numbers below 2⁵³ are exact everywhere (RFC 8259
/// §6).
pub const SEQ_END: u64 = 1 << 53;

messages! {
    requests {
        /// A client asks to be in the next window.
        Register,
        /// A client asks to be withdrawn from the next window.
        Leave,
        /// A client asks for one page of a list of peers.
        Query,
    }

    /// A member acknowledges its complete list of peers to the registry; an ACK is never answered.
    Ack = Ack {
        /// The member's id, if the member has one.
        id: Option<Id> = Id,
        /// The window whose list the member holds.
        window: Window = Window,
        /// The pass from that list: proof that the member received the list.
        pass: Pass = Pass,
    }

    /// The registry asks the client to repeat its request with this cookie.
    Challenge = Challenge {
        /// The seq of the request that this answers, if it had one.
        seq: Option<u64> = Seq,
        /// The cookie, known only to a host that receives at the request's source address.
        cookie: String = Cookie,
    }

    /// The answer to REGISTER: the client is in a window.
    Registered = Registered<'a> {
        /// The id of the request that this answers, if it had one.
        id: Option<Id> = Id,
        /// The seq of the request that this answers, if it had one.
        seq: Option<u64> = Seq,
        /// The room that the client is registered in.
        room: Room = Room,
        /// The window that the client is in.
        window: Window = Window,
        /// Milliseconds until the client's window opens; 0 once the window is open.
        opens_in_ms: u64 = OpensInMs,
        /// The length of the client's window in milliseconds.
        window_ms: u64 = WindowMs,
        /// The client's address as the registry sees it.
        you: SocketAddr = You,
        /// The current window, with the first page of the room's roster.
        current: Current<'a> = Current,
    }

    /// The answer to LEAVE: the client is not in the next window.
    Left = Left {
        /// The id of the request that this answers, if it had one.
        id: Option<Id> = Id,
        /// The seq of the request that this answers, if it had one.
        seq: Option<u64> = Seq,
        /// The next window, which the client is not in.
        window: Window = Window,
    }

    /// The answer to QUERY: the requested page of a list of peers.
    Peers = Peers<'a> {
        /// The id of the request that this answers, if it had one.
        id: Option<Id> = Id,
        /// The seq of the request that this answers, if it had one.
        seq: Option<u64> = Seq,
        /// The room whose members are listed.
        room: Room = Room,
        /// The current window, whose members are listed.
        window: Window = Window,
        /// Milliseconds until the current window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// Sent to a member only: the member's address in the roster, for the `as` of its GREETs.
        you: Option<SocketAddr> = You,
        /// Sent to a member only: the pass of the member's window and room.
        pass: Option<Pass> = Pass,
        /// The requested page of the list.
        page: Page<'a>,
    }

    /// The registry announces to a member that the window has opened, with a page of the member's
    /// own list.
    Window = Opened<'a> {
        /// The member's id, if the member has one.
        id: Option<Id> = Id,
        /// The room that the member is in.
        room: Room = Room,
        /// The window that has opened.
        window: Window = Window,
        /// Milliseconds until the opened window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// The member's address in the roster, for the `as` of its GREETs.
        you: SocketAddr = You,
        /// The secret by which members of this window and room recognize each other.
        pass: Pass = Pass,
        /// A page of the member's own list.
        page: Page<'a>,
    }

    /// The registry refuses a request.
    Error = Refusal {
        /// The seq of the request that this answers, if it had one.
        seq: Option<u64> = Seq,
        /// The reason for the refusal, for programs.
        code: Code = Code,
        /// The reason for the refusal, as a sentence for a person.
        reason: String = Reason or default,
        /// Milliseconds to wait before the next try, where waiting helps.
        retry_in_ms: Option<u64> = RetryInMs,
    }

    /// One peer greets another directly.
    Greet = Greet {
        /// The room that both peers are in.
        room: Room = Room,
        /// The window that both peers are in.
        window: Window = Window,
        /// The pass of the window and room: proof that the greeter is a member.
        pass: Pass = Pass,
        /// A random number, echoed in GREETED.
        seq: u64 = Seq,
        /// The address of the peer that greets, as the roster lists it.
        from: SocketAddr = As,
        /// The name of the peer that greets, if it has one.
        name: Option<Name> = Name,
        /// What the greeter says, if anything.
        text: Option<Text> = Text,
    }

    /// A peer answers a GREET.
    Greeted = Greeted {
        /// The room of the GREET.
        room: Room = Room,
        /// The window of the GREET.
        window: Window = Window,
        /// The seq of the GREET.
        seq: u64 = Seq,
        /// The answerer's address in the roster.
        from: SocketAddr = As,
        /// The answerer's name, if it has one.
        name: Option<Name> = Name,
    }
}

groups! {
    /// What a client registers as: the same fields in REGISTER, in the journal and in the roster.
    #[derive(Default)]
    pub struct Profile {
        /// The room that the client joins.
        room: Room = Room or default,
        /// The name by which people know the client, if it has one.
        name: Option<Name> = Name,
        /// The client's private address, for peers behind the same NAT.
        lan: Option<SocketAddr> = Lan,
    }

    /// Proof that a request may be answered; the gate checks it and passes on the request alone.
    #[derive(Default)]
    pub struct Auth {
        /// The cookie of the last CHALLENGE: proof of the source address.
        cookie: Option<String> = Cookie,
        /// Only to a private registry: the MAC of [`Envelope::signed_bytes`].
        mac: Option<String> = Mac,
    }

    /// The `current` field of REGISTERED: the first page of the room's current roster.
    pub struct Current<'a> {
        /// The current window, whose roster is listed.
        window: Window = Window,
        /// Milliseconds until the current window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// The first page of the room's roster.
        page: Page<'a>,
    }
}

impl Kind {
    /// All types of datagrams, in the order of docs/PROTOCOL.md.
    pub const ALL: &'static [Kind] = Kind::VARIANTS;

    /// Returns the type's name on the wire, like `REGISTER`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The JSON keys of datagrams and of journal lines; each is an index into [`Fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Key {
    Type,
    Id,
    Seq,
    Room,
    Name,
    Lan,
    Cookie,
    Mac,
    Window,
    Pass,
    OpensInMs,
    WindowMs,
    You,
    Current,
    ClosesInMs,
    Part,
    Parts,
    Count,
    Peers,
    Code,
    Reason,
    RetryInMs,
    As,
    Text,
    // Keys of journal lines only.
    Format,
    Batch,
    At,
    Addr,
    Local,
}

impl Key {
    /// Returns the key as written in JSON.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}
