//! The text types of datagram fields: a value within its limits, or none at all.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;

/// Why a text cannot be the value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// The text is not a valid `id` or `pass`.
    #[error("must be 1 to 32 of the characters 0-9, A-Z, a-z, _ and -")]
    Token,
    /// The text is not a valid `name` or `room`.
    #[error("must be 1 to 32 bytes of letters and digits of any script, '.', '_' and '-'")]
    Label,
    /// The text is not a valid `text` of a greeting.
    #[error("must be at most 200 characters and 500 bytes, without control characters")]
    Text,
}

fn is_token(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn is_label_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_label(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.chars().all(is_label_char)
}

fn is_text(text: &str) -> bool {
    text.len() <= 500 && text.chars().count() <= 200 && !text.chars().any(char::is_control)
}

macro_rules! text_field {
    ($(#[$doc:meta])* $name:ident, $is:ident, $error:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
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
                if $is(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = FieldError;

            fn try_from(text: String) -> Result<Self, FieldError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(field: $name) -> String {
                field.0.into()
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
    Id, is_token, FieldError::Token
);
text_field!(
    /// The secret that members of one window and room share: 1–32 of `[0-9A-Za-z_-]`.
    Pass, is_token, FieldError::Token
);
text_field!(
    /// What people call a client: 1–32 bytes of letters, digits, `.`, `_` and `-`.
    Name, is_label, FieldError::Label
);
text_field!(
    /// The name of a group on a registry: 1–32 bytes of letters, digits, `.`, `_` and `-`.
    Room, is_label, FieldError::Label
);
text_field!(
    /// What a greeting says: at most 200 characters and 500 bytes, no control characters.
    Text, is_text, FieldError::Text
);

impl Default for Room {
    /// Returns the room `main`, for clients that name no room.
    fn default() -> Room {
        Room(SmolStr::new_static("main"))
    }
}

impl Name {
    /// Returns the valid name nearest to `text`: invalid characters become `-`, and what exceeds 32
    /// bytes is cut off. `None` if nothing is left.
    pub fn nearest(text: &str) -> Option<Name> {
        let mut name = String::new();
        for c in text.chars() {
            let c = if is_label_char(c) { c } else { '-' };
            if name.len() + c.len_utf8() > 32 {
                break;
            }
            name.push(c);
        }
        name.parse().ok()
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
    fn a_name_takes_letters_of_any_script() {
        for good in ["ana", "Ñandú", "日本語", "node-1.lab_2", "Москва"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\u{1b}[2J", "a/b", "\u{202e}a", "日本語日本語日本語日本"]
        {
            assert_eq!(bad.parse::<Name>(), Err(FieldError::Label), "{bad:?}");
        }
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
        assert_eq!(Name::nearest("my host!").unwrap().as_str(), "my-host-");
        assert_eq!(Name::nearest(&"日".repeat(40)).unwrap().as_str().len(), 30);
        assert_eq!(Name::nearest(""), None);
    }
}
