//! The journal files of all windows, which the engine writes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::record::{Entry, Header};
use crate::store::{ErrorContext, Handle, Identity, Store, StoreError, parent, remove_if_there};
use crate::window::{Length, Window};

use super::{FileOptions, mend, names};

/// The most files kept open: of the window being filled and the one that opens. Others are opened
/// again when needed.
const MAX_OPEN_FILES: usize = 2;

/// The journal files of all windows.
pub(super) struct Files<S: Store> {
    options: FileOptions<S>,
    /// The identity of the journal's folder, which stays as long as the folder is held.
    dir: Identity,
    _held: Box<dyn Send>,
    /// The length of each window that has a file.
    existing: BTreeMap<Window, Length>,
    open: BTreeMap<Window, OpenFile<S::File>>,
    /// The window and the file in which a write failed, until what is behind its first `synced` bytes
    /// is removed.
    broken: Option<(Window, OpenFile<S::File>)>,
    buffer: Vec<u8>,
}

/// The file of one window, open for writing.
struct OpenFile<F> {
    file: F,
    path: PathBuf,
    identity: Identity,
    /// How many bytes of the file are durable.
    synced: u64,
}

impl<S: Store> Files<S> {
    /// Makes the set of files of a journal; files with these headers exist already.
    pub(super) fn new(options: FileOptions<S>, headers: &[Header]) -> Result<Files<S>, StoreError> {
        let held = options.store.hold(&options.dir).at("open", &options.dir)?;
        let dir = options.store.identity(&options.dir).at("read", &options.dir)?;
        let existing = headers.iter().map(|header| (header.window, header.length)).collect();
        let (open, buffer) = (BTreeMap::new(), Vec::new());
        Ok(Files { options, dir, _held: held, existing, open, broken: None, buffer })
    }

