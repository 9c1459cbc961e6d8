//! Reads the journal's files back at the start, and mends those that are torn or damaged.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;

use crate::mesh::ListCap;
use crate::record::{Header, LineError};
use crate::store::{ErrorContext, Store, StoreError, make_dir_durably, parent, remove_if_there};
use crate::window::Length;

use super::super::{OpenError, Replayed};
use super::lines::{FileLines, Line, Lines};
use super::names::{JournalFileName, survey};
use super::read_ahead::{self, NumberedLine};
use super::{FileOptions, mend};

/// The caller's function that gets each header and record.
type Fold<'a> = &'a mut dyn FnMut(Replayed);

/// Reads back all files of a journal.
pub(super) struct Replay<'a, S> {
    store: &'a S,
    dir: &'a Path,
    length: Length,
    cap: ListCap,
    accept_damage: bool,
    /// The headers of the files read so far, oldest window first.
    headers: Vec<Header>,
    /// What was mended or left alone, a sentence each, for the operator's log.
    notes: Vec<String>,
}

/// The faults found in one file.
#[derive(Default)]
struct Faults {
    /// The number of the first damaged line, from 1, and what is wrong with it.
    bad: Option<(u64, LineError)>,
    /// The offset of the first line that a crash has torn or damaged, in bytes, and whether the line
    /// is only not written to its end.
    torn: Option<(u64, bool)>,
}

