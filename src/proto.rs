//! The datagrams: one UTF-8 JSON object each, readable in `tcpdump -A`, typed into `nc -u`.
//!
//! `docs/PROTOCOL.md` describes them for other languages. Here are their types; their fields and
//! the limits of each are in [`field`], lists of peers and their pages in [`list`], reading in
//! [`decode`], of plain ones in `plain`, writing in [`encode`] with [`object`].

pub mod decode;
pub mod encode;
pub mod field;
pub mod list;
pub mod object;
pub(crate) mod plain;

use std::fmt;
use std::net::SocketAddr;

use crate::tally::RejectReason;
use crate::window::Window;

pub use decode::{DecodeError, Envelope};
pub use field::{Id, Name, Pass, Room, Text};
pub use list::{Candidate, Listing, MAX_LIST, Page};

/// The longest datagram, in bytes, both ways: fits the smallest path MTU of IPv6 (RFC 8200 §5,
/// 1280 bytes) with room for its headers and a tunnel's.
pub const MAX_DATAGRAM: usize = 1200;

/// Every `seq` is below this: what a JSON number holds exactly everywhere (RFC 8259 §6).
pub const SEQ_END: u64 = 1 << 53;

/// The types of datagrams, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Register,
    Leave,
    Query,
    Ack,
    Challenge,
    Registered,
    Left,
    Peers,
    Window,
    Error,
    Greet,
    Greeted,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 12] = [
        Kind::Register,
        Kind::Leave,
        Kind::Query,
        Kind::Ack,
        Kind::Challenge,
        Kind::Registered,
        Kind::Left,
        Kind::Peers,
        Kind::Window,
        Kind::Error,
        Kind::Greet,
        Kind::Greeted,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Register => "REGISTER",
            Kind::Leave => "LEAVE",
            Kind::Query => "QUERY",
            Kind::Ack => "ACK",
            Kind::Challenge => "CHALLENGE",
            Kind::Registered => "REGISTERED",
            Kind::Left => "LEFT",
            Kind::Peers => "PEERS",
            Kind::Window => "WINDOW",
            Kind::Error => "ERROR",
            Kind::Greet => "GREET",
            Kind::Greeted => "GREETED",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is a [`Request`]: what a registry answers.
    pub fn is_request(self) -> bool {
        matches!(self, Kind::Register | Kind::Leave | Kind::Query)
    }
}

/// What a client asks of a registry: REGISTER, LEAVE or QUERY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's own secret; without it, its address stands for it.
    pub id: Option<Id>,
    /// Grows with each new request of one `id`; equal in a retry. The answer echoes it.
    pub seq: Option<u64>,
    /// What it asks for.
    pub kind: RequestKind,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To be in the next window, and known as this: REGISTER.
    Register(Profile),
    /// To be withdrawn from the next window: LEAVE.
    Leave,
    /// A page of the member's own list, or of a room's roster if the id is no member's: QUERY.
    Query {
        /// The room whose roster it is.
        room: Room,
        /// Which page, from 0.
        part: u32,
    },
}

/// What a client registers as: the fields of REGISTER that its peers, or the window's document, show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The group that it wants to meet.
    pub room: Room,
    /// What people call it.
    pub name: Option<Name>,
    /// Its private address, for peers behind the same NAT.
    pub lan: Option<SocketAddr>,
}

/// Proof that a request may be answered: the gate checks it, and hands the request on without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The cookie of the last CHALLENGE: proof of the source address.
    pub cookie: Option<String>,
    /// To a private registry, the MAC of [`Envelope::signed_bytes`].
    pub mac: Option<String>,
}

impl Request {
    /// A request to be in the next window.
    pub fn register(id: Option<Id>, seq: Option<u64>, profile: Profile) -> Request {
        Request { id, seq, kind: RequestKind::Register(profile) }
    }

    /// A request to be withdrawn from the next window.
    pub fn leave(id: Option<Id>, seq: Option<u64>) -> Request {
        Request { id, seq, kind: RequestKind::Leave }
    }

    /// A request for a page of a list.
    pub fn query(id: Option<Id>, seq: Option<u64>, room: Room, part: u32) -> Request {
        Request { id, seq, kind: RequestKind::Query { room, part } }
    }
}

impl Auth {
    /// Neither cookie nor MAC: enough for a source that a public registry trusts.
    pub const NONE: Auth = Auth { cookie: None, mac: None };

    /// A cookie, and no MAC.
    pub fn with_cookie(cookie: &str) -> Auth {
        Auth { cookie: Some(cookie.to_owned()), mac: None }
    }

    /// Signs a request and the cookie: `mac` gives the MAC of the bytes it is given.
    pub fn sign(&mut self, request: &Request, mac: impl FnOnce(&[u8]) -> String) {
        let bytes = request.encode(self);
        let envelope = Envelope::open(&bytes);
        self.mac = envelope.ok().map(|envelope| mac(&envelope.signed_bytes()));
    }
}

