//! The journal's thread, which owns the files: it writes all waiting batches with one sync, and
//! reports the outcome of each entry.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::clock::{Clock, Now};
use crate::record::{Entry, Record};
use crate::store::Store;
use crate::window::Window;

use super::super::{Epoch, Outcome};
use super::MAX_QUEUED_ORDERS;
use super::files::Files;

/// The least time between two syncs. Under load, a line then costs a third of what it costs with
/// syncs without pause; when idle, nothing waits. Nor does an opening, which many clients wait for.
const MIN_SYNC_INTERVAL: Duration = Duration::from_millis(1);

/// The first and the longest delay before mending a file is retried; the delay doubles each time.
const MEND_RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(250)];

/// How often all files of the journal are looked for: a write notices only what it writes to.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

const STALE_EPOCH: &str = "it was submitted before a refusal was known";

/// An order to the journal's thread.
#[derive(Debug)]
pub(super) enum Order {
    /// Write these entries, which were submitted then, or refuse them if their epoch has ended.
    Submit(Epoch, Vec<Entry>, Now),
    /// Remove the journal file of this window.
    Discard(Window),
}

/// The state of the journal's thread.
pub(super) struct Engine<S: Store> {
    files: Files<S>,
    queue: Receiver<Order>,
    outcomes: UnboundedSender<Outcome>,
    clock: Clock,
    /// The moment of the monotonic clock from which the next group may be written.
    due: Duration,
    /// Entries that were submitted and are not written yet.
    group: Vec<Entry>,
    /// The epoch of the group's last batch.
    epoch: Epoch,
    /// Whether the end of a window is in the group.
    opens: bool,
    /// The moment of the monotonic clock at which the window closes whose opening is in the group.
    deadline: Option<Duration>,
    /// Whether a file of the journal was gone when they were last looked for.
    is_lost: bool,
    /// The moment of the monotonic clock from which the files are looked for again.
    check_at: Duration,
    /// Batches of epochs before this one are refused.
    fence: Epoch,
    /// Closed windows whose files are removed once the group is written, and the folder is there.
    discards: Vec<Window>,
}

impl<S: Store> Engine<S> {
    /// Makes the state of a thread that has not been started.
    pub(super) fn new(
        files: Files<S>,
        queue: Receiver<Order>,
        outcomes: UnboundedSender<Outcome>,
        clock: Clock,
    ) -> Engine<S> {
        Engine {
            files,
            queue,
            outcomes,
            clock,
            due: Duration::ZERO,
            group: Vec::new(),
            epoch: Epoch::default(),
            opens: false,
            deadline: None,
            is_lost: false,
            check_at: Duration::ZERO,
            fence: Epoch::default(),
            discards: Vec::new(),
        }
    }

