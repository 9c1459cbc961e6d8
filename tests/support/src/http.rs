//! A small HTTP client for tests of the status page.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use crate::DEADLINE;

/// A whole HTTP response.
#[derive(Debug)]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body, without the headers.
    pub body: String,
}

impl Answer {
    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// Returns the value of a header, if there is one of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = |line: &str| line.split_once(": ").map(|(name, _)| name.to_lowercase());
        let line = self.head.lines().find(|line| field(line).as_deref() == Some(name))?;
        Some(line.split_once(": ")?.1)
    }
}

/// Sends a request, and reads the whole answer.
pub fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    read_answer(open(addr, method, path, body), method)
}

/// Sends GET for `path`, and reads the whole answer.
pub fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, "")
}

/// Sends GET with more headers, each with its line's end, and reads the whole answer.
pub fn get_with(addr: SocketAddr, path: &str, headers: &str) -> Answer {
    read_answer(send(addr, "GET", path, headers, ""), "GET")
}

/// Sends GET, and reads an endless answer until `piece` is in it.
pub fn read_to(addr: SocketAddr, path: &str, piece: &str) -> String {
    let mut stream = open(addr, "GET", path, "");
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    let deadline = Instant::now() + DEADLINE;
    while !text.contains(piece) {
        assert!(Instant::now() < deadline, "{path} never has {piece}: {text}");
        let len = stream.read(&mut buffer).unwrap();
        assert_ne!(len, 0, "{path} ends without {piece}: {text}");
        text += std::str::from_utf8(&buffer[..len]).unwrap();
    }
    text
}

/// Sends a request, and returns the stream to read the answer from.
pub fn open(addr: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let length = body.len();
    let headers = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    send(addr, method, path, &headers, body)
}

/// Sends GET with this `Host`, and reads the whole answer.
pub fn get_as(addr: SocketAddr, path: &str, host: &str) -> Answer {
    read_answer(send_as(addr, host, "GET", path, "", ""), "GET")
}

fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    send_as(addr, &addr.to_string(), method, path, headers, body)
}

fn send_as(
    addr: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn read_answer(mut stream: TcpStream, method: &str) -> Answer {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 65536]);
    while !is_whole(&bytes, method) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) => panic!("{method}: {error}"),
        }
    }
    parse(&bytes)
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
