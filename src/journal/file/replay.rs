//! Reads the journal's files back at the start, and mends those that are torn or damaged.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;

use crate::record::{Header, LineError};
use crate::store::{ErrorContext, Store, StoreError, make_dir_durably, remove_if_there};
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
    /// The offset of a torn last line, in bytes.
    torn: Option<u64>,
}

impl<'a, S: Store> Replay<'a, S> {
    /// Makes a replay that has not read anything yet.
    pub(super) fn new(options: &'a FileOptions<S>) -> Replay<'a, S> {
        let FileOptions { store, dir, length, accept_damage } = options;
        let (length, accept_damage) = (*length, *accept_damage);
        Replay { store, dir, length, accept_damage, headers: Vec::new(), notes: Vec::new() }
    }

    /// Folds over all files, the oldest window first, and leaves them mended and durable. Returns
    /// their headers and the notes.
    pub(super) fn run(mut self, fold: Fold<'_>) -> Result<(Vec<Header>, Vec<String>), OpenError> {
        make_dir_durably(self.store, self.dir)?;
        let survey = survey(self.store, self.dir)?;
        for path in &survey.leftovers {
            remove_if_there(self.store, path)?;
        }
        for named in &survey.files {
            self.read_file(named, fold)?;
        }
        for path in &survey.foreign {
            self.note(path, "not a file of the journal; left alone");
        }
        Ok((self.headers, self.notes))
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.notes.push(format!("{}: {what}", path.display()));
    }

    fn read_file(&mut self, named: &JournalFileName, fold: Fold<'_>) -> Result<(), OpenError> {
        let mut lines = self.lines(named)?;
        let faults = self.fold(named, &mut lines, fold)?;
        let header = lines.header();
        if let Some((line, why)) = faults.bad {
            let copy = self.copy_and_repair(named, line, why)?;
            self.note(&copy, "a damaged journal was copied here, and its good lines were kept");
        } else if let Some(start) = faults.torn {
            mend::cut(self.store, &named.path, start)?;
            self.note(&named.path, "a torn last line was cut off; nothing that was acked");
        }
        if lines.number() == 1 || faults.torn == Some(0) {
            // Not even the header was written to its end.
            return Ok(mend::remove(self.store, &named.path)?);
        }
        self.headers.push(header);
        Ok(self.make_durable(&named.path)?)
    }

    /// Folds over one file and returns its faults; stops at damage that is not accepted.
    fn fold(
        &self,
        named: &JournalFileName,
        lines: &mut FileLines,
        fold: Fold<'_>,
    ) -> Result<Faults, OpenError> {
        let (mut faults, assumed) = (Faults::default(), lines.header());
        thread::scope(|scope| {
            for read in read_ahead::read(scope, lines).map_err(OpenError::Thread)? {
                let NumberedLine { line, number, start } = read.at("read", &named.path)?;
                match line {
                    Line::Header(header) => fold(Replayed::Begin(header)),
                    Line::Record(record) => fold(Replayed::Record(record)),
                    Line::Torn => faults.torn = Some(start),
                    Line::Bad(why) => {
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
        let assumed = Header { window: named.window, length: self.length };
        Ok(Lines::new(BufReader::with_capacity(1 << 16, file), named, assumed))
    }

    /// Makes a file durable: what was read may be in the page cache only, left by a process that
    /// was killed before its sync, and from now on clients rely on it.
    fn make_durable(&self, path: &Path) -> Result<(), StoreError> {
        mend::sync(self.store, path)?;
        mend::sync_names(self.store, path)
    }
}
