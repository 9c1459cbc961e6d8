//! Reads the keys of a private registry again when SIGHUP comes.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use hit7::cookie::Key;
use hit7::keyfile;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Failure;

/// The keys in `path` whenever they have been read again; if that fails, the old ones stay.
///
/// They are read by a thread of their own, which is made here: a pipe may keep its reader waiting.
pub(crate) fn reread(path: Option<PathBuf>) -> Result<watch::Receiver<Vec<Key>>, Failure> {
    let (keys, reread) = watch::channel(Vec::new());
    let Some(path) = path else { return Ok(reread) };
    // A signal that comes while the file is being read is remembered; more are the same one.
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
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    let mut signals = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            let _ = hung_up.try_send(());
        }
    });
    Ok(reread)
}
