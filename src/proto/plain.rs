//! Reads objects as hit7 writes them, without a JSON parser: `{"type":"REGISTER","seq":7}`.
//!
//! Such objects have no white space, no escapes and no nested values, like every request of hit7's
//! own client and every line of the journal. All other JSON is left to a parser.

/// Calls `each` with every key and the JSON text of its value, in order, as a parser would find
/// them. Returns `None` if the object is not plain: `each` may have been called for its first
/// fields.
pub(super) fn read<'a>(object: &'a str, mut each: impl FnMut(&'a str, &'a str)) -> Option<()> {
    // Not `all`: without an early exit, the compiler can compare many bytes at once.
    if !object.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return None;
    }
    let mut rest = object.strip_prefix("{\"")?;
    loop {
        let (key, behind) = rest.split_at_checked(find_quote(rest.as_bytes())?)?;
        let (value, behind) = split_value(behind.strip_prefix("\":")?)?;
        each(key, value);
        match behind.strip_prefix(",\"") {
            Some(next) => rest = next,
            None => return (behind == "}").then_some(()),
        }
    }
}

/// Returns whether a byte is neither a backslash nor a control character (RFC 8259 §7).
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'\\'
}

/// Returns the index of the next quotation mark.
fn find_quote(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'"')
}

/// Splits off the string or whole number at the beginning; `None` if there is neither.
fn split_value(text: &str) -> Option<(&str, &str)> {
    let length = match text.as_bytes() {
        [b'"', rest @ ..] => find_quote(rest)? + 2,
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
        read(object, |key, value| pairs.push((key, value)))?;
        Some(pairs)
    }

    #[test]
    fn texts_and_whole_numbers_are_read_in_order() {
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
    fn objects_that_are_not_plain_are_not_read() {
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

    proptest! {
        #[test]
        fn what_is_read_is_what_a_parser_finds(object in r#"\{("[a-c"\\ñ]{0,3}"[:, ]("[a-c"\\ñ\n]{0,3}"|[0-9.e-]{1,3}|null|\[\])[,}]?){1,4}[} ]?"#) {
            if let Some(pairs) = pairs(&object) {
                let parsed: BTreeMap<String, &RawValue> = serde_json::from_str(&object).unwrap();
                let read: BTreeMap<_, _> = pairs.into_iter().collect();
                prop_assert_eq!(read.len(), parsed.len());
                for (key, value) in parsed {
                    prop_assert_eq!(read[key.as_str()], value.get());
                }
            }
        }
    }
}
