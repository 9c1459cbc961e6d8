//! The requests of a client to a registry, and the proof sent with them.

use super::decode_error::DecodeError;
use super::fields::Fields;
use super::object::Object;
use super::value::Group;
use super::{Auth, Id, Key, Kind, MAX_DATAGRAM, Profile, Room};

/// A client's request to a registry: REGISTER, LEAVE or QUERY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's own secret; a client without one is identified by its address.
    pub id: Option<Id>,
    /// The request's number, greater in each new request of one `id` and equal in a retry; echoed.
    pub seq: Option<u64>,
    /// What the client asks for.
    pub kind: RequestKind,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// REGISTER: to be in the next window, listed with this profile.
    Register(Profile),
    /// LEAVE: to be withdrawn from the next window.
    Leave,
    /// QUERY: a page of the member's own list, or of the room's roster if the id is no member's.
    Query {
        /// The room whose members are listed.
        room: Room,
        /// The number of the page, from 0.
        part: u32,
    },
}

/// The keys that a `mac` covers, in this order; absent ones too, so one list serves all requests.
const SIGNED_KEYS: [&[Key]; 3] =
    [&[Key::Type, Key::Id, Key::Seq], Profile::KEYS, &[Key::Part, Key::Cookie]];

impl Request {
    /// Makes a REGISTER: the client asks to be in the next window.
    pub fn register(id: Option<Id>, seq: Option<u64>, profile: Profile) -> Request {
        Request { id, seq, kind: RequestKind::Register(profile) }
    }

    /// Makes a LEAVE: the client asks to be withdrawn from the next window.
    pub fn leave(id: Option<Id>, seq: Option<u64>) -> Request {
        Request { id, seq, kind: RequestKind::Leave }
    }

    /// Makes a QUERY: the client asks for page `part` of a list of peers.
    pub fn query(id: Option<Id>, seq: Option<u64>, room: Room, part: u32) -> Request {
        Request { id, seq, kind: RequestKind::Query { room, part } }
    }

    /// Parses the fields of a request of type `kind`, without its proof.
    pub(super) fn read(kind: Kind, fields: &Fields<'_>) -> Result<Request, DecodeError> {
        let (id, seq) = (fields.get(Key::Id)?, fields.get(Key::Seq)?);
        let kind = match kind {
            Kind::Register => RequestKind::Register(Group::read(fields)?),
            Kind::Leave => RequestKind::Leave,
            Kind::Query => RequestKind::Query {
                room: fields.get_or_default(Key::Room)?,
                part: fields.get_or_default(Key::Part)?,
            },
            _ => return Err(DecodeError::UnknownType),
        };
        Ok(Request { id, seq, kind })
    }

    /// Encodes the request as a datagram, with its proof `auth`.
    pub fn encode(&self, auth: &Auth) -> Vec<u8> {
        let mut out = Object::begin(Vec::with_capacity(MAX_DATAGRAM), self.kind.kind().name());
        out.put(Key::Id, &self.id);
        out.put(Key::Seq, &self.seq);
        match &self.kind {
            RequestKind::Register(profile) => Group::write(profile, &mut out),
            RequestKind::Leave => {}
            RequestKind::Query { room, part } => {
                out.put(Key::Room, room);
                out.put(Key::Part, part);
            }
        }
        Group::write(auth, &mut out);
        out.end()
    }
}

impl RequestKind {
    fn kind(&self) -> Kind {
        match self {
            RequestKind::Register(_) => Kind::Register,
            RequestKind::Leave => Kind::Leave,
            RequestKind::Query { .. } => Kind::Query,
        }
    }
}

impl Auth {
    /// No cookie and no MAC: enough for a source that a public registry trusts.
    pub const NONE: Auth = Auth { cookie: None, mac: None };

    /// Returns a proof with a cookie and no MAC.
    pub fn with_cookie(cookie: &str) -> Auth {
        Auth { cookie: Some(cookie.to_owned()), mac: None }
    }

    /// Signs a request and this cookie: `mac` computes the MAC of the bytes passed to it.
    pub fn sign(&mut self, request: &Request, mac: impl FnOnce(&[u8]) -> String) {
        let bytes = request.encode(self);
        let mut fields = Fields::NONE;
        let read = str::from_utf8(&bytes).is_ok_and(|text| fields.fill(text).is_ok());
        self.mac = read.then(|| mac(&signed_bytes(&fields)));
    }
}

/// Returns the bytes that the `mac` of a request covers: each field of [`SIGNED_KEYS`] as its
/// length in two bytes, big-endian, and its text (of a number, its digits as sent); an absent field
/// is the length 65535 alone. The cookie binds them to the source's address and to two minutes.
pub(super) fn signed_bytes(fields: &Fields<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &key in SIGNED_KEYS.into_iter().flatten() {
        let text = match key {
            Key::Seq | Key::Part => fields.json(key).map(Into::into),
            key => fields.text(key).ok().flatten(),
        };
        let length = text.as_ref().map_or(u16::MAX, |text| text.len() as u16);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
    }
    bytes
}
