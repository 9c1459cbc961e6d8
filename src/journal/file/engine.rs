//! The thread that owns the files: it writes together what came together, and tells what became of
//! it.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::record::{Entry, Record};
use crate::store::Store;
use crate::window::Window;

use super::super::{Epoch, Outcome};
use super::QUEUE;
use super::files::Files;

/// From one sync to the next at the least: under load, a line costs a third of what it costs when
/// one syncs without pause; when idle, nothing waits. Nor does an opening, which many wait for.
const PACE: Duration = Duration::from_millis(1);

/// How soon a file that could not be mended is tried again, the first time and at the most.
const RETRY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

const STALE: &str = "it was submitted before a refusal was known";

/// What the thread can be asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write these, or refuse them if their epoch is over.
    Submit(Epoch, Vec<Entry>),
    /// Remove the journal of this window.
    Discard(Window),
}

/// The state of the thread.
pub(super) struct Engine<S: Store> {
    files: Files<S>,
    queue: Receiver<Order>,
    outcomes: UnboundedSender<Outcome>,
    clock: Clock,
    /// When the next group may be written, by the monotonic clock.
    due: Duration,
    /// Submitted, and not written yet.
    group: Vec<Entry>,
    /// The epoch of the group's last batch.
    epoch: Epoch,
    /// Whether an opening is in the group.
    opens: bool,
    /// Batches of earlier epochs are refused.
    fence: Epoch,
    /// Closed windows whose files are removed once the group is written.
    discards: Vec<Window>,
}

impl<S: Store> Engine<S> {
    /// A thread that has not been started.
    pub(super) fn new(
        files: Files<S>,
        queue: Receiver<Order>,
        outcomes: UnboundedSender<Outcome>,
    ) -> Engine<S> {
        Engine {
            files,
            queue,
            outcomes,
            clock: Clock::start(),
            due: Duration::ZERO,
            group: Vec::new(),
            epoch: Epoch::default(),
            opens: false,
            fence: Epoch::default(),
            discards: Vec::new(),
        }
    }

    /// Works until whoever gives the orders is gone, and all of them are done.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.queue.recv() {
            self.take(order);
            if !self.group.is_empty() {
                self.pace();
                self.take_all();
                self.commit();
            }
            for window in std::mem::take(&mut self.discards) {
                self.files.discard(window);
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Submit(epoch, batch) if epoch < self.fence => {
                self.refuse(epoch, batch, STALE.to_owned());
            }
            Order::Submit(epoch, batch) => {
                self.epoch = epoch;
                self.opens |= batch.iter().any(|entry| matches!(entry.record, Record::Open(_)));
                match self.group.is_empty() {
                    true => self.group = batch,
                    false => self.group.extend(batch),
                }
            }
            Order::Discard(window) => self.discards.push(window),
        }
    }

    /// Waits until it is time to write again, and takes whatever comes meanwhile.
    fn pace(&mut self) {
        while let left = self.due.saturating_sub(self.clock.now().mono)
            && !(self.opens || left.is_zero())
            && let Ok(order) = self.queue.recv_timeout(left)
        {
            self.take(order);
        }
        self.due = self.clock.now().mono + PACE;
    }

    /// Takes what waits, but not for ever, should more come all the time.
    fn take_all(&mut self) {
        for _ in 0..QUEUE {
            let Ok(order) = self.queue.try_recv() else { break };
            self.take(order);
        }
    }

    /// Writes the group: the records of one window together, each such run durable before the next
    /// is written, so that the journal never has a record after one that it lacks. If one fails, it
    /// and all behind it are refused.
    fn commit(&mut self) {
        self.opens = false;
        while let Some((window, count)) = first_run(&self.group) {
            if let Err(error) = self.files.append(window, &self.group[..count]) {
                return self.take_back(error.to_string());
            }
            let rest = self.group.split_off(count);
            let run = std::mem::replace(&mut self.group, rest);
            self.tell(Outcome::Durable(run));
        }
    }

    /// Refuses the group once nothing of it is in the files. If whoever gives the orders is gone
    /// before, nothing is promised of it: the next start keeps what it finds.
    fn take_back(&mut self, why: String) {
        let (epoch, group) = (self.epoch, std::mem::take(&mut self.group));
        if self.mend(&why) {
            // Whoever was told of refusals meanwhile submits in a later epoch by now, and still counts
            // on this batch.
            self.refuse(epoch.max(self.fence), group, why);
        }
    }

    /// Mends the file that a write failed in, however long that takes; whether it did.
    fn mend(&mut self, why: &str) -> bool {
        let [mut wait, longest] = RETRY;
        let mut is_down = false;
        while let Err(error) = self.files.mend() {
            if !std::mem::replace(&mut is_down, true) {
                let also = format!("{why}; nor can what it left be taken away: {error}");
                self.tell(Outcome::Down(also));
            }
            if !self.refuse_all_for(wait, why) {
                return false;
            }
            wait = longest.min(2 * wait);
        }
        true
    }

    /// Refuses whatever comes for some time, of which nothing is in the files; whether more may come.
    fn refuse_all_for(&mut self, wait: Duration, why: &str) -> bool {
        let end = self.clock.now().mono + wait;
        while let left = end.saturating_sub(self.clock.now().mono)
            && !left.is_zero()
        {
            match self.queue.recv_timeout(left) {
                Ok(Order::Submit(epoch, batch)) => self.refuse(epoch, batch, why.to_owned()),
                // A disk that takes nothing is not asked for more.
                Ok(Order::Discard(window)) => self.discards.push(window),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Refuses a batch, and whatever is submitted before that is known: it was put together as if the
    /// batch were in the journal.
    fn refuse(&mut self, epoch: Epoch, batch: Vec<Entry>, why: String) {
        self.fence = self.fence.max(epoch.next());
        self.tell(Outcome::Refused { epoch, batch, why });
    }

    /// Tells the journal's owner; while that is dropped, nobody listens any more.
    fn tell(&self, outcome: Outcome) {
        let _ = self.outcomes.send(outcome);
    }
}

/// The window of the first record, and how many there are of it in a row.
fn first_run(group: &[Entry]) -> Option<(Window, usize)> {
    let window = group.first()?.record.window();
    Some((window, group.iter().take_while(|entry| entry.record.window() == window).count()))
}
