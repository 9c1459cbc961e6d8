//! The simulated log: what is synced stays; what is not is lost in a crash, or kept, or half.
//!
//! ```text
//!  propose ─▶ queue ─▶ written ──sync──▶ synced ──▶ told
//!                  crash: lost, kept,    crash: kept, and never told
//!                  a prefix, torn
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use hit7::record::{Header, Record, Ticket};
use hit7::window::{Length, Window};

use crate::faults::{Counts, Dice, Fault};
use crate::mutations::Mutation;

const SHORT: &str = "a write was short";

type Batch = Vec<(Ticket, Record)>;

/// What a log does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// These are durable now; nobody knows yet.
    Synced(Vec<Record>),
    Durable(Batch),
    Refused(Batch),
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) length: Length,
    pub(crate) mutation: Option<Mutation>,
    /// No write succeeds before.
    pub(crate) full_until: Duration,
    synced: Vec<Record>,
    written: Option<(Duration, Batch)>,
    queue: Batch,
    outcomes: VecDeque<(Duration, Step)>,
    /// Refused, and perhaps still in the file.
    ghosts: Vec<Record>,
    /// Removed, and perhaps not durably.
    discarded: Vec<Record>,
}

impl Log {
    pub(crate) fn new(length: Length, mutation: Option<Mutation>) -> Log {
        Log {
            length,
            mutation,
            full_until: Duration::ZERO,
            synced: Vec::new(),
            written: None,
            queue: Vec::new(),
            outcomes: VecDeque::new(),
            ghosts: Vec::new(),
            discarded: Vec::new(),
        }
    }

    /// Everything durable, as it would be read back.
    pub(crate) fn records(&self) -> &[Record] {
        &self.synced
    }

