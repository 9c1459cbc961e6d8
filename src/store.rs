//! The few operations that the registry needs of a file system, made durable.
//!
//! A write survives a crash once its file was synced; the name of a new or renamed file, once its
//! folder was. [`Disk`] is the real file system; tests replace it by one that crashes after every
//! single step. Files and folders are created for their owner alone, and are never created, cut or
//! appended to through a symbolic link.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use thiserror::Error;

/// A file system, as far as this program uses one.
pub trait Store: Clone + Send + Sync + 'static {
    /// A file that is open for writing at its end.
    type File: Handle;

    /// Makes one folder, mode 0700; an existing one is left as it is.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a new file, mode 0600; an existing one is an error.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for writing at its end.
    fn append(&self, path: &Path) -> io::Result<Self::File>;
    /// Reads a file from its beginning.
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// Reads a file below the folder `root` from its beginning, through no link after `root`.
    fn read_below(&self, root: &Path, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let _ = root;
        self.read(path)
    }
    /// Lists what is in a folder, in no order; a link to a folder is an error.
    fn list(&self, dir: &Path) -> io::Result<Vec<Item>>;
    /// Renames a file; one that has the name `to` already is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or a symbolic link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Returns the identity of the file or folder at `path`.
    fn identity(&self, path: &Path) -> io::Result<Identity>;
    /// Keeps a folder open, and so its identity as it is, until the result is dropped.
    fn hold(&self, dir: &Path) -> io::Result<Box<dyn Send>>;
}

/// The identity of a file or folder, which stays the same when it is renamed: device and inode. Some
/// file systems (FUSE, CIFS) give what nobody has open another inode number at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(pub u64, pub u64);

/// A file that is open for writing at its end.
pub trait Handle: Write + Send + 'static {
    /// Makes the file's content and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to its first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Returns the length of the file in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// An entry of a folder that was listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The path of the folder, and the entry's name in it.
    pub path: PathBuf,
    /// Whether the entry is a file, a folder or something else.
    pub kind: Kind,
}

/// The type of a folder's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file, and not a link to one.
    File,
    /// A folder, and not a link to one.
    Dir,
    /// Anything else: a symbolic link, a pipe, a device.
    Other,
}

impl Item {
    /// Returns the entry's name within the folder; `None` if that is not UTF-8, and so not ours.
    pub fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Store for Disk {
    type File = fs::File;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(dir) {
            // A link is no folder: it leads out of the data directory.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                match fs::symlink_metadata(dir)? {
                    found if found.is_dir() => Ok(()),
                    _ => Err(ErrorKind::NotADirectory.into()),
                }
            }
            made => made,
        }
    }

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
    }

    fn append(&self, path: &Path) -> io::Result<fs::File> {
        open_regular(OpenOptions::new().append(true), path)
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(open_regular(OpenOptions::new().read(true), path)?))
    }

    fn read_below(&self, root: &Path, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(open_below(root, path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let item = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let kind = match entry.file_type()? {
                of if of.is_file() => Kind::File,
                of if of.is_dir() => Kind::Dir,
                _ => Kind::Other,
            };
            Ok(Item { path: entry.path(), kind })
        };
        // Only names are read here: what they are of is opened through no link either.
        if fs::symlink_metadata(dir)?.is_symlink() {
            return Err(ErrorKind::NotADirectory.into());
        }
        fs::read_dir(dir)?.map(item).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::File::open(dir)?.sync_all() {
            // The start has tried the file system, and the operator has accepted that.
            Err(error) if is_unsupported(&error) => Ok(()),
            synced => synced,
        }
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let found = fs::symlink_metadata(path)?;
        Ok(Identity(found.dev(), found.ino()))
    }

    fn hold(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(fs::File::open(dir)?))
    }
}

/// Why a folder, a pipe or a device is not opened, and what helps.
const NOT_REGULAR: &str = "it is not a regular file; move it away";

/// Opens a regular file, and rejects symbolic links, pipes, devices and folders. The check is made
/// on the open file: nobody can swap it in between.
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<fs::File> {
    regular(options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path))
}

