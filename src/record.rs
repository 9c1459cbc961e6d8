//! One fact of the log, as one line of JSON with a checksum.
//!
//! ```text
//! {"type":"window","format":1,"window":"2026-11-23T11:29:00Z","window_ms":60000,"crc":"…"}
//! {"type":"register","at":"2026-11-23T11:28:34.120Z","id":"…","seq":1,"room":"main","name":"ana",
//!  "addr":"127.0.0.1:40112","local":"127.0.0.1","crc":"…"}
//! {"type":"leave","at":"2026-11-23T11:28:40.002Z","id":"…","seq":2,"addr":"…","local":"…","crc":"…"}
//! {"type":"open","at":"2026-11-23T11:29:00.001Z","crc":"…"}
//! ```
//!
//! The registry's state is a fold over these. A line tells a flipped bit from what was written.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::path::Path;
use crate::proto::object::Object;
use crate::proto::{Id, Name, Profile, Room, plain};
use crate::window::{Length, Wall, Window};

/// The form of journal files that this program writes and reads.
const FORMAT: u32 = 1;

/// What a proposed record is known by until it is durable or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One fact of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A client is in `window`.
    Register(Registration),
    /// A client withdrew from `window`.
    Leave(Leaving),
    /// `window` has opened.
    Open(Opening),
}

/// A client is in `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The window that it is in.
    pub window: Window,
    /// When it was taken in.
    pub at: Wall,
    /// Where it is, and which of our addresses it asked.
    pub path: Path,
    /// Its secret, if it gave one.
    pub id: Option<Id>,
    /// Of its request.
    pub seq: Option<u64>,
    /// What it registers as.
    pub profile: Profile,
}

/// A client withdrew from `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The window that it is no longer in.
    pub window: Window,
    /// When.
    pub at: Wall,
    /// Where it asked from.
    pub path: Path,
    /// Who.
    pub id: Option<Id>,
    /// Of its request.
    pub seq: Option<u64>,
}

/// `window` has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which.
    pub window: Window,
    /// How long it is.
    pub length: Length,
    /// When.
    pub at: Wall,
}

/// The first line of a journal file: which window it fills, and how long that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The window.
    pub window: Window,
    /// Its length.
    pub length: Length,
}

/// RejectReason a line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// It is not what was written.
    #[error("its checksum does not fit")]
    Checksum,
    /// It was never right.
    #[error("not a line of a journal: {0}")]
    Shape(String),
    /// Written by another program.
    #[error("its format is {0}, and this program knows {FORMAT}")]
    Format(u32),
}

/// What a line says.
enum Line {
    Window {
        format: u32,
        window: Window,
        window_ms: u64,
    },
    Register {
        at: Wall,
        id: Option<Id>,
        seq: Option<u64>,
        room: Room,
        name: Option<Name>,
        addr: SocketAddr,
        local: IpAddr,
        lan: Option<SocketAddr>,
    },
    Leave {
        at: Wall,
        id: Option<Id>,
        seq: Option<u64>,
        addr: SocketAddr,
        local: IpAddr,
    },
    Open {
        at: Wall,
    },
}

/// How a line is read: flat, since a million of them are at a start, and an enum tagged from within
/// is put into memory field by field before it is read.
#[derive(Default, Deserialize)]
struct Flat {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    format: Option<u32>,
    window: Option<Window>,
    window_ms: Option<u64>,
    at: Option<Wall>,
    id: Option<Id>,
    seq: Option<u64>,
    room: Option<Room>,
    name: Option<Name>,
    addr: Option<SocketAddr>,
    local: Option<IpAddr>,
    lan: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Window,
    Register,
    Leave,
    Open,
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Kind, ()> {
        Ok(match name {
            "window" => Kind::Window,
            "register" => Kind::Register,
            "leave" => Kind::Leave,
            "open" => Kind::Open,
            _ => return Err(()),
        })
    }
}

/// Takes in a whole number, given once.
fn number<T: FromStr>(place: &mut Option<T>, json: &str) -> Option<()> {
    place.replace(json.parse().ok()?).is_none().then_some(())
}

/// Takes in a text, given once.
fn text<T: FromStr>(place: &mut Option<T>, json: &str) -> Option<()> {
    number(place, json.strip_prefix('"')?.strip_suffix('"')?)
}

impl Flat {
    /// Reads a line as we write it, for half of what a parser costs, which is there for any other and
    /// says what is wrong.
    fn plain(line: &str) -> Option<Flat> {
        let mut flat = Flat::default();
        plain::read(line, |key, value| match key {
            "type" => text(&mut flat.kind, value),
            "format" => number(&mut flat.format, value),
            "window" => text(&mut flat.window, value),
            "window_ms" => number(&mut flat.window_ms, value),
            "at" => text(&mut flat.at, value),
            "id" => text(&mut flat.id, value),
            "seq" => number(&mut flat.seq, value),
            "room" => text(&mut flat.room, value),
            "name" => text(&mut flat.name, value),
            "addr" => text(&mut flat.addr, value),
            "local" => text(&mut flat.local, value),
            "lan" => text(&mut flat.lan, value),
            _ => Some(()),
        })?;
        Some(flat)
    }

