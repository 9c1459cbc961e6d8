//! A small HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::registry::DEADLINE;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The value of that header, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let field = |line: &str| line.split_once(": ").map(|(name, _)| name.to_lowercase());
        let line = self.head.lines().find(|line| field(line).as_deref() == Some(name))?;
        Some(line.split_once(": ")?.1)
    }
}

/// Sends a request, and reads the whole answer.
pub(crate) fn request(addr: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = open(addr, method, path, body);
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) => panic!("{method} {path}: {error}"),
        }
        if is_whole(&bytes, method) {
            break;
        }
    }
    parse(&bytes)
}

/// Gets a path, and reads the whole answer.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    request(addr, "GET", path, "")
}

/// Gets a path with more headers, each with its line's end.
pub(crate) fn get_with(addr: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    parse(&bytes)
}

/// Reads an endless answer until it contains `what`.
pub(crate) fn read_until(addr: SocketAddr, path: &str, what: &str) -> String {
    let mut stream = open(addr, "GET", path, "");
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    let until = std::time::Instant::now() + DEADLINE;
    while !text.contains(what) {
        assert!(std::time::Instant::now() < until, "{path} never has {what}: {text}");
        let length = stream.read(&mut chunk).unwrap();
        assert_ne!(length, 0, "{path} ends without {what}: {text}");
        text += std::str::from_utf8(&chunk[..length]).unwrap();
    }
    text
}

/// Sends a request, whose answer can be read from the stream.
pub(crate) fn open(addr: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn is_whole(bytes: &[u8], method: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    method == "HEAD" || length.is_some_and(|length| bytes.len() >= head.len() + 4 + length)
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {text:?}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