/// Opens a regular file below the folder `root` for reading. Each folder between the two is opened
/// from the one before it: none can be a link, also if it is swapped meanwhile.
pub fn open_below(root: &Path, path: &Path) -> io::Result<fs::File> {
    let (dir, none) = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let mut within = open(root, dir, none)?;
    let below = path.strip_prefix(root).map_err(io::Error::other)?;
    for folder in parent(below).iter() {
        within = match openat(&within, folder, dir | OFlag::O_NOFOLLOW, none) {
            Err(nix::Error::ELOOP | nix::Error::ENOTDIR) => {
                let what = "it is behind a link, or a file, in the place of a folder; remove that";
                return Err(io::Error::new(ErrorKind::InvalidInput, what));
            }
            opened => opened?,
        };
    }
    let name = path.file_name().unwrap_or_default();
    let file = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    regular(openat(&within, name, file, none).map(fs::File::from).map_err(io::Error::from))
}

/// Returns a file that was opened, but not through a link, if it is a regular file.
fn regular(opened: io::Result<fs::File>) -> io::Result<fs::File> {
    let elsewhere = |what| io::Error::new(ErrorKind::InvalidInput, what);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            Err(elsewhere("it is a link, which may lead anywhere; remove it"))
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::ENXIO)) => {
            Err(elsewhere(NOT_REGULAR))
        }
        Ok(file) if !file.metadata()?.is_file() => Err(elsewhere(NOT_REGULAR)),
        opened => opened,
    }
}

/// Returns whether an error means that this file system cannot do what was asked, ever: some of
/// FUSE, CIFS and 9p have no sync of folders, or no locks.
pub fn is_unsupported(error: &io::Error) -> bool {
    let numbers = [libc::ENOLCK, libc::ENOTTY];
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
        || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}

impl Handle for fs::File {
    fn sync(&mut self) -> io::Result<()> {
        // fdatasync(2): a changed length is flushed with the data, times are not.
        match self.sync_data() {
            Err(error) if is_unsupported(&error) => Ok(()),
            synced => synced,
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// A failed file operation: what was tried, on which path, the cause, and what helps.
#[derive(Debug, Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
pub struct StoreError {
    /// What was tried, the verb of the message: `write`, `sync`, …
    pub doing: &'static str,
    /// The file or folder on which the operation failed.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

impl StoreError {
    /// Makes an error from the `source` that came of `doing` something to `path`.
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError { doing, path: path.to_owned(), source }
    }

    /// Returns whether the file or folder did not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == ErrorKind::NotFound
    }
}

/// Returns what a person can do about an error, to end its message with.
fn remedy(error: &io::Error) -> &'static str {
    if let Some(libc::EMFILE | libc::ENFILE) = error.raw_os_error() {
        return "; allow more open files (ulimit -n)";
    }
    match error.kind() {
        ErrorKind::PermissionDenied => "; give the user that runs hit7 access to it",
        ErrorKind::NotADirectory => {
            "; a file is in the place of a folder: move it away, or choose another folder with --data"
        }
        ErrorKind::CrossesDevices | ErrorKind::Unsupported => "; choose another folder with --data",
        ErrorKind::ReadOnlyFilesystem => "; mount it writable, or choose another with --data",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on the disk",
        ErrorKind::FileTooLarge => "; allow larger files (ulimit -f)",
        _ => "",
    }
}

/// Adds to an I/O error what was being done, and to which path.
pub trait ErrorContext<T> {
    /// Converts an I/O error into a [`StoreError`] that says what was being done to which `path`.
    fn at(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> ErrorContext<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::new(doing, path, source))
    }
}

/// Makes one folder, and its name durable. The name is synced also if the folder exists: the
/// process that made it may have been killed before its sync.
pub fn make_dir_durably(store: &impl Store, dir: &Path) -> Result<(), StoreError> {
    store.make_dir(dir).at("create the folder", dir)?;
    let parent = parent(dir);
    store.sync_dir(parent).at("sync", parent)
}

