//! Rule "Never half dead": after any fault, the registry catches up with documents and journals.

use super::*;

/// How soon after a failure that has ended its document is tried again: the longest delay between two
/// tries, and some time for those of other windows.
const LONGEST_RETRY: Duration = Duration::from_secs(65);

/// How soon the registry must notice that its journal is gone.
const NOTICED_WITHIN: Duration = Duration::from_millis(2_100);

#[derive(Debug, Default)]
pub(crate) struct NeverHalfDead {
    documented: BTreeSet<Window>,
    /// The windows that have a journal.
    journals: BTreeSet<Window>,
    /// The window whose document cannot be written, or all, and until when that is excused.
    excused: Option<(Option<Window>, Duration)>,
}

impl NeverHalfDead {
    /// Notes windows that have a journal: synced, or read at a start.
    pub(crate) fn on_journals(&mut self, windows: impl IntoIterator<Item = Window>) {
        self.journals.extend(windows);
    }

    /// Excuses the document of a window, or of all, which cannot be written until then.
    pub(crate) fn on_documents_fail(&mut self, window: Option<Window>, until: Duration) {
        self.excused = Some((window, until + LONGEST_RETRY));
    }

    /// Notes that a document could not be written, for another reason perhaps: the next try is as far.
    pub(crate) fn on_document_failed(&mut self, window: Window, t: Duration) {
        if let Some((it, until)) = &mut self.excused
            && t < *until
            && it.is_none_or(|it| it == window)
        {
            *until = (*until).max(t + LONGEST_RETRY);
        }
    }

    /// Checks that a journal is not said to work that has been gone, with nothing under way, for the
    /// time `gone`.
    pub(crate) fn on_loss(&self, gone: Duration, said_to_work: bool) -> Check {
        Rule::NeverHalfDead.require(!said_to_work || gone < NOTICED_WITHIN, || {
            format!("the journal has been gone for {gone:?}, and is said to work")
        })
    }

    /// Notes which journals are left after a discard.
    pub(crate) fn on_discards(&mut self, left: impl IntoIterator<Item = Window>) {
        self.journals = left.into_iter().collect();
    }

    pub(crate) fn on_document(&mut self, window: Window) {
        self.documented.insert(window);
    }

    /// Checks a registry that has been free of faults for the time `steady`.
    pub(crate) fn on_rest(
        &self,
        history: &History,
        t: Duration,
        wall: Wall,
        steady: Duration,
    ) -> Check {
        if steady < PATIENCE {
            return Ok(());
        }
        self.check(history, t, |window| history.closes(window).plus(PATIENCE) <= wall)
    }

    pub(crate) fn on_end(&self, history: &History, t: Duration, steady: Duration) -> Check {
        if steady < PATIENCE { Ok(()) } else { self.check(history, t, |_| true) }
    }

    /// Checks that each earlier window with members, opened or missed, has its document, and that
    /// no journal of one is left.
    fn check(&self, history: &History, t: Duration, is_due: impl Fn(Window) -> bool) -> Check {
        let excused = self.excused.filter(|(_, until)| t < *until);
        let is_excused = |window| excused.is_some_and(|(it, _)| it.is_none_or(|it| it == window));
        let is_due = |window: &Window| {
            Some(*window) < history.model.last_open && is_due(*window) && !is_excused(*window)
        };
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
