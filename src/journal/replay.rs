//! Reading the log at the start.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread;

use crate::record::{Header, LineError, Record};
use crate::store::{At, Store, StoreError, make_dir_durably, remove_if_there};
use crate::window::Length;

use super::ahead::{self, Judged};
use super::lines::{FileLines, Line, Lines};
use super::names::{Named, survey};
use super::{OpenError, Recovered, mend};

/// What the log is folded over with.
type Fold<'a> = &'a mut dyn FnMut(Header, Option<Record>);

/// How the log is read.
pub(super) struct Replay<'a, S> {
    pub(super) store: &'a S,
    pub(super) dir: &'a Path,
    pub(super) length: Length,
    pub(super) accept_damage: bool,
}

/// What was wrong with a file.
#[derive(Default)]
struct Faults {
    /// The first damaged line, and why.
    bad: Option<(u64, LineError)>,
    /// Where the torn end starts.
    torn: Option<u64>,
}

impl<S: Store> Replay<'_, S> {
    /// Folds over all files, the oldest window first, and leaves them whole and durable.
    pub(super) fn run(&self, fold: Fold<'_>) -> Result<Recovered, OpenError> {
        make_dir_durably(self.store, self.dir)?;
        let survey = survey(self.store, self.dir)?;
        for path in &survey.leftovers {
            remove_if_there(self.store, path)?;
        }
        let mut recovered = Recovered { foreign: survey.foreign, ..Recovered::default() };
        for named in &survey.logs {
            self.file(named, &mut recovered, fold)?;
        }
        Ok(recovered)
    }

    fn file(&self, named: &Named, found: &mut Recovered, fold: Fold<'_>) -> Result<(), OpenError> {
        let mut lines = self.lines(named)?;
        let faults = self.fold(named, &mut lines, fold)?;
        let header = lines.header();
        if let Some((line, why)) = faults.bad {
            found.damaged.push(self.damage(named, line, why)?);
        } else if let Some(start) = faults.torn {
            found.cut.push(named.path.clone());
            mend::cut(self.store, &named.path, start)?;
        }
        if lines.number() == 1 || faults.torn == Some(0) {
            // Not even its header was written to the end.
            return Ok(mend::remove(self.store, &named.path)?);
        }
        found.files.push(header);
        Ok(self.settle(&named.path)?)
    }

    /// Folds over one file, and says what is wrong with it; stops at damage that is not accepted.
    fn fold(
        &self,
        named: &Named,
        lines: &mut FileLines,
        fold: Fold<'_>,
    ) -> Result<Faults, OpenError> {
        let (mut faults, mut header) = (Faults::default(), lines.header());
        thread::scope(|scope| {
            for read in ahead::read(scope, lines).at("read", &named.path)? {
                let Judged { line, number, start } = read.at("read", &named.path)?;
                match line {
                    Line::Header(own) => {
                        header = own;
                        fold(header, None);
                    }
                    Line::Record(record) => fold(header, Some(record)),
                    Line::Torn => faults.torn = Some(start),
                    Line::Bad(why) => {
                        self.bad(named, number, &why, &mut || fold(header, None))?;
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

    /// A newer format is no damage; a damaged header is told by the file's name, if it can be.
    fn bad(
        &self,
        named: &Named,
        number: u64,
        why: &LineError,
        begin: &mut dyn FnMut(),
    ) -> Result<(), OpenError> {
        let path = named.path.clone();
        match why {
            _ if number > 1 => {}
            LineError::Format(_) => return Err(OpenError::Format { path, why: why.to_string() }),
            _ if !self.accept_damage => {}
            _ if named.fits(self.length) => begin(),
            _ => return Err(OpenError::Unnamed { path, length: self.length }),
        }
        Ok(())
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

    /// What was read may be in memory only, left by a process that was killed before its sync; from
    /// now on it is answered for.
    fn settle(&self, path: &Path) -> Result<(), StoreError> {
        mend::sync(self.store, path)?;
        mend::sync_names(self.store, path)
    }
}
