//! A simulated disk in memory that fails and crashes at chosen steps.
//!
//! The disk tracks what was written and what is durable: bytes are durable once their file is
//! synced, names once their folder is. As on a real disk, what was not durable when a sync failed
//! never becomes durable, even if later syncs succeed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use hit7::store::{Handle, Identity, Item, Kind, Store};

/// The only folder of a new disk.
pub(crate) const ROOT: &str = "/hit7-data";

/// How a step of the disk fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Fault {
    /// The disk crashes: this step and all later ones are not done.
    #[default]
    Crash,
    /// The step is not done and returns this error.
    Fail(ErrorKind),
    /// A write writes only half; other steps are not done.
    Short,
    /// A sync is done but returns an error; other steps are not done.
    Late,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Crash => io::Error::other("crashed"),
            Fault::Fail(kind) => kind.into(),
            Fault::Short | Fault::Late => io::Error::other("failed"),
        }
    }
}

/// Which steps fail, and how: `times` steps, the first of them `at` steps from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) at: usize,
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// What a crash leaves of what was not durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum After {
    /// Nothing is left, as after a power failure.
    #[default]
    Lost,
    /// Everything is left, still not durable, as after a kill of the process.
    Kept,
    /// All names are left, and this many of the bytes at each file's end that were not durable.
    Torn(usize),
    /// As [`After::Torn`], with zeros in place of the other bytes.
    Zeros(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Dir,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// The bytes of a failed sync: the kernel dropped them, and later syncs do not write them.
    dropped: Option<Range<usize>>,
}

#[derive(Clone, Default)]
struct World {
    names: Names,
    durable: Names,
    /// The names of a failed sync of their folder, which later syncs do not make durable.
    stale: BTreeSet<PathBuf>,
    contents: Vec<Content>,
    /// Who holds a folder, if anybody does, and the number that all folders have.
    holder: Weak<()>,
    folder: u64,
    steps: usize,
    syncs: usize,
    plan: Option<Plan>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// A disk to test a journal on, whose steps can be made to fail; clones share one disk.
pub(crate) trait TestDisk: Store + Clone {
    /// Returns the folder of the journal.
    fn journal(&self) -> PathBuf;
    /// Makes `times` steps in a row fail, after `after` more steps have succeeded.
    fn fail(&self, after: usize, times: usize);
    /// Returns whether any step has failed since the last call of [`TestDisk::fail`].
    fn has_failed(&self) -> bool;
    /// Makes all further steps succeed.
    fn heal(&self);
    /// Crashes this disk, and returns the disk as the next start finds it.
    fn crashed(&self) -> Self;
}

/// A simulated disk in memory that fails and crashes at chosen steps.
#[derive(Clone, Default)]
pub(crate) struct FlakyDisk {
    world: Arc<Mutex<World>>,
    before_sync: Option<Hook>,
    /// How steps fail and what a crash leaves, where no plan says otherwise.
    fault: Fault,
    after: After,
}

/// An open file of a [`FlakyDisk`].
pub(crate) struct FlakyFile {
    disk: FlakyDisk,
    content: usize,
}

impl FlakyDisk {
    /// Makes a disk with one durable folder, [`ROOT`].
    pub(crate) fn new() -> FlakyDisk {
        let disk = FlakyDisk::default();
        let root = Path::new(ROOT).ancestors().map(|dir| (dir.to_owned(), Node::Dir));
        disk.world().names.extend(root);
        let names = disk.world().names.clone();
        disk.world().durable = names;
        disk
    }

    /// Sets how steps fail by [`TestDisk::fail`], and what [`TestDisk::crashed`] leaves.
    pub(crate) fn with(self, fault: Fault, after: After) -> FlakyDisk {
        FlakyDisk { fault, after, ..self }
    }

    /// Calls `hook` before each sync of a file.
    pub(crate) fn before_sync(mut self, hook: impl Fn() + Send + Sync + 'static) -> FlakyDisk {
        self.before_sync = Some(Arc::new(hook));
        self
    }

    /// Counts steps from 0 from now on, and makes them fail as planned.
    pub(crate) fn plan(&self, plan: Option<Plan>) {
        let mut world = self.world();
        (world.steps, world.plan) = (0, plan);
    }