    /// Returns an error if the journal's folder or one of its files is gone, or is another one now.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let FileOptions { store, dir, .. } = &self.options;
        check_identity(store, dir, Some(self.dir))?;
        self.existing.keys().try_for_each(|window| {
            let was = self.open.get(window).map(|file| file.identity);
            check_identity(store, &self.path(*window), was)
        })
    }

    /// Appends records of one window to its file, and makes them durable. They are durable too late
    /// unless `in_time` returns `true` then. After an error any part of them may be in the file
    /// until [`Files::mend`] succeeds, which must be called next.
    pub(super) fn append(
        &mut self,
        window: Window,
        run: &[Entry],
        in_time: impl FnOnce() -> bool,
    ) -> Result<(), StoreError> {
        let mut file = self.take_or_open(window)?;
        self.encode(window, file.synced, run);
        let appended = file.append(&self.options.store, &self.buffer);
        if let Err(error) = appended.and_then(|()| file.check_time(in_time())) {
            // A sync that failed is never tried again: the kernel may have dropped the pages and
            // would say that all is well.
            self.broken = Some((window, file));
            return Err(error);
        }
        file.synced += self.buffer.len() as u64;
        self.existing.insert(window, self.length(window));
        self.keep_open(window, file);
        Ok(())
    }

    fn keep_open(&mut self, window: Window, file: OpenFile<S::File>) {
        self.open.insert(window, file);
        if self.open.len() > MAX_OPEN_FILES {
            self.open.pop_first();
        }
    }

    /// Removes, durably, what a failed write left in its file, if a write has failed.
    pub(super) fn mend(&mut self) -> Result<(), StoreError> {
        let Some((window, mut file)) = self.broken.take() else { return Ok(()) };
        if let Err(error) = file.mend(&self.options.store) {
            self.broken = Some((window, file));
            return Err(error);
        }
        // Of a file that was discarded meanwhile no handle is kept.
        if self.existing.contains_key(&window) {
            self.keep_open(window, file);
        }
        Ok(())
    }

    /// Removes the file of a window, and the day's folder if it is empty then. The removal need not
    /// be durable: a closed window's file that comes back is discarded again. Returns `false` if the
    /// journal's folder is gone, and may come back with the file.
    pub(super) fn discard(&mut self, window: Window) -> bool {
        let FileOptions { store, dir, .. } = &self.options;
        if check_identity(store, dir, Some(self.dir)).is_err() {
            return false;
        }
        self.open.remove(&window);
        let path = self.path(window);
        if let Err(error) = remove_if_there(&self.options.store, &path) {
            tracing::warn!("{error}; it is tried again at the next start");
            return true;
        }
        self.existing.remove(&window);
        let _ = self.options.store.remove_dir(parent(&path));
        true
    }

    fn length(&self, window: Window) -> Length {
        self.existing.get(&window).copied().unwrap_or(self.options.length)
    }

    fn path(&self, window: Window) -> PathBuf {
        names::path(&self.options.dir, window, self.length(window))
    }

    /// Takes the window's file out of the open ones, or opens or creates it. In a file that was not
    /// open everything is durable.
    fn take_or_open(&mut self, window: Window) -> Result<OpenFile<S::File>, StoreError> {
        let FileOptions { store, dir, .. } = &self.options;
        if let Some(file) = self.open.get(&window) {
            check_identity(store, &file.path, Some(file.identity))?;
        }
        if let Some(file) = self.open.remove(&window) {
            return Ok(file);
        }
        check_identity(store, dir, Some(self.dir))?;
        let path = self.path(window);
        let is_new = !self.existing.contains_key(&window);
        if !is_new {
            check_identity(store, &path, None)?;
        }
        let file = match store.append(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(path),
            file => self.open_file(path, file, "open"),
        }?;
        if is_new && file.synced > 0 {
            let why = io::Error::other("something else was put in its place; move it away");
            return Err(StoreError::new("create", &file.path, why));
        }
        Ok(file)
    }

    fn create(&self, path: PathBuf) -> Result<OpenFile<S::File>, StoreError> {
        let day = parent(&path);
        self.options.store.make_dir(day).at("create the folder", day)?;
        let file = self.options.store.create(&path);
        self.open_file(path, file, "create")
    }

    fn open_file(
        &self,
        path: PathBuf,
        file: io::Result<S::File>,
        doing: &'static str,
    ) -> Result<OpenFile<S::File>, StoreError> {
        let file = file.at(doing, &path)?;
        let synced = file.length().at(doing, &path)?;
        let identity = self.options.store.identity(&path).at(doing, &path)?;
        Ok(OpenFile { file, path, identity, synced })
    }

    /// Encodes records as one batch, which begins at the offset `start` of the window's file.
    fn encode(&mut self, window: Window, start: u64, run: &[Entry]) {
        self.buffer.clear();
        if start == 0 {
            let (length, cap) = (self.length(window), Some(self.options.cap));
            Header { window, length, cap }.write_line(&mut self.buffer);
        }
        for entry in run {
            entry.record.write_line(&mut self.buffer, start);
        }
    }
}

/// Returns an error if nothing is at `path`, or another file or folder than the one that `was`
/// there, if that is known.
fn check_identity(
    store: &impl Store,
    path: &Path,
    was: Option<Identity>,
) -> Result<(), StoreError> {
    let why = match store.identity(path) {
        Ok(found) if was.is_none_or(|was| was == found) => return Ok(()),
        Ok(_) => io::Error::other("something else was put in its place; put it back"),
        Err(error) if error.kind() == ErrorKind::NotFound => io::Error::new(
            ErrorKind::NotFound,
            "it was removed or moved away; put it back, or restart the registry without it",
        ),
        Err(error) => error,
    };
    Err(StoreError::new("find", path, why))
}

