//! Reads the key file of a private registry, and rereads it on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use hit7::cookie::Key;
use hit7::keyfile::{self, KeyFileError};
use hit7::thread;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Failure;

/// Reads the keys of the file that `--key-file` names.
pub(crate) fn read(path: &Path) -> Result<Vec<Key>, Failure> {
    keyfile::read(path).map_err(|error| {
        let or = if let KeyFileError::Read { .. } = error { ";" } else { ", or" };
        Failure::Message(format!("{error}{or} give another --key-file"))
    })
}

/// Starts to reread the key file at `path` on each SIGHUP, and returns a channel of the new keys. A
/// file that cannot be read is logged, and sends nothing.
///
/// A thread of its own reads the file: `path` may be a pipe, which can block.
pub(crate) fn reread(path: Option<PathBuf>) -> Result<watch::Receiver<Vec<Key>>, Failure> {
    let (keys, reread) = watch::channel(Vec::new());
    let Some(path) = path else { return Ok(reread) };
    // One SIGHUP that comes while the file is being read is queued; further ones are dropped.
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
    let mut signals = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            let _ = hung_up.try_send(());
        }
    });
    Ok(reread)
}
