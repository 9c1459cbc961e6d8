//! Reading datagrams: fields in any order, unknown ones ignored, of a key given twice the last.
//!
//! In two steps, because a registry must not look at the fields of a source that has not proven
//! its address: [`Envelope::open`] finds the type and where each field stands; only then are the
//! fields read, each error naming its field.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

use super::list::parse_addr;
use super::{
    Ack, Auth, Challenge, Code, Current, Datagram, Greet, Greeted, Kind, Left, MAX_DATAGRAM,
    Opened, Page, Peers, Profile, Refusal, Registered, Request, RequestKind, SEQ_END, plain,
};

/// RejectReason a datagram cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than any datagram has.
    #[error("a datagram is at most {MAX_DATAGRAM} bytes")]
    TooLarge,
    /// Not one JSON object with a `type`.
    #[error("not one json object in utf-8 with a type: {0}")]
    Malformed(String),
    /// A `type` that nobody knows.
    #[error("the type is none of REGISTER, LEAVE, QUERY and ACK")]
    UnknownType,
    /// A field that breaks its limits, or lacks.
    #[error("{field} {why}")]
    BadField {
        /// Its key.
        field: &'static str,
        /// What it must be.
        why: String,
    },
}

impl DecodeError {
    /// What an ERROR says of it.
    pub fn code(&self) -> Code {
        match self {
            DecodeError::TooLarge => Code::TooLarge,
            DecodeError::Malformed(_) => Code::Malformed,
            DecodeError::UnknownType => Code::UnknownType,
            DecodeError::BadField { .. } => Code::BadField,
        }
    }
}

fn bad<T>(key: Key, why: impl fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::BadField { field: key.name(), why: why.to_string() })
}

macro_rules! keys {
    ($($key:ident $name:literal),* $(,)?) => {
        /// The keys that are known, each a place in [`Fields`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Key { $($key),* }

        impl Key {
            const COUNT: usize = [$($name),*].len();

            fn named(name: &str) -> Option<Key> {
                match name { $($name => Some(Key::$key),)* _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Key::$key => $name),* }
            }
        }
    };
}

keys! {
    Type "type", Id "id", Seq "seq", Room "room", Name "name", Lan "lan", Cookie "cookie", Mac "mac",
    Window "window", Pass "pass", OpensInMs "opens_in_ms", WindowMs "window_ms", You "you",
    Current "current", ClosesInMs "closes_in_ms", Part "part", Parts "parts", Count "count",
    Peers "peers", Code "code", Reason "reason", RetryInMs "retry_in_ms", As "as", Text "text",
}

/// What a `mac` covers, in this order.
const SIGNED: [Key; 8] =
    [Key::Type, Key::Id, Key::Seq, Key::Room, Key::Name, Key::Lan, Key::Part, Key::Cookie];

