//! A record of the journal, one fact, as one line of JSON with a checksum.
//!
//! ```text
//! {"type":"window","format":1,"window":"2026-11-23T11:29:00Z","window_ms":60000,"crc":"…"}
//! {"type":"register","at":"2026-11-23T11:28:34.120Z","id":"…","seq":1,"room":"main","name":"ana",
//!  "addr":"127.0.0.1:40112","local":"127.0.0.1","crc":"…"}
//! {"type":"leave","at":"2026-11-23T11:28:40.002Z","id":"…","seq":2,"addr":"…","local":"…","crc":"…"}
//! {"type":"open","at":"2026-11-23T11:29:00.001Z","crc":"…"}
//! ```
//!
//! The registry's state is a fold over these lines. The checksum shows whether a line is as it was
//! written.

use std::num::NonZeroU64;
use std::time::Duration;

use strum::{EnumString, IntoStaticStr};
use thiserror::Error;

use crate::path::Path;
use crate::proto::fields::Fields;
use crate::proto::object::Object;
use crate::proto::value::Group;
use crate::proto::{DecodeError, Id, Key, Profile};
use crate::window::{Length, Wall, Window};

/// The version of the journal's file format that this program writes and reads.
const JOURNAL_FORMAT: u32 = 1;

/// The number of a proposed record, until the record is durable or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(NonZeroU64);

impl Ticket {
    /// The ticket of the first record that a registry proposes.
    pub const FIRST: Ticket = Ticket(NonZeroU64::MIN);

    /// The ticket of the record that is proposed after this one's.
    pub fn next(self) -> Ticket {
        Ticket(self.0.checked_add(1).expect("nobody proposes 2^64 records"))
    }
}

/// A record on its way through the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ticket under which this registry proposed the record; `None` if another one did, or the
    /// record is read back at the start.
    pub ticket: Option<Ticket>,
    /// The record, which becomes a line of the journal.
    pub record: Record,
}

/// One fact of the journal: a registration, a withdrawal or an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A client is in a window.
    Register(Registration),
    /// A client withdrew from a window.
    Leave(Leaving),
    /// A window has opened.
    Open(Opening),
}

/// The fact that a client is in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The window that the client is in.
    pub window: Window,
    /// When the registry accepted the request.
    pub at: Wall,
    /// The client's address, and the registry's address that the client sent to.
    pub path: Path,
    /// The client's secret id, if it gave one.
    pub id: Option<Id>,
    /// The seq of the client's request.
    pub seq: Option<u64>,
    /// The room, name and LAN address that the client registered with.
    pub profile: Profile,
}

/// The fact that a client withdrew from a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The window that the client is no longer in.
    pub window: Window,
    /// When the registry accepted the request.
    pub at: Wall,
    /// The client's address, and the registry's address that the client sent to.
    pub path: Path,
    /// The client's secret id, if it gave one.
    pub id: Option<Id>,
    /// The seq of the client's request.
    pub seq: Option<u64>,
}

/// The fact that a window has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The window that has opened.
    pub window: Window,
    /// How long the window is.
    pub length: Length,
    /// When the registry opened the window.
    pub at: Wall,
}

/// The first line of a journal file: which window the file's records are of, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The window whose records the file holds.
    pub window: Window,
    /// How long the window is.
    pub length: Length,
}

/// Why a line of the journal cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// The line is not what was written.
    #[error("its checksum does not fit")]
    Checksum,
    /// The line is as it was written, but is no line of a journal.
    #[error("not a line of a journal: {0}")]
    Shape(String),
    /// The file was written by another version of the program.
    #[error("its format is {0}, and this program knows {JOURNAL_FORMAT}")]
    Format(u32),
}

impl From<DecodeError> for LineError {
    fn from(error: DecodeError) -> LineError {
        LineError::Shape(error.to_string())
    }
}

fn shape<T>(why: impl Into<String>) -> Result<T, LineError> {
    Err(LineError::Shape(why.into()))
}

/// The types of lines in a journal file.
#[derive(Clone, Copy, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
enum LineKind {
    Window,
    Register,
    Leave,
    Open,
}

