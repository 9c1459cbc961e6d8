//! The journal in files, one a window.
//!
//! ```text
//! journal/                     submit ──▶ queue ──▶ thread: write, fdatasync ──▶ next
//!   2026-11-23/                           ▲ whatever comes during a sync is the next write
//!     11-29.jsonl              header, records, `open`: the journal of what fills 11:29
//!     11-30.jsonl
//!     11-29.jsonl.damaged-1    a copy of what was not as it was written
//! ```
//!
//! The thread is in `engine`, and the files that it writes in `files`. At the start `replay` reads
//! them back, line by line as `lines` judges them, a little ahead of who folds over them
//! (`read_ahead`). `mend` takes away what a crash, a failed write or damage left.

mod engine;
mod files;
mod lines;
mod mend;
mod names;
mod read_ahead;
mod replay;

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::record::Entry;
use crate::store::{Disk, Store};
use crate::window::{Length, Window};

use super::{Epoch, Found, Journal, OpenError, Outcome, Replayed};
use engine::{Engine, Order};
use files::Files;
use replay::Replay;

/// Orders that may wait for the thread. A registry has a batch under way, an opening beside it and
/// now and then a discard; whoever has more than this is not waiting for what becomes of it.
const QUEUE: usize = 64;

const QUEUE_FULL: &str = "the disk is too slow: too much waits to be written";

const THREAD_ENDED: &str = "the journal's thread ends only by a panic, which ends the program";

/// What a journal in files is opened with.
#[derive(Clone, Debug)]
pub struct FileOptions<S = Disk> {
    /// The file system that it is on.
    pub store: S,
    /// The folder of its files, which is made if it is missing.
    pub dir: PathBuf,
    /// How long new windows are.
    pub length: Length,
    /// Whether to go on without damaged lines; otherwise they are an error.
    pub accept_damage: bool,
}

/// The journal in files, one a window.
///
/// What waits is bounded: orders by the queue, outcomes by what was submitted and not told yet,
/// refusals of what found the queue full by the same, and discards by the windows that have a file.
#[derive(Debug)]
pub struct FileJournal<S = Disk> {
    /// `None` while it is dropped.
    thread: Option<(SyncSender<Order>, JoinHandle<()>)>,
    outcomes: UnboundedReceiver<Outcome>,
    /// Entries that the thread was given and has not told of.
    under_way: usize,
    /// What found the queue full, and what came behind it: refused when all before it is told.
    overflow: Option<(Epoch, Vec<Entry>)>,
    /// Batches of epochs before this one are refused. It rises when a batch finds the queue full.
    fence: Epoch,
    /// Discards that found the queue full, for when it is not.
    discards: Vec<Window>,
    store: PhantomData<fn() -> S>,
}

impl<S: Store> FileJournal<S> {
    /// Gives the thread an order; a full queue gives it back.
    fn order(&self, order: Order) -> Result<(), Order> {
        let Some((orders, _)) = &self.thread else { return Err(order) };
        orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }

    fn order_discards(&mut self) {
        while let Some(window) = self.discards.pop() {
            if self.order(Order::Discard(window)).is_err() {
                return self.discards.push(window);
            }
        }
    }

    /// Refuses a batch, in its turn. All that comes before this is told is refused with it.
    fn overflow(&mut self, epoch: Epoch, batch: Vec<Entry>) {
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
        let FileOptions { store, dir, length, .. } = options;
        let files = Files::new(store, dir, length, &headers);
        let (orders, queue) = sync_channel(QUEUE);
        let (told, outcomes) = unbounded_channel();
        let engine = Engine::new(files, queue, told);
        let thread = Builder::new().name("journal".into());
        let thread = thread.spawn(move || engine.run()).map_err(OpenError::Thread)?;
        let journal = FileJournal {
            thread: Some((orders, thread)),
            outcomes,
            under_way: 0,
            overflow: None,
            fence: Epoch::default(),
            discards: Vec::new(),
            store: PhantomData,
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
            return self.overflow(epoch, batch);
        }
        match self.order(Order::Submit(epoch, batch)) {
            Err(Order::Submit(epoch, batch)) => self.overflow(epoch, batch),
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
}

impl<S> Drop for FileJournal<S> {
    /// Waits until what was submitted is written: who opens the folder next finds it whole. A
    /// discard that is left is done when the journal is used next.
    fn drop(&mut self) {
        if let Some((orders, thread)) = self.thread.take() {
            drop(orders);
            // It panicked, and that was told where it happened.
            let _ = thread.join();
        }
    }
}