/// The JSON text of each field's value, where one was given.
#[derive(Debug)]
struct Fields<'a>([Option<&'a str>; Key::COUNT]);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnObject;

        impl<'de> Visitor<'de> for AnObject {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Fields::NONE;
                while let Some(PlainKey(key)) = map.next_key()? {
                    match Key::named(&key) {
                        Some(key) => {
                            fields.0[key as usize] = Some(map.next_value::<&RawValue>()?.get());
                        }
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(AnObject)
    }
}

/// A key, borrowed unless it was written with escapes.
#[derive(serde::Deserialize)]
struct PlainKey<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// None is known yet. They are filled where they lie: moved, they are 400 bytes.
    const NONE: Fields<'a> = Fields([None; Key::COUNT]);

    fn read(&mut self, text: &'a str) -> serde_json::Result<()> {
        if self.read_plain(text).is_none() {
            *self = serde_json::from_str(text)?;
        }
        Ok(())
    }

    /// Reads an object as hit7's own client writes it, for half of what a parser costs.
    fn read_plain(&mut self, text: &'a str) -> Option<()> {
        plain::read(text, |name, value| {
            if let Some(key) = Key::named(name) {
                self.0[key as usize] = Some(value);
            }
            Some(())
        })
    }

    fn kind(&self) -> Result<Kind, DecodeError> {
        match self.text(Key::Type) {
            Ok(Some(name)) => Kind::from_name(&name).ok_or(DecodeError::UnknownType),
            Ok(None) => Err(DecodeError::Malformed("no type".to_owned())),
            Err(_) => Err(DecodeError::Malformed("its type is no text".to_owned())),
        }
    }

    fn raw(&self, key: Key) -> Option<&'a str> {
        self.0[key as usize]
    }

    /// A text, borrowed unless it was written with escapes.
    fn text(&self, key: Key) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            None => bad(key, "must be a text"),
            Some(plain) if !plain.bytes().any(|byte| byte == b'\\') => {
                Ok(Some(Cow::Borrowed(plain)))
            }
            Some(_) => match serde_json::from_str(raw) {
                Ok(text) => Ok(Some(Cow::Owned(text))),
                Err(_) => bad(key, "must be a text"),
            },
        }
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: Key) -> Result<Option<T>, DecodeError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.parse().map(Some).or_else(|error| bad(key, error))
    }

    fn owned(&self, key: Key) -> Result<Option<String>, DecodeError> {
        Ok(self.text(key)?.map(Cow::into_owned))
    }

    fn number(&self, key: Key, end: u64) -> Result<Option<u64>, DecodeError> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        match raw.parse::<u64>() {
            Ok(number) if number < end => Ok(Some(number)),
            _ => bad(key, format_args!("must be a whole number from 0 to {}", end - 1)),
        }
    }

    fn seq(&self) -> Result<Option<u64>, DecodeError> {
        self.number(Key::Seq, SEQ_END)
    }

    fn addr(&self, key: Key) -> Result<Option<SocketAddr>, DecodeError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match parse_addr(&text) {
            Some(addr) => Ok(Some(addr)),
            None => bad(key, "must be an address like 192.168.1.7:40112 or [fd00::7]:40112"),
        }
    }

    fn page(&self) -> Result<Page<'a>, DecodeError> {
        let raw = needed(Key::Peers, self.raw(Key::Peers))?;
        let Some(peers) = raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return bad(Key::Peers, super::list::ListError);
        };
        let small = |key| Ok(needed(key, self.number(key, 1 << 32)?)? as u32);
        let page = Page {
            part: small(Key::Part)?,
            parts: small(Key::Parts)?,
            count: small(Key::Count)?,
            peers,
        };
        match page.candidates() {
            Err(error) => bad(Key::Peers, error),
            Ok(_) if page.part >= page.parts => bad(Key::Part, "must be below parts"),
            Ok(_) => Ok(page),
        }
    }

    fn current(&self) -> Result<Current<'a>, DecodeError> {
        let raw = needed(Key::Current, self.raw(Key::Current))?;
        let Ok(fields) = serde_json::from_str::<Fields<'a>>(raw) else {
            return bad(Key::Current, "must be an object");
        };
        Ok(Current {
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            closes_in_ms: needed(Key::ClosesInMs, fields.number(Key::ClosesInMs, SEQ_END)?)?,
            page: fields.page()?,
        })
    }
}

fn needed<T>(key: Key, value: Option<T>) -> Result<T, DecodeError> {
    match value {
        Some(value) => Ok(value),
        None => bad(key, "must be given"),
    }
}

/// Where the JSON goes wrong, and how: what serde says of a value quotes it, however long it is.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "it is another value",
        Category::Syntax | Category::Io => "no json, or more than one object",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

/// A datagram whose type is known and whose fields have not been looked at.
#[derive(Debug)]
pub struct Envelope<'a> {
    kind: Kind,
    fields: Fields<'a>,
}

