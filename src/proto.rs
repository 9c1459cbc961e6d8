//! The datagrams: one UTF-8 JSON object each, readable in `tcpdump -A`, typed into `nc -u`.
//!
//! `docs/PROTOCOL.md` describes them for other languages. Here each is stated once, in a table from
//! which `table` makes its struct, its encoder and its decoder; a request is put together in
//! `request`. How a value of each type is read and written is in `value`, the types of text and their
//! limits in `field`, lists of peers and their pages in `list`. Reading begins in `decode`, which
//! finds the text of each field (`fields`, `plain`); writing ends in `object`.

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

/// The longest datagram, in bytes, both ways: what the smallest MTU of IPv6 (RFC 8200 §5, 1280 bytes)
/// leaves behind the headers of IPv6 and UDP.
pub const MAX_DATAGRAM: usize = 1280 - 40 - 8;

/// Every `seq` is below this: what a JSON number holds exactly everywhere (RFC 8259 §6).
pub const SEQ_END: u64 = 1 << 53;

messages! {
    requests {
        /// A client asks to be in the next window.
        Register,
        /// A client asks to be withdrawn from the next window.
        Leave,
        /// A client asks for a page of a list.
        Query,
    }

    /// A member tells the registry that it holds its whole list. It is never answered.
    Ack = Ack {
        /// The id of the member, if it has one.
        id: Option<Id> = Id,
        /// The window whose list it holds.
        window: Window = Window,
        /// Proof that the list was told to it.
        pass: Pass = Pass,
    }

    /// The registry asks for the same request again, with this cookie.
    Challenge = Challenge {
        /// The seq of the request.
        seq: Option<u64> = Seq,
        /// What only someone who receives at the request's source address can know.
        cookie: String = Cookie,
    }

    /// The answer to REGISTER: the client is in a window.
    Registered = Registered<'a> {
        /// The id of the request.
        id: Option<Id> = Id,
        /// The seq of the request.
        seq: Option<u64> = Seq,
        /// The room that the client is registered in.
        room: Room = Room,
        /// The window that the client is in.
        window: Window = Window,
        /// Milliseconds until that window opens; 0 once it is open.
        opens_in_ms: u64 = OpensInMs,
        /// The length of that window in milliseconds.
        window_ms: u64 = WindowMs,
        /// The client's address as the registry sees it.
        you: SocketAddr = You,
        /// The current window of the client's room.
        current: Current<'a> = Current,
    }

    /// The answer to LEAVE: the client is not in the next window.
    Left = Left {
        /// The id of the request.
        id: Option<Id> = Id,
        /// The seq of the request.
        seq: Option<u64> = Seq,
        /// The next window, which the client is not in.
        window: Window = Window,
    }

    /// The answer to QUERY: the page that was asked for.
    Peers = Peers<'a> {
        /// The id of the request.
        id: Option<Id> = Id,
        /// The seq of the request.
        seq: Option<u64> = Seq,
        /// The room that the list is of.
        room: Room = Room,
        /// The current window, which the list is of.
        window: Window = Window,
        /// Milliseconds until the current window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// Told to a member only: its address in the roster, which it greets as.
        you: Option<SocketAddr> = You,
        /// Told to a member only: the pass of its window and room.
        pass: Option<Pass> = Pass,
        /// The page that was asked for.
        page: Page<'a>,
    }

    /// The registry tells a member that its window has opened: a page of its own list.
    Window = Opened<'a> {
        /// The id of the member, if it has one.
        id: Option<Id> = Id,
        /// The room that the member is in.
        room: Room = Room,
        /// The window that has opened.
        window: Window = Window,
        /// Milliseconds until that window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// The member's address in the roster, which it greets as.
        you: SocketAddr = You,
        /// The secret by which members of the window and room know each other.
        pass: Pass = Pass,
        /// A page of the member's own list.
        page: Page<'a>,
    }

    /// The registry refuses a request.
    Error = Refusal {
        /// The seq of the request.
        seq: Option<u64> = Seq,
        /// The reason, for programs.
        code: Code = Code,
        /// The reason, as a sentence for a person.
        reason: String = Reason or default,
        /// Milliseconds to wait before the next try, where waiting helps.
        retry_in_ms: Option<u64> = RetryInMs,
    }

    /// One peer greets another.
    Greet = Greet {
        /// The room that both are in.
        room: Room = Room,
        /// The window that both are in.
        window: Window = Window,
        /// Proof that the greeter is in both.
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

    /// A peer answers a greeting.
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
    /// What a client registers as; the registration, its line in the journal and the roster have the
    /// same.
    #[derive(Default)]
    pub struct Profile {
        /// The group that it wants to meet.
        room: Room = Room or default,
        /// What people call it.
        name: Option<Name> = Name,
        /// Its private address, for peers behind the same NAT.
        lan: Option<SocketAddr> = Lan,
    }

    /// Proof that a request may be answered: the gate checks it, and hands the request on without it.
    #[derive(Default)]
    pub struct Auth {
        /// The cookie of the last CHALLENGE: proof of the source address.
        cookie: Option<String> = Cookie,
        /// To a private registry, the MAC of [`Envelope::signed_bytes`].
        mac: Option<String> = Mac,
    }

    /// The first page of a room's current roster, as it stands in REGISTERED.
    pub struct Current<'a> {
        /// The current window, which the roster is of.
        window: Window = Window,
        /// Milliseconds until the current window closes.
        closes_in_ms: u64 = ClosesInMs,
        /// The first page of the roster.
        page: Page<'a>,
    }
}

impl Kind {
    /// Every type, in the order of docs/PROTOCOL.md.
    pub const ALL: &'static [Kind] = Kind::VARIANTS;

    /// The type's name on the wire.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The keys of datagrams and of journal lines; each is a place in [`Fields`].
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
    // Of journal lines alone.
    Format,
    At,
    Addr,
    Local,
}

impl Key {
    /// The key as it is written.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}
