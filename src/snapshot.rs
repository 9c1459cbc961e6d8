//! What a registry shows of itself to those who watch: taken a few times a second, shared, frozen.
//!
//! Of the next window there is the count alone: nobody sees its members before it opens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::roster::FinalizedWindow;
use crate::tally::Tally;
use crate::window::{Length, Wall, Window};

/// How many of the last windows are shown: an hour of minutes.
const PAST: usize = 60;

/// A registry at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Wall,
    /// How long windows are.
    pub length: Length,
    /// The current window, with its rosters.
    pub current: Arc<FinalizedWindow>,
    /// The window being filled.
    pub next: Window,
    /// How many are in it.
    pub waiting: usize,
    /// The last windows, oldest first, the current one included.
    pub past: VecDeque<Past>,
    /// What was done since the start.
    pub done: Done,
    /// Datagrams rejected since the start, by reason.
    pub rejected: Tally,
    /// Whether the journal takes records.
    pub journal_works: bool,
}

/// A window that has opened, or was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Which.
    pub window: Window,
    /// How many members.
    pub members: usize,
    /// In how many rooms.
    pub rooms: usize,
    /// How late it opened; `None`: it was missed.
    pub late: Option<Duration>,
}

/// What a registry has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Datagrams that came.
    pub received: u64,
    /// Requests that were answered with what they asked for.
    pub answered: u64,
    /// Cookies that were sent to strangers.
    pub challenged: u64,
    /// Records that were made durable.
    pub recorded: u64,
    /// Windows that opened.
    pub opened: u64,
    /// Windows that were missed.
    pub missed: u64,
}

impl Done {
    /// Registrations and withdrawals that were made durable: all records but the openings.
    pub fn registrations(&self) -> u64 {
        self.recorded.saturating_sub(self.opened)
    }
}

impl Snapshot {
    /// Adds a window to the past, which forgets the oldest.
    pub fn remember(&mut self, past: Past) {
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::mesh::ListCap;
    use crate::roster::NextWindow;

    #[test]
    fn the_past_is_an_hour_of_minutes() {
        let window = |minute: i64| Length::MINUTE.window_at(Wall::from_millis(minute * 60_000));
        let nobody = NextWindow::new(window(0), Length::MINUTE);
        let secret = Secret::from_bytes([7; 32]);
        let mut snapshot = Snapshot {
            at: Wall::from_millis(0),
            length: Length::MINUTE,
            current: Arc::new(nobody.finalize(None, &secret, ListCap::default())),
            next: window(1),
            waiting: 0,
            past: VecDeque::new(),
            done: Done::default(),
            rejected: Tally::default(),
            journal_works: true,
        };
        for minute in 0..100 {
            let window = window(minute);
            snapshot.remember(Past { window, members: 0, rooms: 0, late: None });
        }
        assert_eq!(snapshot.past.len(), 60);
        assert_eq!(snapshot.past[0].window, window(40));
    }
}
