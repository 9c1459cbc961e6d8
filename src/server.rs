//! Runs a registry: connects its node to sockets, the journal, the archive and the watchers.
//!
//! ```text
//!   sockets ─▶ gate ─┐
//!   workers ─▶ gate ─┼─▶ node ─┬─▶ outbox ─▶ sockets      one task owns the node, and waits
//!   journal ─────────┤         ├─▶ journal                for its inputs only
//!   archive ─────────┤         ├─▶ archive
//!   clock ───────────┘         └─▶ reporter ─▶ snapshots, events
//! ```

mod archive_thread;
mod registry_task;
mod reporter;
mod workers;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::archive::Archive;
use crate::clock::Clock;
use crate::cookie::{Key, Secret};
use crate::datadir::{DataDir, DataDirError};
use crate::gate::Gate;
use crate::journal::{FileJournal, FileOptions, Found, Journal, OpenError, Replayed};
use crate::limit::Rate;
use crate::mesh::ListCap;
use crate::node::Node;
use crate::record::Entry;
use crate::registry::{self, Caps, Registry, ResumeError};
use crate::snapshot::{Past, Snapshot, Trouble};
use crate::store::Disk;
use crate::tally::Tally;
use crate::thread::ThreadError;
use crate::udp::Sockets;
use crate::window::{Length, Window};

use archive_thread::ArchiveThread;
use registry_task::RegistryTask;
use reporter::Reporter;
use workers::Workers;

/// The configuration of a registry.
#[derive(Clone, Debug)]
pub struct Config {
    /// The length of a window.
    pub length: Length,
    /// The data folder: journal, documents, secret and lock.
    pub data: PathBuf,
    /// The most peers that one member is told (the cap of its own list).
    pub cap: ListCap,
    /// The most members of a window, of a room and from one address, and the most rooms.
    pub caps: Caps,
    /// The most requests from one address: per second, and at once.
    pub rate: Rate,
    /// The keys of a private registry; empty if the registry is public.
    pub keys: Vec<Key>,
    /// Sources that need no cookie, and have neither rate nor cap of their own.
    pub trust: Vec<IpNet>,
    /// How long documents are kept; `None` keeps them forever.
    pub keep: Option<Duration>,
    /// Whether to start without the damaged lines of the journal, instead of failing.
    pub accept_damage: bool,
    /// Whether to start on a file system that cannot do what the registry's promises need.
    pub accept_weak_disk: bool,
    /// Threads that receive and send, each with sockets of its own; at least 1.
    pub workers: usize,
}

/// An event of a running registry, to be printed, drawn or logged.
#[derive(Debug)]
pub enum Event {
    /// A window has opened, or was missed.
    Window(Past),
    /// The journal cannot be written, for this reason: no registration is acked.
    JournalRefuses(String),
    /// The journal can be written again.
    JournalRecovered,
    /// A window's document is on disk.
    DocumentWritten(Window),
    /// A document could not be written, or old ones not removed, for this reason; both are retried.
    DocumentFails(String),
    /// No document is left that could not be written.
    DocumentsRecovered,
    /// The clock is in doubt, or behind the last opened window.
    ClockWrong(Trouble),
    /// The clock is neither in doubt nor behind any more.
    ClockRight,
    /// Datagrams dropped or refused since the last such event, by reason; at most every 10 s.
    Rejected(Tally),
    /// This many events were dropped: the receiver was too slow.
    NotShown(u64),
}

/// The reason a registry cannot start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

/// The reason a registry stopped by itself, or did not finish all when it was stopped.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error("cannot receive any more: {0}")]
    Socket(#[from] io::Error),
    #[error(
        "the registry stopped before its journal was written: the disk hangs or fails; what was \
         acked is on disk"
    )]
    UnwrittenJournal,
    #[error(
        "the registry stopped before its documents were written in time: they are many, or the disk \
         hangs or fails; they are written at the next start"
    )]
    UnwrittenDocument,
    #[error("the registry stopped before its threads had ended; what was acked is on disk")]
    RunningThreads,
}

