//! Lines read on a thread of their own, a few batches ahead of whoever folds over them: half of a
//! start is reading text, the other half waiting for memory.
//!
//! ```text
//!   file ──▶ lines ──▶ judged ══ batches, in order ══▶ fold
//!            a thread of its own                       the caller
//! ```

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use super::lines::{FileLines, Line};

/// How many lines are handed over at once.
const BATCH: usize = 256;
/// How many batches may wait.
const MAX_WAITING: usize = 4;

/// A line, and where it stands in its file.
pub(super) struct Judged {
    pub(super) line: Line,
    /// Its number in the file, from 1.
    pub(super) number: u64,
    /// Where in the file it starts, in bytes.
    pub(super) start: u64,
}

/// The lines in their order, ending with the file or with an error. Whoever drops them ends the
/// thread.
pub(super) fn read<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lines: &'scope mut FileLines,
) -> io::Result<impl Iterator<Item = io::Result<Judged>>> {
    let (batches, read) = sync_channel(MAX_WAITING);
    Builder::new().name("replay".into()).spawn_scoped(scope, || send_all(lines, batches))?;
    Ok(read.into_iter().flatten())
}

fn send_all(lines: &mut FileLines, batches: SyncSender<Vec<io::Result<Judged>>>) {
    loop {
        let batch = batch(lines);
        let is_last = batch.len() < BATCH;
        if batches.send(batch).is_err() || is_last {
            return;
        }
    }
}

/// The next batch: a full one, unless the file ends or an error comes.
fn batch(lines: &mut FileLines) -> Vec<io::Result<Judged>> {
    let mut batch = Vec::with_capacity(BATCH);
    while batch.len() < BATCH
        && !batch.last().is_some_and(io::Result::is_err)
        && let Some(line) = lines.next().transpose()
    {
        let (number, start) = (lines.number(), lines.start());
        batch.push(line.map(|line| Judged { line, number, start }));
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::file::names::Named;
    use crate::record::{Header, Opening, Record};
    use crate::window::{Length, Wall};
    use std::io::{BufReader, Cursor, Read};
    use std::path::PathBuf;
    use std::thread;

    /// More than may wait.
    const MANY: usize = BATCH * (MAX_WAITING + 3) + 1;

    fn header() -> Header {
        Header { window: "2026-11-23T11:29:00Z".parse().unwrap(), length: Length::MINUTE }
    }

    /// A header and many records: of openings all but the first are out of place.
    fn file() -> Vec<u8> {
        let (Header { window, length }, mut file) = (header(), Vec::new());
        header().write_line(&mut file);
        for n in 1..MANY {
            let at = Wall::from_millis(n as i64);
            Record::Open(Opening { window, length, at }).write_line(&mut file);
        }
        file
    }

    fn lines(file: impl Read + Send + 'static) -> FileLines {
        let named = Named { window: header().window, stem: "11-29".into(), path: PathBuf::new() };
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
        assert_eq!((alone.next().unwrap(), alone.number()), (None, MANY as u64 + 1));
        assert_eq!(lines.number(), MANY as u64 + 1, "read to the end");
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
            assert!(read.by_ref().take(MANY).all(|judged| judged.is_ok()));
            assert!(read.by_ref().next().unwrap().is_err());
            assert!(read.next().is_none());
        });
    }

    #[test]
    fn reading_ends_when_nobody_listens() {
        let mut lines = lines(Cursor::new(file()));
        let first = thread::scope(|scope| read(scope, &mut lines).unwrap().next());
        assert!(matches!(first, Some(Ok(Judged { line: Line::Header(_), number: 1, start: 0 }))));
        assert!(lines.number() < MANY as u64, "it did not read to the end");
    }
}
