//! Reads datagrams in two steps, because a registry must not look at the fields of a source that
//! has not proven its address: [`Envelope::open`] finds the type and the text of each field; only
//! then are the values parsed, each error naming its field.

use std::borrow::Cow;

use super::decode_error::DecodeError;
use super::fields::Fields;
use super::request::signed_bytes;
use super::value::Group;
use super::{Ack, Datagram, Key, Kind, MAX_DATAGRAM, Request};

/// A datagram whose type is known and whose fields have not been parsed yet.
#[derive(Debug)]
pub struct Envelope<'a> {
    kind: Kind,
    fields: Fields<'a>,
}

impl<'a> Envelope<'a> {
    /// Finds the datagram's type and the JSON text of each field, without parsing the values.
    pub fn open(datagram: &'a [u8]) -> Result<Envelope<'a>, DecodeError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(DecodeError::TooLarge);
        }
        let text = std::str::from_utf8(datagram)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        let mut fields = Fields::NONE;
        fields.fill(text)?;
        Ok(Envelope { kind: kind_of(&fields)?, fields })
    }

    /// Returns the type of the datagram.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the `seq` of the datagram; `None` if absent or invalid.
    pub fn seq(&self) -> Option<u64> {
        self.fields.get(Key::Seq).ok()
    }

    /// Returns the `cookie` of the datagram; `None` if absent or not a string.
    pub fn cookie(&self) -> Option<Cow<'a, str>> {
        self.fields.text(Key::Cookie).ok().flatten()
    }

    /// Returns the `mac` of the datagram; `None` if absent or not a string.
    pub fn mac(&self) -> Option<Cow<'a, str>> {
        self.fields.text(Key::Mac).ok().flatten()
    }

    /// Returns the bytes that the `mac` of a request covers: each signed field, and the cookie,
    /// which binds them to the source's address and to two minutes.
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(&self.fields)
    }

    /// Parses the request; any other type of datagram is an error. The gate has verified its proof
    /// ([`Envelope::cookie`], [`Envelope::mac`]), which only has to be strings here.
    pub fn request(&self) -> Result<Request, DecodeError> {
        self.fields.text(Key::Cookie)?;
        self.fields.text(Key::Mac)?;
        Request::read(self.kind, &self.fields)
    }

    /// Parses the fields of an ACK; the caller has checked [`Envelope::kind`].
    pub fn ack(&self) -> Result<Ack, DecodeError> {
        Group::read(&self.fields)
    }
}

fn kind_of(fields: &Fields<'_>) -> Result<Kind, DecodeError> {
    match fields.text(Key::Type) {
        Ok(Some(name)) => name.parse().map_err(|_| DecodeError::UnknownType),
        Ok(None) => Err(DecodeError::Malformed("no type".to_owned())),
        Err(_) => Err(DecodeError::Malformed("its type is no text".to_owned())),
    }
}

impl<'a> Datagram<'a> {
    /// Parses a datagram of any type, with all its fields.
    pub fn decode(datagram: &'a [u8]) -> Result<Datagram<'a>, DecodeError> {
        let envelope = Envelope::open(datagram)?;
        Datagram::read(envelope.kind, &envelope.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Profile, Room, SEQ_END};

    fn request(text: &str) -> Result<Request, DecodeError> {
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
        assert_eq!(request(text).unwrap(), Request::register(None, Some(7), profile));
    }

    #[test]
    fn white_space_escapes_and_unknown_fields_change_nothing() {
        let plain = r#"{"type":"REGISTER","id":"a-1","seq":7,"later":0,"room":"lab","name":"ana"}"#;
        for other in [
            plain.replace("ana", "a\\u006ea"),
            plain.replace(':', " : "),
            plain.replace("\"later\":0", "\"later\":[null,{\"name\":\"eva\"}]"),
            format!("{plain} \n"),
        ] {
            assert_eq!(request(&other).unwrap(), request(plain).unwrap(), "{other}");
        }
        assert_eq!(request(plain).unwrap().seq, Some(7));
    }

    #[test]
    fn the_last_value_of_a_repeated_key_counts() {
        let twice = r#"{"type":"QUERY","part":1,"part":2}"#;
        let expected = Request::query(None, None, Room::default(), 2);
        assert_eq!(request(twice).unwrap(), expected);
    }

    #[test]
    fn anything_but_an_object_with_a_type_is_malformed() {
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
    fn the_largest_seq_is_accepted() {
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
    fn an_envelope_opens_whatever_the_other_fields_hold() {
        let envelope = Envelope::open(br#"{"type":"LEAVE","seq":"x","cookie":5,"id":[]}"#).unwrap();
        assert_eq!((envelope.kind(), envelope.seq(), envelope.cookie()), (Kind::Leave, None, None));
    }

    #[test]
    fn the_signed_bytes_hold_every_field_with_its_length() {
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
