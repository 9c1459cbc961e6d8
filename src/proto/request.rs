//! What a client asks of a registry, and the proof that it sends along.

use super::decode_error::DecodeError;
use super::fields::Fields;
use super::object::Object;
use super::value::Group;
use super::{Auth, Id, Key, Kind, MAX_DATAGRAM, Profile, Room};

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
    /// REGISTER: to be in the next window, listed with this profile.
    Register(Profile),
    /// LEAVE: to be withdrawn from the next window.
    Leave,
    /// QUERY: a page of the member's own list, or of the room's roster if the id is no member's.
    Query {
        /// The room whose roster it is.
        room: Room,
        /// Which page, from 0.
        part: u32,
    },
}

/// What a `mac` covers, in this order: of all requests, since an absent field is covered too.
const SIGNED: [&[Key]; 3] =
    [&[Key::Type, Key::Id, Key::Seq], Profile::KEYS, &[Key::Part, Key::Cookie]];

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

    /// Reads a request of the given kind, without its proof.
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

    /// The datagram's bytes, with its proof.
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
    /// Neither cookie nor MAC: enough for a source that a public registry trusts.
    pub const NONE: Auth = Auth { cookie: None, mac: None };

    /// A cookie, and no MAC.
    pub fn with_cookie(cookie: &str) -> Auth {
        Auth { cookie: Some(cookie.to_owned()), mac: None }
    }

    /// Signs a request and the cookie: `mac` gives the MAC of the bytes it is given.
    pub fn sign(&mut self, request: &Request, mac: impl FnOnce(&[u8]) -> String) {
        let bytes = request.encode(self);
        let mut fields = Fields::NONE;
        let read = str::from_utf8(&bytes).is_ok_and(|text| fields.fill(text).is_ok());
        self.mac = read.then(|| mac(&signed_bytes(&fields)));
    }
}

/// What the `mac` of a request is made of: each field of [`SIGNED`] as its length in two bytes,
/// big-endian, and its text (of a number, its digits as sent); one that was not given is the length
/// 65535 alone. The cookie binds them to the source's address and to two minutes.
pub(super) fn signed_bytes(fields: &Fields<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &key in SIGNED.into_iter().flatten() {
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
