//! The simulated journal: synced records survive a crash; others are lost, kept, or kept in part.
//!
//! ```text
//!  submit ──▶ queue ─▶ written ──sync──▶ synced ──▶ told
//!                  crash: lost, kept,    crash: kept, and never told
//!                  a prefix, torn
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hit7::archive::Document;
use hit7::journal::Epoch;
use hit7::mesh::ListCap;
use hit7::record::{Entry, Header, Record};
use hit7::registry::WindowReplay;
use hit7::window::{Length, Window};

use crate::faults::{Counts, Dice, Fault};
use crate::mutations::Mutation;

const SHORT: &str = "a write was short";

/// How often the files are looked for while nothing is written.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The durable file of a window.
#[derive(Clone, Debug)]
pub(crate) struct JournalFile {
    pub(crate) header: Header,
    pub(crate) records: Vec<Record>,
}

/// The durable files of all windows.
pub(crate) type JournalFiles = BTreeMap<Window, JournalFile>;

/// An outcome that the simulated journal reports.
#[derive(Debug)]
pub(crate) enum Step {
    /// These records are durable now, which has not been reported yet.
    Synced(Vec<Record>),
    Durable(Vec<Entry>),
    Refused(Epoch, Vec<Entry>),
    /// The journal cannot say what becomes of pending records.
    Down,
}

#[derive(Debug)]
pub(crate) struct SimulatedJournal {
    /// The settings of new files.
    pub(crate) length: Length,
    pub(crate) cap: ListCap,
    pub(crate) mutation: Option<Mutation>,
    /// Until when the disk is full and no write succeeds.
    pub(crate) full_until: Duration,
    /// Until when the current sync hangs, longer than a window.
    pub(crate) hangs_until: Duration,
    /// The writes that fail besides the randomly drawn ones.
    pub(crate) failures: Failures,
    synced: JournalFiles,
    files: Files,
    loss: Loss,
    /// The epoch of the last batch; batches of epochs before the fence are refused.
    epoch: Epoch,
    fence: Epoch,
    queue: Vec<Entry>,
    /// When the last opening was submitted.
    opening_at: Duration,
    outcomes: VecDeque<(Duration, Step)>,
}

/// Whether the journal's files are gone: moved away, or something else is in their place.
#[derive(Debug, Default)]
struct Loss {
    /// Since when, and until when: [`Duration::MAX`] if they were deleted.
    gone: Option<(Duration, Duration)>,
    /// Whether that has been reported.
    is_told: bool,
    /// When the engine was last given an order, or looked for the files.
    checked: Duration,
    /// Discards that wait until the files are back.
    discards: Vec<Window>,
}

/// The content of the journal's files besides the durable records.
#[derive(Debug, Default)]
struct Files {
    written: Option<(Duration, Vec<Entry>)>,
    /// Whether a mutation writes to what is in the place of the files, which are gone.
    elsewhere: bool,
    /// A failed write, and when it is removed from the file.
    doubtful: Option<(Duration, Vec<Entry>)>,
    /// Refused records that a mutation leaves in the file.
    ghosts: Vec<Record>,
    /// Files of discarded windows, whose removal may not be durable.
    discarded: Vec<JournalFile>,
}

/// How many writes fail, and after how many that succeed.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) after: usize,
    pub(crate) times: usize,
}

impl Failures {
    /// Counts a write, and returns whether it fails.
    fn next(&mut self) -> bool {
        match self.after.checked_sub(1) {
            Some(after) => {
                self.after = after;
                false
            }
            None => {
                let fails = self.times > 0;
                self.times = self.times.saturating_sub(1);
                fails
            }
        }
    }
}

fn records(entries: &[Entry]) -> Vec<Record> {
    entries.iter().map(|entry| entry.record.clone()).collect()
}

impl SimulatedJournal {
    pub(crate) fn new(
        length: Length,
        cap: ListCap,
        mutation: Option<Mutation>,
    ) -> SimulatedJournal {
        SimulatedJournal {
            length,
            cap,
            mutation,
            full_until: Duration::ZERO,
            hangs_until: Duration::ZERO,
            failures: Failures::default(),
            synced: JournalFiles::new(),
            files: Files::default(),
            loss: Loss::default(),
            epoch: Epoch::default(),
            fence: Epoch::default(),
            queue: Vec::new(),
            opening_at: Duration::ZERO,
            outcomes: VecDeque::new(),
        }
    }

