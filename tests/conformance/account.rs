//! Records what was submitted to a journal, and checks each of its outcomes against that.

use std::collections::BTreeSet;

use hit7::journal::{Epoch, Outcome, Replayed};
use hit7::record::{Entry, Record, Ticket};
use hit7::window::Window;

use super::{Step, Subject, records};

/// A submitter to a journal under test, with its record of what is pending, durable and refused.
pub(crate) struct Account<S> {
    pub(crate) subject: S,
    /// The epoch that batches are submitted in.
    pub(crate) epoch: Epoch,
    /// Batches of epochs before this one must be refused, after a reported refusal.
    fence: Epoch,
    next: Ticket,
    /// Entries that were submitted and have no outcome yet, with their epochs.
    pub(crate) under_way: Vec<(Epoch, Entry)>,
    pub(crate) durable: Vec<Record>,
    pub(crate) refused: Vec<Record>,
    is_down: bool,
    discarded: BTreeSet<Window>,
}

impl<S: Subject> Account<S> {
    pub(crate) fn new(subject: S) -> Account<S> {
        Account {
            subject,
            epoch: Epoch::default(),
            fence: Epoch::default(),
            next: Ticket::FIRST,
            under_way: Vec::new(),
            durable: Vec::new(),
            refused: Vec::new(),
            is_down: false,
            discarded: BTreeSet::new(),
        }
    }

    /// Runs a step of the script, and waits for its outcomes.
    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Submit(batches) => batches.iter().for_each(|batch| self.submit(batch)),
            Step::Discard(index) => {
                self.subject.discard(records::window(*index));
                self.discarded.insert(records::window(*index));
            }
        }
        self.settle();
    }

    pub(crate) fn submit(&mut self, records: &[Record]) {
        self.submit_in(self.epoch, records);
    }

    pub(crate) fn submit_in(&mut self, epoch: Epoch, records: &[Record]) {
        let mut batch = Vec::new();
        for record in records {
            let ticket = Some(self.next);
            self.next = self.next.next();
            batch.push(Entry { ticket, record: record.clone() });
        }
        self.under_way.extend(batch.iter().map(|entry| (epoch, entry.clone())));
        self.subject.submit(epoch, batch);
    }

    /// Waits for the outcomes of all entries, except those that a journal which is down withholds.
    pub(crate) fn settle(&mut self) {
        for outcome in self.subject.settle() {
            self.note(outcome);
        }
        assert!(self.is_down || self.under_way.is_empty(), "all is told of");
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Durable(batch) => {
                for entry in batch {
                    let (epoch, record) = self.told(entry);
                    assert!(epoch >= self.fence, "its epoch was over: {record:?}");
                    self.durable.push(record);
                }
            }
            Outcome::Refused { epoch, batch, why } => {
                assert!(!batch.is_empty() && !why.is_empty());
                for entry in batch {
                    let (of, record) = self.told(entry);
                    assert!(of <= epoch, "the refusal is of earlier epochs: {record:?}");
                    self.refused.push(record);
                }
                self.fence = self.fence.max(epoch.next());
                self.epoch = self.epoch.max(self.fence);
            }
            Outcome::Down(why) => {
                assert!(!self.is_down && !why.is_empty(), "told once an outage");
                assert!(!self.under_way.is_empty(), "something has no outcome");
                self.is_down = true;
            }
        }
        self.is_down &= !self.under_way.is_empty();
    }

    /// Takes an entry out of the pending ones; it must be the first unless the journal is down.
    fn told(&mut self, entry: Entry) -> (Epoch, Record) {
        let mut waiting = self.under_way.iter();
        let place = waiting.position(|(_, other)| *other == entry);
        let place = place.unwrap_or_else(|| panic!("told of, and not under way: {entry:?}"));
        assert!(place == 0 || self.is_down, "told of before its turn: {entry:?}");
        let (epoch, entry) = self.under_way.remove(place);
        (epoch, entry.record)
    }

    /// Crashes the journal and checks what is read back: all durable records, and of the pending
    /// ones none without those before it.
    pub(crate) fn crash(&mut self) {
        let (windows, replayed) = self.subject.crash_and_reopen();
        let seen = read_back(&windows, replayed);
        let kept = self.allows(&seen).unwrap_or_else(|| {
            let Account { durable, under_way, refused, .. } = self;
            panic!("{seen:?} is not {durable:?} and some of {under_way:?}; refused: {refused:?}")
        });
        let kept = std::mem::take(&mut self.under_way).into_iter().take(kept);
        self.durable.extend(kept.map(|(_, entry)| entry.record));
        (self.epoch, self.fence, self.is_down) = Default::default();
    }

    /// Returns how many pending entries are among the records read back, `seen`; `None` if `seen`
    /// breaks a promise.
    pub(crate) fn allows(&self, seen: &[Record]) -> Option<usize> {
        let submitted = self.under_way.iter().map(|(_, entry)| &entry.record);
        let all: Vec<&Record> = self.durable.iter().chain(submitted).collect();
        let allowed = |kept: &usize| self.as_read(&all[..self.durable.len() + kept], seen) == seen;
        (0..=self.under_way.len()).find(allowed)
    }

    /// Returns how a journal of `records` must be read back; a discarded window is there as a whole
    /// or not at all.
    fn as_read(&self, records: &[&Record], seen: &[Record]) -> Vec<Record> {
        let is_back = |window| seen.iter().any(|record| record.window() == window);
        let is_there = |window| !self.discarded.contains(&window) || is_back(window);
        let there = records.iter().filter(|record| is_there(record.window()));
        let mut read: Vec<Record> = there.map(|record| Record::clone(record)).collect();
        read.sort_by_key(Record::window);
        read
    }
}

/// Returns the records that were read back, and checks that each follows its window's header.
pub(crate) fn read_back(windows: &[Window], replayed: Vec<Replayed>) -> Vec<Record> {
    let (mut begun, mut records) = (Vec::new(), Vec::new());
    for replayed in replayed {
        match replayed {
            Replayed::Begin(header) => begun.push(header.window),
            Replayed::Record(record) => {
                assert_eq!(begun.last(), Some(&record.window()));
                records.push(record);
            }
        }
    }
    assert_eq!(begun, windows);
    assert!(begun.is_sorted_by(|a, b| a < b), "the oldest window first: {begun:?}");
    records
}
