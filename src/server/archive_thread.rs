//! Writes windows' documents on a thread of its own, so that a slow disk delays nothing else. The
//! thread starts with the registry: later, the system may have none to give.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::archive::{Archive, Document};
use crate::journal::{Replayed, WindowReader};
use crate::node::DocumentSource;
use crate::registry::WindowReplay;
use crate::store::Disk;
use crate::thread::{self, ThreadError};
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
    sources: SyncSender<DocumentSource>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl ArchiveThread {
    /// Starts the thread, which also removes documents older than `keep`; `None` keeps all.
    pub(super) fn start(
        archive: Archive<Disk>,
        journal: impl WindowReader + 'static,
        keep: Option<Duration>,
    ) -> Result<ArchiveThread, ThreadError> {
        // One window at a time, and at most two outcomes of it: neither queue is ever full.
        let (sources, to_write) = sync_channel(1);
        let (report, outcomes) = mpsc::channel(2);
        let writer = Writer { archive, journal, keep, newest: None, report };
        thread::start("archive", move || writer.run(to_write))?;
        Ok(ArchiveThread { sources, outcomes })
    }

    /// Queues a document to be written. The outcome of the one before must have been received.
    pub(super) fn write(&self, source: DocumentSource) {
        self.sources
            .try_send(source)
            .expect("one window at a time, and the thread only ends after us");
    }

    /// Waits for the next outcome of a write or a removal.
    pub(super) async fn next(&mut self) -> Outcome {
        self.outcomes.recv().await.expect("the thread ends only after us")
    }
}

/// The state of the archive thread.
struct Writer<R> {
    archive: Archive<Disk>,
    journal: R,
    keep: Option<Duration>,
    /// The newest window whose document was written.
    newest: Option<Window>,
    report: mpsc::Sender<Outcome>,
}

impl<R: WindowReader> Writer<R> {
    fn run(mut self, to_write: Receiver<DocumentSource>) {
        for source in to_write {
            let window = source.window();
            let written = self.write(source);
            let prunes = written.is_ok();
            self.tell(Outcome::Written(window, written));
            if prunes {
                self.prune(window);
            }
        }
    }

    fn write(&self, source: DocumentSource) -> Result<(), String> {
        let (document, length) = match source {
            DocumentSource::Held(window) => (Document::from(&*window), window.length()),
            DocumentSource::Journal(window) => {
                let WindowReplay { filling, opened } = self.replay(window)?;
                let (closes, members) = (filling.closes(), filling.members());
                (Document::new(window, closes, opened, members), filling.length())
            }
        };
        self.archive.write(&document, length).map_err(|error| error.to_string())
    }

    /// Reads a window back from its journal.
    fn replay(&self, window: Window) -> Result<WindowReplay, String> {
        let mut replay: Option<WindowReplay> = None;
        let mut fold = |replayed| match (replayed, &mut replay) {
            (Replayed::Begin(header), _) => replay = Some(WindowReplay::new(header)),
            (Replayed::Record(record), Some(replay)) => replay.commit(record),
            (Replayed::Record(_), None) => {}
        };
        self.journal.read(window, &mut fold).map_err(|error| error.to_string())?;
        replay.ok_or_else(|| format!("the journal of {window} has no header"))
    }

    /// Removes the documents of one day that is older than `keep`, counted from the newest window
    /// that was written: a clock that is wrong for a while removes nothing.
    fn prune(&mut self, written: Window) {
        self.newest = self.newest.max(Some(written));
        let (Some(keep), Some(newest)) = (self.keep, self.newest) else { return };
        match self.archive.prune(newest.opens(), keep) {
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
