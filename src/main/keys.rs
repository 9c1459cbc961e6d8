//! Reads the key file of a private registry, and rereads it on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use hit7::cookie::Key;
use hit7::keyfile::{self, KeyFileError};
use hit7::thread;
use tokio::sync::watch;

use super::Failure;

/// Reads the keys of the file that `--key-file` names.
pub(crate) fn read(path: &Path) -> Result<Vec<Key>, Failure> {
    keyfile::read(path).map_err(|error| {
        use KeyFileError::{NotRegular, Read};
        let or = if let Read { .. } | NotRegular { .. } = error { ";" } else { ", or" };
        Failure::Message(format!("{error}{or} give another --key-file"))
    })
}

/// The sender of SIGHUPs to the thread that rereads the key file, and the channel of the new keys.
pub(crate) type Rereading = (Option<mpsc::SyncSender<()>>, watch::Receiver<Vec<Key>>);

/// Starts to reread the key file at `path`, if there is one, on each SIGHUP. A file that cannot be
/// read is logged, and sends nothing.
///
/// A thread of its own reads the file: it may be on a disk that hangs.
pub(crate) fn reread(path: Option<PathBuf>) -> Result<Rereading, Failure> {
    let (keys, reread) = watch::channel(Vec::new());
    let Some(path) = path else { return Ok((None, reread)) };
    let (hung_up, hangups) = mpsc::sync_channel(1);
    let read = move || {
        for () in hangups {
            match keyfile::read(&path) {
                Ok(read) => {
                    tracing::info!(keys = read.len(), "keys read again");
                    keys.send_replace(read);
                }
                Err(error) => tracing::error!("{error}; the keys stay as they were"),
            }
        }
    };
    thread::start("keys", read)?;
    Ok((Some(hung_up), reread))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn each_hangup_has_the_file_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let Ok((Some(hung_up), mut keys)) = reread(Some(path.clone())) else { panic!("no thread") };
        let lines = ["the first of the keys\n", "the second of the keys\n"];
        for (count, text) in [(1, lines[0].to_owned()), (2, lines.concat())] {
            fs::write(&path, text).unwrap();
            hung_up.send(()).unwrap();
            keys.changed().await.unwrap();
            assert_eq!(keys.borrow().len(), count);
        }
        assert!(matches!(reread(None), Ok((None, _))), "there is nothing to read");
    }
}
