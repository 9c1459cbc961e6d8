//! A disk in memory that fails and crashes where it is told to.
//!
//! It keeps apart what was done and what is durable: bytes until their file is synced, names until
//! their folder is. It is as unkind as a real one may be: what was not durable when a sync failed
//! never will be, whatever later syncs say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use hit7::store::{Handle, Item, Kind, Store};

/// The only folder that is there at first.
pub(crate) const ROOT: &str = "/hit7-data";

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Fault {
    /// The step and all later ones are not done.
    #[default]
    Crash,
    /// The step is not done.
    Fail(ErrorKind),
    /// Of a write only half is done; other steps are not done.
    Short,
    /// A sync is done and says that it failed; other steps are not done.
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

/// When: `times` steps, the first of them `at` steps from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) at: usize,
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// What a crash leaves of what was not durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum After {
    /// Nothing: the power failed.
    #[default]
    Lost,
    /// Everything, still not durable: the process was killed.
    Kept,
    /// All names, and so many bytes at each file's end.
    Torn(usize),
    /// The same, and zeros in place of the other bytes.
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
    /// Of a failed sync: the kernel has dropped it and says no more of it.
    dropped: Option<Range<usize>>,
}

#[derive(Clone, Default)]
struct World {
    names: Names,
    durable: Names,
    /// As `dropped`, of names.
    stale: BTreeSet<PathBuf>,
    contents: Vec<Content>,
    steps: usize,
    syncs: usize,
    plan: Option<Plan>,
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// A disk that a journal can be tried on; clones are the same one.
pub(crate) trait TestDisk: Store + Clone {
    /// The folder of the journal.
    fn journal(&self) -> PathBuf;
    /// Lets `times` steps in a row fail, once `after` have been done.
    fn fail(&self, after: usize, times: usize);
    /// Whether any step has failed since then.
    fn has_failed(&self) -> bool;
    /// Lets nothing fail any more.
    fn heal(&self);
    /// The disk as it is found after a crash, which ends this one.
    fn crashed(&self) -> Self;
}

/// The disk in memory.
#[derive(Clone, Default)]
pub(crate) struct FlakyDisk {
    world: Arc<Mutex<World>>,
    before_sync: Option<Hook>,
    /// What goes wrong, and what a crash leaves, unless a plan says.
    fault: Fault,
    after: After,
}

/// A file of it.
pub(crate) struct FlakyFile {
    disk: FlakyDisk,
    content: usize,
}

impl FlakyDisk {
    /// A disk with one folder, which is durable.
    pub(crate) fn new() -> FlakyDisk {
        let disk = FlakyDisk::default();
        let root = Path::new(ROOT).ancestors().map(|dir| (dir.to_owned(), Node::Dir));
        disk.world().names.extend(root);
        let names = disk.world().names.clone();
        disk.world().durable = names;
        disk
    }

    /// What goes wrong by [`TestDisk::fail`], and what [`TestDisk::crashed`] leaves.
    pub(crate) fn with(self, fault: Fault, after: After) -> FlakyDisk {
        FlakyDisk { fault, after, ..self }
    }

    /// Calls `hook` before each sync of a file.
    pub(crate) fn before_sync(mut self, hook: impl Fn() + Send + Sync + 'static) -> FlakyDisk {
        self.before_sync = Some(Arc::new(hook));
        self
    }

    /// From now on, steps are counted from 0 and fail as planned.
    pub(crate) fn plan(&self, plan: Option<Plan>) {
        let mut world = self.world();
        (world.steps, world.plan) = (0, plan);
    }

    /// Whether the plan has come to its end.
    pub(crate) fn is_past_plan(&self) -> bool {
        let world = self.world();
        world.plan.is_none_or(|plan| world.steps >= plan.at.saturating_add(plan.times))
    }

    /// How many files were synced.
    pub(crate) fn syncs(&self) -> usize {
        self.world().syncs
    }

    /// The most bytes at a file's end that are not durable.
    pub(crate) fn unsynced(&self) -> usize {
        let of = |content: &Content| content.bytes.len().saturating_sub(content.durable.len());
        self.world().contents.iter().map(of).max().unwrap_or(0)
    }

    /// Another disk, as this one is found when the machine is started again.
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

    /// Takes one step; what goes wrong with it, if anything does.
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

    /// Takes one step that is done or not.
    fn step(&self) -> io::Result<MutexGuard<'_, World>> {
        match self.take_step() {
            (world, None) => Ok(world),
            (_, Some(fault)) => Err(fault.error()),
        }
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

    /// The names in `dir` that are not durable as they are.
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
            // It was never begun.
            Some(Fault::Crash) => {}
            Some(_) => world.stale.extend(unsynced),
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
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
            // It was never begun.
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
