//! Objects as we write them ourselves, read without a parser: `{"type":"REGISTER","seq":7}`.
//!
//! No white space, nothing escaped, nothing within: so is every request of hit7's own client and
//! every line of the log. Whatever else JSON may be is left to a parser.

/// Tells `each` key and the JSON text of its value, in their order; `None` if the object is not
/// plain, or if `each` does not want it. What is told is what a parser would find.
pub(super) fn read<'a>(
    object: &'a str,
    mut each: impl FnMut(&'a str, &'a str) -> Option<()>,
) -> Option<()> {
    // Looked at to the end: that way many bytes are looked at together.
    if !object.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return None;
    }
    let mut rest = object.strip_prefix("{\"")?;
    loop {
        let (key, behind) = rest.split_at_checked(quote(rest.as_bytes())?)?;
        let (value, behind) = value(behind.strip_prefix("\":")?)?;
        each(key, value)?;
        match behind.strip_prefix(",\"") {
            Some(next) => rest = next,
            None => return (behind == "}").then_some(()),
        }
    }
}

/// Neither an escape nor a control character (RFC 8259 §7).
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'\\'
}

/// Where the next quotation mark is.
fn quote(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'"')
}

/// The text or the whole number at the beginning, and what is behind it.
fn value(text: &str) -> Option<(&str, &str)> {
    let length = match text.as_bytes() {
        [b'"', rest @ ..] => quote(rest)? + 2,
        [b'0', ..] => 1,
        digits => digits.iter().position(|byte| !byte.is_ascii_digit()).filter(|&it| it > 0)?,
    };
    text.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    fn pairs(object: &str) -> Option<Vec<(&str, &str)>> {
        let mut pairs = Vec::new();
        read(object, |key, value| {
            pairs.push((key, value));
            Some(())
        })?;
        Some(pairs)
    }

    #[test]
    fn texts_and_whole_numbers_are_told_in_order() {
        let object = r#"{"type":"GREET","seq":0,"":"","name":"Ñandú","seq":9007199254740991}"#;
        let expected = [
            ("type", r#""GREET""#),
            ("seq", "0"),
            ("", r#""""#),
            ("name", r#""Ñandú""#),
            ("seq", "9007199254740991"),
        ];
        assert_eq!(pairs(object).unwrap(), expected);
    }

    #[test]
    fn what_is_not_plain_is_left_to_a_parser() {
        for object in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"a":1} "#,
            r#"{ "a":1}"#,
            r#"{"a":1}}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"b"}"#,
            r#"{"a":}"#,
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e4}"#,
            r#"{"a":null}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":"b}"#,
            r#"{"a"b":1}"#,
            r#"{"a":"\n"}"#,
            "{\"a\":\"\n\"}",
        ] {
            assert_eq!(pairs(object), None, "{object}");
        }
    }

    #[test]
    fn who_does_not_want_a_field_ends_it() {
        let mut seen = 0;
        let refused = read(r#"{"a":1,"b":2,"c":3}"#, |key, _| {
            seen += 1;
            (key != "b").then_some(())
        });
        assert_eq!((refused, seen), (None, 2));
    }

    proptest! {
        #[test]
        fn whatever_is_told_a_parser_finds(object in r#"\{("[a-c"\\ñ]{0,3}"[:, ]("[a-c"\\ñ\n]{0,3}"|[0-9.e-]{1,3}|null|\[\])[,}]?){1,4}[} ]?"#) {
            if let Some(pairs) = pairs(&object) {
                let parsed: BTreeMap<String, &RawValue> = serde_json::from_str(&object).unwrap();
                let told: BTreeMap<_, _> = pairs.into_iter().collect();
                prop_assert_eq!(told.len(), parsed.len());
                for (key, value) in parsed {
                    prop_assert_eq!(told[key.as_str()], value.get());
                }
            }
        }
    }
}
