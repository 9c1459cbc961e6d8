//! Reads and writes the types of fields: what the JSON text of each must be, and how it is written.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::decode_error::DecodeError;
use super::fields::{Fields, bad_field, text};
use super::list::{ListError, Page, parse_addr};
use super::object::Object;
use super::{Code, Current, Id, Key, Name, Pass, Room, SEQ_END, Text};
use crate::path::is_private;
use crate::window::{Wall, Window};

/// The most milliseconds that are written: eight digits, so that the longest datagram has its
/// proven length.
const MAX_MS: u64 = 99_999_999;

/// A type that can be the value of a field.
pub(crate) trait Value<'a>: Sized {
    /// Parses the value of `key` from its JSON text.
    fn read(key: Key, json: &'a str) -> Result<Self, DecodeError>;

    /// Writes this value under `key`.
    fn write(&self, key: Key, out: &mut Object);
}

/// A required value, or an optional one (`Option<T>`).
pub(crate) trait Field<'a>: Sized {
    /// Parses the value of `key`.
    fn read(key: Key, fields: &Fields<'a>) -> Result<Self, DecodeError>;

    /// Writes this value under `key`, or nothing for `None`.
    fn write(&self, key: Key, out: &mut Object);
}

/// Several fields of one object: those of a message, or of a part that messages share.
pub(crate) trait Group<'a>: Sized {
    /// The keys of the group's fields, in the order in which they are written.
    const KEYS: &'static [Key];

    /// Parses all fields of the group.
    fn read(fields: &Fields<'a>) -> Result<Self, DecodeError>;

    /// Writes all fields of the group.
    fn write(&self, out: &mut Object);
}

impl<'a> Fields<'a> {
    /// Parses the value of a field.
    pub(crate) fn get<T: Field<'a>>(&self, key: Key) -> Result<T, DecodeError> {
        T::read(key, self)
    }

    /// Parses the value of a field, or returns the default if the field is absent.
    pub(crate) fn get_or_default<T: Value<'a> + Default>(
        &self,
        key: Key,
    ) -> Result<T, DecodeError> {
        self.get(key).map(Option::unwrap_or_default)
    }
}

impl Object {
    /// Writes a field, unless its value is `None`.
    pub(crate) fn put<'a>(&mut self, key: Key, value: &impl Field<'a>) {
        value.write(key, self);
    }
}

impl<'a, T: Value<'a>> Field<'a> for T {
    fn read(key: Key, fields: &Fields<'a>) -> Result<T, DecodeError> {
        match fields.json(key) {
            Some(json) => T::read(key, json),
            None => bad_field(key, "must be given"),
        }
    }

    fn write(&self, key: Key, out: &mut Object) {
        Value::write(self, key, out);
    }
}

impl<'a, T: Value<'a>> Field<'a> for Option<T> {
    fn read(key: Key, fields: &Fields<'a>) -> Result<Option<T>, DecodeError> {
        fields.json(key).map(|json| T::read(key, json)).transpose()
    }

    fn write(&self, key: Key, out: &mut Object) {
        if let Some(value) = self {
            Value::write(value, key, out);
        }
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(key: Key, json: &str) -> Result<T, DecodeError> {
    text(key, json)?.parse().or_else(|error| bad_field(key, error))
}

fn number(key: Key, json: &str, end: u64) -> Result<u64, DecodeError> {
    match json.parse() {
        Ok(number) if number < end => Ok(number),
        _ => bad_field(key, format_args!("must be a whole number from 0 to {}", end - 1)),
    }
}

/// Implements [`Value`] for types whose text never needs JSON escapes.
macro_rules! plain_text {
    ($($type:ty: |$value:ident| $text:expr;)*) => {$(
        impl Value<'_> for $type {
            fn read(key: Key, json: &str) -> Result<$type, DecodeError> {
                parse(key, json)
            }

            fn write(&self, key: Key, out: &mut Object) {
                let $value = self;
                out.plain(key.name(), $text);
            }
        }
    )*};
}

