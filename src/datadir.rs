//! The registry's data directory: the modes of its files, its lock, and its secret.
//!
//! ```text
//! hit7-data/             0700
//!   lock                 held while a registry runs
//!   secret               32 random bytes, 0600, made once
//!   journal/  windows/   see `journal` and `archive`
//! ```

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cookie::Secret;
use crate::store::{
    Disk, ErrorContext, Store, StoreError, is_unsupported, make_dir_durably, open_regular, parent,
    write_whole,
};

/// A locked data directory, which no other registry can use until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    secret: Secret,
    /// The locks are held as long as these files are open.
    _locks: Locks,
}

/// An operation without which a registry's promises do not hold, and that some file systems lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// Files cannot be locked.
    Lock,
    /// A file or a folder cannot be synced.
    Sync,
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weakness::Lock => "lock a file: nothing keeps a second registry from writing there too",
            Weakness::Sync => "sync a folder: what was acked may be gone after a power failure",
        })
    }
}

/// The reason why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// An operation of the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another registry holds the lock.
    #[error(
        "{} is used by another registry; stop that one, or choose another folder with --data",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file system cannot do what the registry's promises need.
    #[error(
        "{} is on a file system that cannot {weakness}; choose another folder with --data, or start \
         with --accept-weak-disk",
        path.display()
    )]
    Weak {
        /// The data directory that cannot be used.
        path: PathBuf,
        /// What the file system cannot do.
        weakness: Weakness,
    },
    /// The file `secret` does not have the length of a secret.
    #[error(
        "{} is not the 32 bytes that hit7 keeps there; restore it, or remove it: a new one is made, \
         and clients of the windows that are under way have to register again",
        .0.display()
    )]
    Secret(PathBuf),
    /// The operating system gave no random numbers for a new secret.
    #[error("no random bytes for {}: {source}", path.display())]
    Random {
        /// The file that the secret was for.
        path: PathBuf,
        /// The error of the operating system.
        source: getrandom::Error,
    },
}

impl DataDir {
    /// Opens and locks the directory at `path`; it is made with mode 0700 if it is missing. With
    /// `accept_weak`, what its file system cannot do is only logged.
    pub fn open(path: &Path, accept_weak: bool) -> Result<DataDir, DataDirError> {
        let accept = |weakness| {
            if !accept_weak {
                return Err(DataDirError::Weak { path: path.to_owned(), weakness });
            }
            tracing::warn!("{}: the file system cannot {weakness}", path.display());
            Ok(())
        };
        make_dir(path)?;
        restrict_data_dir(path)?;
        let (locks, are_held) = lock(path)?;
        if !are_held {
            accept(Weakness::Lock)?;
        }
        if !can_sync(path, &locks)? {
            accept(Weakness::Sync)?;
        }
        restrict_journal_dir(&path.join("journal"));
        warn_of_lost_journal(path);
        let secret = open_secret(&path.join("secret"))?;
        // Made now, so that a file in its place is found at the start, not with the first document.
        make_dir_durably(&Disk, &path.join("windows"))?;
        Ok(DataDir { path: path.to_owned(), secret, _locks: locks })
    }

    /// Returns the secret that cookies, passes and seeds are computed from.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the path of the journal's folder.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Returns the path of the folder of the windows' documents.
    pub fn windows(&self) -> PathBuf {
        self.path.join("windows")
    }
}

/// Makes the directory and its missing parents. An existing one keeps its mode, which somebody may
/// have chosen.
fn make_dir(path: &Path) -> Result<(), StoreError> {
    let above = parent(path);
    if path.is_dir() {
        // The process that made the directory may have been killed before its name was durable.
        let _ = Disk.sync_dir(above);
        return Ok(());
    }
    if above != path && !above.exists() {
        make_dir(above)?;
    }
    make_dir_durably(&Disk, path)
}

/// Removes the write permission of group and others, who could replace the secret by their own. A
/// folder with files that are not hit7's, like /tmp, is left as it is, with a warning.
fn restrict_data_dir(dir: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(dir).at("read", dir)?.permissions().mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    let closed = mode & !0o022;
    if has_only_our_files(dir)? && fs::set_permissions(dir, Permissions::from_mode(closed)).is_ok()
    {
        tracing::warn!("others could write in {}: its mode is {closed:04o} now", dir.display());
    } else {
        tracing::warn!(
            "others can write in {}, and so put a secret of their own there: close it with \
             chmod go-w, or choose another folder with --data",
            dir.display()
        );
    }
    Ok(())
}