impl<'a> Envelope<'a> {
    /// Finds the type.
    pub fn open(datagram: &'a [u8]) -> Result<Envelope<'a>, DecodeError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(DecodeError::TooLarge);
        }
        let malformed = |why: &dyn fmt::Display| DecodeError::Malformed(why.to_string());
        let text = std::str::from_utf8(datagram).map_err(|error| malformed(&error))?;
        let mut fields = Fields::NONE;
        fields.read(text).map_err(|error| malformed(&place(&error)))?;
        Ok(Envelope { kind: fields.kind()?, fields })
    }

    /// What kind of datagram it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its `seq`, if that is one.
    pub fn seq(&self) -> Option<u64> {
        self.fields.seq().ok().flatten()
    }

    /// Its `cookie`, if that is a text.
    pub fn cookie(&self) -> Option<Cow<'a, str>> {
        self.fields.text(Key::Cookie).ok().flatten()
    }

    /// Its `mac`, if that is a text.
    pub fn mac(&self) -> Option<Cow<'a, str>> {
        self.fields.text(Key::Mac).ok().flatten()
    }

    /// What `mac` is made of: the fields that matter and the cookie, which binds them to the
    /// source's address and to two minutes. Each is its length in two bytes, big-endian, and its
    /// text (of a number, its digits as sent); one that was not given is the length 65535 alone.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut signed_bytes = Vec::new();
        for key in SIGNED {
            let text = match key {
                Key::Seq | Key::Part => self.fields.raw(key).map(Cow::Borrowed),
                key => self.fields.text(key).ok().flatten(),
            };
            let length = text.as_ref().map_or(u16::MAX, |text| text.len() as u16);
            signed_bytes.extend_from_slice(&length.to_be_bytes());
            signed_bytes.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
        }
        signed_bytes
    }

    /// Reads a request; `None` if it is of another kind. What vouches for it is looked at before,
    /// and here only held to its type ([`Envelope::cookie`], [`Envelope::mac`]).
    pub fn request(&self) -> Result<Option<Request>, DecodeError> {
        let fields = &self.fields;
        fields.text(Key::Cookie)?;
        fields.text(Key::Mac)?;
        let kind = match self.kind {
            Kind::Register => RequestKind::Register(self.profile()?),
            Kind::Leave => RequestKind::Leave,
            Kind::Query => RequestKind::Query {
                room: fields.parsed(Key::Room)?.unwrap_or_default(),
                part: fields.number(Key::Part, 1 << 32)?.unwrap_or(0) as u32,
            },
            _ => return Ok(None),
        };
        Ok(Some(Request { id: fields.parsed(Key::Id)?, seq: fields.seq()?, kind }))
    }

    fn auth(&self) -> Result<Auth, DecodeError> {
        Ok(Auth { cookie: self.fields.owned(Key::Cookie)?, mac: self.fields.owned(Key::Mac)? })
    }

    fn profile(&self) -> Result<Profile, DecodeError> {
        let fields = &self.fields;
        let lan = fields.addr(Key::Lan)?;
        if lan.is_some_and(|lan| !is_private(lan)) {
            return bad(Key::Lan, "must be a private address, of RFC 1918 or fc00::/7");
        }
        Ok(Profile {
            room: fields.parsed(Key::Room)?.unwrap_or_default(),
            name: fields.parsed(Key::Name)?,
            lan,
        })
    }

    /// Reads an acknowledgement, whatever kind the datagram is.
    pub fn ack(&self) -> Result<Ack, DecodeError> {
        let fields = &self.fields;
        Ok(Ack {
            id: fields.parsed(Key::Id)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            pass: needed(Key::Pass, fields.parsed(Key::Pass)?)?,
        })
    }

    fn registered(&self) -> Result<Registered<'a>, DecodeError> {
        let fields = &self.fields;
        Ok(Registered {
            id: fields.parsed(Key::Id)?,
            seq: fields.seq()?,
            room: needed(Key::Room, fields.parsed(Key::Room)?)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            opens_in_ms: needed(Key::OpensInMs, fields.number(Key::OpensInMs, SEQ_END)?)?,
            window_ms: needed(Key::WindowMs, fields.number(Key::WindowMs, SEQ_END)?)?,
            you: needed(Key::You, fields.addr(Key::You)?)?,
            current: fields.current()?,
        })
    }

    fn left(&self) -> Result<Left, DecodeError> {
        let fields = &self.fields;
        Ok(Left {
            id: fields.parsed(Key::Id)?,
            seq: fields.seq()?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
        })
    }

    fn peers(&self) -> Result<Peers<'a>, DecodeError> {
        let fields = &self.fields;
        Ok(Peers {
            id: fields.parsed(Key::Id)?,
            seq: fields.seq()?,
            room: needed(Key::Room, fields.parsed(Key::Room)?)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            closes_in_ms: needed(Key::ClosesInMs, fields.number(Key::ClosesInMs, SEQ_END)?)?,
            you: fields.addr(Key::You)?,
            pass: fields.parsed(Key::Pass)?,
            page: fields.page()?,
        })
    }

    fn opened(&self) -> Result<Opened<'a>, DecodeError> {
        let fields = &self.fields;
        Ok(Opened {
            id: fields.parsed(Key::Id)?,
            room: needed(Key::Room, fields.parsed(Key::Room)?)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            closes_in_ms: needed(Key::ClosesInMs, fields.number(Key::ClosesInMs, SEQ_END)?)?,
            you: needed(Key::You, fields.addr(Key::You)?)?,
            pass: needed(Key::Pass, fields.parsed(Key::Pass)?)?,
            page: fields.page()?,
        })
    }

    fn refusal(&self) -> Result<Refusal, DecodeError> {
        let fields = &self.fields;
        let code = needed(Key::Code, fields.text(Key::Code)?)?;
        let Some(code) = Code::ALL.into_iter().find(|known| known.name() == code) else {
            return bad(Key::Code, "must be a known one");
        };
        Ok(Refusal {
            seq: fields.seq()?,
            code,
            reason: fields.owned(Key::Reason)?.unwrap_or_default(),
            retry_in_ms: fields.number(Key::RetryInMs, SEQ_END)?,
        })
    }

    fn greet(&self) -> Result<Greet, DecodeError> {
        let fields = &self.fields;
        Ok(Greet {
            room: needed(Key::Room, fields.parsed(Key::Room)?)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            pass: needed(Key::Pass, fields.parsed(Key::Pass)?)?,
            seq: needed(Key::Seq, fields.seq()?)?,
            from: needed(Key::As, fields.addr(Key::As)?)?,
            name: fields.parsed(Key::Name)?,
            text: fields.parsed(Key::Text)?,
        })
    }

    fn greeted(&self) -> Result<Greeted, DecodeError> {
        let fields = &self.fields;
        Ok(Greeted {
            room: needed(Key::Room, fields.parsed(Key::Room)?)?,
            window: needed(Key::Window, fields.parsed(Key::Window)?)?,
            seq: needed(Key::Seq, fields.seq()?)?,
            from: needed(Key::As, fields.addr(Key::As)?)?,
            name: fields.parsed(Key::Name)?,
        })
    }

    fn challenge(&self) -> Result<Challenge, DecodeError> {
        let cookie = needed(Key::Cookie, self.fields.owned(Key::Cookie)?)?;
        Ok(Challenge { seq: self.fields.seq()?, cookie })
    }
}

