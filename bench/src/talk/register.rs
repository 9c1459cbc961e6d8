//! hit7: REGISTER, with the cookie that a CHALLENGE gave; WINDOW is acknowledged.

use std::io::Write;

use clap::ValueEnum;
use hit7::proto::{Ack, Datagram};

use super::{Heard, Talk};

const NO_COOKIE: &str = "AAAAAAAAAAAAAAAA";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Each time another name: a record in the log.
    New,
    /// Each time the next `seq`, and nothing else: changes nothing.
    Same,
    /// The first page of the current window.
    Query,
    /// A REGISTER without proof: CHALLENGE is the answer.
    Unproven,
}

/// Clients of a registry.
pub struct Register {
    subject: Subject,
    rooms: usize,
    cookies: Vec<String>,
    /// Tells the ids of one run from another's.
    run: u32,
    /// The longest answer.
    pub longest: usize,
    /// ERRORs.
    pub errors: u64,
    /// WINDOWs.
    pub windows: u64,
    /// Windows and addresses that were acked, each once, if they are to be remembered.
    pub acked: Option<Vec<(String, String)>>,
    /// The last window that each client was told.
    last: Vec<String>,
}

impl Register {
    /// So many clients, in so many rooms.
    pub fn new(subject: Subject, clients: usize, rooms: usize) -> Register {
        let cookies = vec![NO_COOKIE.to_owned(); clients];
        let run = std::process::id();
        let last = vec![String::new(); clients];
        let (longest, errors, windows, acked) = (0, 0, 0, None);
        Register { subject, rooms, cookies, run, longest, errors, windows, acked, last }
    }

    fn remember(&mut self, client: usize, datagram: &[u8]) {
        let Some(acked) = &mut self.acked else { return };
        let (Some(window), Some(you)) = (text(datagram, "window"), text(datagram, "you")) else {
            return;
        };
        if self.last[client] != window {
            self.last[client] = window.to_owned();
            acked.push((window.to_owned(), you.to_owned()));
        }
    }
}

impl Talk for Register {
    fn ask(&mut self, client: usize, number: u64, out: &mut Vec<u8>) {
        let (kind, run) =
            (if self.subject == Subject::Query { "QUERY" } else { "REGISTER" }, self.run);
        let _ = write!(out, r#"{{"type":"{kind}","id":"{run:x}-{client}","seq":{number},"room":""#);
        let _ = match client % self.rooms {
            0 => write!(out, "main"),
            room => write!(out, "room-{room}"),
        };
        let _ = match self.subject {
            Subject::New => write!(out, r#"","name":"n{}"#, number % 10),
            Subject::Same | Subject::Unproven => write!(out, r#"","name":"ana"#),
            Subject::Query => write!(out, r#"","part":0,"lan":""#),
        };
        let _ = write!(out, r#"","cookie":"{}"}}"#, self.cookies[client]);
    }

    fn number(&self, datagram: &[u8]) -> Option<u64> {
        seq(datagram)
    }

    fn hear(&mut self, client: usize, datagram: &[u8]) -> Heard {
        if datagram.starts_with(br#"{"type":"CHALLENGE""#) {
            if self.subject == Subject::Unproven {
                return Heard::Answer;
            }
            if let Ok(Datagram::Challenge(it)) = Datagram::decode(datagram) {
                self.cookies[client] = it.cookie;
            }
            return Heard::Refused;
        }
        if datagram.starts_with(br#"{"type":"ERROR""#) {
            self.errors += 1;
            return Heard::Refused;
        }
        self.longest = self.longest.max(datagram.len());
        self.remember(client, datagram);
        Heard::Answer
    }

    fn reply(&mut self, datagram: &[u8]) -> Option<(usize, Vec<u8>)> {
        let Ok(Datagram::Window(it)) = Datagram::decode(datagram) else { return None };
        self.windows += 1;
        let client = it.id.as_ref()?.as_str().split_once('-')?.1.parse().ok()?;
        let ack = Ack { id: it.id, window: it.window, pass: it.pass };
        (it.page.part == 0).then(|| (client, ack.encode()))
    }
}

/// The `seq` of an answer, found without reading all of it.
fn seq(datagram: &[u8]) -> Option<u64> {
    let head = &datagram[..datagram.len().min(160)];
    let at = head.windows(6).position(|bytes| bytes == br#""seq":"#)? + 6;
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The first text with that key.
fn text<'a>(datagram: &'a [u8], key: &str) -> Option<&'a str> {
    let (_, rest) = str::from_utf8(datagram).ok()?.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next()
}
