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

use crate::record::{Header, Record, Ticket};
use crate::store::{Store, StoreError};
use crate::window::{Length, Window};

use engine::{Engine, Order};
use logs::Logs;
use replay::Replay;

/// What became of proposed records.
#[derive(Debug)]
pub enum Outcome {
    /// They are in the log, in this order, and survive any crash.
    Durable(Vec<(Ticket, Record)>),
    /// They are not in the log.
    Refused {
        /// What was not taken.
        batch: Vec<(Ticket, Record)>,
        /// For the people who run the registry.
        why: String,
    },
    /// The engine is gone; nothing more will come.
    Down(JournalError),
}

/// RejectReason the engine is gone.
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
    fn propose(&mut self, batch: Vec<(Ticket, Record)>);

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
    /// How many refusals `next` has told of.
    refusals: u64,
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

/// RejectReason the log cannot be opened.
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
    /// Opens the log in `dir`, which is made if it is missing, and folds over what it holds: each
    /// file begins with its header alone, the oldest window first, and then comes each record.
    ///
    /// What was folded counts only if this succeeds. `length` is that of new windows. Damaged lines
    /// are an error, or with `accept_damage` left out.
    pub fn open<S: Store>(
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
        let journal = FileJournal { orders, outcomes, refusals: 0, thread };
        Ok((journal, recovered))
    }

    /// A thread that is gone takes no orders, and is told of by `next`.
    fn order(&self, order: Order) {
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Journal for FileJournal {
    fn propose(&mut self, batch: Vec<(Ticket, Record)>) {
        self.order(Order::Propose(batch, self.refusals));
    }

    async fn next(&mut self) -> Outcome {
        let outcome = self.outcomes.recv().await;
        self.refusals += u64::from(matches!(outcome, Some(Outcome::Refused { .. })));
        outcome.unwrap_or(Outcome::Down(JournalError::Stopped))
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