impl<'a, S: Store> Replay<'a, S> {
    /// Makes a replay that has not read anything yet.
    pub(super) fn new(options: &'a FileOptions<S>) -> Replay<'a, S> {
        let FileOptions { store, dir, length, cap, accept_damage } = options;
        let (length, cap, accept_damage) = (*length, *cap, *accept_damage);
        Replay { store, dir, length, cap, accept_damage, headers: Vec::new(), notes: Vec::new() }
    }

    /// Folds over all files, the oldest window first, and leaves them mended and durable. Returns
    /// their headers and the notes.
    pub(super) fn run(mut self, fold: Fold<'_>) -> Result<(Vec<Header>, Vec<String>), OpenError> {
        make_dir_durably(self.store, self.dir)?;
        let survey = survey(self.store, self.dir)?;
        for (place, named) in survey.files.iter().enumerate() {
            let is_last = place + 1 == survey.files.len();
            self.read_file(named, is_last, fold)?;
        }
        // Last, as a start that is refused tells nothing but why.
        for path in &survey.leftovers {
            remove_if_there(self.store, path)?;
            let _ = self.store.remove_dir(parent(path));
            self.note(path, "a crash left it half written; removed");
        }
        for path in &survey.foreign {
            self.note(path, "not a file of the journal; left alone");
        }
        Ok((self.headers, self.notes))
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.notes.push(format!("{}: {what}", path.display()));
    }

    /// Reads one file back; `is_last` tells that no file is of a later window.
    fn read_file(
        &mut self,
        named: &JournalFileName,
        is_last: bool,
        fold: Fold<'_>,
    ) -> Result<(), OpenError> {
        let mut lines = self.lines(named)?;
        let faults = self.fold(named, is_last, &mut lines, fold)?;
        let header = lines.header();
        if let Some((line, why)) = faults.bad {
            let copy = self.copy_and_repair(named, line, why)?;
            self.note(&copy, "a damaged journal was copied here, and its good lines were kept");
        } else if let Some((start, is_torn)) = faults.torn {
            self.cut_last_batch(named, start, is_torn)?;
        }
        if lines.number() == 1 || faults.torn.is_some_and(|(start, _)| start == 0) {
            // Not even the header was written to its end.
            return Ok(mend::remove(self.store, &named.path)?);
        }
        if lines.lacks_cap() {
            // Once for all: what is told of a window stands, whatever `--peers` the next start has.
            mend::rewrite(self.store, &named.path, self.lines(named)?)?;
            self.note(&named.path, "is of format 2 now, which earlier versions refuse");
        }
        self.headers.push(header);
        Ok(self.make_durable(&named.path)?)
    }

    /// Cuts off what a crash left of the last batch, which was never synced: nothing in it was
    /// acked. What is more than a torn last line is copied aside.
    fn cut_last_batch(
        &mut self,
        named: &JournalFileName,
        start: u64,
        is_torn: bool,
    ) -> Result<(), StoreError> {
        if is_torn {
            self.note(&named.path, "a torn last line was cut off; nothing that was acked");
        } else {
            let copy = mend::copy_aside(self.store, &named.path)?;
            let copy = copy.display();
            let what = format!(
                "the last batch was damaged, as by a crash while it was written: cut off; nothing \
                 that was acked, if so; a copy is {copy}"
            );
            self.note(&named.path, &what);
        }
        mend::cut(self.store, &named.path, start)
    }

    /// Returns whether damage at the offset `start` of a file is within the last batch of the
    /// journal.
    fn is_in_last_batch(
        &self,
        named: &JournalFileName,
        is_last: bool,
        start: u64,
    ) -> Result<bool, StoreError> {
        let mut lines = self.lines(named)?;
        while is_last && lines.next().at("read", &named.path)?.is_some() {}
        Ok(is_last && start >= lines.batch())
    }

    /// Folds over one file and returns its faults; stops at damage that is not accepted, and at
    /// damage within the last batch of the journal.
    fn fold(
        &self,
        named: &JournalFileName,
        is_last: bool,
        lines: &mut FileLines,
        fold: Fold<'_>,
    ) -> Result<Faults, OpenError> {
        let (mut faults, assumed) = (Faults::default(), lines.header());
        thread::scope(|scope| {
            for read in read_ahead::read(scope, lines)? {
                let NumberedLine { line, number, start } = read.at("read", &named.path)?;
                match line {
                    Line::Header(header) => fold(Replayed::Begin(header)),
                    Line::Record(record) => fold(Replayed::Record(record)),
                    Line::Torn if is_last => faults.torn = Some((start, true)),
                    Line::Torn => {
                        faults.bad.get_or_insert((number, LineError::Checksum));
                    }
                    Line::Bad(why) => {
                        let is_crash = !matches!(why, LineError::Format(_))
                            && faults.bad.is_none()
                            && self.is_in_last_batch(named, is_last, start)?;
                        if is_crash {
                            faults.torn = Some((start, false));
                            break;
                        }
                        if number == 1 {
                            self.check_bad_header(named, &why)?;
                            fold(Replayed::Begin(assumed));
                        }
                        faults.bad.get_or_insert((number, why));
                        if !self.accept_damage {
                            break;
                        }
                    }
                }
            }
            Ok(faults)
        })
    }

    /// Returns an error if the rest of the file cannot be read without its damaged first line: if
    /// the format is another one, or if the file's name does not fit the assumed length.
    fn check_bad_header(&self, named: &JournalFileName, why: &LineError) -> Result<(), OpenError> {
        let path = named.path.clone();
        match why {
            LineError::Format(_) => Err(OpenError::Format { path, why: why.to_string() }),
            _ if self.accept_damage && !named.fits(self.length) => {
                Err(OpenError::Unnamed { path, length: self.length })
            }
            _ => Ok(()),
        }
    }

    /// Copies the damaged file aside, and then removes its damaged lines, or returns an error if
    /// damage is not accepted.
    fn copy_and_repair(
        &self,
        named: &JournalFileName,
        line: u64,
        why: LineError,
    ) -> Result<PathBuf, OpenError> {
        let path = named.path.clone();
        let copy = mend::copy_aside(self.store, &path)?;
        if !self.accept_damage {
            return Err(OpenError::Damaged { path, line, why: why.to_string(), copy });
        }
        mend::rewrite(self.store, &path, self.lines(named)?)?;
        Ok(copy)
    }

    fn lines(&self, named: &JournalFileName) -> Result<FileLines, StoreError> {
        let file = self.store.read(&named.path).at("read", &named.path)?;
        let assumed = Header { window: named.window, length: self.length, cap: Some(self.cap) };
        Ok(Lines::new(BufReader::with_capacity(1 << 16, file), named, assumed))
    }

    /// Makes a file durable: what was read may be in the page cache only, left by a process that
    /// was killed before its sync, and from now on clients rely on it.
    fn make_durable(&self, path: &Path) -> Result<(), StoreError> {
        mend::sync(self.store, path)?;
        mend::sync_names(self.store, path)
    }
}
