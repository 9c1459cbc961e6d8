//! Runs a registry: sockets, the log, the fan-out, the documents, and their order.
//!
//! ```text
//!              ┌────────────── one task owns the registry ──────────────┐
//!  sockets ──▶ │ gate ─▶ registry.handle ─▶ journal ─▶ registry.commit  │ ──▶ sockets
//!              └───────────────────────────────┬────────────────────────┘
//!                                 Opened(Arc<FinalizedWindow>)
//!                                              ├──▶ announce: WINDOW to every member
//!                                              └──▶ archivist: the window's document
//! ```

mod announce;
mod archivist;
mod desk;
mod door;

use std::collections::{BTreeSet, VecDeque};
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
use crate::journal::{FileJournal, JournalError, OpenError, Recovered};
use crate::limit::Rate;
use crate::mesh::ListCap;
use crate::record::{Header, Record};
use crate::registry::{self, Caps, Registry, ResumeError};
use crate::snapshot::{Past, Snapshot, Totals};
use crate::store::Disk;
use crate::tally::Tally;
use crate::udp::Sockets;
use crate::window::{Length, Window};

use archivist::Archivist;
use desk::Desk;
use door::Doors;

/// What a registry is run with.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long its windows are.
    pub length: Length,
    /// Where everything is kept.
    pub data: PathBuf,
    /// How many peers an own list holds.
    pub cap: ListCap,
    /// How many members a window takes.
    pub caps: Caps,
    /// How often one address may ask.
    pub rate: Rate,
    /// The keys of a private registry; none: it is public.
    pub keys: Vec<Key>,
    /// Sources that need no cookie, and have neither rate nor cap of their own.
    pub trust: Vec<IpNet>,
    /// How long documents are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Go on without the lines of the log that are damaged.
    pub accept_damage: bool,
    /// Threads that receive and send, each with sockets of its own; at least 1.
    pub workers: usize,
}

/// What happens, for whoever watches.
#[derive(Debug)]
pub enum Event {
    /// A window has opened, or was missed.
    Window(Past),
    /// The log refuses what is asked of it: clients are told `unavailable`.
    LogRefuses(String),
    /// The log takes records again.
    LogRecovered,
    /// A window's document is on disk.
    DocumentWritten(Window),
    /// A document could not be written; it is tried again.
    DocumentFails(String),
    /// What was dropped and refused since this was last told, at most every 10 s.
    Rejected(Tally),
    /// So many events were lost: the receiver was too slow.
    NotShown(u64),
}

/// RejectReason a registry cannot start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Resume(#[from] ResumeError),
}

/// RejectReason a registry stopped by itself.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error("cannot receive any more: {0}")]
    Socket(#[from] io::Error),
    #[error("cannot share the port among workers: {0}; start with --workers 1")]
    Workers(io::Error),
    #[error(transparent)]
    Log(#[from] JournalError),
}

/// A registry that has read its log and is ready to run.
pub struct Server {
    config: Config,
    clock: Clock,
    data: DataDir,
    gate: Gate,
    registry: Registry,
    journal: FileJournal,
    shown: watch::Sender<Arc<Snapshot>>,
    /// What was found wrong with the log and mended.
    mended: Vec<String>,
    /// The windows that have a file in the log.
    logged: BTreeSet<Window>,
}

impl Server {
    /// Takes the data directory and reads the log.
    pub fn start(config: Config, clock: Clock) -> Result<Server, StartError> {
        let data = DataDir::open(&config.data)?;
        let secret = Arc::new(Secret::from_bytes(*data.secret().as_bytes()));
        let mut gate = Gate::new(secret.cookie_issuer(), config.trust.clone(), config.rate);
        gate.set_keys(config.keys.clone());
        let rules = registry::Config { length: config.length, cap: config.cap, caps: config.caps };
        let mut registry = Registry::new(rules, secret, clock.now());
        let (began, mut records) = (clock.now().mono, 0_u64);
        let mut fold = |header: Header, record: Option<Record>| match record {
            None => registry.begin(header.window, header.length),
            Some(record) => {
                records += 1;
                registry.commit(clock.now(), None, record);
            }
        };
        let (journal, recovered) = FileJournal::open(
            Disk,
            data.journal(),
            config.length,
            config.accept_damage,
            &mut fold,
        )?;
        registry.resume(clock.now())?;
        let took_ms = (clock.now().mono - began).as_millis() as u64;
        tracing::info!(records, files = recovered.files.len(), took_ms, "log replayed");
        let logged = recovered.files.iter().map(|header| header.window).collect();
        let mended = mended(&recovered);
        let (shown, _) = watch::channel(Arc::new(first_snapshot(&registry, config.length, clock)));
        Ok(Server { config, clock, data, gate, registry, journal, shown, mended, logged })
    }

    /// What watchers are shown, from now on.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.subscribe()
    }

    /// What was found wrong with the log and mended, a line each.
    pub fn mended(&self) -> &[String] {
        &self.mended
    }

    /// Serves until `shutdown`: what was acked is in the log then. `rekeyed` gives new keys.
    pub async fn run(
        self,
        sockets: Sockets,
        shutdown: impl Future<Output = ()>,
        rekeyed: watch::Receiver<Vec<Key>>,
        events: mpsc::Sender<Event>,
    ) -> Result<(), RunError> {
        let archive = Archive::new(Disk, self.data.windows());
        let (archivist, kept) = Archivist::spawn(archive, self.config.keep, self.clock);
        let (more, keys) = (self.config.workers.max(1) - 1, self.config.keys.clone());
        let doors = Doors::open(more, &sockets, &self.gate, keys, self.clock);
        let doors = doors.map_err(RunError::Workers)?;
        let desk = Desk::new(self, sockets, doors, archivist, events);
        desk.run(kept, rekeyed, shutdown).await
    }
}

fn first_snapshot(registry: &Registry, length: Length, clock: Clock) -> Snapshot {
    let (next, waiting) = registry.next();
    Snapshot {
        at: clock.now().wall,
        length,
        current: registry.current().clone(),
        next,
        waiting,
        past: VecDeque::new(),
        totals: Totals::default(),
        rejected: Tally::default(),
        log_works: true,
    }
}

/// What was found wrong with the log, and what was done about it.
fn mended(recovered: &Recovered) -> Vec<String> {
    let cut = recovered.cut.iter().map(|path| {
        format!("{}: a torn last line was cut off; nothing that was acked", path.display())
    });
    let damaged = recovered.damaged.iter().map(|copy| {
        format!("{}: a damaged log was copied here, and its good lines were kept", copy.display())
    });
    let foreign = recovered
        .foreign
        .iter()
        .map(|path| format!("{}: not a file of the log; left alone", path.display()));
    cut.chain(damaged).chain(foreign).collect()
}
