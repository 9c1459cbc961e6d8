//! The journal in files, one a window.
//!
//! ```text
//! journal/                     submit ──▶ queue ──▶ thread: write, fdatasync ──▶ next
//!   2026-11-23/                           ▲ whatever comes during a sync is the next write
//!     11-29.jsonl              the journal of window 11:29: header, records, `open`
//!     11-30.jsonl
//!     11-29.jsonl.damaged-1    a copy of a damaged file
//! ```
//!
//! The thread is in `engine`, and the files that it writes in `files`. At the start `replay` reads
//! the files back, line by line as `lines` checks them, a few batches ahead of the caller
//! (`read_ahead`); `reader` reads one, for its document. `mend` removes what a crash, a failed write or damage left.

mod engine;
mod files;
mod lines;
mod mend;
mod names;
mod read_ahead;
mod reader;
mod replay;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::clock::Clock;
use crate::mesh::ListCap;
use crate::record::Entry;
use crate::store::{Disk, Store};
use crate::thread;
use crate::window::{Length, Window};

use super::{Epoch, Found, Journal, OpenError, Outcome, Replayed, WindowReader};
use engine::{Engine, Order};
use files::Files;
use reader::Reader;
use replay::Replay;

/// The most orders that may wait for the journal's thread. A registry has one batch and one opening
/// pending, and now and then a discard; a caller that fills the queue does not wait for outcomes.
const MAX_QUEUED_ORDERS: usize = 64;

const QUEUE_FULL: &str = "the disk is too slow: too much waits to be written";

const THREAD_ENDED: &str = "the journal's thread ends only by a panic, which ends the program";

/// The options of a journal in files.
#[derive(Clone, Debug)]
pub struct FileOptions<S = Disk> {
    /// The file system that holds the journal.
    pub store: S,
    /// The folder of the journal's files, which is made if it is missing.
    pub dir: PathBuf,
    /// The length of new windows.
    pub length: Length,
    /// The most peers in an own list of new windows.
    pub cap: ListCap,
    /// Whether to start without damaged lines; otherwise a damaged line is an error.
    pub accept_damage: bool,
}

/// The journal in files, one a window.
///
/// All waiting data is bounded: orders by the queue, outcomes and overflow by the entries submitted
/// and not reported yet, and discards by the number of windows that have a file.
#[derive(Debug)]
pub struct FileJournal<S = Disk> {
    /// The queue of the journal's thread, and the thread; `None` once the journal is closed.
    thread: Option<(SyncSender<Order>, JoinHandle<()>)>,
    outcomes: UnboundedReceiver<Outcome>,
    /// The number of entries that the thread was given and has not reported yet.
    under_way: usize,
    /// Entries that found the queue full, and those after them: refused once all entries before
    /// them are reported.
    overflow: Option<(Epoch, Vec<Entry>)>,
    /// Batches of epochs before this one are refused; raised when a batch finds the queue full.
    fence: Epoch,
    /// Windows whose discard found the queue full and is retried.
    discards: Vec<Window>,
    clock: Clock,
    reader: Reader<S>,
}

impl<S: Store> FileJournal<S> {
    /// Takes no more orders, and waits until those given are carried out and the thread has ended. If
    /// the future is dropped before that, the thread goes on, and nothing waits for it any more.
    pub async fn close(&mut self) {
        self.thread = None;
        while self.outcomes.recv().await.is_some() {}
    }

    /// Queues an order for the thread; if the queue is full, returns the order as the error.
    fn try_order(&self, order: Order) -> Result<(), Order> {
        let Some((orders, _)) = &self.thread else { return Err(order) };
        orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }

    fn order_discards(&mut self) {
        while let Some(window) = self.discards.pop() {
            if self.try_order(Order::Discard(window)).is_err() {
                return self.discards.push(window);
            }
        }
    }

    /// Refuses a batch that found the queue full once all before it is reported. Batches that come
    /// before then are refused with it.
    fn defer_refusal(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        self.fence = self.fence.max(epoch.next());
        let (last, refused) = self.overflow.get_or_insert_default();
        *last = epoch.max(*last);
        refused.extend(batch);
    }
}

impl<S: Store> Journal for FileJournal<S> {
    type Options = FileOptions<S>;

    fn open(
        options: FileOptions<S>,
        fold: &mut dyn FnMut(Replayed),
    ) -> Result<(FileJournal<S>, Found), OpenError> {
        let (headers, notes) = Replay::new(&options).run(fold)?;
        let windows = headers.iter().map(|header| header.window).collect();
        let reader = Reader::new(options.store.clone(), options.dir.clone());
        let files = Files::new(options, &headers)?;
        let (orders, queue) = sync_channel(MAX_QUEUED_ORDERS);
        let (told, outcomes) = unbounded_channel();
        let clock = Clock::start();
        let engine = Engine::new(files, queue, told, clock);
        let thread = thread::start("journal", move || engine.run())?;
        let journal = FileJournal {
            thread: Some((orders, thread)),
            outcomes,
            under_way: 0,
            overflow: None,
            fence: Epoch::default(),
            discards: Vec::new(),
            clock,
            reader,
        };
        Ok((journal, Found { windows, notes }))
    }

    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        self.order_discards();
        let count = batch.len();
        if count == 0 {
            return;
        }
        if self.overflow.is_some() || epoch < self.fence {
            return self.defer_refusal(epoch, batch);
        }
        match self.try_order(Order::Submit(epoch, batch, self.clock.now())) {
            Err(Order::Submit(epoch, batch, _)) => self.defer_refusal(epoch, batch),
            _ => self.under_way += count,
        }
    }

    async fn next(&mut self) -> Outcome {
        self.order_discards();
        if self.under_way == 0
            && let Some((epoch, batch)) = self.overflow.take()
        {
            return Outcome::Refused { epoch, batch, why: QUEUE_FULL.to_owned() };
        }
        let outcome = self.outcomes.recv().await.expect(THREAD_ENDED);
        if let Outcome::Durable(told) | Outcome::Refused { batch: told, .. } = &outcome {
            self.under_way -= told.len();
        }
        outcome
    }

    fn discard(&mut self, window: Window) {
        self.discards.push(window);
        self.order_discards();
    }

    fn reader(&self) -> impl WindowReader + 'static {
        self.reader.clone()
    }
}

impl<S> Drop for FileJournal<S> {
    /// Waits until all that was submitted is written, so that the folder can be opened again.
    /// Discards that found the queue full are lost; the next start repeats them.
    fn drop(&mut self) {
        if let Some((orders, thread)) = self.thread.take() {
            drop(orders);
            // An error means that the thread panicked, which was reported where it happened.
            let _ = thread.join();
        }
    }
}
