//! A record of the journal, one fact, as one line of JSON with a checksum.
//!
//! ```text
//! {"type":"window","format":2,"window":"2026-11-23T11:29:00Z","window_ms":60000,"peers":200,"crc":"…"}
//! {"type":"register","batch":0,"at":"2026-11-23T11:28:34.120Z","id":"…","seq":1,"room":"main",
//!  "name":"ana","addr":"127.0.0.1:40112","local":"127.0.0.1","crc":"…"}
//! {"type":"leave","batch":312,"at":"…","id":"…","seq":2,"addr":"…","local":"…","crc":"…"}
//! {"type":"open","batch":468,"at":"…","window_ms":60000,"peers":200,"crc":"…"}
//! ```
//!
//! The registry's state is a fold over these lines. The checksum shows whether a line is as it was
//! written, and the batch which lines were synced together. Format 1, which had neither `batch` nor
//! `peers`, is read too.

use std::num::NonZeroU64;
use std::time::Duration;

use smol_str::SmolStr;
use strum::{EnumString, IntoStaticStr};
use thiserror::Error;

use crate::mesh::ListCap;
use crate::path::Path;
use crate::proto::fields::{Fields, bad_field};
use crate::proto::object::Object;
use crate::proto::{DecodeError, FieldError, Id, Key, Profile};
use crate::window::{Length, Wall, Window};

/// The version of the journal's file format that this program writes.
const JOURNAL_FORMAT: u32 = 2;

/// The oldest version of the journal's file format that this program reads.
const OLDEST_FORMAT: u32 = 1;

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

/// One fact of the journal: a registration, a withdrawal, an opening or a missed window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A client is in a window.
    Register(Registration),
    /// A client withdrew from a window.
    Leave(Leaving),
    /// A window has opened.
    Open(Opening),
    /// A window with records has ended without being opened.
    Missed(Missing),
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
    /// The most peers in an own list of the window; `None` in a journal of format 1.
    pub cap: Option<ListCap>,
    /// When the registry opened the window.
    pub at: Wall,
}

/// The fact that a window has ended without being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The window that was never opened.
    pub window: Window,
    /// When the registry noticed that the window's time had passed.
    pub at: Wall,
}

/// The first line of a journal file: which window the file's records are of, and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The window whose records the file holds.
    pub window: Window,
    /// How long the window is.
    pub length: Length,
    /// The most peers in an own list of the window; `None` in a journal of format 1.
    pub cap: Option<ListCap>,
}

/// A record as it is read back, with the batch in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchedRecord {
    /// The fact that the line states.
    pub record: Record,
    /// The offset in the file at which the line's batch begins, in bytes; `None` in format 1.
    pub batch: Option<u64>,
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
    #[error("its format is {0}, and this program knows {OLDEST_FORMAT} to {JOURNAL_FORMAT}")]
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
    Missed,
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
    kind.map_or_else(|| shape("the type is none of window, register, leave, open and missed"), Ok)
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
            write_settings(line, self.length, self.cap);
        });
    }

    /// Reads a header from a line without its newline.
    pub fn read_line(line: &[u8]) -> Result<Header, LineError> {
        let mut fields = Fields::NONE;
        let LineKind::Window = open_line(line, &mut fields)? else {
            return shape("it should name the window");
        };
        let format = fields.get(Key::Format)?;
        if !(OLDEST_FORMAT..=JOURNAL_FORMAT).contains(&format) {
            return Err(LineError::Format(format));
        }
        let cap = read_cap(&fields)?;
        Ok(Header { window: fields.get(Key::Window)?, length: read_length(&fields)?, cap })
    }
}

fn write_settings(line: &mut Object, length: Length, cap: Option<ListCap>) {
    line.put(Key::WindowMs, &length.millis());
    line.put(Key::Peers, &cap.map(|cap| cap.peers() as u64));
}

fn read_length(fields: &Fields<'_>) -> Result<Length, LineError> {
    let length = Length::new(Duration::from_millis(fields.get(Key::WindowMs)?));
    length.or_else(|error| shape(error.to_string()))
}

