//! Rule "Never half dead": after any fault, the registry catches up with documents and journals.

use super::*;

#[derive(Debug, Default)]
pub(crate) struct NeverHalfDead {
    documented: BTreeSet<Window>,
    /// The windows that have a journal.
    journals: BTreeSet<Window>,
}

impl NeverHalfDead {
    /// Notes records that are in the journal: synced, or read at a start.
    pub(crate) fn on_records(&mut self, records: &[Record]) {
        self.journals.extend(records.iter().map(Record::window));
    }

    /// Notes which journals are left after a discard.
    pub(crate) fn on_discards(&mut self, left: impl IntoIterator<Item = Window>) {
        self.journals = left.into_iter().collect();
    }

    pub(crate) fn on_document(&mut self, window: Window) {
        self.documented.insert(window);
    }

    /// Checks a registry that has been free of faults for the time `steady`.
    pub(crate) fn on_rest(&self, history: &History, wall: Wall, steady: Duration) -> Check {
        if steady < PATIENCE {
            return Ok(());
        }
        self.check(history, |window| history.length.closes(window).plus(PATIENCE) <= wall)
    }

    pub(crate) fn on_end(&self, history: &History, steady: Duration) -> Check {
        if steady < PATIENCE { Ok(()) } else { self.check(history, |_| true) }
    }

    /// Checks that each earlier window with members, opened or missed, has its document, and that
    /// no journal of one is left.
    fn check(&self, history: &History, is_due: impl Fn(Window) -> bool) -> Check {
        let is_due = |window: &Window| Some(*window) < history.model.last_open && is_due(*window);
        let with_members = history.members.iter().filter(|(_, members)| !members.is_empty());
        let mut ended = with_members.map(|(window, _)| window).filter(|window| is_due(window));
        let lacking = ended.find(|window| !self.documented.contains(window));
        Rule::NeverHalfDead
            .require(lacking.is_none(), || format!("{lacking:?} is over, and has no document"))?;
        let left = self.journals.iter().find(|window| is_due(window));
        Rule::NeverHalfDead
            .require(left.is_none(), || format!("{left:?} is over, and its journal is still there"))
    }
}
