//! Writes the documents of windows, one after the other, in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::archive::{Archive, Document};
use crate::clock::{Alarm, Clock};
use crate::roster::FinalizedWindow;
use crate::store::Disk;
use crate::window::Window;

/// How long after a failure a document is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of a document.
pub(super) enum Kept {
    /// It is on disk.
    Durable(Window),
    /// It is not, and is tried again; told once a document.
    Failed(String),
}

enum Errand {
    Keep(Arc<FinalizedWindow>),
    Finish(oneshot::Sender<()>),
}

/// Hands windows to the background.
#[derive(Clone)]
pub(super) struct Archivist(mpsc::UnboundedSender<Errand>);

impl Archivist {
    /// Begins; what becomes of the documents comes out of the receiver.
    pub(super) fn spawn(
        archive: Archive<Disk>,
        keep: Option<Duration>,
        clock: Clock,
    ) -> (Archivist, mpsc::UnboundedReceiver<Kept>) {
        let (errands, todo) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let clerk = Clerk { archive: Arc::new(archive), keep, clock, tell };
        tokio::spawn(clerk.run(todo));
        (Archivist(errands), told)
    }

    /// Has a window's document written.
    pub(super) fn keep(&self, window: Arc<FinalizedWindow>) {
        let _ = self.0.send(Errand::Keep(window));
    }

    /// Waits until all that was handed in before is written.
    pub(super) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        if self.0.send(Errand::Finish(done)).is_ok() {
            let _ = finished.await;
        }
    }
}

struct Clerk {
    archive: Arc<Archive<Disk>>,
    keep: Option<Duration>,
    clock: Clock,
    tell: mpsc::UnboundedSender<Kept>,
}

impl Clerk {
    async fn run(self, mut todo: mpsc::UnboundedReceiver<Errand>) {
        while let Some(errand) = todo.recv().await {
            match errand {
                Errand::Keep(window) => self.write_until_durable(window).await,
                Errand::Finish(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    async fn write_until_durable(&self, window: Arc<FinalizedWindow>) {
        let mut told = false;
        while let Err(why) = self.write(window.clone()).await {
            if !std::mem::replace(&mut told, true) {
                let _ = self.tell.send(Kept::Failed(why));
            }
            let again = self.clock.now().mono + AGAIN;
            self.clock.sleep(Alarm::mono(Some(again))).await;
        }
        let _ = self.tell.send(Kept::Durable(window.window()));
        if let Err(why) = self.prune().await {
            let _ = self.tell.send(Kept::Failed(why));
        }
    }

    async fn write(&self, window: Arc<FinalizedWindow>) -> Result<(), String> {
        let archive = self.archive.clone();
        in_background(move || archive.write(&Document::from(&*window), window.length())).await
    }

    /// Removes one day that is older than is kept.
    async fn prune(&self) -> Result<(), String> {
        let Some(keep) = self.keep else { return Ok(()) };
        let (archive, now) = (self.archive.clone(), self.clock.now().wall);
        if let Some(day) = in_background(move || archive.prune(now, keep)).await? {
            tracing::info!(day = %day.display(), "documents removed: older than --keep");
        }
        Ok(())
    }
}

async fn in_background<T: Send + 'static, E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}