    /// Returns whether all steps of the plan have been reached.
    pub(crate) fn is_past_plan(&self) -> bool {
        let world = self.world();
        world.plan.is_none_or(|plan| world.steps >= plan.at.saturating_add(plan.times))
    }

    /// Returns how often a file was synced.
    pub(crate) fn syncs(&self) -> usize {
        self.world().syncs
    }

    /// Returns the most bytes at the end of any file that are not durable.
    pub(crate) fn unsynced(&self) -> usize {
        let of = |content: &Content| content.bytes.len().saturating_sub(content.durable.len());
        self.world().contents.iter().map(of).max().unwrap_or(0)
    }

    /// Returns a copy of the disk as it is after a crash that leaves `after`.
    pub(crate) fn reboot(&self, after: After) -> FlakyDisk {
        let mut world = self.world().clone();
        world.plan = None;
        if !matches!(after, After::Kept) {
            world.lose(after);
        }
        FlakyDisk { world: Arc::new(Mutex::new(world)), before_sync: None, ..*self }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Counts one step, and returns how it fails, if it does.
    fn take_step(&self) -> (MutexGuard<'_, World>, Option<Fault>) {
        let mut world = self.world();
        let step = world.steps;
        world.steps += 1;
        let hits = |plan: &Plan| match plan.fault {
            Fault::Crash => step >= plan.at,
            _ => (plan.at..plan.at.saturating_add(plan.times)).contains(&step),
        };
        let fault = world.plan.filter(hits).map(|plan| plan.fault);
        (world, fault)
    }

    /// Counts one step, and returns an error if it fails.
    fn step(&self) -> io::Result<MutexGuard<'_, World>> {
        match self.take_step() {
            (world, None) => Ok(world),
            (_, Some(fault)) => Err(fault.error()),
        }
    }

    /// Returns the inode number of all folders, which is another one each time unless one is held.
    fn number_of_folders(&self) -> u64 {
        let mut world = self.world();
        world.folder += u64::from(world.holder.strong_count() == 0);
        world.folder
    }