    /// The line of its type; `None` if a field is missing.
    fn line(self) -> Option<Line> {
        let Flat { id, seq, name, lan, .. } = self;
        Some(match self.kind? {
            Kind::Window => {
                let (format, window) = (self.format?, self.window?);
                Line::Window { format, window, window_ms: self.window_ms? }
            }
            Kind::Register => {
                let (at, room, addr, local) = (self.at?, self.room?, self.addr?, self.local?);
                Line::Register { at, id, seq, room, name, addr, local, lan }
            }
            Kind::Leave => {
                Line::Leave { at: self.at?, id, seq, addr: self.addr?, local: self.local? }
            }
            Kind::Open => Line::Open { at: self.at? },
        })
    }
}

/// Appends a line: its type, its fields, its checksum and a newline.
fn write_line(out: &mut Vec<u8>, kind: &str, fields: impl FnOnce(&mut Object)) {
    let start = out.len();
    let mut line = Object::begin(std::mem::take(out), kind);
    fields(&mut line);
    let crc = hex(crc32fast::hash(&line.so_far()[start..]));
    line.plain("crc", str::from_utf8(&crc).expect("digits are ASCII"));
    *out = line.end();
    out.push(b'\n');
}

fn hex(crc: u32) -> [u8; 8] {
    std::array::from_fn(|place| b"0123456789abcdef"[(crc >> (28 - 4 * place)) as usize & 15])
}

impl Line {
    /// Reads a line without its newline.
    fn read(line: &[u8]) -> Result<Line, LineError> {
        /// `,"crc":"01234567"}`
        const TAIL: usize = 18;
        let (body, tail) =
            line.split_at_checked(line.len().wrapping_sub(TAIL)).ok_or(LineError::Checksum)?;
        if crc_of(tail) != Some(crc32fast::hash(body)) {
            return Err(LineError::Checksum);
        }
        // With the checksum, which is one more field to it.
        let plain = str::from_utf8(line).ok().and_then(Flat::plain);
        let flat = plain.map_or_else(|| serde_json::from_slice(line), Ok);
        let flat = flat.map_err(|error| LineError::Shape(error.to_string()))?;
        flat.line().ok_or_else(|| LineError::Shape("a field is missing".to_owned()))
    }
}

/// The checksum at the end of a line, written as we write it and no other way.
fn crc_of(tail: &[u8]) -> Option<u32> {
    let digits = tail.strip_prefix(b",\"crc\":\"")?.strip_suffix(b"\"}")?;
    let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u32::from_str_radix(str::from_utf8(digits).ok().filter(|_| lower)?, 16).ok()
}

impl Header {
    /// Appends it as a line.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        write_line(out, "window", |line| {
            line.number("format", FORMAT.into());
            line.plain("window", self.window.stamp().as_str());
            line.number("window_ms", self.length.millis());
        });
    }

    /// Reads it from a line without its newline.
    pub fn read_line(line: &[u8]) -> Result<Header, LineError> {
        let shape = |why: &str| Err(LineError::Shape(why.to_owned()));
        match Line::read(line)? {
            Line::Window { format: FORMAT, window, window_ms } => {
                match Length::new(Duration::from_millis(window_ms)) {
                    Ok(length) => Ok(Header { window, length }),
                    Err(error) => shape(&error.to_string()),
                }
            }
            Line::Window { format, .. } => Err(LineError::Format(format)),
            _ => shape("it should name the window"),
        }
    }
}

impl Record {
    /// The window whose log it belongs to.
    pub fn window(&self) -> Window {
        match self {
            Record::Register(registration) => registration.window,
            Record::Leave(leaving) => leaving.window,
            Record::Open(opening) => opening.window,
        }
    }