fn has_only_our_files(dir: &Path) -> Result<bool, StoreError> {
    let ours = ["lock", "secret", "secret.tmp", "journal", "windows"];
    // The data directory itself may be a link: `.` is what it leads to.
    let items = Disk.list(&dir.join(".")).at("read", dir)?;
    Ok(items.iter().all(|item| item.name().is_some_and(|name| ours.contains(&name))))
}

/// Sets the journal's folder to mode 0700 if others can access it, as after a restore: the journal
/// names the members of the next window, and their ids.
fn restrict_journal_dir(dir: &Path) {
    let is_open = |data: fs::Metadata| data.is_dir() && data.permissions().mode() & 0o077 != 0;
    if fs::symlink_metadata(dir).is_ok_and(is_open) {
        restrict(dir, 0o700);
    }
}

/// Warns if the folder was used before, since it has a secret, but has no journal any more.
fn warn_of_lost_journal(dir: &Path) {
    let is_there = |name| fs::symlink_metadata(dir.join(name)).is_ok();
    if is_there("secret") && !is_there("journal") {
        tracing::warn!(
            "{} is gone: who registered before is not known; if it was moved away, stop the \
             registry, put it back, and start again",
            dir.join("journal").display()
        );
    }
}

/// Sets the mode of a file or folder that others can access, and logs that.
fn restrict(path: &Path, mode: u32) {
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) => {
            tracing::warn!("others could read {}: its mode is {mode:04o} now", path.display());
        }
        Err(error) => tracing::warn!(
            "others on this machine may read {}, and its file system keeps no modes ({error}): they \
             could forge cookies, and see who is in the next window; mount it with umask=077, or \
             choose another folder with --data",
            path.display()
        ),
    }
}

/// The open files that hold the locks of a data directory.
#[derive(Debug)]
struct Locks {
    /// The directory itself, which not every file system can lock.
    dir: File,
    /// The file `lock`, which somebody may remove while a registry runs.
    file: File,
}

/// Locks the directory; returns the locks, and whether its file system has any.
fn lock(dir: &Path) -> Result<(Locks, bool), DataDirError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = open_regular(options, &path).at("open", &path)?;
    let locks = Locks { dir: File::open(dir).at("open", dir)?, file };
    if let Err(TryLockError::WouldBlock) = locks.dir.try_lock() {
        return Err(DataDirError::InUse(dir.to_owned()));
    }
    match locks.file.try_lock() {
        Ok(()) => Ok((locks, true)),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok((locks, false)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::new("lock", &path, error).into()),
    }
}

/// Returns whether the file system of the directory can sync a folder and a file in it, and that of
/// the journal's folder, which may be another one.
fn can_sync(dir: &Path, locks: &Locks) -> Result<bool, StoreError> {
    let sync_journal = || match File::open(dir.join("journal")) {
        Ok(journal) => journal.sync_all(),
        Err(_) => Ok(()),
    };
    match locks.dir.sync_all().and_then(|()| locks.file.sync_data()).and_then(|()| sync_journal()) {
        Err(error) if is_unsupported(&error) => Ok(false),
        synced => synced.at("sync", dir).map(|()| true),
    }
}

fn open_secret(path: &Path) -> Result<Secret, DataDirError> {
    match open_regular(OpenOptions::new().read(true), path) {
        Ok(file) => read_secret(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path),
        Err(error) => Err(StoreError::new("read", path, error).into()),
    }
}

fn read_secret(path: &Path, file: File) -> Result<Secret, DataDirError> {
    restrict_secret(path, &file)?;
    let mut bytes = Vec::new();
    file.take(33).read_to_end(&mut bytes).at("read", path)?;
    let bytes = bytes.try_into().map_err(|_| DataDirError::Secret(path.to_owned()))?;
    Ok(Secret::from_bytes(bytes))
}

