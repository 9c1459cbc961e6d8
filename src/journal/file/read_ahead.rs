//! Reads and checks lines on a thread of their own, a few batches ahead of the caller that folds
//! over them: half of a start is reading text, the other half waiting for memory.
//!
//! ```text
//!   file ──▶ lines ──▶ judged ══ batches, in order ══▶ fold
//!            a thread of its own                       the caller
//! ```

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Scope;

use crate::thread::{self, ThreadError};

use super::lines::{FileLines, Line};

/// The number of lines that the reading thread hands over at once.
const BATCH_LINES: usize = 256;
/// The most batches that may wait for the caller.
const MAX_WAITING_BATCHES: usize = 4;

/// A checked line with its number and offset in the file.
pub(super) struct NumberedLine {
    pub(super) line: Line,
    /// The number of the line in the file, from 1.
    pub(super) number: u64,
    /// The offset of the line in the file, in bytes.
    pub(super) start: u64,
}

/// Starts the reading thread, and returns the lines in order, up to the end of the file or an
/// error. Dropping the iterator ends the thread.
pub(super) fn read<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lines: &'scope mut FileLines,
) -> Result<impl Iterator<Item = io::Result<NumberedLine>>, ThreadError> {
    let (batches, read) = sync_channel(MAX_WAITING_BATCHES);
    thread::start_within(scope, "replay", || send_all(lines, batches))?;
    Ok(read.into_iter().flatten())
}

fn send_all(lines: &mut FileLines, batches: SyncSender<Vec<io::Result<NumberedLine>>>) {
    loop {
        let batch = batch(lines);
        let is_last = batch.len() < BATCH_LINES;
        if batches.send(batch).is_err() || is_last {
            return;
        }
    }
}

/// Reads the next batch: a full one, unless the file ends or an error comes.
fn batch(lines: &mut FileLines) -> Vec<io::Result<NumberedLine>> {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    while batch.len() < BATCH_LINES
        && !batch.last().is_some_and(io::Result::is_err)
        && let Some(line) = lines.next().transpose()
    {
        let (number, start) = (lines.number(), lines.start());
        batch.push(line.map(|line| NumberedLine { line, number, start }));
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::file::names::JournalFileName;
    use crate::record::{Header, Opening, Record};
    use crate::window::{Length, Wall};
    use std::io::{BufReader, Cursor, Read};
    use std::path::PathBuf;
    use std::thread;

    /// A number of lines, more than may wait in the queue.
    const MORE_THAN_QUEUED: usize = BATCH_LINES * (MAX_WAITING_BATCHES + 3) + 1;

    fn header() -> Header {
        let window = "2026-11-23T11:29:00Z".parse().unwrap();
        Header { window, length: Length::MINUTE, cap: None }
    }

    /// Returns a file with a header and many openings, all but the first of which are misplaced.
    fn file() -> Vec<u8> {
        let (Header { window, length, cap }, mut file) = (header(), Vec::new());
        header().write_line(&mut file);
        for n in 1..MORE_THAN_QUEUED {
            let at = Wall::from_millis(n as i64);
            Record::Open(Opening { window, length, cap, at }).write_line(&mut file, 0);
        }
        file
    }

    fn lines(file: impl Read + Send + 'static) -> FileLines {
        let named =
            JournalFileName { window: header().window, stem: "11-29".into(), path: PathBuf::new() };
        FileLines::new(BufReader::new(Box::new(file)), &named, header())
    }

    #[test]
    fn all_lines_come_in_their_order() {
        let (mut alone, mut lines) = (lines(Cursor::new(file())), lines(Cursor::new(file())));
        thread::scope(|scope| {
            for judged in read(scope, &mut lines).unwrap() {
                let judged = judged.unwrap();
                assert_eq!(Some(judged.line), alone.next().unwrap());
                assert_eq!((judged.number, judged.start), (alone.number(), alone.start()));
            }
        });
        assert_eq!((alone.next().unwrap(), alone.number()), (None, MORE_THAN_QUEUED as u64 + 1));
        assert_eq!(lines.number(), MORE_THAN_QUEUED as u64 + 1, "read to the end");
    }

    #[test]
    fn an_error_comes_last() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let mut lines = lines(Cursor::new(file()).chain(Broken));
        thread::scope(|scope| {
            let mut read = read(scope, &mut lines).unwrap();
            assert!(read.by_ref().take(MORE_THAN_QUEUED).all(|judged| judged.is_ok()));
            assert!(read.by_ref().next().unwrap().is_err());
            assert!(read.next().is_none());
        });
    }

    #[test]
    fn reading_ends_when_nobody_listens() {
        let mut lines = lines(Cursor::new(file()));
        let first = thread::scope(|scope| read(scope, &mut lines).unwrap().next());
        assert!(matches!(
            first,
            Some(Ok(NumberedLine { line: Line::Header(_), number: 1, start: 0 }))
        ));
        assert!(lines.number() < MORE_THAN_QUEUED as u64, "it did not read to the end");
    }
}