/// A registry that has read its journal and is ready to run.
pub struct Server {
    config: Config,
    clock: Clock,
    data: DataDir,
    gate: Gate,
    node: Node,
    journal: FileJournal,
    archive: ArchiveThread,
    shown: watch::Sender<Arc<Snapshot>>,
    notes: Vec<String>,
}

impl Server {
    /// Locks the data folder, replays the journal, and starts the threads that write.
    pub fn start(config: Config, clock: Clock) -> Result<Server, StartError> {
        let data = DataDir::open(&config.data, config.accept_weak_disk)?;
        let secret = Arc::new(Secret::from_bytes(*data.secret().as_bytes()));
        let mut gate = Gate::new(secret.cookie_issuer(), config.trust.clone(), config.rate);
        gate.set_keys(config.keys.clone());
        gate.expect_members(config.caps.per_ip);
        let rules = registry::Config { length: config.length, cap: config.cap, caps: config.caps };
        let registry = Registry::new(rules, secret, clock.now());
        let (registry, journal, found) = replay(registry, &config, &data, clock)?;
        let archive = Archive::new(Disk, data.windows());
        let archive =
            ArchiveThread::start(archive, journal.reader(), config.keep, move || clock.proven())?;
        let Found { windows, notes } = found;
        let node = Node::new(registry, windows, clock.now());
        let (shown, _) = watch::channel(Arc::new(reporter::snapshot(&node, clock)));
        Ok(Server { config, clock, data, gate, node, journal, archive, shown, notes })
    }

    /// Subscribes to the registry's snapshots, which come a few times a second.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.subscribe()
    }

    /// Returns how many threads receive and send.
    pub fn workers(&self) -> usize {
        self.config.workers
    }

    /// Returns what was wrong with the journal and was mended at the start, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Serves clients until `shutdown`; all that was acked is then in the journal. `keys` delivers
    /// the keys that replace those of the configuration. A stop that cannot finish is an error, within
    /// half a second; the data folder then stays locked until the process ends.
    pub async fn run(
        self,
        sockets: Sockets,
        shutdown: impl Future<Output = ()>,
        keys: watch::Receiver<Vec<Key>>,
        events: mpsc::Sender<Event>,
    ) -> Result<(), RunError> {
        let Server { config, clock, data, gate, node, journal, archive, shown, .. } = self;
        let more = config.workers.max(1) - 1;
        let sockets = Arc::new(sockets);
        let workers = Workers::start(more, &sockets, &gate, &keys, clock);
        let reporter = Reporter::new(shown, events);
        let task =
            RegistryTask::new(clock, node, gate, sockets, (journal, archive), workers, reporter);
        let served = task.run(keys, shutdown).await;
        match served {
            Ok(()) => drop(data),
            // A thread may still write: the folder stays locked until the process has ended.
            Err(_) => std::mem::forget(data),
        }
        served
    }
}

/// Replays the journal into `registry`; returns both, and what was found in the journal.
fn replay(
    mut registry: Registry,
    config: &Config,
    data: &DataDir,
    clock: Clock,
) -> Result<(Registry, FileJournal, Found), StartError> {
    let (began, mut records) = (clock.now().mono, 0_u64);
    let mut fold = |replayed| match replayed {
        Replayed::Begin(header) => registry.begin(header),
        Replayed::Record(record) => {
            records += 1;
            registry.commit(clock.now(), Entry { ticket: None, record });
        }
    };
    let Config { length, cap, accept_damage, .. } = *config;
    let options = FileOptions { store: Disk, dir: data.journal(), length, cap, accept_damage };
    let (journal, found) = FileJournal::open(options, &mut fold)?;
    registry.resume(clock.now())?;
    let took_ms = (clock.now().mono - began).as_millis() as u64;
    tracing::info!(records, files = found.windows.len(), took_ms, "journal replayed");
    Ok((registry, journal, found))
}
