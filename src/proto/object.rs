//! Writes one JSON object, without white space: a datagram, or a line of the journal.

use std::net::{IpAddr, SocketAddr};

use super::list::{write_addr, write_ip};

/// A JSON object under construction, whose first field is its `type`.
#[derive(Debug)]
pub(crate) struct Object(Vec<u8>);

impl Object {
    /// Begins an object with its `type`, appended to `out`.
    pub(crate) fn begin(mut out: Vec<u8>, kind: &str) -> Object {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        Object(out)
    }

    /// Writes a string field, with escapes where needed.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        serde_json::to_writer(&mut self.0, value).expect("writing text into memory cannot fail");
    }

    /// Writes a string field that needs no escapes: the limits of its type guarantee that.
    pub(crate) fn plain(&mut self, key: &str, value: &str) {
        debug_assert!(!value.contains(|c: char| c.is_control() || c == '"' || c == '\\'));
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Writes a field that is a whole number.
    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes an address with its port: `ip:port` or `[ip6]:port`.
    pub(crate) fn addr(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        self.0.push(b'"');
        write_addr(&mut self.0, value);
        self.0.push(b'"');
    }

    /// Writes an address without a port.
    pub(crate) fn ip(&mut self, key: &str, value: IpAddr) {
        self.key(key);
        self.0.push(b'"');
        write_ip(&mut self.0, value);
        self.0.push(b'"');
    }

    /// Writes an array field whose text between `[` and `]` is `rendered`.
    pub(crate) fn list(&mut self, key: &str, rendered: &str) {
        self.key(key);
        self.0.push(b'[');
        self.0.extend_from_slice(rendered.as_bytes());
        self.0.push(b']');
    }

    /// Writes a field that is itself an object, whose fields `write` writes.
    pub(crate) fn inner(&mut self, key: &str, write: impl FnOnce(&mut Object)) {
        self.key(key);
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }

    /// Returns the bytes written so far, without the closing brace.
    pub(crate) fn so_far(&self) -> &[u8] {
        &self.0
    }

    /// Closes the object and returns its bytes.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_order_without_white_space() {
        let mut object = Object::begin(b"before ".to_vec(), "GREET");
        object.plain("room", "main");
        object.text("text", "a \"b\" \\ \n");
        object.number("seq", u64::MAX);
        object.inner("current", |inner| {
            inner.list("peers", r#""10.0.0.1:2""#);
            inner.addr("you", "[2001:db8::1]:5".parse().unwrap());
        });
        object.ip("local", "192.0.2.255".parse().unwrap());
        object.ip("other", "2001:db8::1".parse().unwrap());
        let text = String::from_utf8(object.end()).unwrap();
        let expected = concat!(
            r#"before {"type":"GREET","room":"main","text":"a \"b\" \\ \n","seq":18446744073709551615,"#,
            r#""current":{"peers":["10.0.0.1:2"],"you":"[2001:db8::1]:5"},"local":"192.0.2.255","#,
            r#""other":"2001:db8::1"}"#
        );
        assert_eq!(text, expected);
    }
}
