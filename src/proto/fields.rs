//! Splits one JSON object into the JSON text of each value, by key, before any value is parsed.
//!
//! Fields may come in any order; unknown keys are ignored; of a repeated key the last value counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use strum::EnumCount;

use super::decode_error::DecodeError;
use super::{Key, plain};

/// The JSON text of the value of each key that an object has.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    values: [Option<&'a str>; Key::COUNT],
    /// A key that the object has more than once, if any.
    repeated: Option<Key>,
}

impl<'a> Fields<'a> {
    /// An object without fields, to be filled in place: moving it would copy 450 bytes.
    pub(crate) const NONE: Fields<'a> = Fields { values: [None; Key::COUNT], repeated: None };

    /// Fills in the fields of a JSON object.
    pub(crate) fn fill(&mut self, object: &'a str) -> Result<(), DecodeError> {
        // `plain` costs half as much as a parser, for objects as hit7 writes them.
        if plain::read(object, |name, value| self.put(name, value)).is_none() {
            *self = serde_json::from_str(object)
                .map_err(|error| DecodeError::Malformed(describe(&error)))?;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, value: &'a str) {
        let Ok(key) = name.parse::<Key>() else { return };
        if self.values[key as usize].replace(value).is_some() {
            self.repeated = Some(key);
        }
    }

    /// Returns a key that the object has more than once, if any.
    pub(crate) fn repeated(&self) -> Option<Key> {
        self.repeated
    }

    /// Returns the JSON text of a key's value; `None` if the key is absent.
    pub(crate) fn json(&self, key: Key) -> Option<&'a str> {
        self.values[key as usize]
    }

    /// Returns the string under a key: `None` if the key is absent, an error if its value is no
    /// string.
    pub(crate) fn text(&self, key: Key) -> Result<Option<Cow<'a, str>>, DecodeError> {
        self.json(key).map(|json| text(key, json)).transpose()
    }
}

/// Decodes a JSON string: borrowed, unless it has escapes. Any other JSON value is an error.
pub(crate) fn text(key: Key, json: &str) -> Result<Cow<'_, str>, DecodeError> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.bytes().any(|byte| byte == b'\\') => Ok(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str(json).map(Cow::Owned).or_else(|_| not_a_text(key)),
        None => not_a_text(key),
    }
}

fn not_a_text<T>(key: Key) -> Result<T, DecodeError> {
    bad_field(key, "must be a text")
}

/// Returns the error for a field that is outside its limits.
pub(crate) fn bad_field<T>(key: Key, why: impl fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::BadField { field: key.name(), why: why.to_string() })
}

/// Describes where and how JSON is invalid: serde's own message would quote a value of any length.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Data => "it is another value",
        Category::Syntax | Category::Io => "no json, or more than one object",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Fields::NONE;
                while let Some(BorrowedKey(name)) = map.next_key()? {
                    fields.put(&name, map.next_value::<&RawValue>()?.get());
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A key of an object, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct BorrowedKey<'a>(#[serde(borrow)] Cow<'a, str>);