/// Appends a line: its type, its fields, its checksum and a newline.
fn write_line(out: &mut Vec<u8>, kind: LineKind, fields: impl FnOnce(&mut Object)) {
    let start = out.len();
    let mut line = Object::begin(std::mem::take(out), kind.into());
    fields(&mut line);
    let crc = hex(crc32fast::hash(&line.so_far()[start..]));
    line.plain("crc", str::from_utf8(&crc).expect("digits are ASCII"));
    *out = line.end();
    out.push(b'\n');
}

fn hex(crc: u32) -> [u8; 8] {
    std::array::from_fn(|place| b"0123456789abcdef"[(crc >> (28 - 4 * place)) as usize & 15])
}

/// Checks the checksum of a line without its newline, indexes its fields and returns its type.
fn open_line<'a>(line: &'a [u8], fields: &mut Fields<'a>) -> Result<LineKind, LineError> {
    // The length of `,"crc":"01234567"}`.
    const CHECKSUM_TAIL_LEN: usize = 18;
    let (body, tail) = line
        .split_at_checked(line.len().wrapping_sub(CHECKSUM_TAIL_LEN))
        .ok_or(LineError::Checksum)?;
    if crc_of(tail) != Some(crc32fast::hash(body)) {
        return Err(LineError::Checksum);
    }
    let Ok(text) = str::from_utf8(line) else { return shape("not utf-8") };
    // The checksum is in the text too, as an unknown field.
    fields.fill(text)?;
    if let Some(key) = fields.repeated() {
        return shape(format!("{} is given twice", key.name()));
    }
    let kind = fields.text(Key::Type)?.and_then(|name| name.parse().ok());
    kind.map_or_else(|| shape("the type is none of window, register, leave and open"), Ok)
}

/// Parses the checksum at the end of a line; `None` if it is written in any other way than ours.
fn crc_of(tail: &[u8]) -> Option<u32> {
    let digits = tail.strip_prefix(b",\"crc\":\"")?.strip_suffix(b"\"}")?;
    let lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u32::from_str_radix(str::from_utf8(digits).ok().filter(|_| lower)?, 16).ok()
}

impl Header {
    /// Appends the header to `out` as a line.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        write_line(out, LineKind::Window, |line| {
            line.put(Key::Format, &JOURNAL_FORMAT);
            line.put(Key::Window, &self.window);
            line.put(Key::WindowMs, &self.length.millis());
        });
    }

    /// Reads a header from a line without its newline.
    pub fn read_line(line: &[u8]) -> Result<Header, LineError> {
        let mut fields = Fields::NONE;
        let LineKind::Window = open_line(line, &mut fields)? else {
            return shape("it should name the window");
        };
        let format = fields.get(Key::Format)?;
        if format != JOURNAL_FORMAT {
            return Err(LineError::Format(format));
        }
        let length = Length::new(Duration::from_millis(fields.get(Key::WindowMs)?));
        let length = length.or_else(|error| shape(error.to_string()))?;
        Ok(Header { window: fields.get(Key::Window)?, length })
    }
}

fn write_path(line: &mut Object, path: &Path) {
    line.put(Key::Addr, &path.peer);
    line.put(Key::Local, &path.local);
}

fn read_path(fields: &Fields<'_>) -> Result<Path, DecodeError> {
    Ok(Path::new(fields.get(Key::Addr)?, fields.get(Key::Local)?))
}

impl Record {
    /// Returns the window whose journal the record belongs to.
    pub fn window(&self) -> Window {
        match self {
            Record::Register(registration) => registration.window,
            Record::Leave(leaving) => leaving.window,
            Record::Open(opening) => opening.window,
        }
    }

