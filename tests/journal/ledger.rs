//! What was asked of a journal, and what it answered.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hit7::journal::{FileJournal, Journal, OpenError, Outcome, Recovered};
use hit7::proto::Profile;
use hit7::record::{Header, Leaving, Opening, Record, Registration, Ticket};
use hit7::store::Store;
use hit7::window::{Length, Window};

use crate::disk::FlakyDisk;

pub(crate) const ROOT: &str = "/hit7-data";

pub(crate) fn window(index: u64) -> Window {
    let first: Window = "2026-11-23T23:58:00Z".parse().unwrap();
    Length::MINUTE.window_at(first.opens().plus(Duration::from_secs(60 * index)))
}

pub(crate) fn register(in_window: u64, seq: u64) -> Record {
    Record::Register(Registration {
        window: window(in_window),
        at: window(0).opens(),
        path: hit7::path::Path::new("[2001:db8::7]:40112".parse().unwrap(), [127, 0, 0, 1].into()),
        id: Some("s3cret".parse().unwrap()),
        seq: Some(seq),
        profile: Profile {
            room: "lab".parse().unwrap(),
            name: Some("ana".parse().unwrap()),
            ..Profile::default()
        },
    })
}

pub(crate) fn leave(in_window: u64, seq: u64) -> Record {
    let Record::Register(Registration { window, at, path, id, .. }) = register(in_window, seq)
    else {
        unreachable!()
    };
    Record::Leave(Leaving { window, at, path, id, seq: Some(seq) })
}

pub(crate) fn open(opened: u64) -> Record {
    let window = window(opened);
    Record::Open(Opening { window, length: Length::MINUTE, at: window.opens() })
}

pub(crate) enum Step {
    /// Batches that are proposed one after the other, before any is waited for.
    Propose(Vec<Vec<Record>>),
    Discard(u64),
}

/// Three windows, the last of them on another day, each filled while the one before opens.
pub(crate) fn script() -> Vec<Step> {
    use Step::*;
    vec![
        Propose(vec![vec![register(0, 1)]]),
        Propose(vec![vec![register(0, 2), leave(0, 3)]]),
        Propose(vec![vec![register(0, 4)], vec![register(1, 5), open(0), register(1, 6)]]),
        Discard(0),
        Propose(vec![vec![register(1, 7)], vec![leave(1, 8), open(1), register(2, 9)]]),
        Propose(vec![vec![register(2, 10)]]),
        Discard(1),
        Propose(vec![vec![leave(2, 11)]]),
    ]
}

/// What was asked of a journal, and what it answered.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) proposed: Vec<Record>,
    pub(crate) durable: Vec<Record>,
    pub(crate) refused: usize,
    pub(crate) discarded: BTreeSet<Window>,
}

impl Ledger {
    /// Does a step, and waits until every record of it is answered, each once and in order.
    pub(crate) async fn step(&mut self, journal: &mut FileJournal, step: Step) {
        match step {
            Step::Propose(batches) => self.propose(journal, batches).await,
            Step::Discard(index) => {
                journal.discard(window(index));
                self.discarded.insert(window(index));
            }
        }
    }

    pub(crate) async fn propose(&mut self, journal: &mut FileJournal, batches: Vec<Vec<Record>>) {
        let mut answered = self.proposed.len();
        for batch in batches {
            let first = self.proposed.len() as u64;
            self.proposed.extend(batch.iter().cloned());
            journal.propose((first..).map(Ticket).zip(batch).collect());
        }
        while answered < self.proposed.len() {
            let (records, taken) = match journal.next().await {
                Outcome::Durable(records) => (records, true),
                Outcome::Refused { batch, .. } => (batch, false),
                Outcome::Down(error) => panic!("{error}"),
            };
            for (ticket, record) in records {
                assert_eq!((ticket.0, &record), (answered as u64, &self.proposed[answered]));
                answered += 1;
                if taken { self.durable.push(record) } else { self.refused += 1 }
            }
        }
    }

    /// Whether a log may hold exactly `seen`: all that was durable, and of what was proposed behind
    /// it, nothing without what came before.
    pub(crate) fn allows(&self, seen: &[Record]) -> bool {
        let least = self.durable.len();
        (least..=self.proposed.len()).any(|end| self.log(&self.proposed[..end], seen) == seen)
    }

    /// How a log of `records` is read back; that of a discarded window may be there or not.
    pub(crate) fn log(&self, records: &[Record], seen: &[Record]) -> Vec<Record> {
        let there = |window| seen.iter().any(|record| record.window() == window);
        let kept =
            |record: &&Record| !self.discarded.contains(&record.window()) || there(record.window());
        let mut log: Vec<_> = records.iter().filter(kept).cloned().collect();
        log.sort_by_key(Record::window);
        log
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) type Opened = Result<(FileJournal, Recovered, Vec<Record>), OpenError>;

pub(crate) fn try_open<S: Store>(store: S, dir: &Path, accept_damage: bool) -> Opened {
    let (mut headers, mut seen) = (Vec::new(), Vec::new());
    let mut fold = |header: Header, record: Option<Record>| match record {
        None => headers.push(header),
        Some(record) => {
            assert_eq!(headers.last(), Some(&header));
            seen.push(record);
        }
    };
    let opened = FileJournal::open(store, dir.into(), Length::MINUTE, accept_damage, &mut fold);
    let (journal, recovered) = opened?;
    assert_eq!(recovered.files, headers);
    Ok((journal, recovered, seen))
}

pub(crate) fn try_flaky(disk: &FlakyDisk) -> Opened {
    try_open(disk.clone(), &Path::new(ROOT).join("journal"), false)
}

pub(crate) fn reopen(disk: &FlakyDisk) -> Vec<Record> {
    try_flaky(disk).unwrap().2
}
