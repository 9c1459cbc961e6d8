//! The machine's own disk, with chosen steps that fail.

use std::fs;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hit7::store::{Disk, Handle, Identity, Item, Store};

use crate::disk::TestDisk;

/// A folder on the machine's disk whose steps can be made to fail; clones share one folder.
#[derive(Clone)]
pub(crate) struct FailingDisk {
    home: Arc<tempfile::TempDir>,
    steps: Arc<Mutex<Steps>>,
}

/// The number of the next step, and the range of steps that fail.
struct Steps {
    next: usize,
    failing: Range<usize>,
}

/// An open file of a [`FailingDisk`].
pub(crate) struct FailingFile {
    disk: FailingDisk,
    file: fs::File,
}

impl FailingDisk {
    /// Makes an empty folder, in `/dev/shm` if there is one: each test syncs thousands of times.
    pub(crate) fn new() -> FailingDisk {
        let home = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        FailingDisk { home: Arc::new(home), steps: Arc::new(Mutex::new(Steps::NONE_FAIL)) }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    fn step(&self) -> io::Result<()> {
        let mut steps = self.steps.lock().unwrap();
        let step = steps.next;
        steps.next += 1;
        match steps.failing.contains(&step) {
            true => Err(io::Error::other("of the test")),
            false => Ok(()),
        }
    }
}

impl Steps {
    const NONE_FAIL: Steps = Steps { next: 0, failing: usize::MAX..usize::MAX };
}

impl TestDisk for FailingDisk {
    fn journal(&self) -> PathBuf {
        self.home.path().join("journal")
    }

    fn fail(&self, after: usize, times: usize) {
        let failing = after..after.saturating_add(times);
        *self.steps.lock().unwrap() = Steps { next: 0, failing };
    }

    fn has_failed(&self) -> bool {
        let steps = self.steps.lock().unwrap();
        steps.next > steps.failing.start
    }

    fn heal(&self) {
        *self.steps.lock().unwrap() = Steps::NONE_FAIL;
    }

    /// Makes all steps of this disk fail, and returns the folder as the next process finds it after
    /// a kill.
    fn crashed(&self) -> FailingDisk {
        self.fail(0, usize::MAX);
        FailingDisk { home: self.home.clone(), steps: Arc::new(Mutex::new(Steps::NONE_FAIL)) }
    }
}

impl Store for FailingDisk {
    type File = FailingFile;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        self.step()?;
        Disk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<FailingFile> {
        self.step()?;
        Ok(FailingFile { disk: self.clone(), file: Disk.create(path)? })
    }

    fn append(&self, path: &Path) -> io::Result<FailingFile> {
        Ok(FailingFile { disk: self.clone(), file: Disk.append(path)? })
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Disk.read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        Disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        Disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        Disk.sync_dir(dir)
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        Disk.identity(path)
    }

    fn hold(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        Disk.hold(dir)
    }
}

/// A write that fails writes half of its bytes.
impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.disk.step() {
            Ok(()) => self.file.write(bytes),
            Err(failed) => self.file.write_all(&bytes[..bytes.len() / 2]).and(Err(failed)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Handle for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.step()?;
        self.file.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.cut(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