    /// Appends the record to `out` as a line.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        match self {
            Record::Register(it) => write_line(out, LineKind::Register, |line| {
                let Profile { room, name, lan } = &it.profile;
                line.put(Key::At, &it.at);
                line.put(Key::Id, &it.id);
                line.put(Key::Seq, &it.seq);
                line.put(Key::Room, room);
                line.put(Key::Name, name);
                write_path(line, &it.path);
                line.put(Key::Lan, lan);
            }),
            Record::Leave(it) => write_line(out, LineKind::Leave, |line| {
                line.put(Key::At, &it.at);
                line.put(Key::Id, &it.id);
                line.put(Key::Seq, &it.seq);
                write_path(line, &it.path);
            }),
            Record::Open(it) => {
                write_line(out, LineKind::Open, |line| line.put(Key::At, &it.at));
            }
        }
    }

    /// Reads a record from a line without its newline, in a file with that header.
    pub fn read_line(line: &[u8], header: Header) -> Result<Record, LineError> {
        let Header { window, length } = header;
        let mut fields = Fields::NONE;
        Ok(match open_line(line, &mut fields)? {
            LineKind::Register => Record::Register(Registration {
                window,
                at: fields.get(Key::At)?,
                path: read_path(&fields)?,
                id: fields.get(Key::Id)?,
                seq: fields.get(Key::Seq)?,
                profile: Group::read(&fields)?,
            }),
            LineKind::Leave => Record::Leave(Leaving {
                window,
                at: fields.get(Key::At)?,
                path: read_path(&fields)?,
                id: fields.get(Key::Id)?,
                seq: fields.get(Key::Seq)?,
            }),
            LineKind::Open => Record::Open(Opening { window, length, at: fields.get(Key::At)? }),
            LineKind::Window => return shape("only the first line names the window"),
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
    fn a_line_is_readable_json() {
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

    /// Returns a line with these fields and the checksum that fits.
    fn with_checksum(fields: &str) -> Vec<u8> {
        format!(r#"{fields},"crc":"{:08x}"}}"#, crc32fast::hash(fields.as_bytes())).into_bytes()
    }

    #[test]
    fn a_line_with_other_white_space_escapes_or_fields_reads_the_same() {
        let line = written(&registration());
        let text = str::from_utf8(&line).unwrap();
        let fields = text.split_once(",\"crc\"").unwrap().0;
        for other in [
            fields.to_owned(),
            fields.replace("ana", "a\\u006ea"),
            fields.replace(",\"", " , \""),
            fields.replace("\"room\"", "\"later\":[{}],\"room\""),
        ] {
            let record = Record::read_line(&with_checksum(&other), header());
            assert_eq!(record, Ok(registration()), "{other}");
        }
    }

    #[test]
    fn the_error_names_the_field_that_is_wrong() {
        let line = written(&registration());
        let text = str::from_utf8(&line).unwrap();
        let fields = text.split_once(",\"crc\"").unwrap().0;
        for (from, to, expected) in [
            ("\"seq\":1", "\"seq\":\"1\"", "seq must be a whole number"),
            ("\"seq\":1", "\"seq\":1,\"seq\":2", "seq is given twice"),
            ("\"seq\":1", "\"seq\":[1,\"seq\":2]", "not one json object"),
            ("\"ana\"", "7", "name must be a text"),
            ("\"ana\"", "\"a b\"", "name must be 1 to"),
            ("\"register\"", "\"another\"", "the type is none of"),
            (",\"local\":\"127.0.0.1\"", "", "local must be given"),
            ("\"addr\":\"127.0.0.1:40112\"", "\"addr\":\"127.0.0.1\"", "addr must be an address"),
        ] {
            let line = with_checksum(&fields.replace(from, to));
            let error = Record::read_line(&line, header()).unwrap_err().to_string();
            let expected = format!("not a line of a journal: {expected}");
            assert!(error.starts_with(&expected), "{to}: {error}");
        }
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
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
    fn a_line_that_is_cut_off_breaks_the_checksum() {
        let line = written(&registration());
        for end in 0..line.len() - 1 {
            assert_eq!(Record::read_line(&line[..end], header()), Err(LineError::Checksum));
        }
    }

    #[test]
    fn a_header_of_another_format_is_a_format_error() {
        let mut line = Vec::new();
        write_line(&mut line, LineKind::Window, |line| {
            line.put(Key::Format, &2_u32);
            line.put(Key::Window, &header().window);
            line.put(Key::WindowMs, &60_000_u64);
        });
        assert_eq!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Format(2)));
        let line = written(&registration());
        assert!(matches!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Shape(_))));
    }
}
