//! One JSON object being written, without white space: a datagram, or a line of the log.

use std::net::{IpAddr, SocketAddr};

use super::list::{write_addr, write_ip};

/// An object whose first field is its `type`.
#[derive(Debug)]
pub struct Object(Vec<u8>);

impl Object {
    /// Begins one behind what `out` holds.
    pub fn begin(mut out: Vec<u8>, kind: &str) -> Object {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        Object(out)
    }

    /// Any text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        serde_json::to_writer(&mut self.0, value).expect("writing text into memory cannot fail");
    }

    /// A text in which nothing has to be escaped: the limits of its field see to that.
    pub fn plain(&mut self, key: &str, value: &str) {
        debug_assert!(!value.contains(|c: char| c.is_control() || c == '"' || c == '\\'));
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// A whole number.
    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// `ip:port` or `[ip6]:port`.
    pub fn addr(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        self.0.push(b'"');
        write_addr(&mut self.0, value);
        self.0.push(b'"');
    }

    /// An address without a port.
    pub fn ip(&mut self, key: &str, value: IpAddr) {
        self.key(key);
        self.0.push(b'"');
        write_ip(&mut self.0, value);
        self.0.push(b'"');
    }

    /// A list that is rendered already.
    pub fn list(&mut self, key: &str, rendered: &str) {
        self.key(key);
        self.0.push(b'[');
        self.0.extend_from_slice(rendered.as_bytes());
        self.0.push(b']');
    }

    /// An object within.
    pub fn inner(&mut self, key: &str, write: impl FnOnce(&mut Object)) {
        self.key(key);
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }

    /// A field that is not always given, as [`Object::text`].
    pub fn maybe_text(&mut self, key: &str, value: Option<&str>) {
        value.into_iter().for_each(|value| self.text(key, value));
    }

    /// A field that is not always given, as [`Object::plain`].
    pub fn maybe_plain(&mut self, key: &str, value: Option<&str>) {
        value.into_iter().for_each(|value| self.plain(key, value));
    }

    /// A field that is not always given, as [`Object::number`].
    pub fn maybe_number(&mut self, key: &str, value: Option<u64>) {
        value.into_iter().for_each(|value| self.number(key, value));
    }

    /// A field that is not always given, as [`Object::addr`].
    pub fn maybe_addr(&mut self, key: &str, value: Option<SocketAddr>) {
        value.into_iter().for_each(|value| self.addr(key, value));
    }

    /// What has been written so far, without the last brace.
    pub fn so_far(&self) -> &[u8] {
        &self.0
    }

    /// Ends it.
    pub fn end(mut self) -> Vec<u8> {
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
        object.maybe_plain("name", None);
        object.text("text", "a \"b\" \\ \n");
        object.maybe_number("seq", Some(u64::MAX));
        object.inner("current", |inner| {
            inner.list("peers", r#""10.0.0.1:2""#);
            inner.maybe_addr("you", Some("[2001:db8::1]:5".parse().unwrap()));
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