impl<F: Handle> OpenFile<F> {
    /// Appends the lines with one write and one sync; of a new file, syncs the folders too.
    fn append(&mut self, store: &impl Store, lines: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write(lines).at("write", &self.path)?;
        if written < lines.len() {
            let why = format!(
                "only {written} of {} bytes: is the disk full, or the limit of file sizes reached \
                 (ulimit -f)?",
                lines.len()
            );
            return Err(StoreError::new("write", &self.path, io::Error::other(why)));
        }
        self.file.sync().at("sync", &self.path)?;
        if self.synced == 0 {
            mend::sync_names(store, &self.path)?;
        }
        Ok(())
    }

    /// Removes, durably, what is behind the first `synced` bytes, wherever the file is now; if it is in
    /// its place, opens it again before, and removes it if nothing in it is durable. What was put in
    /// its place stays.
    fn mend(&mut self, store: &impl Store<File = F>) -> Result<(), StoreError> {
        let OpenFile { file, path, identity, synced } = self;
        let reopened = store.append(path);
        let is_in_place = check_identity(store, path, Some(*identity)).is_ok();
        if is_in_place {
            // A handle may be of no use any more, as on NFS once the server has forgotten it.
            *file = reopened.at("open", path)?;
        }
        // Also of a file that is removed next: no crash may bring back what was refused.
        mend::cut_open(file, path, *synced)?;
        if is_in_place && *synced == 0 {
            remove_if_there(store, path)?;
            // A failed sync of the folder is not simply repeated.
            let _ = store.remove_dir(parent(path));
        }
        Ok(())
    }

