//! The log's engine: a record that it calls durable is there after any crash.
//!
//! ```text
//! journal/                     propose ──▶ queue ──▶ thread: write, fdatasync ──▶ next
//!   2026-11-23/                            ▲ whatever comes during a sync is the next write
//!     11-29.jsonl              header, records, `open`: the log of what fills 11:29
//!     11-30.jsonl
//!     11-29.jsonl.damaged-1    a copy of what was not as it was written
//! ```
//!
//! [`Journal`] is what the registry's runner knows; [`FileJournal`] keeps one file per window. Its
//! thread is in `engine`, its files in `logs`; at the start `replay` reads them back, line by line
//! as `lines` judges them, and `mend` takes away what a crash or damage left.

mod ahead;
mod engine;
mod lines;
mod logs;
mod mend;
mod names;
mod replay;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::record::{Entry, Header, Record};
use crate::store::{Store, StoreError};
use crate::window::{Length, Window};

use engine::{Engine, Order};
use logs::Logs;
use replay::Replay;

/// What its submitter knew when it put a batch together: how many refusals it had been told of.
///
/// A batch is put together as if all that was submitted before it were in the journal. When some
/// of that is refused, whatever was submitted before the refusal was known must not enter either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch that begins with the refusal of this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// What became of submitted batches.
#[derive(Debug)]
pub enum Outcome {
    /// These are in the journal, in this order, and survive any crash. Where registries share a
    /// journal, the records of others are among them.
    Durable(Vec<Entry>),
    /// These are not in the journal, now and after any restart.
    Refused {
        /// Whatever was submitted in this epoch or an earlier one, and has not been told durable
        /// before, is refused as well, here or in what is told next.
        epoch: Epoch,
        /// What was not taken, in the order of submission.
        batch: Vec<Entry>,
        /// The reason, for the people who run the registry.
        why: String,
    },
    /// The engine cannot say what becomes of what is under way. It is told later, as durable or
    /// refused, or never if the process ends before. Told once an outage, with the reason, for the
    /// people who run the registry.
    Down(String),
}

/// A part of what a journal holds, as it is read back at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The journal of another window begins; the records that follow fill it.
    Begin(Header),
    /// The next record of that window.
    Record(Record),
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The windows that have a journal, oldest first.
    pub windows: Vec<Window>,
    /// What was mended or left alone, a sentence each, for people.
    pub notes: Vec<String>,
}

/// temporary
pub struct FileOptions<S> {
    /// a
    pub store: S,
    /// b
    pub dir: PathBuf,
    /// c
    pub length: Length,
    /// d
    pub accept_damage: bool,
}

/// Why the engine is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// A bug: its thread panicked.
    #[error("the journal's thread has stopped; start the registry again: nothing acked is lost")]
    Stopped,
}

/// A log of records, in the order in which they are proposed.
pub trait Journal: Send {
    /// Puts a batch at the end of the log. Each of its records is told of once, in order, by
    /// [`Journal::next`].
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>);

    /// Waits for what became of the next records. Nothing is lost if the wait is given up.
    fn next(&mut self) -> impl Future<Output = Outcome> + Send;

    /// Forgets the log of a window that has closed and whose document is durable.
    fn discard(&mut self, window: Window);
}

/// The log in files, one per window.
#[derive(Debug)]
pub struct FileJournal {
    /// `None` while it is dropped.
    orders: Option<mpsc::Sender<Order>>,
    outcomes: UnboundedReceiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The windows whose logs are there, oldest first.
    pub files: Vec<Header>,
    /// Copies of damaged files, whose good lines were kept.
    pub damaged: Vec<PathBuf>,
    /// Files with a torn last line, which was cut off: a crash, and nothing that was acked.
    pub cut: Vec<PathBuf>,
    /// What is not the journal's, and was left alone.
    pub foreign: Vec<PathBuf>,
}

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file system says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was acked may be lost.
    #[error(
        "{}: line {line} is damaged ({why}); a copy of the file is {}; start with \
         --accept-damage to go on without its damaged lines",
        path.display(), copy.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its first damaged line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
        /// The file as it was found.
        copy: PathBuf,
    },
    /// Nothing says how long its window is.
    #[error(
        "{}: its first line is damaged, and its name is none of a window of {} s; start with the \
         --window that it was written with, or move it away",
        path.display(), length.seconds()
    )]
    Unnamed {
        /// The file.
        path: PathBuf,
        /// How long windows are now.
        length: Length,
    },
    /// A downgrade.
    #[error("{}: {why}; start the hit7 that wrote it, or a newer one", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Which format it is.
        why: String,
    },
    /// The operating system gives no thread.
    #[error("cannot start the journal's thread: {0}")]
    Thread(io::Error),
}

impl FileJournal {
    /// temporary
    pub fn open<S: Store>(
        o: FileOptions<S>,
        fold: &mut dyn FnMut(Replayed),
    ) -> Result<(FileJournal, Found), OpenError> {
        let (journal, recovered) = FileJournal::open_files(
            o.store,
            o.dir,
            o.length,
            o.accept_damage,
            &mut |header, record| {
                fold(match record {
                    None => Replayed::Begin(header),
                    Some(record) => Replayed::Record(record),
                })
            },
        )?;
        let windows = recovered.files.iter().map(|header| header.window).collect();
        Ok((journal, Found { windows, notes: Vec::new() }))
    }

    /// Opens the log in `dir`, which is made if it is missing, and folds over what it holds: each
    /// file begins with its header alone, the oldest window first, and then comes each record.
    ///
    /// What was folded counts only if this succeeds. `length` is that of new windows. Damaged lines
    /// are an error, or with `accept_damage` left out.
    pub fn open_files<S: Store>(
        store: S,
        dir: PathBuf,
        length: Length,
        accept_damage: bool,
        fold: &mut dyn FnMut(Header, Option<Record>),
    ) -> Result<(FileJournal, Recovered), OpenError> {
        let recovered = Replay { store: &store, dir: &dir, length, accept_damage }.run(fold)?;
        let logs = Logs::new(store, dir, length, &recovered.files);
        let (orders, queue) = mpsc::channel();
        let (results, outcomes) = unbounded_channel();
        let engine = Engine::new(logs, queue, results);
        let thread = thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || engine.run()).map_err(OpenError::Thread)?;
        let (orders, thread) = (Some(orders), Some(thread));
        let journal = FileJournal { orders, outcomes, thread };
        Ok((journal, recovered))
    }

    /// A thread that is gone takes no orders, and is told of by `next`.
    fn order(&self, order: Order) {
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Journal for FileJournal {
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        self.order(Order::Propose(batch, epoch));
    }

    async fn next(&mut self) -> Outcome {
        self.outcomes.recv().await.expect("the thread lives")
    }

    fn discard(&mut self, window: Window) {
        self.order(Order::Discard(window));
    }
}

impl Drop for FileJournal {
    /// Waits until what was proposed is written: who opens the directory next finds it whole.
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