plain_text! {
    Id: |id| id.as_str();
    Pass: |pass| pass.as_str();
    Name: |name| name.as_str();
    Room: |room| room.as_str();
    Window: |window| window.stamp().as_str();
    Wall: |moment| moment.stamp().as_str();
}

impl Value<'_> for Code {
    fn read(key: Key, json: &str) -> Result<Code, DecodeError> {
        text(key, json)?.parse().or_else(|_| bad_field(key, "must be a known one"))
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.plain(key.name(), self.name());
    }
}

impl Value<'_> for Text {
    fn read(key: Key, json: &str) -> Result<Text, DecodeError> {
        parse(key, json)
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.text(key.name(), self.as_str());
    }
}

impl Value<'_> for String {
    fn read(key: Key, json: &str) -> Result<String, DecodeError> {
        text(key, json).map(Cow::into_owned)
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.text(key.name(), self);
    }
}

/// A `seq`, or milliseconds if the key ends in `_ms`.
impl Value<'_> for u64 {
    fn read(key: Key, json: &str) -> Result<u64, DecodeError> {
        number(key, json, SEQ_END)
    }

    fn write(&self, key: Key, out: &mut Object) {
        let most = if key.name().ends_with("_ms") { MAX_MS } else { u64::MAX };
        out.number(key.name(), most.min(*self));
    }
}

impl Value<'_> for u32 {
    fn read(key: Key, json: &str) -> Result<u32, DecodeError> {
        number(key, json, 1 << 32).map(|number| number as u32)
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.number(key.name(), (*self).into());
    }
}

impl Value<'_> for SocketAddr {
    fn read(key: Key, json: &str) -> Result<SocketAddr, DecodeError> {
        match parse_addr(&text(key, json)?) {
            Some(addr) if key == Key::Lan && !is_private(addr.ip()) => {
                bad_field(key, "must be a private address, of RFC 1918 or fc00::/7")
            }
            Some(addr) => Ok(addr),
            None => bad_field(key, "must be an address like 192.168.1.7:40112 or [fd00::7]:40112"),
        }
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.addr(key.name(), *self);
    }
}

impl Value<'_> for IpAddr {
    fn read(key: Key, json: &str) -> Result<IpAddr, DecodeError> {
        parse(key, json)
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.ip(key.name(), *self);
    }
}

impl<'a> Value<'a> for Current<'a> {
    fn read(key: Key, json: &'a str) -> Result<Current<'a>, DecodeError> {
        match serde_json::from_str(json) {
            Ok(fields) => Group::read(&fields),
            Err(_) => bad_field(key, "must be an object"),
        }
    }

    fn write(&self, key: Key, out: &mut Object) {
        out.inner(key.name(), |inner| Group::write(self, inner));
    }
}

impl<'a> Group<'a> for Page<'a> {
    const KEYS: &'static [Key] = &[Key::Part, Key::Parts, Key::Count, Key::Peers];

    fn read(fields: &Fields<'a>) -> Result<Page<'a>, DecodeError> {
        let Some(json) = fields.json(Key::Peers) else {
            return bad_field(Key::Peers, "must be given");
        };
        let Some(peers) = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
            return bad_field(Key::Peers, ListError);
        };
        let (part, parts) = (fields.get(Key::Part)?, fields.get(Key::Parts)?);
        let page = Page { part, parts, count: fields.get(Key::Count)?, peers };
        match page.candidates() {
            Err(error) => bad_field(Key::Peers, error),
            Ok(_) if part >= parts => bad_field(Key::Part, "must be below parts"),
            Ok(_) => Ok(page),
        }
    }

    fn write(&self, out: &mut Object) {
        out.put(Key::Part, &self.part);
        out.put(Key::Parts, &self.parts);
        out.put(Key::Count, &self.count);
        out.list(Key::Peers.name(), self.peers);
    }
}
