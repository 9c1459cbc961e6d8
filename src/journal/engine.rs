//! The thread that owns the files: it writes together what came together, and says what became of
//! it.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::record::{Record, Ticket};
use crate::store::{Store, StoreError};
use crate::window::Window;

use super::Outcome;
use super::logs::Logs;

/// From one sync to the next at the least: under load, a line costs a third of what it costs when
/// one syncs without pause; when idle, nothing waits.
const PACE: Duration = Duration::from_millis(1);

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write these.
    Propose(Vec<(Ticket, Record)>),
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
    group: Vec<(Ticket, Record)>,
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
        Engine { logs, queue, outcomes, clock, due, group: Vec::new(), discards: Vec::new() }
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
            Order::Propose(batch) if self.group.is_empty() => self.group = batch,
            Order::Propose(batch) => self.group.extend(batch),
            Order::Discard(window) => self.discards.push(window),
        }
    }

    /// Whatever has come meanwhile.
    fn take_all(&mut self) {
        while let Ok(order) = self.queue.try_recv() {
            self.take(order);
        }
    }

    fn pace(&mut self) {
        thread::sleep(self.due.saturating_sub(self.clock.now().mono));
        self.due = self.clock.now().mono + PACE;
    }

    /// Writes the group: the records of one window together, each such run durable before the next
    /// is written, so that the log never has a record after one that it has not.
    fn commit(&mut self) {
        while let Some((window, count)) = first_run(&self.group) {
            if let Err(error) = self.logs.append(window, &self.group[..count]) {
                return self.refuse(&error);
            }
            let rest = self.group.split_off(count);
            let run = std::mem::replace(&mut self.group, rest);
            self.tell(Outcome::Durable(run));
        }
    }

    /// Refuses the group and all that came behind it, which was proposed as if it were in the log.
    fn refuse(&mut self, error: &StoreError) {
        // If this fails too, it is tried before the next write.
        let _ = self.logs.mend();
        self.take_all();
        let batch = std::mem::take(&mut self.group);
        self.tell(Outcome::Refused { batch, why: error.to_string() });
    }

    /// Nobody listens any more while the journal is dropped.
    fn tell(&self, outcome: Outcome) {
        let _ = self.outcomes.send(outcome);
    }
}

/// The window of the first record, and how many there are of it in a row.
fn first_run(group: &[(Ticket, Record)]) -> Option<(Window, usize)> {
    let window = group.first()?.1.window();
    Some((window, group.iter().take_while(|(_, record)| record.window() == window).count()))
}
