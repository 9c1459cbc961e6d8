//! The journal files of all windows, which the engine writes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::record::{Entry, Header};
use crate::store::{ErrorContext, Handle, Store, StoreError, parent, remove_if_there};
use crate::window::{Length, Window};

use super::{mend, names};

/// The most files kept open: of the window being filled and the one that opens. Others are opened
/// again when needed.
const MAX_OPEN_FILES: usize = 2;

/// The journal files of all windows.
pub(super) struct Files<S: Store> {
    store: S,
    dir: PathBuf,
    /// The length of new windows.
    length: Length,
    /// The length of each window whose file was found at the start.
    found: BTreeMap<Window, Length>,
    open: BTreeMap<Window, OpenFile<S::File>>,
    /// The file in which a write failed, until it is mended.
    broken: Option<Broken>,
    buffer: Vec<u8>,
}

/// The file of one window, open for writing.
struct OpenFile<F> {
    file: F,
    path: PathBuf,
    /// How many bytes of the file are durable.
    synced: u64,
}

/// A file in which a write failed: what is behind its first `synced` bytes must be removed.
struct Broken {
    path: PathBuf,
    synced: u64,
}

impl<S: Store> Files<S> {
    /// Makes the set of files in `dir`; files with these headers exist already.
    pub(super) fn new(store: S, dir: PathBuf, length: Length, headers: &[Header]) -> Files<S> {
        let found = headers.iter().map(|header| (header.window, header.length)).collect();
        let (open, buffer) = (BTreeMap::new(), Vec::new());
        Files { store, dir, length, found, open, broken: None, buffer }
    }

    /// Appends records of one window to its file, and makes them durable. After an error any part
    /// of them may be in the file until [`Files::mend`] succeeds, which must be called next.
    pub(super) fn append(&mut self, window: Window, run: &[Entry]) -> Result<(), StoreError> {
        let mut file = self.take_or_open(window)?;
        self.encode(window, file.synced == 0, run);
        if let Err(error) = file.append(&self.store, &self.buffer) {
            // The file is closed here. A sync that failed is never tried again: the kernel may have
            // dropped the pages and would say that all is well.
            self.broken = Some(Broken { path: file.path, synced: file.synced });
            return Err(error);
        }
        self.open.insert(window, file);
        if self.open.len() > MAX_OPEN_FILES {
            self.open.pop_first();
        }
        Ok(())
    }

    /// Removes, durably, what a failed write left in its file, if a write has failed.
    pub(super) fn mend(&mut self) -> Result<(), StoreError> {
        match &self.broken {
            None => return Ok(()),
            Some(Broken { path, synced: 0 }) => self.remove_new_file(path)?,
            Some(Broken { path, synced }) => mend::cut(&self.store, path, *synced)?,
        }
        self.broken = None;
        Ok(())
    }

    /// Removes a new file in which a write failed. The file is emptied before, durably, so that no
    /// crash brings back what was refused; the folder is removed if empty, so that a failed sync of
    /// the folder is not simply repeated.
    fn remove_new_file(&self, path: &Path) -> Result<(), StoreError> {
        match mend::cut(&self.store, path, 0) {
            Err(error) if error.is_missing() => {}
            cut => cut?,
        }
        remove_if_there(&self.store, path)?;
        let _ = self.store.remove_dir(parent(path));
        Ok(())
    }

    /// Removes the file of a window, and the day's folder if it is empty then. The removal need not
    /// be durable: a closed window's file that comes back is discarded again.
    pub(super) fn discard(&mut self, window: Window) {
        self.open.remove(&window);
        let path = self.path(window);
        if let Err(error) = remove_if_there(&self.store, &path) {
            return tracing::warn!("{error}; it is tried again at the next start");
        }
        self.found.remove(&window);
        let _ = self.store.remove_dir(parent(&path));
    }

    fn length(&self, window: Window) -> Length {
        self.found.get(&window).copied().unwrap_or(self.length)
    }

    fn path(&self, window: Window) -> PathBuf {
        names::path(&self.dir, window, self.length(window))
    }

    /// Takes the window's file out of the open ones, or opens or creates it. In a file that was not
    /// open everything is durable.
    fn take_or_open(&mut self, window: Window) -> Result<OpenFile<S::File>, StoreError> {
        if let Some(file) = self.open.remove(&window) {
            return Ok(file);
        }
        let path = self.path(window);
        match self.store.append(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(path),
            file => {
                let file = file.at("open", &path)?;
                let synced = file.length().at("open", &path)?;
                Ok(OpenFile { file, path, synced })
            }
        }
    }

    fn create(&self, path: PathBuf) -> Result<OpenFile<S::File>, StoreError> {
        let day = parent(&path);
        self.store.make_dir(day).at("create the folder", day)?;
        let file = self.store.create(&path).at("create", &path)?;
        Ok(OpenFile { file, path, synced: 0 })
    }

    fn encode(&mut self, window: Window, new: bool, run: &[Entry]) {
        self.buffer.clear();
        if new {
            let length = self.length(window);
            Header { window, length }.write_line(&mut self.buffer);
        }
        for entry in run {
            entry.record.write_line(&mut self.buffer);
        }
    }
}

impl<F: Handle> OpenFile<F> {
    /// Appends the lines with one write and one sync; of a new file, syncs the folders too.
    fn append(&mut self, store: &impl Store, lines: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write(lines).at("write", &self.path)?;
        if written < lines.len() {
            let why = format!("only {written} of {} bytes: is the disk full?", lines.len());
            return Err(StoreError::new("write", &self.path, io::Error::other(why)));
        }
        self.file.sync().at("sync", &self.path)?;
        if self.synced == 0 {
            mend::sync_names(store, &self.path)?;
        }
        self.synced += lines.len() as u64;
        Ok(())
    }
}
