//! The journal: the ordered records that a registry's state is a fold over. What it calls durable
//! is there after any crash.
//!
//! ```text
//!   submit(epoch, batch) ──▶ engine ──▶ next: Durable | Refused | Down
//!                              │
//!   open: Begin, Record, … ◀───┘ what it holds, folded over once at the start
//! ```
//!
//! [`Journal`] is what every engine promises, and what a registry's runner knows of it.
//! [`FileJournal`] is the engine that keeps one file a window.

mod file;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::record::{Entry, Header, Record};
use crate::store::StoreError;
use crate::window::{Length, Window};

pub use file::{FileJournal, FileOptions};

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

/// What a journal that has been opened has found on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The windows that have a journal, oldest first.
    pub windows: Vec<Window>,
    /// What was mended or left alone, a sentence each, for people.
    pub notes: Vec<String>,
}

/// A journal of records.
///
/// Every engine keeps these promises, and `tests/conformance` holds each to them:
///
/// - **Order.** Batches become durable in the order in which they are submitted, and each entry is
///   told of exactly once, in that order. Only when the engine is [`Outcome::Down`] may later
///   entries be told (refused) before those that it cannot speak of.
/// - **Fence.** When [`Outcome::Refused`] names an epoch, nothing submitted in that epoch or an
///   earlier one enters the journal any more. The submitter goes on in `epoch.next()` once it has
///   been told, and never goes back.
/// - **No gaps.** The records of one window are durable before any of the next is written: whatever
///   crashes, the journal holds no record without all that were submitted before it.
/// - **Refused is final.** What was refused never comes back at a replay. What was never told of,
///   because the process ended, may be there or not.
/// - **Nothing waits.** `submit` and `discard` return at once, whatever the disk or a peer does.
pub trait Journal: Send + Sized {
    /// What the engine needs to know to begin.
    type Options;

    /// Opens the journal, and folds over what it holds: of each window, the oldest first, its header
    /// and then its records. What was folded counts only if this succeeds.
    fn open(
        options: Self::Options,
        fold: &mut dyn FnMut(Replayed),
    ) -> Result<(Self, Found), OpenError>;

    /// Puts a batch at the end of the journal, or refuses it: [`Journal::next`] tells. `epoch` is the
    /// one after that of the last refusal that was told, or the first.
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>);

    /// Waits for what became of the entries that were submitted first. Nothing is lost if the wait
    /// is given up.
    fn next(&mut self) -> impl Future<Output = Outcome> + Send;

    /// Lets go of the journal of a window that has closed and whose document is durable. After a
    /// crash it may be there again, as a whole.
    fn discard(&mut self, window: Window);
}

/// The reason a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file system refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is not as it was written, so that something acked may be lost.
    #[error(
        "{}: line {line} is damaged ({why}); a copy of the file is {}; start with \
         --accept-damage to go on without its damaged lines",
        path.display(), copy.display()
    )]
    Damaged {
        /// The damaged file, which is left as it is.
        path: PathBuf,
        /// The number of its first damaged line, from 1.
        line: u64,
        /// What is wrong with that line.
        why: String,
        /// Where a copy of the file is.
        copy: PathBuf,
    },
    /// Neither a file's first line nor its name says how long its window is.
    #[error(
        "{}: its first line is damaged, and its name is none of a window of {} s; start with the \
         --window that it was written with, or move it away",
        path.display(), length.seconds()
    )]
    Unnamed {
        /// The file whose first line is damaged.
        path: PathBuf,
        /// How long windows are now.
        length: Length,
    },
    /// Another version of hit7 wrote the file.
    #[error("{}: {why}; start the hit7 that wrote it, or a newer one", path.display())]
    Format {
        /// The file of another format.
        path: PathBuf,
        /// Which format it has, and which one this program knows.
        why: String,
    },
    /// The operating system gives no thread to read or write with.
    #[error(
        "cannot start a thread for the journal: {0}; end some processes of this user, or allow it \
         more (ulimit -u)"
    )]
    Thread(io::Error),
}