    /// Returns all durable files, as they would be read back.
    pub(crate) fn files(&self) -> &JournalFiles {
        &self.synced
    }

    /// Returns the windows that have a journal file, but for those that are to be discarded.
    pub(crate) fn windows(&self) -> Vec<Window> {
        let is_kept = |window: &&Window| !self.loss.discards.contains(window);
        self.synced.keys().filter(is_kept).copied().collect()
    }

    /// Moves the files away until then, or deletes them.
    pub(crate) fn take_away(&mut self, t: Duration, until: Duration) {
        self.loss.gone.get_or_insert((t, until));
    }

    /// Returns whether the files are gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.loss.gone.is_some()
    }

    /// Returns whether the files are gone for good.
    pub(crate) fn is_deleted(&self) -> bool {
        self.loss.gone.is_some_and(|(_, until)| until == Duration::MAX)
    }

    /// Returns for how long the files have been gone while the engine had nothing to do.
    pub(crate) fn idle_while_gone(&self, t: Duration) -> Option<Duration> {
        let (since, _) = self.loss.gone?;
        let idle = self.files.written.is_none() && self.outcomes.is_empty();
        idle.then(|| t.saturating_sub(since.max(self.loss.checked).max(self.hangs_until)))
    }

    /// Puts the files back where they were, and does what waited for them.
    pub(crate) fn put_back(&mut self) {
        (self.loss.gone, self.loss.is_told) = (None, false);
        for window in std::mem::take(&mut self.loss.discards) {
            self.discard(window);
        }
    }

    /// Reports that the files are gone, as a refusal of nothing.
    fn check_files(&mut self, t: Duration, seen: &mut Counts) {
        self.loss.checked = t;
        if self.loss.gone.is_some() && !std::mem::replace(&mut self.loss.is_told, true) {
            seen.note("the journal was found to be gone while nothing was written");
            self.outcomes.push_back((t, Step::Refused(self.epoch.max(self.fence), Vec::new())));
            self.fence = self.fence.max(self.epoch).next();
        }
    }

    fn next_check(&self) -> Option<Duration> {
        let looks = self.loss.gone.is_some() && !self.loss.is_told && self.files.written.is_none();
        let looks = looks && self.mutation != Some(Mutation::LossUnnoticed);
        looks.then(|| self.loss.checked + CHECK_INTERVAL)
    }

    /// Adds durable records to the files of their windows.
    fn put(&mut self, records: &[Record]) {
        for record in records {
            let header = self.header(record.window());
            let file = JournalFile { header, records: Vec::new() };
            let file = self.synced.entry(header.window).or_insert(file);
            file.records.push(record.clone());
        }
    }

    /// Returns the header of a window's file, or the one that it will have.
    fn header(&self, window: Window) -> Header {
        let new = Header { window, length: self.length, cap: Some(self.cap) };
        self.synced.get(&window).map_or(new, |file| file.header)
    }

    pub(crate) fn submit(
        &mut self,
        t: Duration,
        epoch: Epoch,
        mut batch: Vec<Entry>,
        dice: &mut Dice,
        seen: &mut Counts,
    ) {
        (self.epoch, self.loss.checked) = (epoch, t);
        if self.is_fenced_off(epoch) {
            seen.note("a batch of an earlier epoch came");
            return self.outcomes.push_back((t, Step::Refused(epoch, batch)));
        }
        if self.files.doubtful.is_some() {
            self.fence = self.fence.max(epoch.next());
            return self.outcomes.push_back((t, Step::Refused(epoch, batch)));
        }
        let records = batch.iter_mut().map(|entry| &mut entry.record);
        match self.mutation {
            Some(Mutation::WindowTooFar) => records.for_each(postpone),
            Some(Mutation::OpensTheFirst) => records.for_each(open_the_window_before),
            _ => {}
        }
        if self.mutation == Some(Mutation::AckBeforeSync) {
            self.outcomes.push_back((t, Step::Durable(batch.clone())));
        }
        if batch.iter().any(|entry| matches!(entry.record, Record::Open(_))) {
            self.opening_at = t;
        }
        self.queue.extend(batch);
        if self.mutation == Some(Mutation::OpenFirst) {
            self.queue.sort_by_key(|entry| !matches!(entry.record, Record::Open(_)));
        }
        self.write(t, dice, seen);
    }

    fn is_fenced_off(&self, epoch: Epoch) -> bool {
        epoch < self.fence && self.mutation != Some(Mutation::NoFence)
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        let Files { written, doubtful, .. } = &self.files;
        let files = [written, doubtful].map(|it| it.as_ref().map(|(done, _)| *done));
        let outcome = self.outcomes.front().map(|(at, _)| *at);
        files.into_iter().chain([outcome, self.next_check()]).flatten().min()
    }

    /// Returns whether the journal waits for its files to be mended.
    pub(crate) fn is_down(&self) -> bool {
        let waits = self.files.written.is_some() || !self.outcomes.is_empty();
        self.files.doubtful.is_some() && !waits
    }

    /// Returns whether an opening is being written.
    pub(crate) fn is_opening(&self) -> bool {
        let written = self.files.written.iter().flat_map(|(_, run)| run);
        let ends = |record: &Record| matches!(record, Record::Open(_) | Record::Missed(_));
        written.chain(&self.queue).any(|entry| ends(&entry.record))
    }

    pub(crate) fn advance(
        &mut self,
        t: Duration,
        dice: &mut Dice,
        seen: &mut Counts,
    ) -> Option<Step> {
        if self.files.doubtful.as_ref().is_some_and(|(mended, _)| *mended <= t) {
            self.mend(t);
        }
        if self.next_check().is_some_and(|at| at <= t) {
            self.check_files(t, seen);
        }
        if self.outcomes.front().is_some_and(|(at, _)| *at <= t) {
            return self.outcomes.pop_front().map(|(_, step)| step);
        }
        let (_, run) = self.files.written.take_if(|(done, _)| *done <= t)?;
        let told_at = t + dice.millis(Fault::Chance, 0, 2);
        let acked = self.is_acked_early(t);
        let too_late = self.opens_too_late(t, &run).then_some("an opening was durable too late");
        if let Some(why) = self.fails(t, dice).or(too_late).filter(|_| !acked) {
            let told_at = told_at.max(self.news_are_late(t, dice, seen));
            self.refuse(told_at, why, run, dice, seen);
            return None;
        }
        let mut records = records(&run);
        if self.mutation == Some(Mutation::LastNotWritten) && records.len() > 1 {
            records.pop();
        }
        if self.mutation == Some(Mutation::Reversed) {
            records.reverse();
        }
        (self.files.ghosts, self.files.discarded) = (Vec::new(), Vec::new());
        if !acked {
            self.outcomes.push_back((told_at, Step::Durable(run)));
        }
        if std::mem::take(&mut self.files.elsewhere) {
            self.write(t, dice, seen);
            return None;
        }
        self.put(&records);
        self.write(t, dice, seen);
        Some(Step::Synced(records))
    }

    /// Removes a failed write, or retries that later.
    fn mend(&mut self, t: Duration) {
        let again = self.failures.next() || self.is_gone();
        let Some((mended, batch)) = self.files.doubtful.take() else { return };
        match again {
            true => self.files.doubtful = Some((mended + Duration::from_millis(250), batch)),
            false => self.outcomes.push_back((t, Step::Refused(self.epoch, batch))),
        }
    }

    /// Returns when a refusal is reported: perhaps late, so that an opening is submitted meanwhile.
    fn news_are_late(&self, t: Duration, dice: &mut Dice, seen: &mut Counts) -> Duration {
        if !dice.roll(Fault::Slow, 0.5) {
            return t;
        }
        seen.note("a refusal was told late");
        t + dice.millis(Fault::Slow, 50, 1_500)
    }

    /// Returns whether a mutation reports written records as durable before the sync.
    fn is_acked_early(&self, t: Duration) -> bool {
        match self.mutation {
            Some(Mutation::AckBeforeSync) => true,
            Some(Mutation::AckWhileHung) => self.hangs_until == t,
            _ => false,
        }
    }

    /// Returns whether an opening is durable only when its window has closed.
    fn opens_too_late(&self, t: Duration, run: &[Entry]) -> bool {
        let closes_before = |entry: &Entry| match &entry.record {
            Record::Open(it) => it.at.until(it.length.closes(it.window)) <= t - self.opening_at,
            _ => false,
        };
        self.mutation != Some(Mutation::OpensTooLate) && run.iter().any(closes_before)
    }

    fn fails(&mut self, t: Duration, dice: &mut Dice) -> Option<&'static str> {
        if self.failures.next() || t < self.full_until {
            return Some("the disk was full");
        }
        let (sync, short) = (dice.roll(Fault::SyncFail, 0.06), dice.roll(Fault::Short, 0.03));
        sync.then_some("a sync failed").or(short.then_some(SHORT))
    }

    /// Handles a failed write: removes it and refuses it with all after it, or, if it cannot be
    /// removed at once, reports that the journal is down.
    fn refuse(
        &mut self,
        t: Duration,
        why: &'static str,
        run: Vec<Entry>,
        dice: &mut Dice,
        seen: &mut Counts,
    ) {
        seen.note(why);
        self.files.elsewhere = false;
        self.fence = self.fence.max(self.epoch.next());
        let behind = std::mem::take(&mut self.queue);
        if self.mutation == Some(Mutation::RefusedStays) {
            self.files.ghosts = records(&run);
        }
        if self.failures.next() || dice.roll(Fault::SyncFail, 0.3) {
            seen.note("a failed write could not be taken away at once");
            let mended = t + dice.millis(Fault::SyncFail, 10, 2_000);
            self.files.doubtful = Some((mended, run));
            self.outcomes.push_back((t, Step::Down));
            if !behind.is_empty() {
                self.outcomes.push_back((t, Step::Refused(self.epoch, behind)));
            }
            return;
        }
        let batch = run.into_iter().chain(behind).collect();
        self.outcomes.push_back((t, Step::Refused(self.epoch, batch)));
    }

    /// Writes the records of one window together, each such run durable before the next is written.
    fn write(&mut self, t: Duration, dice: &mut Dice, seen: &mut Counts) {
        let Some(first) = self.queue.first() else { return };
        if self.files.written.is_some() {
            return;
        }
        let window = first.record.window();
        let run = self.queue.iter().take_while(|entry| entry.record.window() == window).count();
        let rest = self.queue.split_off(run);
        let run = std::mem::replace(&mut self.queue, rest);
        if self.is_gone() {
            if self.mutation != Some(Mutation::WritesElsewhere) {
                return self.refuse_lost(t, run, seen);
            }
            self.files.elsewhere = true;
        }
        if run.len() > 1 {
            seen.note("a group was committed at once");
        }
        let opens = run.iter().any(|entry| matches!(entry.record, Record::Open(_)));
        let done = t + self.sync_takes(if opens { 0.5 } else { 0.1 }, dice, seen);
        if dice.roll(Fault::Hang, 0.002) {
            return self.hang(t, run, dice, seen);
        }
        self.files.written = Some((done, run));
    }

    /// Refuses all that waits to be written, as the files are gone.
    fn refuse_lost(&mut self, t: Duration, run: Vec<Entry>, seen: &mut Counts) {
        seen.note("a batch came while the journal was gone");
        self.fence = self.fence.max(self.epoch.next());
        let batch = run.into_iter().chain(std::mem::take(&mut self.queue)).collect();
        self.outcomes.push_back((t, Step::Refused(self.epoch, batch)));
    }

    fn sync_takes(&self, slow: f64, dice: &mut Dice, seen: &mut Counts) -> Duration {
        let takes = dice.millis(Fault::Chance, 0, 4);
        if !dice.roll(Fault::Slow, slow) {
            return takes;
        }
        seen.note("a sync took long");
        dice.millis(Fault::Slow, 50, 3_000)
    }

    /// Makes a sync take longer than a window.
    fn hang(&mut self, t: Duration, run: Vec<Entry>, dice: &mut Dice, seen: &mut Counts) {
        seen.note("a sync took longer than a window");
        let length = self.length.millis();
        self.hangs_until = t + dice.millis(Fault::Hang, length, length * 5 / 2);
        if self.mutation == Some(Mutation::AckWhileHung) {
            self.outcomes.push_back((t + Duration::from_secs(5), Step::Durable(run.clone())));
        }
        self.files.written = Some((self.hangs_until, run));
    }

    pub(crate) fn discard(&mut self, window: Window) {
        if self.mutation == Some(Mutation::NeverDiscards) {
            return;
        }
        if self.is_gone() {
            let forgets = self.mutation == Some(Mutation::DiscardForgotten);
            return self.loss.discards.extend((!forgets).then_some(window));
        }
        let of_it = |entry: &Entry| entry.record.window() == window;
        let doubtful = self.files.doubtful.take_if(|(_, batch)| batch.iter().any(of_it));
        if let Some((mended, batch)) = doubtful {
            // The failed write is removed with the file.
            self.outcomes.push_back((mended, Step::Refused(self.epoch, batch)));
        }
        self.files.discarded = self.synced.remove(&window).into_iter().collect();
    }

    /// Makes the document of a window that has ended, as the archive does from the journal's file.
    pub(crate) fn document(&self, window: Window) -> Document {
        let mut replay = WindowReplay::new(self.header(window));
        let records = self.synced.get(&window).into_iter().flat_map(|file| &file.records);
        records.for_each(|record| replay.commit(record.clone()));
        let WindowReplay { filling, opened } = replay;
        Document::new(window, filling.closes(), opened, filling.members())
    }

    /// Crashes the host: pending records are lost, or kept as far as they were written. Returns
    /// those that survived.
    pub(crate) fn crash(&mut self, dice: &mut Dice, seen: &mut Counts) -> Vec<Record> {
        if self.outcomes.iter().any(|(_, step)| matches!(step, Step::Durable(_))) {
            seen.note("a crash between sync and commit");
        }
        self.outcomes.clear();
        self.queue.clear();
        (self.epoch, self.fence, self.hangs_until) = Default::default();
        (self.loss.is_told, self.loss.discards) = (false, Vec::new());
        let files = std::mem::take(&mut self.files);
        let Files { mut written, doubtful, ghosts, discarded, elsewhere } = files;
        written.take_if(|_| elsewhere);
        if written.is_some() {
            seen.note("a crash between append and ack");
        }
        if doubtful.is_some() {
            seen.note("a crash before a failed write was taken away");
        }
        let under_way = written.or(doubtful).map(|(_, run)| records(&run)).unwrap_or(ghosts);
        let kept = match dice.roll(Fault::Kept, 0.5) {
            true => self.keep_some(under_way, dice, seen),
            false => Vec::new(),
        };
        self.put(&kept);
        if !discarded.is_empty() && dice.roll(Fault::Kept, 0.5) {
            seen.note("a discarded journal came back");
            self.synced.extend(discarded.into_iter().map(|file| (file.header.window, file)));
        }
        kept
    }

    /// Returns the beginning of a write that survives a crash, to the end of a line or not. Of a new
    /// file, the header alone may.
    fn keep_some(
        &mut self,
        mut written: Vec<Record>,
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
            torn.write_line(&mut line, 0);
            let end = dice.draw(Fault::Torn, 0, line.len() as u64 - 1) as usize;
            let header = self.header(torn.window());
            assert!(Record::read_line(&line[..end], header).is_err(), "a torn line is told apart");
            if kept == 0 && !self.synced.contains_key(&header.window) {
                seen.note("of a new journal, the header alone survived a crash");
                self.synced.insert(header.window, JournalFile { header, records: Vec::new() });
            }
        }
        written.truncate(kept);
        written
    }

    /// Reads the journal back, line by line, as a start does.
    pub(crate) fn replay(&self, mut fold: impl FnMut(Header, Option<Record>)) {
        for JournalFile { header, records } in self.synced.values() {
            let mut line = Vec::new();
            header.write_line(&mut line);
            line.pop();
            let mut read = Header::read_line(&line).unwrap();
            assert_eq!(read, *header, "what is written is read back");
            if self.mutation == Some(Mutation::LengthAtOnce) {
                read.length = self.length;
            }
            fold(read, None);
            for record in records {
                self.replay_record(*header, record, &mut fold);
            }
        }
    }

    fn replay_record(
        &self,
        header: Header,
        record: &Record,
        fold: &mut impl FnMut(Header, Option<Record>),
    ) {
        let mut line = Vec::new();
        record.write_line(&mut line, 0);
        line.pop();
        let mut read = Record::read_line(&line, header).unwrap().record;
        assert_eq!(read, *record, "what is written is read back");
        match (self.mutation, &mut read) {
            (Some(Mutation::SeqForgotten), Record::Register(it)) => it.seq = None,
            (Some(Mutation::SeqForgotten), Record::Leave(it)) => it.seq = None,
            (Some(Mutation::OpenForgotten), Record::Open(_)) => return,
            (Some(Mutation::ListCapAtOnce), Record::Open(it)) => it.cap = Some(self.cap),
            _ => {}
        }
        fold(header, Some(read));
    }
}

fn postpone(record: &mut Record) {
    if let Record::Register(it) = record {
        it.window = Length::MINUTE.first_from(it.window.opens().plus(Duration::from_secs(61)));
    }
}

/// Changes an opening into one of the window before: a mutation that opens a missed window.
fn open_the_window_before(record: &mut Record) {
    if let Record::Open(it) = record {
        let before = it.length.window_at(hit7::window::Wall::from_millis(
            it.window.opens().millis() - it.length.millis() as i64,
        ));
        it.window = before;
    }
}
