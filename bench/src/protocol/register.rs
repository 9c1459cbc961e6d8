//! hit7: REGISTER, with the cookie that a CHALLENGE gave; WINDOW is acknowledged.

use std::io::Write;

use clap::ValueEnum;
use hit7::proto::{Ack, Datagram};

use super::{Answer, Protocol};

const NO_COOKIE: &str = "AAAAAAAAAAAAAAAA";

/// What clients send to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// REGISTER with another name each time: a record in the journal.
    New,
    /// The same REGISTER again, with the same `seq`, as a retry or a keep-alive: it changes nothing.
    Same,
    /// QUERY for the first page of the current window.
    Query,
    /// REGISTER without a valid cookie: CHALLENGE is the answer.
    Unproven,
}

/// Clients of a hit7 registry.
pub struct Register {
    subject: Subject,
    rooms: usize,
    cookies: Vec<String>,
    /// The number of each client's request that is under way.
    asked: Vec<u64>,
    /// The `seq` that each client keeps, once it has one that was answered.
    kept: Vec<Option<u64>>,
    /// A part of each id, so that the ids of two runs differ.
    run: u32,
    /// The length of the longest answer.
    pub longest: usize,
    /// How many ERRORs came.
    pub errors: u64,
    /// How many WINDOWs came.
    pub windows: u64,
    /// Windows and addresses that were acked, each once; `None` if they are not to be remembered.
    pub acked: Option<Vec<(String, String)>>,
    /// The window that each client was last registered for.
    last: Vec<String>,
}

impl Register {
    /// Clients that are spread over that many rooms.
    pub fn new(subject: Subject, clients: usize, rooms: usize) -> Register {
        let cookies = vec![NO_COOKIE.to_owned(); clients];
        let run = std::process::id();
        let (asked, kept) = (vec![0; clients], vec![None; clients]);
        let last = vec![String::new(); clients];
        let (longest, errors, windows, acked) = (0, 0, 0, None);
        Register {
            subject,
            rooms,
            cookies,
            asked,
            kept,
            run,
            longest,
            errors,
            windows,
            acked,
            last,
        }
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

impl Protocol for Register {
    fn write_request(&mut self, client: usize, number: u64, out: &mut Vec<u8>) {
        let (kind, run) =
            (if self.subject == Subject::Query { "QUERY" } else { "REGISTER" }, self.run);
        self.asked[client] = number;
        let seq = self.kept[client].unwrap_or(number);
        let _ = write!(out, r#"{{"type":"{kind}","id":"{run:x}-{client}","seq":{seq},"room":""#);
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

    fn request_number(&self, datagram: &[u8]) -> Option<u64> {
        // A `seq` that is kept says nothing of the request; of a client one is under way.
        match self.subject {
            Subject::Same => {
                client(datagram).map_or_else(|| seq(datagram), |it| Some(self.asked[it]))
            }
            _ => seq(datagram),
        }
    }

    fn take_answer(&mut self, client: usize, datagram: &[u8]) -> Answer {
        if datagram.starts_with(br#"{"type":"CHALLENGE""#) {
            if self.subject == Subject::Unproven {
                return Answer::Served;
            }
            if let Ok(Datagram::Challenge(it)) = Datagram::decode(datagram) {
                self.cookies[client] = it.cookie;
            }
            return Answer::Refused;
        }
        if datagram.starts_with(br#"{"type":"ERROR""#) {
            self.errors += 1;
            return Answer::Refused;
        }
        if self.subject == Subject::Same {
            self.kept[client] = self.kept[client].or(Some(self.asked[client]));
        }
        self.longest = self.longest.max(datagram.len());
        self.remember(client, datagram);
        Answer::Served
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

/// The client that a REGISTERED is for, by its id.
fn client(datagram: &[u8]) -> Option<usize> {
    let head = &datagram[..datagram.len().min(80)];
    let is_answer = head.starts_with(br#"{"type":"REGISTERED""#);
    is_answer.then(|| text(head, "id")?.split_once('-')?.1.parse().ok())?
}

/// The first text with that key.
fn text<'a>(datagram: &'a [u8], key: &str) -> Option<&'a str> {
    let (_, rest) = str::from_utf8(datagram).ok()?.split_once(&format!("\"{key}\":\""))?;
    rest.split('"').next()
}
