//! Never half dead: whatever failed, a steady registry catches up with its documents and journals.

use super::*;

#[derive(Debug, Default)]
pub(crate) struct NeverHalfDead {
    documented: BTreeSet<Window>,
    /// The windows whose journal is there.
    journals: BTreeSet<Window>,
}

impl NeverHalfDead {
    /// Records are there: synced, or read at a start.
    pub(crate) fn on_records(&mut self, records: &[Record]) {
        self.journals.extend(records.iter().map(Record::window));
    }

    /// Of the journals, these are left.
    pub(crate) fn on_discards(&mut self, left: impl IntoIterator<Item = Window>) {
        self.journals = left.into_iter().collect();
    }

    pub(crate) fn on_document(&mut self, window: Window) {
        self.documented.insert(window);
    }

    /// Nothing was wrong with the registry for the time `steady`.
    pub(crate) fn on_rest(&self, history: &History, wall: Wall, steady: Duration) -> Check {
        if steady < PATIENCE {
            return Ok(());
        }
        self.check(history, |window| history.length.closes(window).plus(PATIENCE) <= wall)
    }

    pub(crate) fn on_end(&self, history: &History, steady: Duration) -> Check {
        if steady < PATIENCE { Ok(()) } else { self.check(history, |_| true) }
    }

    /// Of the windows that ended before the current one, whatever had members has its document,
    /// opened or missed; and no journal is left.
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