    /// The windows that it has a file of.
    pub(crate) fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = self.synced.iter().map(Record::window).collect();
        windows.dedup();
        windows
    }

    pub(crate) fn propose(
        &mut self,
        t: Duration,
        mut batch: Batch,
        dice: &mut Dice,
        seen: &mut Counts,
    ) {
        match self.mutation {
            Some(Mutation::OpenLast) => {
                batch.sort_by_key(|(_, record)| matches!(record, Record::Open(_)));
            }
            Some(Mutation::WindowTooFar) => batch.iter_mut().for_each(|(_, it)| postpone(it)),
            Some(Mutation::OpensTheFirst) => batch.iter_mut().for_each(|(_, it)| retard(it)),
            _ => {}
        }
        if self.mutation == Some(Mutation::AckBeforeSync) {
            self.outcomes.push_back((t, Step::Durable(batch.clone())));
        }
        self.queue.extend(batch);
        self.write(t, dice, seen);
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        let written = self.written.as_ref().map(|(done, _)| *done);
        let outcome = self.outcomes.front().map(|(at, _)| *at);
        written.into_iter().chain(outcome).min()
    }

    /// Whether an opening is being stored.
    pub(crate) fn is_opening(&self) -> bool {
        let written = self.written.iter().flat_map(|(_, run)| run);
        written.chain(&self.queue).any(|(_, record)| matches!(record, Record::Open(_)))
    }

    pub(crate) fn advance(
        &mut self,
        t: Duration,
        dice: &mut Dice,
        seen: &mut Counts,
    ) -> Option<Step> {
        if self.outcomes.front().is_some_and(|(at, _)| *at <= t) {
            return self.outcomes.pop_front().map(|(_, step)| step);
        }
        let (_, run) = self.written.take_if(|(done, _)| *done <= t)?;
        let told_at = t + dice.millis(Fault::Chance, 0, 2);
        let acked = self.mutation == Some(Mutation::AckBeforeSync);
        let fails = self.fails(t, dice).filter(|_| !acked);
        if let Some(why) = fails {
            seen.note(why);
            self.ghosts = run.iter().map(|(_, record)| record.clone()).collect();
            if why == SHORT {
                self.ghosts.truncate(run.len() / 2);
            }
            let behind = std::mem::take(&mut self.queue);
            let batch = run.into_iter().chain(behind).collect();
            self.outcomes.push_back((told_at, Step::Refused(batch)));
            return None;
        }
        let mut records: Vec<Record> = run.iter().map(|(_, record)| record.clone()).collect();
        if self.mutation == Some(Mutation::LastNotWritten) && records.len() > 1 {
            records.pop();
        }
        if self.mutation == Some(Mutation::Reversed) {
            records.reverse();
        }
        self.ghosts.clear();
        self.discarded.clear();
        self.synced.extend(records.iter().cloned());
        if self.mutation != Some(Mutation::AckBeforeSync) {
            self.outcomes.push_back((told_at, Step::Durable(run)));
        }
        self.write(t, dice, seen);
        Some(Step::Synced(records))
    }

    fn fails(&self, t: Duration, dice: &mut Dice) -> Option<&'static str> {
        if t < self.full_until {
            return Some("the disk was full");
        }
        let (sync, short) = (dice.roll(Fault::SyncFail, 0.03), dice.roll(Fault::Short, 0.03));
        sync.then_some("a sync failed").or(short.then_some(SHORT))
    }

    /// The records of one window together, each such run durable before the next is written.
    fn write(&mut self, t: Duration, dice: &mut Dice, seen: &mut Counts) {
        let Some((_, first)) = self.queue.first() else { return };
        if self.written.is_some() {
            return;
        }
        let window = first.window();
        let run = self.queue.iter().take_while(|(_, record)| record.window() == window).count();
        let rest = self.queue.split_off(run);
        let run = std::mem::replace(&mut self.queue, rest);
        if run.len() > 1 {
            seen.note("a group was committed at once");
        }
        let mut takes = dice.millis(Fault::Chance, 0, 4);
        if dice.roll(Fault::Slow, 0.1) {
            seen.note("a sync took long");
            takes = dice.millis(Fault::Slow, 50, 3_000);
        }
        self.written = Some((t + takes, run));
    }

    pub(crate) fn discard(&mut self, window: Window) {
        if self.mutation == Some(Mutation::NeverDiscards) {
            return;
        }
        let all = std::mem::take(&mut self.synced);
        let (gone, kept) = all.into_iter().partition(|record| record.window() == window);
        (self.discarded, self.synced) = (gone, kept);
    }

    /// The host dies. What was under way is lost, or kept as far as it came.
    pub(crate) fn crash(&mut self, dice: &mut Dice, seen: &mut Counts) -> Vec<Record> {
        if self.outcomes.iter().any(|(_, step)| matches!(step, Step::Durable(_))) {
            seen.note("a crash between sync and commit");
        }
        self.outcomes.clear();
        self.queue.clear();
        let written = self.written.take().map(|(_, run)| run).unwrap_or_default();
        let mut written: Vec<Record> = written.into_iter().map(|(_, record)| record).collect();
        if !written.is_empty() {
            seen.note("a crash between append and ack");
        } else {
            written = std::mem::take(&mut self.ghosts);
        }
        self.ghosts.clear();
        let kept = match dice.roll(Fault::Kept, 0.5) {
            true => keep_some(written, self.length, dice, seen),
            false => Vec::new(),
        };
        self.synced.extend(kept.iter().cloned());
        if !self.discarded.is_empty() && dice.roll(Fault::Kept, 0.5) {
            seen.note("a discarded log came back");
            self.synced.splice(0..0, std::mem::take(&mut self.discarded));
        }
        self.discarded.clear();
        kept
    }

    /// Reads it back, line by line, as a start does.
    pub(crate) fn replay(&self, mut fold: impl FnMut(Header, Option<Record>)) {
        let mut last = None;
        for record in &self.synced {
            let header = Header { window: record.window(), length: self.length };
            if last.replace(header) != Some(header) {
                fold(header, None);
            }
            let mut line = Vec::new();
            record.write_line(&mut line);
            line.pop();
            let mut read = Record::read_line(&line, header).unwrap();
            assert_eq!(read, *record, "what is written is read back");
            match (self.mutation, &mut read) {
                (Some(Mutation::SeqForgotten), Record::Register(it)) => it.seq = None,
                (Some(Mutation::SeqForgotten), Record::Leave(it)) => it.seq = None,
                (Some(Mutation::OpenForgotten), Record::Open(_)) => continue,
                _ => {}
            }
            fold(header, Some(read));
        }
    }
}

fn postpone(record: &mut Record) {
    if let Record::Register(it) = record {
        it.window = Length::MINUTE.first_from(it.window.opens().plus(Duration::from_secs(61)));
    }
}

/// A missed window is opened all the same, late.
fn retard(record: &mut Record) {
    if let Record::Open(it) = record {
        let before = it.length.window_at(hit7::window::Wall::from_millis(
            it.window.opens().millis() - it.length.millis() as i64,
        ));
        it.window = before;
    }
}

/// What of a write survives a crash: its beginning, to the end of a line or not.
fn keep_some(
    mut written: Vec<Record>,
    length: Length,
    dice: &mut Dice,
    seen: &mut Counts,
) -> Vec<Record> {
    let kept = dice.draw(Fault::Kept, 0, written.len() as u64 + 1) as usize;
    if kept > 0 {
        seen.note("unsynced records survived a crash");
    }
    if let Some(torn) = written.get(kept).filter(|_| dice.roll(Fault::Torn, 0.8)) {
        seen.note("a line was torn");
        let mut line = Vec::new();
        torn.write_line(&mut line);
        let end = dice.draw(Fault::Torn, 0, line.len() as u64 - 1) as usize;
        let header = Header { window: torn.window(), length };
        assert!(Record::read_line(&line[..end], header).is_err(), "a torn line is told apart");
    }
    written.truncate(kept);
    written
}