/// "I hold the whole list."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who holds it.
    pub id: Option<Id>,
    /// Which window's.
    pub window: Window,
    /// Proof of having been told.
    pub pass: Pass,
}

/// Send the same request again, with this cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Of the request.
    pub seq: Option<u64>,
    /// The cookie.
    pub cookie: String,
}

/// You are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered<'a> {
    /// Of the request.
    pub id: Option<Id>,
    /// Of the request.
    pub seq: Option<u64>,
    /// Where you are registered.
    pub room: Room,
    /// The window that you are in.
    pub window: Window,
    /// Milliseconds until it opens, 0 once open.
    pub opens_in_ms: u64,
    /// Its length in milliseconds.
    pub window_ms: u64,
    /// Your address as seen.
    pub you: SocketAddr,
    /// The current window of your room.
    pub current: Current<'a>,
}

/// Page 0 of a room's current roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current<'a> {
    /// The current window.
    pub window: Window,
    /// Milliseconds until it closes.
    pub closes_in_ms: u64,
    /// Its first page.
    pub page: Page<'a>,
}

/// You are out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of the request.
    pub id: Option<Id>,
    /// Of the request.
    pub seq: Option<u64>,
    /// The next window, which you are not in.
    pub window: Window,
}

/// A page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers<'a> {
    /// Of the request.
    pub id: Option<Id>,
    /// Of the request.
    pub seq: Option<u64>,
    /// Whose list it is.
    pub room: Room,
    /// The current window.
    pub window: Window,
    /// Milliseconds until it closes.
    pub closes_in_ms: u64,
    /// To a member: its address in the roster, which it greets as.
    pub you: Option<SocketAddr>,
    /// To a member: the pass.
    pub pass: Option<Pass>,
    /// The page.
    pub page: Page<'a>,
}

/// Your window has opened: WINDOW.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The member's own id.
    pub id: Option<Id>,
    /// Its room.
    pub room: Room,
    /// The window.
    pub window: Window,
    /// Milliseconds until it closes.
    pub closes_in_ms: u64,
    /// Its address in the roster, which it greets as.
    pub you: SocketAddr,
    /// What the members know each other by.
    pub pass: Pass,
    /// A page of its own list.
    pub page: Page<'a>,
}

/// RejectReason a request was refused: ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of the request.
    pub seq: Option<u64>,
    /// For programs.
    pub code: Code,
    /// A sentence for a person.
    pub reason: String,
    /// Milliseconds to wait, where waiting helps.
    pub retry_in_ms: Option<u64>,
}

/// What an ERROR is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No JSON object with a `type`.
    Malformed,
    /// A type that nobody knows.
    UnknownType,
    /// A field breaks its limits.
    BadField,
    /// More than 1200 bytes.
    TooLarge,
    /// A cap is reached.
    Full,
    /// Not promised: it could not be stored.
    Unavailable,
    /// Too many requests.
    SlowDown,
    /// Not let in.
    Forbidden,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 8] = [
        Code::Malformed,
        Code::UnknownType,
        Code::BadField,
        Code::TooLarge,
        Code::Full,
        Code::Unavailable,
        Code::SlowDown,
        Code::Forbidden,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::UnknownType => "unknown_type",
            Code::BadField => "bad_field",
            Code::TooLarge => "too_large",
            Code::Full => "full",
            Code::Unavailable => "unavailable",
            Code::SlowDown => "slow_down",
            Code::Forbidden => "forbidden",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Code::Full | Code::Unavailable | Code::SlowDown)
    }
}

impl From<Code> for RejectReason {
    fn from(code: Code) -> RejectReason {
        match code {
            Code::Malformed => RejectReason::Malformed,
            Code::UnknownType => RejectReason::UnknownType,
            Code::BadField => RejectReason::BadField,
            Code::TooLarge => RejectReason::TooLarge,
            Code::Full => RejectReason::Full,
            Code::Unavailable => RejectReason::Unavailable,
            Code::SlowDown => RejectReason::SlowDown,
            Code::Forbidden => RejectReason::Forbidden,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hello, from peer to peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greet {
    /// The room both are in.
    pub room: Room,
    /// The window both are in.
    pub window: Window,
    /// Proof of membership.
    pub pass: Pass,
    /// Random, echoed in GREETED.
    pub seq: u64,
    /// The greeter's address in the roster.
    pub from: SocketAddr,
    /// The greeter's name.
    pub name: Option<Name>,
    /// What it says.
    pub text: Option<Text>,
}

/// Hello back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// As greeted.
    pub room: Room,
    /// As greeted.
    pub window: Window,
    /// Of the GREET.
    pub seq: u64,
    /// The answerer's address in the roster.
    pub from: SocketAddr,
    /// The answerer's name.
    pub name: Option<Name>,
}

/// Any datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Datagram<'a> {
    Request(Request, Auth),
    Ack(Ack),
    Challenge(Challenge),
    Registered(Registered<'a>),
    Left(Left),
    Peers(Peers<'a>),
    Window(Opened<'a>),
    Error(Refusal),
    Greet(Greet),
    Greeted(Greeted),
}
