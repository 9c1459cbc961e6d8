//! The journal in files on a failing disk, as a subject of the conformance tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hit7::journal::{
    Epoch, FileJournal, FileOptions, Found, Journal, OpenError, Outcome, Replayed,
};
use hit7::mesh::ListCap;
use hit7::record::{Entry, Record, Ticket};
use hit7::store::Store;
use hit7::window::{Length, Window};

use crate::conformance::Subject;
use crate::conformance::account::read_back;
use crate::disk::{FlakyDisk, TestDisk};

/// Waits for a future, and fails the test after a minute.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(waited).expect("something comes")
}

/// The result of opening a journal: the journal, what it found, and the records read back.
pub(crate) type Opened<S> = Result<(FileJournal<S>, Found, Vec<Record>), OpenError>;

pub(crate) fn try_open<S: Store>(store: S, dir: &Path, accept_damage: bool) -> Opened<S> {
    let (journal, found, replayed) = replay(store, dir, accept_damage)?;
    let records = read_back(&found.windows, replayed);
    Ok((journal, found, records))
}

fn replay<S: Store>(
    store: S,
    dir: &Path,
    accept_damage: bool,
) -> Result<(FileJournal<S>, Found, Vec<Replayed>), OpenError> {
    let mut replayed = Vec::new();
    let options = FileOptions {
        store,
        dir: dir.into(),
        length: Length::MINUTE,
        cap: ListCap::default(),
        accept_damage,
    };
    let (journal, found) = FileJournal::open(options, &mut |it| replayed.push(it))?;
    Ok((journal, found, replayed))
}

pub(crate) fn try_flaky(disk: &FlakyDisk) -> Opened<FlakyDisk> {
    try_open(disk.clone(), &disk.journal(), false)
}

pub(crate) fn reopen(disk: &FlakyDisk) -> Vec<Record> {
    try_flaky(disk).unwrap().2
}

/// A journal in files, with the state that a conformance test needs.
pub(crate) struct Files<D: TestDisk> {
    pub(crate) disk: D,
    journal: Option<FileJournal<D>>,
    /// Tickets of entries that were submitted and have no outcome yet; among them, those pending
    /// when the journal went down.
    under_way: BTreeSet<Ticket>,
    in_doubt: BTreeSet<Ticket>,
}

impl<D: TestDisk> Files<D> {
    pub(crate) fn new(disk: D) -> Files<D> {
        Files::try_new(disk).unwrap()
    }

    pub(crate) fn try_new(disk: D) -> Result<Files<D>, OpenError> {
        let (journal, ..) = try_open(disk.clone(), &disk.journal(), false)?;
        let (under_way, in_doubt) = (BTreeSet::new(), BTreeSet::new());
        Ok(Files { disk, journal: Some(journal), under_way, in_doubt })
    }

    fn journal(&mut self) -> &mut FileJournal<D> {
        self.journal.as_mut().unwrap()
    }

    fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Durable(batch) | Outcome::Refused { batch, .. } => {
                for ticket in batch.iter().filter_map(|entry| entry.ticket) {
                    self.under_way.remove(&ticket);
                    self.in_doubt.remove(&ticket);
                }
            }
            Outcome::Down(_) => self.in_doubt = self.under_way.clone(),
        }
    }
}

impl<D: TestDisk> Subject for Files<D> {
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        self.under_way.extend(batch.iter().filter_map(|entry| entry.ticket));
        self.journal().submit(epoch, batch);
    }

    fn settle(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while self.under_way.len() > self.in_doubt.len() {
            let outcome = block_on(self.journal().next());
            self.note(&outcome);
            outcomes.push(outcome);
        }
        outcomes
    }

    fn discard(&mut self, window: Window) {
        self.journal().discard(window);
    }

    fn crash_and_reopen(&mut self) -> (Vec<Window>, Vec<Replayed>) {
        let disk = self.disk.crashed();
        self.journal = None;
        let (journal, found, replayed) = replay(disk.clone(), &disk.journal(), false).unwrap();
        let (under_way, in_doubt) = (BTreeSet::new(), BTreeSet::new());
        *self = Files { disk, journal: Some(journal), under_way, in_doubt };
        (found.windows, replayed)
    }

    fn fail(&mut self, after: usize, times: usize) {
        self.disk.fail(after, times);
    }

    fn has_failed(&self) -> bool {
        self.disk.has_failed()
    }

    fn heal(&mut self) {
        self.in_doubt.clear();
        self.disk.heal();
    }
}

/// Submits one batch to a healthy journal, and waits until it is durable.
pub(crate) fn write<S: Store>(journal: &mut FileJournal<S>, records: &[Record]) {
    let entry = |record: &Record| Entry { ticket: None, record: record.clone() };
    let batch: Vec<Entry> = records.iter().map(entry).collect();
    journal.submit(Epoch::default(), batch);
    let mut durable = 0;
    while durable < records.len() {
        match block_on(journal.next()) {
            Outcome::Durable(run) => durable += run.len(),
            other => panic!("{other:?}"),
        }
    }
}
