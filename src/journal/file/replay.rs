//! Reading the files back at the start, and leaving them whole.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;

use crate::record::{Header, LineError};
use crate::store::{At, Store, StoreError, make_dir_durably, remove_if_there};
use crate::window::Length;

use super::super::{OpenError, Replayed};
use super::lines::{FileLines, Line, Lines};
use super::names::{Named, survey};
use super::read_ahead::{self, Judged};
use super::{FileOptions, mend};

/// What the journal is folded over with.
type Fold<'a> = &'a mut dyn FnMut(Replayed);

/// The start of a journal in files.
pub(super) struct Replay<'a, S> {
    store: &'a S,
    dir: &'a Path,
    length: Length,
    accept_damage: bool,
    /// The headers of the files that are there, oldest window first.
    headers: Vec<Header>,
    /// What was mended or left alone, for people.
    notes: Vec<String>,
}

/// What was wrong with a file.
#[derive(Default)]
struct Faults {
    /// The first damaged line, and why.
    bad: Option<(u64, LineError)>,
    /// Where the torn end starts.
    torn: Option<u64>,
}

impl<'a, S: Store> Replay<'a, S> {
    /// A start that has not begun.
    pub(super) fn new(options: &'a FileOptions<S>) -> Replay<'a, S> {
        let FileOptions { store, dir, length, accept_damage } = options;
        let (length, accept_damage) = (*length, *accept_damage);
        Replay { store, dir, length, accept_damage, headers: Vec::new(), notes: Vec::new() }
    }

    /// Folds over all files, the oldest window first, and leaves them whole and durable. Gives their
    /// headers, and the notes.
    pub(super) fn run(mut self, fold: Fold<'_>) -> Result<(Vec<Header>, Vec<String>), OpenError> {
        make_dir_durably(self.store, self.dir)?;
        let survey = survey(self.store, self.dir)?;
        for path in &survey.leftovers {
            remove_if_there(self.store, path)?;
        }
        for named in &survey.files {
            self.file(named, fold)?;
        }
        for path in &survey.foreign {
            self.note(path, "not a file of the journal; left alone");
        }
        Ok((self.headers, self.notes))
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.notes.push(format!("{}: {what}", path.display()));
    }

    fn file(&mut self, named: &Named, fold: Fold<'_>) -> Result<(), OpenError> {
        let mut lines = self.lines(named)?;
        let faults = self.fold(named, &mut lines, fold)?;
        let header = lines.header();
        if let Some((line, why)) = faults.bad {
            let copy = self.damage(named, line, why)?;
            self.note(&copy, "a damaged journal was copied here, and its good lines were kept");
        } else if let Some(start) = faults.torn {
            mend::cut(self.store, &named.path, start)?;
            self.note(&named.path, "a torn last line was cut off; nothing that was acked");
        }
        if lines.number() == 1 || faults.torn == Some(0) {
            // Not even its header was written to the end.
            return Ok(mend::remove(self.store, &named.path)?);
        }
        self.headers.push(header);
        Ok(self.settle(&named.path)?)
    }

    /// Folds over one file, and says what is wrong with it; stops at damage that is not accepted.
    fn fold(
        &self,
        named: &Named,
        lines: &mut FileLines,
        fold: Fold<'_>,
    ) -> Result<Faults, OpenError> {
        let (mut faults, assumed) = (Faults::default(), lines.header());
        thread::scope(|scope| {
            for read in read_ahead::read(scope, lines).map_err(OpenError::Thread)? {
                let Judged { line, number, start } = read.at("read", &named.path)?;
                match line {
                    Line::Header(header) => fold(Replayed::Begin(header)),
                    Line::Record(record) => fold(Replayed::Record(record)),
                    Line::Torn => faults.torn = Some(start),
                    Line::Bad(why) => {
                        if number == 1 {
                            self.bad_header(named, &why)?;
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

    /// Whether one can go on although the first line is not right: a newer format is no damage, and
    /// without a header the file's name has to say how long the window is.
    fn bad_header(&self, named: &Named, why: &LineError) -> Result<(), OpenError> {
        let path = named.path.clone();
        match why {
            LineError::Format(_) => Err(OpenError::Format { path, why: why.to_string() }),
            _ if self.accept_damage && !named.fits(self.length) => {
                Err(OpenError::Unnamed { path, length: self.length })
            }
            _ => Ok(()),
        }
    }

    /// Copies the damaged file aside, and refuses it or takes its damaged lines out.
    fn damage(&self, named: &Named, line: u64, why: LineError) -> Result<PathBuf, OpenError> {
        let path = named.path.clone();
        let copy = mend::copy_aside(self.store, &path)?;
        if !self.accept_damage {
            return Err(OpenError::Damaged { path, line, why: why.to_string(), copy });
        }
        mend::rewrite(self.store, &path, self.lines(named)?)?;
        Ok(copy)
    }

    fn lines(&self, named: &Named) -> Result<FileLines, StoreError> {
        let file = self.store.read(&named.path).at("read", &named.path)?;
        let assumed = Header { window: named.window, length: self.length };
        Ok(Lines::new(BufReader::with_capacity(1 << 16, file), named, assumed))
    }

    /// Makes a file durable: what was read may be in memory only, left by a process that was killed
    /// before its sync, and from now on it is answered for.
    fn settle(&self, path: &Path) -> Result<(), StoreError> {
        mend::sync(self.store, path)?;
        mend::sync_names(self.store, path)
    }
}
