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
use crate::window::{Wall, Window};

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
    /// Starts the thread, which also removes documents older than `keep`; `None` keeps all. `now`
    /// returns the time, or `None` while that may be wrong.
    pub(super) fn start(
        archive: Archive<Disk>,
        journal: impl WindowReader + 'static,
        keep: Option<Duration>,
        now: impl Fn() -> Option<Wall> + Send + 'static,
    ) -> Result<ArchiveThread, ThreadError> {
        // One window at a time, and at most two outcomes of it: neither queue is ever full.
        let (sources, to_write) = sync_channel(1);
        let (report, outcomes) = mpsc::channel(2);
        let writer = Writer { archive, journal, keep, now, newest: None, report };
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
struct Writer<R, N> {
    archive: Archive<Disk>,
    journal: R,
    keep: Option<Duration>,
    now: N,
    /// The newest window whose document was written.
    newest: Option<Window>,
    report: mpsc::Sender<Outcome>,
}

impl<R: WindowReader, N: Fn() -> Option<Wall>> Writer<R, N> {
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
    /// that was written, or from now if that is earlier; nothing while the time may be wrong.
    fn prune(&mut self, written: Window) {
        let newest = written.max(self.newest.unwrap_or(written));
        self.newest = Some(newest);
        let (Some(keep), Some(now)) = (self.keep, (self.now)()) else { return };
        match self.archive.prune(newest.opens().min(now), keep) {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::journal::ReadError;

    struct NoJournal;

    impl WindowReader for NoJournal {
        fn read(&self, _: Window, _: &mut dyn FnMut(Replayed)) -> Result<(), ReadError> {
            unreachable!("nothing is read")
        }
    }

    #[test]
    fn documents_are_removed_by_a_proven_clock_or_by_the_newest_window_if_that_is_earlier() {
        let home = tempfile::tempdir().unwrap();
        let old = home.path().join("2026-10-01");
        std::fs::create_dir(&old).unwrap();
        let archive = Archive::new(Disk, home.path().to_owned());
        let (keep, report) = (Some(Duration::from_secs(30 * 86_400)), mpsc::channel(2).0);
        let (moment, newest) = (Cell::new(None), None);
        let now = || moment.get();
        let mut writer = Writer { archive, journal: NoJournal, keep, now, newest, report };
        let mut removes = |written: &str, now: Option<&str>| {
            moment.set(now.map(|now| now.parse().unwrap()));
            writer.prune(written.parse().unwrap());
            !old.exists()
        };
        let (october, november, next) =
            ("2026-10-31T23:59:00Z", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
        assert!(!removes(october, Some(next)), "the newest window is not so late");
        assert!(!removes(next, None), "the clock is in doubt");
        assert!(!removes(next, Some(october)), "the windows are of a clock that was wrong");
        assert!(removes(november, Some(november)));
    }
}
