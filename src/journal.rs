//! The journal: the ordered records that a registry's state is a fold over. A record that the
//! journal reports durable survives any crash.
//!
//! ```text
//!   submit(epoch, batch) ──▶ engine ──▶ next: Durable | Refused | Down
//!                              │
//!   open: Begin, Record, … ◀───┘ what it holds, folded over once at the start
//! ```
//!
//! [`Journal`] is the trait that every engine implements, and all that the caller knows of one.
//! [`FileJournal`] is the engine that keeps one file a window.

mod file;

use std::path::PathBuf;

use thiserror::Error;

use crate::record::{Entry, Header, Record};
use crate::store::StoreError;
use crate::thread::ThreadError;
use crate::window::{Length, Window};

pub use file::{FileJournal, FileOptions};

/// The number of refusals that the submitter of a batch knew of when it put the batch together.
///
/// A batch is put together as if all batches submitted before it were in the journal. When one of
/// those is refused, whatever was submitted before the refusal was known must not enter either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// Returns the epoch that begins once a batch of this one is refused.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// A report of a journal: entries are durable, refused, or their outcome is unknown yet.
#[derive(Debug)]
pub enum Outcome {
    /// These entries are in the journal, in this order, and survive any crash. Where registries
    /// share a journal, the records of others are among them. None if its storage is back.
    Durable(Vec<Entry>),
    /// These entries are not in the journal, now and after any restart.
    Refused {
        /// The last epoch that is refused: what was submitted in it or an earlier one, and has not
        /// been reported durable, is refused here or in a following outcome.
        epoch: Epoch,
        /// The refused entries, in the order of submission; none if the journal has just lost its
        /// storage, or a part of it.
        batch: Vec<Entry>,
        /// The reason, for the operator of the registry.
        why: String,
    },
    /// The engine cannot say yet whether pending entries are in the journal. They are reported
    /// later, as durable or refused, or never if the process ends before. Sent once per outage,
    /// while there are such entries, with the reason, for the operator of the registry.
    Down(String),
}

/// One item of a journal's content, as it is read back at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The journal of another window begins; the records that follow fill it.
    Begin(Header),
    /// The next record of the window that began last.
    Record(Record),
}

/// What the journal found on its disk when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The windows that have a journal, oldest first.
    pub windows: Vec<Window>,
    /// What was mended or left alone, a sentence each, for the operator's log.
    pub notes: Vec<String>,
}

/// A journal of records.
///
/// Every engine keeps these promises, and `tests/conformance` holds each to them:
///
/// - **Order.** Batches become durable in the order in which they are submitted, and each entry is
///   reported exactly once, in that order. Only while the engine is [`Outcome::Down`] may later
///   entries be reported (refused) before those whose outcome is unknown.
/// - **Fence.** When [`Outcome::Refused`] names an epoch, nothing submitted in that epoch or an
///   earlier one enters the journal any more. From then on the submitter uses `epoch.next()`, and
///   never an earlier epoch.
/// - **No gaps.** The records of one window are durable before any of the next is written: after
///   any crash, the journal holds no record without all that were submitted before it.
/// - **Refused is final.** What was refused never comes back at a replay. What was never reported,
///   because the process ended, may be there or not.
/// - **Not too late.** An opening that is not durable before its window closes is refused, by its
///   `at` and the time since it was submitted.
/// - **Nothing is written elsewhere.** While its storage is gone or was replaced, the engine refuses
///   what is submitted, and reports that also when nothing is: as a refusal of no entries, and the
///   return of its storage as no entries that are durable.
/// - **Nothing waits.** `submit` and `discard` return at once, whatever the disk or a peer does.
pub trait Journal: Send + Sized {
    /// The options that the engine is opened with.
    type Options;

    /// Opens the journal and calls `fold` with its content: for each window, the oldest first, the
    /// header and then the records. If this fails, what was folded must be thrown away.
    fn open(
        options: Self::Options,
        fold: &mut dyn FnMut(Replayed),
    ) -> Result<(Self, Found), OpenError>;

    /// Queues a batch for the end of the journal; [`Journal::next`] reports whether it is durable
    /// or refused. `epoch` is the one after that of the last reported refusal, or the first.
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>);

    /// Waits for the next outcome, of the entries that were submitted first. Cancel-safe: no
    /// outcome is lost if the future is dropped.
    fn next(&mut self) -> impl Future<Output = Outcome> + Send;

    /// Removes the journal of a window that has closed and whose document is durable. After a crash
    /// the window's journal may be back, as a whole.
    fn discard(&mut self, window: Window);

    /// Returns a reader of windows that have ended, for another thread.
    fn reader(&self) -> impl WindowReader + 'static;
}

/// Reads back the journal of one window, while the engine goes on with others.
pub trait WindowReader: Send {
    /// Calls `fold` with the header and the records of a window that has ended and is not discarded.
    fn read(&self, window: Window, fold: &mut dyn FnMut(Replayed)) -> Result<(), ReadError>;
}

/// The reason the journal of one window cannot be read back.
#[derive(Debug, Error)]
pub enum ReadError {
    /// An operation of the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The window has no journal any more.
    #[error("no journal of {window} in {}: it was removed or moved away; put it back", dir.display())]
    Missing {
        /// The window that was asked for.
        window: Window,
        /// The folder that its file would be in.
        dir: PathBuf,
    },
    /// A line is damaged.
    #[error("{}: line {line} is damaged; restart the registry", path.display())]
    Damaged {
        /// The damaged file, which is left as it is.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
    },
}

/// The reason a journal cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An operation of the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is damaged, so that a record which was acknowledged may be lost.
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
        /// The length of windows that the registry runs with now.
        length: Length,
    },
    /// Another version of hit7 wrote the file.
    #[error("{}: {why}; start the hit7 that wrote it, or a newer one", path.display())]
    Format {
        /// The file of another format.
        path: PathBuf,
        /// Which format the file has, and which one this program reads.
        why: String,
    },
    /// The operating system refused to start a thread for reading or writing.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}
