//! Reads the lines of one journal file and checks each.

use std::io::{self, BufRead, BufReader, Read};

use crate::record::{BatchedRecord, Header, LineError, Record};

use super::names::JournalFileName;

/// A line of a journal file after its check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The first line of a file.
    Header(Header),
    /// A valid line with a record, one fact.
    Record(Record),
    /// A damaged line: not as it was written.
    Bad(LineError),
    /// The last line, not written to its end: nothing in it was acked.
    Torn,
}

/// The lines of a file that was opened from a [`Store`](crate::store::Store).
pub(super) type FileLines = Lines<BufReader<Box<dyn Read + Send>>>;

/// Reads a journal file line by line, and checks each line.
pub(super) struct Lines<R> {
    reader: R,
    named: JournalFileName,
    /// The file's header; until the first line was read, and if that is damaged, the assumed one.
    header: Header,
    /// Whether the file is of format 1, whose header has no list cap: the assumed one is taken.
    lacks_cap: bool,
    line: Vec<u8>,
    number: u64,
    start: u64,
    batch: u64,
    /// Whether the last record of the window, `open` or `missed`, was read.
    has_ended: bool,
}

impl<R: BufRead> Lines<R> {
    /// Makes a reader of the file `named`. `assumed` is used as the header if the file's own is
    /// damaged, and its list cap if the file has none.
    pub(super) fn new(reader: R, named: &JournalFileName, assumed: Header) -> Lines<R> {
        let (named, line) = (named.clone(), Vec::new());
        let (lacks_cap, has_ended) = (false, false);
        let (number, start, batch) = (0, 0, 0);
        Lines { reader, named, header: assumed, lacks_cap, line, number, start, batch, has_ended }
    }

    /// Reads the next line; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        self.start += self.line.len() as u64;
        self.line.clear();
        self.number += 1;
        if self.reader.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let line = match self.line.split_last() {
            Some((b'\n', line)) => self.judge(line),
            // A whole line with another byte in place of its newline: no crash leaves that.
            Some((1.., line)) if self.judge(line).is_ok() => Err(LineError::Checksum),
            _ => Ok((Line::Torn, self.batch)),
        };
        let (mut line, batch) = line.unwrap_or_else(|why| (Line::Bad(why), self.batch));
        self.batch = batch;
        match &mut line {
            Line::Header(header) => {
                self.lacks_cap = header.cap.is_none();
                header.cap = header.cap.or(self.header.cap);
                self.header = *header;
            }
            Line::Record(Record::Open(_) | Record::Missed(_)) => self.has_ended = true,
            _ => {}
        }
        Ok(Some(line))
    }

    /// Checks a line without its newline, and returns the offset at which its batch begins.
    fn judge(&self, line: &[u8]) -> Result<(Line, u64), LineError> {
        let shape = |why: &str| Err(LineError::Shape(why.to_owned()));
        if self.number == 1 {
            return match Header::read_line(line)? {
                header if self.is_of_this_file(header) => Ok((Line::Header(header), 0)),
                _ => shape("its window or length does not fit the file's name"),
            };
        }
        let BatchedRecord { record, batch } = Record::read_line(line, self.header)?;
        if self.has_ended {
            return shape("it comes after the last record of the window");
        }
        Ok((Line::Record(record), batch.unwrap_or(u64::MAX)))
    }

    fn is_of_this_file(&self, header: Header) -> bool {
        header.window == self.named.window && self.named.fits(header.length)
    }

    /// Returns the offset at which the batch of the last undamaged line begins, in bytes. In format
    /// 1, which has no batches, no offset is as large.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Returns the file's header, or the assumed one if the file's own is damaged.
    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// Returns whether the file's own header has no list cap, as in format 1.
    pub(super) fn lacks_cap(&self) -> bool {
        self.lacks_cap
    }

    /// Returns the bytes of the line that was read last, with its newline.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Returns the number of the line that was read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the offset in the file of the line that was read last, in bytes.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::ListCap;
    use crate::record::Opening;
    use crate::window::Length;
    use std::path::PathBuf;

    fn header() -> Header {
        Header {
            window: "2026-11-23T11:29:00Z".parse().unwrap(),
            length: Length::MINUTE,
            cap: Some(ListCap::default()),
        }
    }

    fn opening() -> Record {
        let Header { window, length, cap } = header();
        Record::Open(Opening { window, length, cap, at: window.opens() })
    }

    /// Returns a file with a header and an opening.
    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        header().write_line(&mut file);
        opening().write_line(&mut file, 0);
        file
    }

    fn judged(stem: &str, file: &[u8]) -> Vec<Line> {
        let window = header().window;
        let named = JournalFileName { window, stem: stem.into(), path: PathBuf::new() };
        let mut lines = Lines::new(file, &named, header());
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn a_file_is_a_header_and_its_records() {
        let lines = judged("11-29", &file());
        assert_eq!(lines, [Line::Header(header()), Line::Record(opening())]);
        assert_eq!(judged("11-29", b""), []);
    }

    #[test]
    fn an_opening_is_the_last_line() {
        let mut file = file();
        let start = file.len() as u64;
        opening().write_line(&mut file, start);
        file.extend_from_slice(b"{\"type");
        let lines = judged("11-29", &file);
        assert!(matches!(lines[2..], [Line::Bad(LineError::Shape(_)), Line::Torn]), "{lines:?}");
    }

    #[test]
    fn a_header_fits_the_name_of_its_file() {
        let lines = judged("11-29-00", &file());
        assert!(matches!(lines[0], Line::Bad(LineError::Shape(_))), "{lines:?}");
        assert_eq!(lines[1], Line::Record(opening()), "read with what the name says");
    }

    #[test]
    fn every_torn_end_is_told_from_damage() {
        let file = file();
        let first = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in 1..file.len() {
            let lines = judged("11-29", &file[..end]);
            let torn = lines.last() == Some(&Line::Torn);
            assert_eq!(torn, end != first, "cut to {end}");
            assert!(!lines.iter().any(|line| matches!(line, Line::Bad(_))), "cut to {end}");
            for count in [1, 4096] {
                let zeros = [&file[..end], &vec![0; count]].concat();
                assert_eq!(judged("11-29", &zeros).last(), Some(&Line::Torn), "zeros from {end}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let file = file();
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let lines = judged("11-29", &damaged);
            assert!(lines.iter().any(|line| matches!(line, Line::Bad(_))), "bit {bit}: {lines:?}");
        }
    }
}
