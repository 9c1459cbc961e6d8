//! The text types of datagram fields: a value within its limits, or none at all.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;

use super::words::{WordError, words};

/// The longest room, in bytes.
const MAX_ROOM: usize = 32;
/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// Why a text cannot be the value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// The text is not a valid `id` or `pass`.
    #[error("must be 1 to 32 of the characters 0-9, A-Z, a-z, _ and -")]
    Token,
    /// The text is not a valid `room`.
    #[error("must be 1 to 32 bytes of letters and digits of any script, '.', '_' and '-': {0}")]
    Room(WordError),
    /// The text is not a valid `name`.
    #[error(
        "must be 1 to 64 bytes of letters and digits of any script, '.', '_', '-', apostrophes, and \
         single spaces between words: {0}"
    )]
    Name(WordError),
    /// The text is not a valid `text` of a greeting.
    #[error("must be at most 200 characters and 500 bytes, without control characters")]
    Text,
}

fn token(text: &str) -> Result<SmolStr, FieldError> {
    let is_token = (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_token { Ok(text.into()) } else { Err(FieldError::Token) }
}

fn room(text: &str) -> Result<SmolStr, FieldError> {
    words(text, MAX_ROOM, &[]).map_err(FieldError::Room)
}

fn name(text: &str) -> Result<SmolStr, FieldError> {
    words(text, MAX_NAME, &['\'', ' ']).map_err(FieldError::Name)
}

fn line(text: &str) -> Result<SmolStr, FieldError> {
    let is_line =
        text.len() <= 500 && text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if is_line { Ok(text.into()) } else { Err(FieldError::Text) }
}

macro_rules! text_field {
    ($(#[$doc:meta])* $name:ident, $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(into = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// Returns the field's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = FieldError;

            fn from_str(text: &str) -> Result<Self, FieldError> {
                $read(text).map(Self)
            }
        }

        impl From<$name> for SmolStr {
            fn from(field: $name) -> SmolStr {
                field.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

text_field!(
    /// A client's own secret: 1–32 of `[0-9A-Za-z_-]`, echoed to that client and shown to nobody
    /// else.
    Id, token
);
text_field!(
    /// The secret that members of one window and room share: 1–32 of `[0-9A-Za-z_-]`.
    Pass, token
);
text_field!(
    /// What people call a client: 1–64 bytes of words in NFC, of letters, marks and digits of any
    /// script, `.`, `_`, `-` and `'`, with single spaces between them.
    #[derive(Deserialize)]
    #[serde(try_from = "SmolStr")]
    Name, name
);
text_field!(
    /// The name of a group on a registry: a word of 1–32 bytes in NFC, of letters, marks and digits
    /// of any script, `.`, `_` and `-`.
    #[derive(Deserialize)]
    #[serde(try_from = "SmolStr")]
    Room, room
);
text_field!(
    /// What a greeting says: at most 200 characters and 500 bytes, no control characters.
    Text, line
);

/// Makes a room or a name of a text from the disk, where an earlier version may have written one
/// that is refused today: a change of the rules takes nobody out of a window.
macro_rules! written {
    ($($name:ident: $most:expr;)*) => {$(
        impl TryFrom<SmolStr> for $name {
            type Error = FieldError;

            fn try_from(text: SmolStr) -> Result<$name, FieldError> {
                let needs_escape = |c: &char| c.is_control() || matches!(c, '"' | '\\');
                match text.chars().find(needs_escape) {
                    Some(c) => Err(FieldError::$name(WordError::Char(c))),
                    None if (1..=$most).contains(&text.len()) => Ok($name(text)),
                    None => Err(FieldError::$name(WordError::Length(text.len()))),
                }
            }
        }
    )*};
}

written! {
    Room: MAX_ROOM;
    Name: MAX_NAME;
}

impl Default for Room {
    /// Returns the room `main`, for clients that name no room.
    fn default() -> Room {
        Room(SmolStr::new_static("main"))
    }
}

impl Name {
    /// Returns the valid name nearest to `text`: what cannot stand there becomes `-` or is left out,
    /// and what exceeds 64 bytes is cut off. `None` if nothing is left.
    pub fn nearest(text: &str) -> Option<Name> {
        let mut nearest: Option<Name> = None;
        for c in text.chars() {
            let so_far = nearest.as_ref().map_or("", Name::as_str);
            if so_far.len() + c.len_utf8() > MAX_NAME {
                break;
            }
            let longer = [c, '-'].iter().find_map(|c| format!("{so_far}{c}").parse().ok());
            nearest = longer.or(nearest);
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_token() {
        assert_eq!("aZ09_-".parse::<Id>().unwrap().as_str(), "aZ09_-");
        assert!("x".repeat(32).parse::<Id>().is_ok());
        for bad in ["", "a b", "ñ", "a\"", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Id>(), Err(FieldError::Token), "{bad:?}");
        }
    }

    #[test]
    fn rooms_and_names_have_lengths_in_bytes_of_nfc() {
        for (text, bytes) in [("x".repeat(33), 33), ("日".repeat(11), 33), (String::new(), 0)] {
            assert_eq!(text.parse::<Room>(), Err(FieldError::Room(WordError::Length(bytes))));
        }
        assert!("x".repeat(64).parse::<Name>().is_ok() && "x".repeat(65).parse::<Name>().is_err());
        // 96 bytes as sent are 64 in NFC; 33 are 44, as a ligature with a point is never composed.
        assert_eq!("e\u{301}".repeat(32).parse::<Name>().unwrap().as_str(), "é".repeat(32));
        let grown = "\u{fb2c}".repeat(11).parse::<Room>();
        assert_eq!(grown, Err(FieldError::Room(WordError::Length(66))));
    }

    #[test]
    fn an_error_names_the_rule_and_what_breaks_it() {
        let error = "ana \u{1f600}".parse::<Name>().unwrap_err().to_string();
        assert!(error.ends_with("between words: U+1F600 cannot stand there"), "{error}");
        let error = "José Pérez".parse::<Room>().unwrap_err().to_string();
        assert!(error.ends_with("'_' and '-': U+0020 cannot stand there"), "{error}");
    }

    #[test]
    fn what_earlier_versions_wrote_is_taken_from_the_disk() {
        for text in ["a\u{3164}", "\u{115f}", "אa", "e\u{301}", "x"] {
            assert_eq!(Name::try_from(SmolStr::new(text)).unwrap().as_str(), text);
            assert_eq!(Room::try_from(SmolStr::new(text)).unwrap().as_str(), text);
        }
        for text in ["", "a\nb", "a\"b", "a\\b", &"x".repeat(65)] {
            assert!(Name::try_from(SmolStr::new(text)).is_err(), "{text:?}");
        }
        assert!(Room::try_from(SmolStr::new("x".repeat(33))).is_err());
    }

    #[test]
    fn a_text_is_one_line() {
        assert!("".parse::<Text>().is_ok());
        assert!("¿qué tal? \"hola\"".parse::<Text>().is_ok());
        assert!("é".repeat(200).parse::<Text>().is_ok());
        for bad in ["é".repeat(201), "日".repeat(167), "a\nb".into(), "\u{7f}".into()] {
            assert_eq!(bad.parse::<Text>(), Err(FieldError::Text), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_name_always_fits() {
        for (text, nearest) in [
            ("my host!", "my-host-"),
            ("Ana's MacBook", "Ana's-MacBook"),
            ("luci\u{301}a", "lucía"),
            ("\u{301}a\u{202e}b\u{1b}", "-a-b-"),
            ("שלום-לך.", "שלוםלך"),
            ("علی\u{200c}رضا", "علیرضا"),
        ] {
            assert_eq!(Name::nearest(text).unwrap().as_str(), nearest, "{text:?}");
        }
        assert_eq!(Name::nearest(&"日".repeat(40)).unwrap().as_str().len(), 63);
        assert_eq!((Name::nearest(""), Name::nearest("\u{fffd}").unwrap().as_str()), (None, "-"));
    }
}