/// Replaces a file by what `fill` writes: after a crash there is the old file or the new one,
/// never a part.
pub fn write_whole<S: Store>(
    store: &S,
    path: &Path,
    fill: impl FnOnce(&mut io::BufWriter<&mut S::File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let temporary = temporary(path);
    let written = fill_and_rename(store, path, &temporary, fill);
    if written.is_err() {
        // On a full disk a half-written file would keep the next one from fitting.
        let _ = store.remove_file(&temporary);
    }
    written
}

fn fill_and_rename<S: Store>(
    store: &S,
    path: &Path,
    temporary: &Path,
    fill: impl FnOnce(&mut io::BufWriter<&mut S::File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    // A crash may have left a temporary file.
    remove_if_there(store, temporary)?;
    let mut file = store.create(temporary).at("create", temporary)?;
    let mut buffer = io::BufWriter::with_capacity(1 << 16, &mut file);
    fill(&mut buffer).and_then(|()| buffer.flush()).at("write", temporary)?;
    drop(buffer);
    file.sync().at("sync", temporary)?;
    store.rename(temporary, path).at("rename a new file to", path)?;
    store.sync_dir(parent(path)).at("sync", parent(path))
}

/// Returns the name that a file has while it is being written: `11-29.json.tmp`.
fn temporary(path: &Path) -> PathBuf {
    with_end(path, ".tmp")
}

/// Returns a path with `end` appended to its file name.
pub fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(end);
    longer.into()
}

/// Removes a file; one that does not exist is no error.
pub fn remove_if_there(store: &impl Store, path: &Path) -> Result<(), StoreError> {
    match store.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", path),
    }
}

/// Returns the folder that a path is in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_created_is_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let (dir, file) = (home.path().join("dir"), home.path().join("dir/file"));
        Disk.make_dir(&dir).unwrap();
        Disk.make_dir(&dir).unwrap();
        Disk.create(&file).unwrap().write_all(b"hola").unwrap();
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        assert_eq!(Disk.create(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(Disk.make_dir(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        assert!(Disk.create(&link).is_err() && Disk.append(&link).is_err());
        write_whole(&Disk, &link, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let dangling = home.path().join("dangling");
        symlink(home.path().join("nothing"), &dangling).unwrap();
        assert!(Disk.create(&dangling).is_err());
        assert!(!home.path().join("nothing").exists());
        let said = Disk.read(&dangling).err().unwrap().to_string();
        assert!(said.contains("a link") && said.contains("remove it"), "{said}");
    }

    /// Without this check, opening a pipe that nobody writes to would block for ever.
    #[test]
    fn only_regular_files_are_opened() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("socket");
        let _socket = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        for path in [home.path(), &socket, Path::new("/dev/null")] {
            assert!(Disk.read(path).is_err() && Disk.append(path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn an_appended_file_is_written_at_its_end_and_cut() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        Disk.create(&path).unwrap().write_all(b"one two").unwrap();
        let mut file = Disk.append(&path).unwrap();
        file.cut(3).unwrap();
        file.write_all(b", three").unwrap();
        file.sync().unwrap();
        assert_eq!(file.length().unwrap(), 10);
        assert_eq!(fs::read(&path).unwrap(), b"one, three");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(home.path().join("file.tmp"), "left by a crash").unwrap();
        write_whole(&Disk, &path, |file| file.write_all(b"first")).unwrap();
        let broken = write_whole(&Disk, &path, |file| {
            file.write_all(b"second")?;
            Err(ErrorKind::StorageFull.into())
        });
        let said = broken.unwrap_err().to_string();
        assert!(said.contains("file.tmp") && said.ends_with("make room on the disk"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(Disk.list(home.path()).unwrap(), [Item { path, kind: Kind::File }]);
    }

    #[test]
    fn every_error_names_the_path_and_what_helps() {
        for (kind, helps) in [
            (ErrorKind::PermissionDenied, "access"),
            (ErrorKind::ReadOnlyFilesystem, "--data"),
            (ErrorKind::StorageFull, "make room"),
        ] {
            let failed: io::Result<()> = Err(kind.into());
            let said = failed.at("write", Path::new("/srv/hit7")).unwrap_err().to_string();
            assert!(said.starts_with("cannot write /srv/hit7: "), "{said}");
            assert!(said.contains(helps), "{said}");
        }
    }

    #[test]
    fn the_parent_of_a_bare_name_is_the_current_folder() {
        assert_eq!(parent(Path::new("hit7-data")), Path::new("."));
        assert_eq!(parent(Path::new("a/b")), Path::new("a"));
        assert_eq!(parent(Path::new("/")), Path::new("/"));
    }
}