    fn check_time(&self, is_in_time: bool) -> Result<(), StoreError> {
        if is_in_time {
            return Ok(());
        }
        let why = "it was done only when the window had closed; its opening is taken back";
        Err(StoreError::new("sync", &self.path, io::Error::other(why)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mesh::ListCap;
    use crate::record::{Missing, Record};
    use crate::store::Disk;
    use crate::window::Wall;

    fn window() -> Window {
        Length::MINUTE.window_at(Wall::from_millis(0))
    }

    fn run() -> [Entry; 1] {
        let missing = Missing { window: window(), at: Wall::from_millis(0) };
        [Entry { ticket: None, record: Record::Missed(missing) }]
    }

    /// Makes the files of a journal in `dir`; those of `existing` windows are taken for granted.
    fn files(dir: &Path, existing: &[Window]) -> Files<Disk> {
        let (length, cap) = (Length::MINUTE, ListCap::default());
        let header = |window: &Window| Header { window: *window, length, cap: Some(cap) };
        let headers: Vec<Header> = existing.iter().map(header).collect();
        let dir = dir.to_owned();
        let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
        Files::new(options, &headers).unwrap()
    }

    /// The files of a journal, and the path of the one that is written.
    struct Home {
        home: tempfile::TempDir,
        files: Files<Disk>,
        path: PathBuf,
    }

    impl Home {
        fn new() -> Home {
            let home = tempfile::tempdir().unwrap();
            let path = names::path(home.path(), window(), Length::MINUTE);
            Home { files: files(home.path(), &[]), path, home }
        }

        fn append(&mut self, is_in_time: bool) -> Result<(), StoreError> {
            self.files.append(window(), &run(), || is_in_time)
        }

        /// Returns what the next append says that is refused.
        fn refusal(&mut self) -> String {
            self.append(true).unwrap_err().to_string()
        }
    }

    #[test]
    fn what_was_refused_is_taken_out_of_its_own_file_wherever_that_is() {
        for lines in [1, 0] {
            let mut it = Home::new();
            (0..lines).for_each(|_| it.append(true).unwrap());
            let acked = fs::read(&it.path).unwrap_or_default();
            it.append(false).unwrap_err();
            let (away, foreign) = (it.home.path().join("away"), vec![b'x'; 1000]);
            fs::rename(&it.path, &away).unwrap();
            fs::write(&it.path, &foreign).unwrap();
            it.files.mend().unwrap();
            assert_eq!(fs::read(&away).unwrap(), acked);
            assert!(it.refusal().contains("something else"));
            assert_eq!(fs::read(&it.path).unwrap(), foreign);
            fs::rename(&away, &it.path).unwrap();
            it.append(true).unwrap();
            assert!(fs::read(&it.path).unwrap().len() > acked.len());
        }
    }

    #[test]
    fn a_mended_file_is_written_on_and_a_new_one_made_again() {
        for lines in [1, 0] {
            let mut it = Home::new();
            (0..lines).for_each(|_| it.append(true).unwrap());
            it.append(false).unwrap_err();
            it.files.mend().unwrap();
            assert_eq!(it.path.exists(), lines > 0);
            it.append(true).unwrap();
            assert_eq!(fs::read_to_string(&it.path).unwrap().lines().count(), 2 + lines);
        }
    }

    #[test]
    fn a_file_whose_handle_is_of_no_use_any_more_is_mended_through_another_one() {
        for lines in [1, 0] {
            let mut it = Home::new();
            (0..lines).for_each(|_| it.append(true).unwrap());
            it.append(false).unwrap_err();
            let (_, broken) = it.files.broken.as_mut().unwrap();
            broken.file = fs::File::open(&it.path).unwrap();
            it.files.mend().unwrap();
            it.append(true).unwrap();
            assert_eq!(fs::read_to_string(&it.path).unwrap().lines().count(), 2 + lines);
        }
    }

    #[test]
    fn what_failed_is_taken_back_once_and_nothing_that_came_before_or_after() {
        let mut it = Home::new();
        it.append(false).unwrap_err();
        it.files.mend().unwrap();
        assert!(!it.path.exists(), "it was new");
        it.append(true).unwrap();
        let first = fs::read(&it.path).unwrap();
        it.append(false).unwrap_err();
        it.files.mend().unwrap();
        assert_eq!(fs::read(&it.path).unwrap(), first);
        it.append(true).unwrap();
        let second = fs::read(&it.path).unwrap();
        it.files.mend().unwrap();
        assert!(second.len() > first.len() && fs::read(&it.path).unwrap() == second);
    }

    #[test]
    fn a_file_that_something_else_has_cut_is_left_as_it_is() {
        let mut it = Home::new();
        it.append(true).unwrap();
        it.append(false).unwrap_err();
        fs::write(&it.path, "short").unwrap();
        let said = it.files.mend().unwrap_err().to_string();
        assert!(said.contains("something else wrote to it"), "{said}");
        assert_eq!(fs::read(&it.path).unwrap(), b"short");
    }

    #[test]
    fn the_last_two_files_stay_open_and_a_discarded_one_is_neither_open_nor_missed() {
        let Home { mut files, home: _home, .. } = Home::new();
        let windows = [1, 2, 3].map(|n| Length::MINUTE.window_at(Wall::from_millis(n * 60_000)));
        for window in windows {
            files.append(window, &run(), || true).unwrap();
        }
        assert!(files.open.keys().eq(&windows[1..]));
        assert!(files.discard(windows[2]));
        assert!(files.open.keys().eq(&windows[1..2]));
        files.check().unwrap();
    }

    #[test]
    fn in_another_folder_and_in_place_of_a_file_that_is_gone_none_is_made() {
        let home = tempfile::tempdir().unwrap();
        let gone = files(home.path(), &[window()]).append(window(), &run(), || true).unwrap_err();
        assert!(gone.to_string().contains("it was removed or moved away"), "{gone}");
        let (dir, aside) = (home.path().join("journal"), home.path().join("aside"));
        fs::create_dir(&dir).unwrap();
        let mut files = files(&dir, &[]);
        fs::rename(&dir, &aside).unwrap();
        fs::create_dir(&dir).unwrap();
        let other = files.append(window(), &run(), || true).unwrap_err();
        assert!(other.to_string().contains("something else was put in its place"), "{other}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