/// What `lan` may be: RFC 1918, or RFC 4193 (fc00::/7).
fn is_private(addr: SocketAddr) -> bool {
    match addr {
        SocketAddr::V4(v4) => v4.ip().is_private(),
        SocketAddr::V6(v6) => v6.ip().is_unique_local(),
    }
}

impl<'a> Datagram<'a> {
    /// Reads any datagram whole.
    pub fn decode(datagram: &'a [u8]) -> Result<Datagram<'a>, DecodeError> {
        let envelope = Envelope::open(datagram)?;
        if let Some(request) = envelope.request()? {
            return Ok(Datagram::Request(request, envelope.auth()?));
        }
        Ok(match envelope.kind {
            Kind::Register | Kind::Leave | Kind::Query => unreachable!("it is a request"),
            Kind::Ack => Datagram::Ack(envelope.ack()?),
            Kind::Challenge => Datagram::Challenge(envelope.challenge()?),
            Kind::Registered => Datagram::Registered(envelope.registered()?),
            Kind::Left => Datagram::Left(envelope.left()?),
            Kind::Peers => Datagram::Peers(envelope.peers()?),
            Kind::Window => Datagram::Window(envelope.opened()?),
            Kind::Error => Datagram::Error(envelope.refusal()?),
            Kind::Greet => Datagram::Greet(envelope.greet()?),
            Kind::Greeted => Datagram::Greeted(envelope.greeted()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Room;

    fn request(text: &str) -> Result<Option<Request>, DecodeError> {
        Envelope::open(text.as_bytes())?.request()
    }

    fn bad_field(text: &str) -> &'static str {
        match request(text) {
            Err(DecodeError::BadField { field, .. }) => field,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn fields_come_in_any_order_with_others_between() {
        let text = " {\"name\" : \"a\\u006ea\",\"later\":[{}],\"seq\":7, \"type\":\"REGISTER\"}\n";
        let profile = Profile { name: Some("ana".parse().unwrap()), ..Profile::default() };
        assert_eq!(request(text).unwrap(), Some(Request::register(None, Some(7), profile)));
    }

    #[test]
    fn however_it_is_written_it_says_the_same() {
        let plain = r#"{"type":"REGISTER","id":"a-1","seq":7,"later":0,"room":"lab","name":"ana"}"#;
        for other in [
            plain.replace("ana", "a\\u006ea"),
            plain.replace(':', " : "),
            plain.replace("\"later\":0", "\"later\":[null,{\"name\":\"eva\"}]"),
            format!("{plain} \n"),
        ] {
            assert_eq!(request(&other).unwrap(), request(plain).unwrap(), "{other}");
        }
        assert_eq!(request(plain).unwrap().unwrap().seq, Some(7));
    }

    #[test]
    fn of_a_key_given_twice_the_last_counts() {
        let twice = r#"{"type":"QUERY","part":1,"part":2}"#;
        let expected = Request::query(None, None, Room::default(), 2);
        assert_eq!(request(twice).unwrap(), Some(expected));
    }

    #[test]
    fn what_is_no_object_with_a_type_is_malformed() {
        for text in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":"REGISTER"}{"type":"REGISTER"}"#,
            r#"{"type":"REGISTER""#,
            r#"{"type":"REGISTER","name":"\ud800"}x"#,
        ] {
            assert!(matches!(request(text), Err(DecodeError::Malformed(_))), "{text}");
        }
        assert!(matches!(Envelope::open(b"{\"type\":\"\xff\"}"), Err(DecodeError::Malformed(_))));
        let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
        assert!(matches!(request(&deep), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn each_bad_field_is_named() {
        for (field, value) in [
            ("id", "\"a b\""),
            ("id", "7"),
            ("id", "null"),
            ("seq", "-1"),
            ("seq", "1.5"),
            ("seq", "1e400"),
            ("seq", "9007199254740992"),
            ("seq", "\"1\""),
            ("room", "\"\""),
            ("name", "\"a\\u001b[2Jb\""),
            ("name", "\"\\ud800\""),
            ("lan", "\"8.8.8.8:53\""),
            ("lan", "\"192.168.1.7\""),
            ("lan", "\"192.168.1.7:0\""),
        ] {
            assert_eq!(bad_field(&format!(r#"{{"type":"REGISTER","{field}":{value}}}"#)), field);
        }
        assert_eq!(bad_field(r#"{"type":"QUERY","part":-1}"#), "part");
        let bad_ack = |text: &str| Datagram::decode(text.as_bytes()).map(|_| ()).unwrap_err();
        let of = |field, why: &str| DecodeError::BadField { field, why: why.to_owned() };
        let no_time = bad_ack(r#"{"type":"ACK","window":"11:29","pass":"x"}"#);
        assert_eq!(no_time, of("window", "not a time like 2026-11-23T11:29:00Z"));
        let no_pass = bad_ack(r#"{"type":"ACK","window":"2026-11-23T11:29:00Z"}"#);
        assert_eq!(no_pass, of("pass", "must be given"));
    }

    #[test]
    fn the_largest_seq_is_taken() {
        let envelope = Envelope::open(br#"{"type":"LEAVE","seq":9007199254740991}"#).unwrap();
        assert_eq!(envelope.seq(), Some(SEQ_END - 1));
    }

    #[test]
    fn size_is_counted_in_bytes_with_trailing_space() {
        let mut datagram = br#"{"type":"QUERY"}"#.to_vec();
        datagram.resize(MAX_DATAGRAM, b' ');
        assert!(Envelope::open(&datagram).is_ok());
        datagram.push(b' ');
        assert!(matches!(Envelope::open(&datagram), Err(DecodeError::TooLarge)));
    }

    #[test]
    fn an_envelope_does_not_mind_bad_fields() {
        let envelope = Envelope::open(br#"{"type":"LEAVE","seq":"x","cookie":5,"id":[]}"#).unwrap();
        assert_eq!((envelope.kind(), envelope.seq(), envelope.cookie()), (Kind::Leave, None, None));
    }

    #[test]
    fn a_seal_covers_every_field_with_its_length() {
        let signed_bytes = |text: &str| Envelope::open(text.as_bytes()).unwrap().signed_bytes();
        let whole =
            signed_bytes(r#"{"seq":7,"type":"QUERY","room":"m\u0061in","cookie":"c","mac":"x"}"#);
        let expected = [
            &b"\x00\x05QUERY"[..],
            b"\xff\xff",
            b"\x00\x017",
            b"\x00\x04main",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x00\x01c",
        ];
        assert_eq!(whole, expected.concat());
        let moved = signed_bytes(r#"{"type":"QUERY","room":"ab","name":"c"}"#);
        assert_ne!(moved, signed_bytes(r#"{"type":"QUERY","room":"a","name":"bc"}"#));
        assert_ne!(
            signed_bytes(r#"{"type":"QUERY"}"#),
            signed_bytes(r#"{"type":"QUERY","id":""}"#)
        );
    }
}
