//! Rule "Time never runs back": opened windows strictly increase; each opens in its time or never.

use super::*;

const RULE: Rule = Rule::TimeNeverRunsBack;

/// How long after a sync its outcome is told, and a drifting clock may be wrong in a window.
const TOLD_WITHIN: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(crate) struct TimeNeverRunsBack {
    /// The last window whose `open` was ever durable.
    opened: Option<Window>,
    /// The last opening that was proposed, and when.
    proposed: Option<(Opening, Duration)>,
}

impl TimeNeverRunsBack {
    pub(crate) fn on_synced(&mut self, records: &[Record]) {
        let opened = records.iter().filter(|record| matches!(record, Record::Open(_)));
        self.opened = self.opened.max(opened.map(Record::window).max());
    }

    pub(crate) fn on_proposed(&mut self, record: &Record, t: Duration) {
        if let Record::Open(opening) = record {
            self.proposed = Some((*opening, t));
        }
    }

    /// Checks that an opening takes effect before its window closes, by the time since it was proposed.
    pub(crate) fn on_commit(&self, record: &Record, t: Duration) -> Check {
        let Some((proposed, since)) = self.proposed else { return Ok(()) };
        let is_it = matches!(record, Record::Open(it) if *it == proposed);
        let left = proposed.at.until(proposed.length.closes(proposed.window)) + TOLD_WITHIN;
        RULE.require(!is_it || t.saturating_sub(since) <= left, || {
            format!("{} opens when it has closed", proposed.window)
        })
    }

    /// Checks that a start forgets no opening, and is refused only if the clock is more than a
    /// window behind.
    pub(crate) fn on_start(&self, history: &History, wall: Wall, resumed: bool) -> Check {
        let last = history.model.last_open;
        RULE.require(last == self.opened, || {
            format!("the journal forgot that {last:?} was opened")
        })?;
        let span = history.model.current.settings.length.span();
        let behind = last.is_some_and(|last| wall.plus(span) < last.opens());
        RULE.require(resumed != behind, || {
            format!("a start at {wall} after {last:?} was opened: went on is {resumed}")
        })
    }
}

/// Checks that the registry's current window is the journal's, and not late; `steady` is how long
/// the registry has been free of faults.
pub(crate) fn check_current(
    history: &History,
    current: &FinalizedWindow,
    wall: Wall,
    steady: Duration,
) -> Check {
    let Some(last) = history.model.last_open else { return Ok(()) };
    RULE.require(current.window() == last, || {
        format!("{} is current where {last} was opened last", current.window())
    })?;
    let Some(due) = due(&history.model, wall) else { return Ok(()) };
    let late = steady >= PATIENCE && wall >= due.opens().plus(PATIENCE);
    RULE.require(!late, || format!("{due} is not open at {wall}, and nothing is wrong"))
}

/// Returns the window that should open at `wall`, if any. One that was missed is not opened, also if
/// the clock is set back into its time; nor is one before the last of another length has closed.
fn due(model: &Model, wall: Wall) -> Option<Window> {
    let next = model.next.window?;
    let closes = model.next.settings.length.closes(next);
    if wall < closes {
        return Some(next).filter(|next| next.opens() <= wall);
    }
    Some(model.settings.length.window_at(wall)).filter(|due| due.opens() >= closes)
}

pub(crate) fn check_missed(history: &History, window: Window, steady: Duration) -> Check {
    let so_long = steady < history.settings(window).length.span();
    RULE.require(so_long, || format!("{window} was missed for nothing"))
}

/// Checks that a window is announced only while it is open.
pub(crate) fn check_announced(history: &History, window: Window, wall: Wall) -> Check {
    let open = wall < history.closes(window);
    RULE.require(open, || format!("{window} is announced at {wall}"))
}

/// The largest step of the clock that is believed at once, and a little more.
const MAX_STEP_MS: u64 = 601_000;

/// Checks that the registry goes by no jump of its clock that has not stood for a while.
pub(crate) fn check_time(wall: Wall, trusted: [Wall; 2]) -> Check {
    let is_near = |other: &Wall| wall.millis().abs_diff(other.millis()) <= MAX_STEP_MS;
    RULE.require(trusted.iter().any(is_near), || {
        let [may, must] = trusted;
        format!("it goes by {wall} where the clock can be trusted for {may} or {must}")
    })
}