    /// Appends it as a line.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        match self {
            Record::Register(it) => write_line(out, "register", |line| {
                let Profile { room, name, lan } = &it.profile;
                line.plain("at", it.at.stamp().as_str());
                line.maybe_plain("id", it.id.as_ref().map(Id::as_str));
                line.maybe_number("seq", it.seq);
                line.plain("room", room.as_str());
                line.maybe_plain("name", name.as_ref().map(Name::as_str));
                line.addr("addr", it.path.peer);
                line.ip("local", it.path.local);
                line.maybe_addr("lan", *lan);
            }),
            Record::Leave(it) => write_line(out, "leave", |line| {
                line.plain("at", it.at.stamp().as_str());
                line.maybe_plain("id", it.id.as_ref().map(Id::as_str));
                line.maybe_number("seq", it.seq);
                line.addr("addr", it.path.peer);
                line.ip("local", it.path.local);
            }),
            Record::Open(it) => {
                write_line(out, "open", |line| line.plain("at", it.at.stamp().as_str()));
            }
        }
    }

    /// Reads it from a line without its newline, in a file with that header.
    pub fn read_line(line: &[u8], header: Header) -> Result<Record, LineError> {
        let Header { window, length } = header;
        Ok(match Line::read(line)? {
            Line::Register { at, id, seq, room, name, addr, local, lan } => {
                let path = Path::new(addr, local);
                let profile = Profile { room, name, lan };
                Record::Register(Registration { window, at, path, id, seq, profile })
            }
            Line::Leave { at, id, seq, addr, local } => {
                Record::Leave(Leaving { window, at, path: Path::new(addr, local), id, seq })
            }
            Line::Open { at } => Record::Open(Opening { window, length, at }),
            Line::Window { .. } => {
                return Err(LineError::Shape("only the first line names the window".into()));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { window: "2026-11-23T11:29:00Z".parse().unwrap(), length: Length::MINUTE }
    }

    fn registration() -> Record {
        Record::Register(Registration {
            window: header().window,
            at: "2026-11-23T11:28:34.120Z".parse().unwrap(),
            path: Path::new("127.0.0.1:40112".parse().unwrap(), "127.0.0.1".parse().unwrap()),
            id: Some("s3cret".parse().unwrap()),
            seq: Some(1),
            profile: Profile { name: Some("ana".parse().unwrap()), ..Profile::default() },
        })
    }

    fn written(record: &Record) -> Vec<u8> {
        let mut line = Vec::new();
        record.write_line(&mut line);
        line
    }

    #[test]
    fn a_line_is_json_for_people() {
        assert_eq!(
            String::from_utf8(written(&registration())).unwrap(),
            concat!(
                r#"{"type":"register","at":"2026-11-23T11:28:34.120Z","id":"s3cret","seq":1,"#,
                r#""room":"main","name":"ana","addr":"127.0.0.1:40112","local":"127.0.0.1","#,
                r#""crc":"2502dbcb"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let at = "2026-11-23T11:28:59.999Z".parse().unwrap();
        let path = Path::new("[2001:db8::1]:5".parse().unwrap(), "::1".parse().unwrap());
        let Header { window, length } = header();
        for record in [
            registration(),
            Record::Leave(Leaving { window, at, path, id: None, seq: Some(0) }),
            Record::Open(Opening { window, length, at }),
        ] {
            let line = written(&record);
            assert_eq!(Record::read_line(&line[..line.len() - 1], header()), Ok(record));
        }
        let mut line = Vec::new();
        header().write_line(&mut line);
        assert_eq!(Header::read_line(&line[..line.len() - 1]), Ok(header()));
    }

    /// A line of these fields with the checksum that fits.
    fn signed_bytes(fields: &str) -> Vec<u8> {
        format!(r#"{fields},"crc":"{:08x}"}}"#, crc32fast::hash(fields.as_bytes())).into_bytes()
    }

    #[test]
    fn a_line_that_is_written_in_another_way_says_the_same() {
        let line = written(&registration());
        let text = str::from_utf8(&line).unwrap();
        let fields = text.split_once(",\"crc\"").unwrap().0;
        for other in [
            fields.to_owned(),
            fields.replace("ana", "a\\u006ea"),
            fields.replace(",\"", " , \""),
            fields.replace("\"room\"", "\"later\":[{}],\"room\""),
        ] {
            let record = Record::read_line(&signed_bytes(&other), header());
            assert_eq!(record, Ok(registration()), "{other}");
        }
    }

    #[test]
    fn what_no_line_says_is_told() {
        let line = written(&registration());
        let text = str::from_utf8(&line).unwrap();
        let fields = text.split_once(",\"crc\"").unwrap().0;
        for (from, to) in [
            ("\"seq\":1", "\"seq\":\"1\""),
            ("\"seq\":1", "\"seq\":1,\"seq\":2"),
            ("\"ana\"", "7"),
            ("\"ana\"", "\"a b\""),
            ("\"register\"", "\"another\""),
            (",\"local\":\"127.0.0.1\"", ""),
            ("\"addr\":\"127.0.0.1:40112\"", "\"addr\":\"127.0.0.1\""),
        ] {
            let line = signed_bytes(&fields.replace(from, to));
            let told = Record::read_line(&line, header());
            assert!(matches!(told, Err(LineError::Shape(_))), "{to}: {told:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let line = written(&registration());
        let line = &line[..line.len() - 1];
        for bit in 0..line.len() * 8 {
            let mut damaged = line.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Record::read_line(&damaged, header()),
                Err(LineError::Checksum),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn every_torn_line_is_seen() {
        let line = written(&registration());
        for end in 0..line.len() - 1 {
            assert_eq!(Record::read_line(&line[..end], header()), Err(LineError::Checksum));
        }
    }

    #[test]
    fn a_header_of_another_format_is_told_apart() {
        let mut line = Vec::new();
        write_line(&mut line, "window", |line| {
            line.number("format", 2);
            line.plain("window", "2026-11-23T11:29:00Z");
            line.number("window_ms", 60_000);
        });
        assert_eq!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Format(2)));
        let line = written(&registration());
        assert!(matches!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Shape(_))));
    }
}