fn read_cap(fields: &Fields<'_>) -> Result<Option<ListCap>, LineError> {
    let peers: Option<u64> = fields.get(Key::Peers)?;
    Ok(peers.map(|peers| ListCap::new(usize::try_from(peers).unwrap_or(usize::MAX))))
}

fn write_path(line: &mut Object, path: &Path) {
    line.put(Key::Addr, &path.peer);
    line.put(Key::Local, &path.local);
}

fn read_path(fields: &Fields<'_>) -> Result<Path, DecodeError> {
    Ok(Path::new(fields.get(Key::Addr)?, fields.get(Key::Local)?))
}

fn read_profile(fields: &Fields<'_>) -> Result<Profile, DecodeError> {
    let room = read_written(fields, Key::Room)?.unwrap_or_default();
    Ok(Profile { room, name: read_written(fields, Key::Name)?, lan: fields.get(Key::Lan)? })
}

/// Parses a room or a name by the rules for what is on the disk.
fn read_written<T: TryFrom<SmolStr, Error = FieldError>>(
    fields: &Fields<'_>,
    key: Key,
) -> Result<Option<T>, DecodeError> {
    let written = fields.text(key)?.map(|text| T::try_from(text.into()));
    written.transpose().or_else(|why| bad_field(key, why))
}

impl Record {
    /// Returns the window whose journal the record belongs to.
    pub fn window(&self) -> Window {
        match self {
            Record::Register(registration) => registration.window,
            Record::Leave(leaving) => leaving.window,
            Record::Open(opening) => opening.window,
            Record::Missed(missing) => missing.window,
        }
    }

    /// Appends the record to `out` as a line of the batch that begins at the offset `batch` of its
    /// file.
    pub fn write_line(&self, out: &mut Vec<u8>, batch: u64) {
        match self {
            Record::Register(it) => write_line(out, LineKind::Register, |line| {
                let Profile { room, name, lan } = &it.profile;
                line.put(Key::Batch, &batch);
                line.put(Key::At, &it.at);
                line.put(Key::Id, &it.id);
                line.put(Key::Seq, &it.seq);
                line.put(Key::Room, room);
                line.put(Key::Name, name);
                write_path(line, &it.path);
                line.put(Key::Lan, lan);
            }),
            Record::Leave(it) => write_line(out, LineKind::Leave, |line| {
                line.put(Key::Batch, &batch);
                line.put(Key::At, &it.at);
                line.put(Key::Id, &it.id);
                line.put(Key::Seq, &it.seq);
                write_path(line, &it.path);
            }),
            Record::Open(it) => write_line(out, LineKind::Open, |line| {
                line.put(Key::Batch, &batch);
                line.put(Key::At, &it.at);
                write_settings(line, it.length, it.cap);
            }),
            Record::Missed(it) => write_line(out, LineKind::Missed, |line| {
                line.put(Key::Batch, &batch);
                line.put(Key::At, &it.at);
            }),
        }
    }

    /// Reads a record from a line without its newline, in a file with that header.
    pub fn read_line(line: &[u8], header: Header) -> Result<BatchedRecord, LineError> {
        let window = header.window;
        let mut fields = Fields::NONE;
        let kind = open_line(line, &mut fields)?;
        let at = fields.get(Key::At);
        let record = match kind {
            LineKind::Register => Record::Register(Registration {
                window,
                at: at?,
                path: read_path(&fields)?,
                id: fields.get(Key::Id)?,
                seq: fields.get(Key::Seq)?,
                profile: read_profile(&fields)?,
            }),
            LineKind::Leave => Record::Leave(Leaving {
                window,
                at: at?,
                path: read_path(&fields)?,
                id: fields.get(Key::Id)?,
                seq: fields.get(Key::Seq)?,
            }),
            LineKind::Open => Record::Open(read_opening(&fields, header, at?)?),
            LineKind::Missed => Record::Missed(Missing { window, at: at? }),
            LineKind::Window => return shape("only the first line names the window"),
        };
        Ok(BatchedRecord { record, batch: fields.get(Key::Batch)? })
    }
}