    fn open(&self, path: &Path) -> io::Result<usize> {
        match self.world().names.get(path) {
            Some(Node::File(content)) => Ok(*content),
            Some(Node::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl World {
    fn lose(&mut self, after: After) {
        if let After::Lost = after {
            self.names = self.durable.clone();
            let names = self.names.clone();
            let reachable = |path: &Path| path.ancestors().all(|dir| names.contains_key(dir));
            self.names.retain(|path, _| reachable(path));
        }
        for content in &mut self.contents {
            content.lose(after);
        }
        self.durable = self.names.clone();
        self.stale.clear();
    }

    fn put(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let parent = path.parent().unwrap();
        if self.names.get(parent) != Some(&Node::Dir) {
            return Err(ErrorKind::NotFound.into());
        }
        if self.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.stale.remove(path);
        self.names.insert(path.to_owned(), node);
        Ok(())
    }

    fn take(&mut self, path: &Path) -> io::Result<Node> {
        self.stale.remove(path);
        self.names.remove(path).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_names(&mut self, unsynced: &BTreeSet<PathBuf>) {
        for path in unsynced.difference(&self.stale) {
            match self.names.get(path).copied() {
                Some(node) => self.durable.insert(path.clone(), node),
                None => self.durable.remove(path),
            };
        }
    }

    /// Returns the names in `dir` that are not durable in their present state.
    fn unsynced_names(&self, dir: &Path) -> BTreeSet<PathBuf> {
        let all = self.names.keys().chain(self.durable.keys());
        let within = all.filter(|path| path.parent() == Some(dir));
        within.filter(|path| self.names.get(*path) != self.durable.get(*path)).cloned().collect()
    }
}

impl Content {
    fn sync(&mut self) {
        self.durable = self.bytes.clone();
        if let Some(dropped) = self.dropped.clone() {
            self.durable[dropped].fill(0);
        }
    }

    fn drop_unsynced(&mut self) {
        if self.durable.len() < self.bytes.len() {
            self.dropped.get_or_insert(self.durable.len()..self.bytes.len());
        }
    }

    fn lose(&mut self, after: After) {
        let start = self.durable.len().min(self.bytes.len());
        let tail = self.bytes[start..].to_vec();
        let kept = |count: usize| &tail[..count.min(tail.len())];
        match after {
            After::Torn(count) => self.durable.extend_from_slice(kept(count)),
            After::Zeros(count) => {
                let length = self.durable.len() + tail.len();
                self.durable.extend_from_slice(kept(count));
                self.durable.resize(length, 0);
            }
            After::Lost | After::Kept => {}
        }
        self.bytes = self.durable.clone();
        self.dropped = None;
    }
}

impl TestDisk for FlakyDisk {
    fn journal(&self) -> PathBuf {
        Path::new(ROOT).join("journal")
    }

    fn fail(&self, at: usize, times: usize) {
        self.plan(Some(Plan { at, times, fault: self.fault }));
    }

    fn has_failed(&self) -> bool {
        let world = self.world();
        world.plan.is_some_and(|plan| world.steps > plan.at)
    }

    fn heal(&self) {
        self.plan(None);
    }

    fn crashed(&self) -> FlakyDisk {
        self.reboot(self.after)
    }
}

impl Store for FlakyDisk {
    type File = FlakyFile;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self.world().names.get(dir) == Some(&Node::Dir) {
            return Ok(());
        }
        self.step()?.put(dir, Node::Dir)
    }

    fn create(&self, path: &Path) -> io::Result<FlakyFile> {
        let mut world = self.step()?;
        let content = world.contents.len();
        world.put(path, Node::File(content))?;
        world.contents.push(Content::default());
        Ok(FlakyFile { disk: self.clone(), content })
    }

    fn append(&self, path: &Path) -> io::Result<FlakyFile> {
        Ok(FlakyFile { disk: self.clone(), content: self.open(path)? })
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let content = self.open(path)?;
        Ok(Box::new(Cursor::new(self.world().contents[content].bytes.clone())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let item = |(path, node): (&PathBuf, &Node)| {
            let kind = if *node == Node::Dir { Kind::Dir } else { Kind::File };
            Item { path: path.clone(), kind }
        };
        let within = |(path, _): &(&PathBuf, &Node)| path.parent() == Some(dir);
        Ok(self.world().names.iter().filter(within).map(item).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.step()?;
        let node = world.take(from)?;
        let _ = world.take(to);
        world.put(to, node)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.open(path)?;
        self.step()?.take(path).map(drop)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.step()?.take(dir).map(drop)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut world, fault) = self.take_step();
        let unsynced = world.unsynced_names(dir);
        match fault {
            None | Some(Fault::Late) => world.sync_names(&unsynced),
            // The crash came before the sync began.
            Some(Fault::Crash) => {}
            Some(_) => world.stale.extend(unsynced),
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let node = self.world().names.get(path).copied();
        match node {
            Some(Node::File(content)) => Ok(Identity(1, content as u64)),
            Some(Node::Dir) => Ok(Identity(2, self.number_of_folders())),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn hold(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        self.list(dir)?;
        let holder = Arc::new(());
        self.world().holder = Arc::downgrade(&holder);
        Ok(Box::new(holder))
    }
}

impl Write for FlakyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut world, fault) = self.disk.take_step();
        let written = match fault {
            None => bytes.len(),
            Some(Fault::Short) => bytes.len() / 2,
            Some(fault) => return Err(fault.error()),
        };
        world.contents[self.content].bytes.extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Handle for FlakyFile {
    fn sync(&mut self) -> io::Result<()> {
        if let Some(hook) = &self.disk.before_sync {
            hook();
        }
        let (mut world, fault) = self.disk.take_step();
        world.syncs += 1;
        let content = &mut world.contents[self.content];
        match fault {
            None | Some(Fault::Late) => content.sync(),
            // The crash came before the sync began.
            Some(Fault::Crash) => {}
            Some(_) => content.drop_unsynced(),
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut world = self.disk.step()?;
        let content = &mut world.contents[self.content];
        content.bytes.resize(length as usize, 0);
        content.dropped = content.dropped.take().filter(|dropped| dropped.end <= length as usize);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.world().contents[self.content].bytes.len() as u64)
    }
}