    /// Carries out orders until the sender of the queue is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            match self.queue.recv_timeout(CHECK_INTERVAL) {
                Ok(order) => self.take_order(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.is_lost || self.clock.now().mono >= self.check_at {
                self.check_files();
            }
            if !self.group.is_empty() {
                self.wait_for_due();
                self.take_queued();
                self.commit();
            }
            self.discards.retain(|window| !self.files.discard(*window));
        }
    }

    fn take_order(&mut self, order: Order) {
        match order {
            Order::Submit(epoch, batch, _) if epoch < self.fence => {
                self.refuse(epoch, batch, STALE_EPOCH.to_owned());
            }
            Order::Submit(epoch, batch, submitted) => {
                self.epoch = epoch;
                for entry in &batch {
                    match &entry.record {
                        Record::Open(it) => {
                            let left = it.at.until(it.length.closes(it.window));
                            self.deadline = Some(submitted.mono + left);
                            self.opens = true;
                        }
                        Record::Missed(_) => self.opens = true,
                        _ => {}
                    }
                }
                match self.group.is_empty() {
                    true => self.group = batch,
                    false => self.group.extend(batch),
                }
            }
            Order::Discard(window) => self.discards.push(window),
        }
    }

    /// Waits until the next sync is due, and takes the orders that come meanwhile.
    fn wait_for_due(&mut self) {
        while let left = self.due.saturating_sub(self.clock.now().mono)
            && !(self.opens || left.is_zero())
            && let Ok(order) = self.queue.recv_timeout(left)
        {
            self.take_order(order);
        }
        self.due = self.clock.now().mono + MIN_SYNC_INTERVAL;
    }

    /// Takes the orders in the queue, a queue's length at most, should more come all the time.
    fn take_queued(&mut self) {
        for _ in 0..MAX_QUEUED_ORDERS {
            let Ok(order) = self.queue.try_recv() else { break };
            self.take_order(order);
        }
    }

    /// Writes the group: the records of one window together, each such run durable before the next
    /// is written, so that the journal never has a record after one that it lacks. If a run fails,
    /// that run and all after it are refused.
    fn commit(&mut self) {
        self.opens = false;
        let deadline = self.deadline.take();
        if self.is_lost
            && let Err(error) = self.files.check()
        {
            return self.refuse_group(error.to_string());
        }
        while let Some((window, count)) = first_run(&self.group) {
            let run = &self.group[..count];
            let opens = run.iter().any(|entry| matches!(entry.record, Record::Open(_)));
            let deadline = deadline.filter(|_| opens);
            let in_time = || deadline.is_none_or(|deadline| self.clock.now().mono < deadline);
            if let Err(error) = self.files.append(window, run, in_time) {
                return self.refuse_group(error.to_string());
            }
            let rest = self.group.split_off(count);
            let run = std::mem::replace(&mut self.group, rest);
            self.report(Outcome::Durable(run));
        }
    }

    /// Refuses the group once nothing of it is in the files. If the journal is dropped before that,
    /// the group has no outcome, and the next start keeps what it finds of it.
    fn refuse_group(&mut self, why: String) {
        let (epoch, group) = (self.epoch, std::mem::take(&mut self.group));
        if self.mend(&why) {
            // After refusals reported meanwhile, the submitter is in a later epoch by now, and
            // still counts on this batch.
            self.refuse(epoch.max(self.fence), group, why);
        }
    }

    /// Mends the file in which a write failed, and retries without end; returns `false` if the
    /// journal was dropped before that succeeded.
    fn mend(&mut self, why: &str) -> bool {
        let [mut wait, longest] = MEND_RETRY_DELAYS;
        let mut is_down = false;
        while let Err(error) = self.files.mend() {
            if !std::mem::replace(&mut is_down, true) {
                let also = format!("{why}; nor can what it left be taken away: {error}");
                self.report(Outcome::Down(also));
            }
            if !self.refuse_all_for(wait, why) {
                return false;
            }
            wait = longest.min(2 * wait);
        }
        true
    }

    /// Refuses all batches that come during `wait`; returns `false` if the journal was dropped.
    fn refuse_all_for(&mut self, wait: Duration, why: &str) -> bool {
        let end = self.clock.now().mono + wait;
        while let left = end.saturating_sub(self.clock.now().mono)
            && !left.is_zero()
        {
            match self.queue.recv_timeout(left) {
                Ok(Order::Submit(epoch, batch, _)) => self.refuse(epoch, batch, why.to_owned()),
                // Kept for later: the disk fails now.
                Ok(Order::Discard(window)) => self.discards.push(window),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// Looks for the journal's files, and reports when one is gone, and when all are back.
    fn check_files(&mut self) {
        self.check_at = self.clock.now().mono + CHECK_INTERVAL;
        let found = self.files.check();
        let was_lost = std::mem::replace(&mut self.is_lost, found.is_err());
        match found {
            Err(error) if !was_lost => {
                self.refuse(self.epoch.max(self.fence), Vec::new(), error.to_string());
            }
            Ok(()) if was_lost => self.report(Outcome::Durable(Vec::new())),
            _ => {}
        }
    }

    /// Refuses a batch, and whatever is submitted before the submitter knows of that: such a batch
    /// was put together as if this one were in the journal.
    fn refuse(&mut self, epoch: Epoch, batch: Vec<Entry>, why: String) {
        self.fence = self.fence.max(epoch.next());
        self.report(Outcome::Refused { epoch, batch, why });
    }

    /// Sends an outcome to the journal's owner; while the journal is dropped, nobody receives it.
    fn report(&self, outcome: Outcome) {
        let _ = self.outcomes.send(outcome);
    }
}

/// Returns the window of the first record, and how many records from the first on are of it.
fn first_run(group: &[Entry]) -> Option<(Window, usize)> {
    let window = group.first()?.record.window();
    Some((window, group.iter().take_while(|entry| entry.record.window() == window).count()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::journal::FileOptions;
    use crate::journal::file::names;
    use crate::mesh::ListCap;
    use crate::record::{Missing, Opening};
    use crate::store::Disk;
    use crate::window::{Length, Wall};

    const HOUR: Duration = Duration::from_secs(3600);

    fn submitted(record: Record) -> Order {
        let entry = Entry { ticket: None, record };
        Order::Submit(Epoch::default(), vec![entry], Clock::start().now())
    }

    #[test]
    fn files_that_are_gone_are_told_once_until_they_are_back() {
        let home = tempfile::tempdir().unwrap();
        let opening = Opening {
            window: Length::MINUTE.window_at(Wall::from_millis(0)),
            length: Length::MINUTE,
            cap: None,
            at: Wall::from_millis(0),
        };
        let (mut engine, _orders) = waiting(&home, Record::Open(opening));
        let (outcomes, mut told) = unbounded_channel();
        engine.outcomes = outcomes;
        let (here, there) = (home.path().to_owned(), home.path().with_extension("moved"));
        engine.check_files();
        for _ in 0..2 {
            assert!(told.try_recv().is_err(), "nothing is gone");
            std::fs::rename(&here, &there).unwrap();
            engine.check_files();
            assert!(
                matches!(told.try_recv(), Ok(Outcome::Refused { batch, .. }) if batch.is_empty())
            );
            engine.check_files();
            assert!(told.try_recv().is_err(), "it was told");
            std::fs::rename(&there, &here).unwrap();
            engine.check_files();
            assert!(matches!(told.try_recv(), Ok(Outcome::Durable(all)) if all.is_empty()));
            engine.check_files();
        }
    }

    #[test]
    fn while_one_file_is_gone_no_other_is_written() {
        let (home, at) = (tempfile::tempdir().unwrap(), Wall::from_millis(0));
        let first = Length::MINUTE.window_at(at);
        let second = Length::MINUTE.window_at(Wall::from_millis(60_000));
        let missed = |window| Record::Missed(Missing { window, at });
        let (mut engine, orders) = waiting(&home, missed(first));
        let (outcomes, mut told) = unbounded_channel();
        engine.outcomes = outcomes;
        engine.commit();
        assert!(matches!(told.try_recv(), Ok(Outcome::Durable(_))));
        let (path, aside) =
            (names::path(home.path(), first, Length::MINUTE), home.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let ends = std::thread::spawn(move || engine.run());
        let submit = |epoch| {
            let batch = vec![Entry { ticket: None, record: missed(second) }];
            orders.send(Order::Submit(epoch, batch, Clock::start().now())).unwrap();
        };
        // Written or not, the first order is when all files are looked for.
        let mut epoch = Epoch::default();
        submit(epoch);
        let mut refused = 0;
        while refused < 3 {
            match told.blocking_recv().unwrap() {
                Outcome::Refused { epoch: of, .. } => {
                    refused += 1;
                    epoch = epoch.max(of.next());
                    submit(epoch);
                }
                other => panic!("{other:?}"),
            }
        }
        std::fs::rename(&aside, &path).unwrap();
        loop {
            match told.blocking_recv().unwrap() {
                Outcome::Refused { epoch: of, .. } => {
                    epoch = epoch.max(of.next());
                    submit(epoch);
                }
                Outcome::Durable(all) if all.is_empty() => {}
                Outcome::Durable(_) => break,
                other => panic!("{other:?}"),
            }
        }
        drop(orders);
        ends.join().unwrap();
    }

    /// Makes an engine whose group has one record, and whose next sync is due in an hour.
    fn waiting(home: &tempfile::TempDir, record: Record) -> (Engine<Disk>, SyncSender<Order>) {
        let (length, cap) = (Length::MINUTE, ListCap::default());
        let dir = home.path().to_owned();
        let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
        let (orders, queue) = sync_channel(MAX_QUEUED_ORDERS);
        let files = Files::new(options, &[]).unwrap();
        let mut engine = Engine::new(files, queue, unbounded_channel().0, Clock::start());
        engine.due = engine.clock.now().mono + HOUR;
        engine.take_order(submitted(record));
        (engine, orders)
    }

    #[test]
    fn a_group_waits_for_its_time_and_takes_what_comes_but_an_end_of_a_window_waits_for_nothing() {
        let (home, at) = (tempfile::tempdir().unwrap(), Wall::from_millis(0));
        let window = Length::MINUTE.window_at(at);
        let leave = || {
            let path =
                crate::path::Path::new("192.0.2.1:9".parse().unwrap(), [192, 0, 2, 2].into());
            Record::Leave(crate::record::Leaving { window, at, path, id: None, seq: None })
        };
        let opening = Opening { window, length: Length::MINUTE, cap: None, at };
        for end in [Record::Open(opening), Record::Missed(Missing { window, at })] {
            let (mut engine, orders) = waiting(&home, leave());
            for record in [leave(), end, leave()] {
                orders.send(submitted(record)).unwrap();
            }
            // Without this, an engine that waits in spite of the end would do so for an hour.
            drop(orders);
            let begun = engine.clock.now().mono;
            engine.wait_for_due();
            assert_eq!(engine.group.len(), 3, "the last is still in the queue");
            let next = begun + MIN_SYNC_INTERVAL;
            assert!((next..next + HOUR / 2).contains(&engine.due), "{:?}", engine.due);
        }
    }
}