/// Sets the secret's file to mode 0600, with a warning, if others can access it, as after a restore
/// or on a volume with its own default mode: a reader can forge cookies and passes.
fn restrict_secret(path: &Path, file: &File) -> Result<(), StoreError> {
    let mode = file.metadata().at("read", path)?.permissions().mode();
    if mode & 0o077 != 0 {
        restrict(path, 0o600);
    }
    Ok(())
}

fn make_secret(path: &Path) -> Result<Secret, DataDirError> {
    let random = Secret::random();
    let secret = random.map_err(|source| DataDirError::Random { path: path.to_owned(), source })?;
    write_whole(&Disk, path, |file| file.write_all(secret.as_bytes()))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_directory_is_made_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("srv/hit7-data");
        let data = DataDir::open(&path, false).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!((mode(&path.join("lock")), mode(&path.join("secret"))), (0o600, 0o600));
        assert_eq!(data.journal(), path.join("journal"));
        assert_eq!(data.windows(), path.join("windows"));
    }

    #[test]
    fn an_existing_directory_keeps_its_mode() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o750)).unwrap();
        DataDir::open(home.path(), false).unwrap();
        assert_eq!(mode(home.path()), 0o750);
    }

    #[test]
    fn a_second_registry_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let first = DataDir::open(home.path(), false).unwrap();
        let said = DataDir::open(home.path(), false).unwrap_err().to_string();
        assert!(said.contains("another registry") && said.contains(home.path().to_str().unwrap()));
        drop(first);
        DataDir::open(home.path(), false).unwrap();
    }

    #[test]
    fn the_secret_is_made_once() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("secret.tmp"), "left by a crash").unwrap();
        let made = *DataDir::open(home.path(), false).unwrap().secret().as_bytes();
        assert_eq!(DataDir::open(home.path(), false).unwrap().secret().as_bytes(), &made);
        assert_eq!(fs::read(home.path().join("secret")).unwrap(), made);
        assert!(!home.path().join("secret.tmp").exists());
    }

    #[test]
    fn a_secret_of_another_length_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        for length in [0, 31, 33, 1000] {
            fs::write(&path, vec![7; length]).unwrap();
            let said = DataDir::open(home.path(), false).unwrap_err().to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("restore it"), "{said}");
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn a_secret_that_others_could_read_is_closed_to_them() {
        let home = tempfile::tempdir().unwrap();
        drop(DataDir::open(home.path(), false).unwrap());
        let path = home.path().join("secret");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        DataDir::open(home.path(), false).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_folder_that_others_could_write_in_is_closed_if_it_is_ours_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("made before");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        DataDir::open(&path, false).unwrap();
        assert_eq!(mode(&path), 0o755);
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        fs::write(path.join("of somebody else"), "").unwrap();
        DataDir::open(&path, false).unwrap();
        assert_eq!(mode(&path), 0o770, "it is not ours to change");
    }

    #[test]
    fn a_journal_that_was_open_to_others_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("journal");
        fs::create_dir(&log).unwrap();
        fs::set_permissions(&log, Permissions::from_mode(0o755)).unwrap();
        DataDir::open(home.path(), false).unwrap();
        assert_eq!(mode(&log), 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_lock_or_secret_is_named_and_not_followed() {
        for name in ["lock", "secret"] {
            let home = tempfile::tempdir().unwrap();
            let (target, data) = (home.path().join("target"), home.path().join("data"));
            DataDir::open(&data, false).unwrap();
            fs::write(&target, [7; 32]).unwrap();
            fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
            fs::remove_file(data.join(name)).unwrap();
            std::os::unix::fs::symlink(&target, data.join(name)).unwrap();
            let said = DataDir::open(&data, false).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains("a link"), "{said}");
            assert_eq!((mode(&target), fs::read(&target).unwrap()), (0o644, vec![7; 32]));
        }
    }

    #[test]
    fn a_file_in_place_of_the_data_folder_is_named_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.clone(), path.join("below")] {
            let said = DataDir::open(&path, false).unwrap_err().to_string();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("--data"), "{said}");
        }
    }

    #[test]
    fn something_else_in_place_of_the_documents_folder_is_found_at_the_start() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("windows");
        fs::write(&path, "").unwrap();
        let said = DataDir::open(home.path(), false).unwrap_err().to_string();
        assert!(said.contains(path.to_str().unwrap()) && said.contains("--data"), "{said}");
    }
}
