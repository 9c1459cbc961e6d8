//! Writes windows' documents on a thread of its own, so that a slow disk delays nothing else. The
//! thread starts with the registry: later, the system may have none to give.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::archive::{Archive, Document};
use crate::clock::Clock;
use crate::roster::FinalizedWindow;
use crate::store::Disk;
use crate::window::Window;

/// The result of writing a document, or of removing old ones.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The window's document is durable, or could not be written for the reason in `Err`.
    Written(Window, Result<(), String>),
    /// Old documents could not be removed, for this reason.
    PruneFails(String),
}

/// The owner's handle of the archive thread. Once it is dropped, the thread ends after the window
/// that it was given.
#[derive(Debug)]
pub(super) struct ArchiveThread {
    windows: SyncSender<Arc<FinalizedWindow>>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl ArchiveThread {
    /// Starts the thread, which also removes documents older than `keep`; `None` keeps all.
    pub(super) fn start(
        archive: Archive<Disk>,
        keep: Option<Duration>,
        clock: Clock,
    ) -> io::Result<ArchiveThread> {
        // One window at a time, and at most two outcomes of it: neither queue is ever full.
        let (windows, to_write) = sync_channel(1);
        let (report, outcomes) = mpsc::channel(2);
        let writer = Writer { archive, keep, clock, report };
        thread::Builder::new().name("archive".into()).spawn(move || writer.run(to_write))?;
        Ok(ArchiveThread { windows, outcomes })
    }

    /// Queues a window whose document is to be written. The outcome of the window before must have
    /// been received.
    pub(super) fn write(&self, window: Arc<FinalizedWindow>) {
        self.windows
            .try_send(window)
            .expect("one window at a time, and the thread only ends after us");
    }

    /// Waits for the next outcome of a write or a removal.
    pub(super) async fn next(&mut self) -> Outcome {
        self.outcomes.recv().await.expect("the thread ends only after us")
    }
}

/// The state of the archive thread.
struct Writer {
    archive: Archive<Disk>,
    keep: Option<Duration>,
    clock: Clock,
    report: mpsc::Sender<Outcome>,
}

impl Writer {
    fn run(self, to_write: Receiver<Arc<FinalizedWindow>>) {
        for window in to_write {
            let written = self.archive.write(&Document::from(&*window), window.length());
            let written = written.map_err(|error| error.to_string());
            let prunes = written.is_ok();
            self.tell(Outcome::Written(window.window(), written));
            if prunes {
                self.prune();
            }
        }
    }

    /// Removes the documents of one day that is older than `keep`.
    fn prune(&self) {
        let Some(keep) = self.keep else { return };
        match self.archive.prune(self.clock.now().wall, keep) {
            Ok(None) => {}
            Ok(Some(day)) => {
                tracing::info!(day = %day.display(), "documents removed: older than --keep");
            }
            Err(error) => self.tell(Outcome::PruneFails(error.to_string())),
        }
    }

    /// Sends an outcome to the owner of the thread, who may be gone while the registry stops.
    fn tell(&self, outcome: Outcome) {
        let _ = self.report.blocking_send(outcome);
    }
}
