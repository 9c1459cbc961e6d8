//! The thread that owns the files: it writes together what came together, and says what became of
//! it.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::record::{Entry, Record};
use crate::store::Store;
use crate::window::Window;

use super::logs::Logs;
use super::{Epoch, Outcome};

/// From one sync to the next at the least: under load, a line costs a third of what it costs when
/// one syncs without pause; when idle, nothing waits. Nor does an opening, which many wait for.
const PACE: Duration = Duration::from_millis(1);

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write these, which were proposed when so many refusals were known.
    Propose(Vec<Entry>, Epoch),
    /// Forget the log of this window.
    Discard(Window),
}

/// The thread.
pub(super) struct Engine<S: Store> {
    logs: Logs<S>,
    queue: Receiver<Order>,
    outcomes: UnboundedSender<Outcome>,
    clock: Clock,
    /// Not before this is written again.
    due: Duration,
    /// Proposed, and not written yet.
    group: Vec<Entry>,
    /// Whether an opening is among it.
    opens: bool,
    /// How many refusals have been told.
    fence: Epoch,
    epoch: Epoch,
    /// Closed windows whose logs go when the group is written.
    discards: Vec<Window>,
}

impl<S: Store> Engine<S> {
    /// A thread that has not been started.
    pub(super) fn new(
        logs: Logs<S>,
        queue: Receiver<Order>,
        outcomes: UnboundedSender<Outcome>,
    ) -> Engine<S> {
        let (clock, due) = (Clock::start(), Duration::ZERO);
        let (group, discards) = (Vec::new(), Vec::new());
        Engine {
            logs,
            queue,
            outcomes,
            clock,
            due,
            group,
            opens: false,
            fence: Epoch::default(),
            epoch: Epoch::default(),
            discards,
        }
    }

    /// Until whoever gives the orders is gone, and all of them are done.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.queue.recv() {
            self.take(order);
            if !self.group.is_empty() {
                self.pace();
                self.take_all();
                self.commit();
            }
            for window in std::mem::take(&mut self.discards) {
                self.logs.discard(window);
            }
        }
        // The last chance to take away what was refused; the next start cannot tell.
        let _ = self.logs.mend();
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Propose(batch, epoch) if epoch < self.fence => {
                self.epoch = epoch;
                self.refuse(batch, "what was proposed before it was refused".to_owned());
            }
            Order::Propose(batch, epoch) => {
                self.epoch = epoch;
                self.opens |=
                    batch.iter().any(|Entry { record, .. }| matches!(record, Record::Open(_)));
                match self.group.is_empty() {
                    true => self.group = batch,
                    false => self.group.extend(batch),
                }
            }
            Order::Discard(window) => self.discards.push(window),
        }
    }

    /// Whatever has come meanwhile.
    fn take_all(&mut self) {
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
    }

    /// Waits until it is time to write again.
    fn pace(&mut self) {
        while !self.opens {
            let left = self.due.saturating_sub(self.clock.now().mono);
            match self.queue.recv_timeout(left) {
                Ok(order) => self.take(order),
                Err(_) => break,
            }
        }
        self.due = self.clock.now().mono + PACE;
    }

    /// Writes the group: the records of one window together, each such run durable before the next
    /// is written, so that the log never has a record after one that it has not. If one fails, it and
    /// all behind it are refused.
    fn commit(&mut self) {
        self.opens = false;
        while let Some((window, count)) = first_run(&self.group) {
            if let Err(error) = self.logs.append(window, &self.group[..count]) {
                // If this fails too, it is tried before the next write.
                let _ = self.logs.mend();
                let group = std::mem::take(&mut self.group);
                return self.refuse(group, error.to_string());
            }
            let rest = self.group.split_off(count);
            let run = std::mem::replace(&mut self.group, rest);
            self.tell(Outcome::Durable(run));
        }
    }

    /// What is proposed before this is known is proposed as if the batch were in the log.
    fn refuse(&mut self, batch: Vec<Entry>, why: String) {
        let epoch = self.epoch;
        self.fence = self.fence.max(epoch.next());
        self.tell(Outcome::Refused { epoch, batch, why });
    }

    /// Nobody listens any more while the journal is dropped.
    fn tell(&self, outcome: Outcome) {
        let _ = self.outcomes.send(outcome);
    }
}

/// The window of the first record, and how many there are of it in a row.
fn first_run(group: &[Entry]) -> Option<(Window, usize)> {
    let window = group.first()?.record.window();
    Some((
        window,
        group.iter().take_while(|Entry { record, .. }| record.window() == window).count(),
    ))
}