/// Reads an opening; in format 1 the settings of the window are those of the file's header.
fn read_opening(fields: &Fields<'_>, header: Header, at: Wall) -> Result<Opening, LineError> {
    let Header { window, length, cap } = header;
    let length = match fields.json(Key::WindowMs) {
        Some(_) => read_length(fields)?,
        None => length,
    };
    Ok(Opening { window, length, cap: read_cap(fields)?.or(cap), at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Name;

    fn header() -> Header {
        Header {
            window: "2026-11-23T11:29:00Z".parse().unwrap(),
            length: Length::MINUTE,
            cap: Some(ListCap::default()),
        }
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
        record.write_line(&mut line, 118);
        line
    }

    /// Reads a line, with its newline, that was written in the batch at offset 118.
    fn read(line: &[u8]) -> Record {
        let read = Record::read_line(&line[..line.len() - 1], header()).unwrap();
        assert_eq!(read.batch, Some(118));
        read.record
    }

    #[test]
    fn a_line_is_readable_json() {
        assert_eq!(
            String::from_utf8(written(&registration())).unwrap(),
            concat!(
                r#"{"type":"register","batch":118,"at":"2026-11-23T11:28:34.120Z","id":"s3cret","seq":1,"#,
                r#""room":"main","name":"ana","addr":"127.0.0.1:40112","local":"127.0.0.1","#,
                r#""crc":"89b1812b"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let at = "2026-11-23T11:28:59.999Z".parse().unwrap();
        let path = Path::new("[2001:db8::1]:5".parse().unwrap(), "::1".parse().unwrap());
        let Header { window, length, .. } = header();
        for record in [
            registration(),
            Record::Leave(Leaving { window, at, path, id: None, seq: Some(0) }),
            Record::Open(Opening { window, length, cap: Some(ListCap::new(8)), at }),
            Record::Missed(Missing { window, at }),
        ] {
            assert_eq!(read(&written(&record)), record);
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
            let read = Record::read_line(&with_checksum(&other), header()).unwrap();
            assert_eq!(read.record, registration(), "{other}");
        }
    }

    #[test]
    fn a_name_that_only_earlier_versions_took_is_read_and_written_as_it_was() {
        let line = String::from_utf8(written(&registration())).unwrap();
        let fields = line.split_once(",\"crc\"").unwrap().0;
        for name in ["a\u{3164}", "\u{115f}", "אa", "\u{1112}\u{1161}\u{11ab}"] {
            assert_ne!(name.parse::<Name>().map(|it| it.to_string()), Ok(name.to_owned()));
            let room = fields.replace("\"main\"", &format!("\"{name}\""));
            let line = with_checksum(&room.replace("\"ana\"", &format!("\"{name}\"")));
            let record = Record::read_line(&line, header()).unwrap().record;
            assert_eq!(written(&record), [&line[..], b"\n"].concat());
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
            ("\"ana\"", "\"a\\\"b\"", "name must be 1 to"),
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
    fn a_journal_of_format_1_is_read() {
        let Header { window, length, .. } = header();
        let line =
            r#"{"type":"window","format":1,"window":"2026-11-23T11:29:00Z","window_ms":60000"#;
        let header = Header::read_line(&with_checksum(line)).unwrap();
        assert_eq!(header, Header { window, length, cap: None });
        let line = r#"{"type":"open","at":"2026-11-23T11:29:00.001Z""#;
        let at = "2026-11-23T11:29:00.001Z".parse().unwrap();
        let record = Record::Open(Opening { window, length, cap: None, at });
        let read = Record::read_line(&with_checksum(line), header);
        assert_eq!(read, Ok(BatchedRecord { record, batch: None }));
    }

    #[test]
    fn a_header_of_another_format_is_a_format_error() {
        let mut line = Vec::new();
        write_line(&mut line, LineKind::Window, |line| {
            line.put(Key::Format, &3_u32);
            line.put(Key::Window, &header().window);
            line.put(Key::WindowMs, &60_000_u64);
        });
        assert_eq!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Format(3)));
        let line = written(&registration());
        assert!(matches!(Header::read_line(&line[..line.len() - 1]), Err(LineError::Shape(_))));
    }
}
