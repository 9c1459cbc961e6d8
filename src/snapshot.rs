//! The state of a registry at one moment, for its views, page and metrics: taken a few times a
//! second, and shared.
//!
//! Of the next window, a snapshot has only the number of members: nobody sees who they are before
//! the window opens.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strum::{IntoStaticStr, VariantNames};

use crate::clock::remedy_for_behind;
use crate::roster::FinalizedWindow;
use crate::tally::Tally;
use crate::window::{Length, Wall, Window};

/// The most past windows in a snapshot: an hour of one-minute windows.
const MAX_PAST_WINDOWS: usize = 60;

/// The state of a registry at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the snapshot was taken.
    pub at: Wall,
    /// How long it is from the current window's opening to the next one's.
    pub length: Length,
    /// The current window, with its rosters.
    pub current: Arc<FinalizedWindow>,
    /// The window being filled.
    pub next: Window,
    /// How many members the window being filled has so far.
    pub waiting: usize,
    /// The last windows that opened or were missed, oldest first, the current one included.
    pub past: VecDeque<Past>,
    /// Counters of what the registry has done since its start.
    pub totals: Totals,
    /// Datagrams rejected since the start, by reason.
    pub rejected: Tally,
    /// Whether the journal takes records.
    pub journal_works: bool,
    /// What else is wrong with the registry now.
    pub troubles: Vec<Trouble>,
}

/// A state in which a registry does not do all that it should, besides a journal that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Trouble {
    /// This many documents could not be written when they were last tried.
    #[strum(serialize = "documents_not_writable")]
    Documents(usize),
    /// The wall clock was stepped by this many milliseconds, which is not believed.
    ClockInDoubt(i64),
    /// The wall clock is behind the last opened window, so that none opens until it has caught up.
    ClockBehind {
        /// The last opened window.
        last: Window,
        /// The window that opens next.
        next: Window,
        /// The time of the wall clock.
        now: Wall,
    },
}

impl Trouble {
    /// The codes of all troubles.
    pub const CODES: &'static [&'static str] = Trouble::VARIANTS;

    /// Returns the code of the trouble, for programs.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Documents(1) => f.write_str(
                "1 document cannot be written, and is tried again: see what the program says on \
                 stderr",
            ),
            Trouble::Documents(count) => write!(
                f,
                "{count} documents cannot be written, and are tried again: see what the program \
                 says on stderr"
            ),
            Trouble::ClockInDoubt(step) => write!(
                f,
                "the clock was set {} by {}; windows go on by the old time until that has stood \
                 for two minutes: set the clock right, or wait",
                if *step < 0 { "back" } else { "forward" },
                span(step.unsigned_abs()),
            ),
            Trouble::ClockBehind { last, next, now } => write!(
                f,
                "the clock is behind window {last}, which has been opened already; the next one \
                 opens at {next}: {}",
                remedy_for_behind(now.until(last.opens()))
            ),
        }
    }
}

/// Formats milliseconds as seconds, or whole days from two days on: humantime's months have 30.44 days.
fn span(millis: u64) -> String {
    let seconds = millis.saturating_add(500) / 1000;
    match seconds / 86_400 {
        0..2 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        days => format!("{days} days"),
    }
}

/// A window that has opened, or was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The window itself, by its start.
    pub window: Window,
    /// How many members the window had.
    pub members: usize,
    /// How many rooms the window's members were in.
    pub rooms: usize,
    /// How late the window opened, or `None` if it was missed.
    pub late: Option<Duration>,
}

/// Counters of what a registry has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams that were received, of whatever kind.
    pub received: u64,
    /// Requests that were answered with what they asked for.
    pub answered: u64,
    /// CHALLENGE datagrams that were sent to unproven addresses, each with a cookie.
    pub challenged: u64,
    /// Records that were made durable in the journal.
    pub recorded: u64,
    /// Windows that opened, with members or without.
    pub opened: u64,
    /// Windows with members that were never opened.
    pub missed: u64,
}

impl Totals {
    /// Returns how many registrations and withdrawals were made durable: all records but openings.
    pub fn registrations(&self) -> u64 {
        self.recorded.saturating_sub(self.opened)
    }
}

impl Snapshot {
    /// Adds a past window, and removes the oldest if the list is full.
    pub fn remember(&mut self, past: Past) {
        if self.past.len() == MAX_PAST_WINDOWS {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }
}

#[cfg(test)]
impl Snapshot {
    /// Returns the snapshot of a registry that has just opened 1970-01-01T00:00:00Z, with nobody in it.
    pub(crate) fn example() -> Snapshot {
        let [at, next] = [0, 60_000].map(Wall::from_millis);
        let window = Length::MINUTE.window_at(at);
        let cap = crate::mesh::ListCap::default();
        let nobody = crate::roster::NextWindow::new(window, Length::MINUTE, cap);
        let secret = crate::cookie::Secret::from_bytes([7; 32]);
        Snapshot {
            at,
            length: Length::MINUTE,
            current: Arc::new(nobody.finalize(Some(at), &secret)),
            next: Length::MINUTE.window_at(next),
            waiting: 0,
            past: VecDeque::new(),
            totals: Totals::default(),
            rejected: Tally::default(),
            journal_works: true,
            troubles: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_minutes_is_remembered() {
        let window = |minute: i64| Length::MINUTE.window_at(Wall::from_millis(minute * 60_000));
        let mut snapshot = Snapshot::example();
        for minute in 0..100 {
            let window = window(minute);
            snapshot.remember(Past { window, members: 0, rooms: 0, late: None });
        }
        assert_eq!(snapshot.past.len(), 60);
        assert_eq!(snapshot.past[0].window, window(40));
    }
}
