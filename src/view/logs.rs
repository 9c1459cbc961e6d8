//! Writes logs to stderr; while a live view has the screen, keeps their last lines for the view.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing_subscriber::fmt::MakeWriter;

use super::escape_controls;
use crate::server::Event;
use crate::snapshot::Past;
use crate::tally::Tally;

/// The most log lines that are kept while a live view has the screen.
const MAX_HELD_LINES: usize = 200;

/// A writer of logs, to stderr or to the live view that has the screen.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

struct Shared {
    write: fn(&[u8]),
    on_terminal: bool,
    /// The last log lines, while a live view has the screen; else `None`.
    held: Mutex<Option<VecDeque<String>>>,
}

impl Logs {
    /// Creates a writer that passes each line to `write`; if that ends `on_terminal`, a view that has
    /// the screen takes the place of `write`.
    pub fn new(write: fn(&[u8]), on_terminal: bool) -> Logs {
        Logs(Arc::new(Shared { write, on_terminal, held: Mutex::new(None) }))
    }

    /// Starts to keep log lines for a live view, which has taken the screen.
    pub(super) fn hold(&self) {
        *self.held() = Some(VecDeque::new());
    }

    /// Sends logs to stderr again, beginning with the lines that only the view has shown.
    pub(super) fn release(&self) {
        let held = self.held().take().unwrap_or_default();
        if self.0.on_terminal {
            held.iter().for_each(|line| (self.0.write)(format!("{line}\n").as_bytes()));
        }
    }

    /// Returns the last `lines` log lines, oldest first; none unless a view has the screen.
    pub(super) fn last(&self, lines: usize) -> Vec<String> {
        let held = self.held();
        let Some(held) = held.as_ref() else { return Vec::new() };
        held.iter().skip(held.len().saturating_sub(lines)).cloned().collect()
    }

    fn held(&self) -> MutexGuard<'_, Option<VecDeque<String>>> {
        self.0.held.lock().expect("no holder of this lock panics")
    }

    /// Keeps the lines of `text` if a view has the screen; returns whether one has.
    fn add(&self, text: &str) -> bool {
        let mut held = self.held();
        let Some(held) = held.as_mut() else { return false };
        held.extend(text.lines().map(escape_controls));
        held.drain(..held.len().saturating_sub(MAX_HELD_LINES));
        true
    }
}

impl Write for Logs {
    /// Writes whole log lines. A stderr that is no terminal gets them also while a view shows them.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let shown = self.add(&String::from_utf8_lossy(lines));
        if !shown || !self.0.on_terminal {
            (self.0.write)(lines);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Logs;

    fn make_writer(&'a self) -> Logs {
        self.clone()
    }
}

/// Logs an event of a registry, never with a member of the next window.
pub fn log(event: &Event) {
    match event {
        Event::Window(Past { window, members: 0, late: Some(_), .. }) => {
            tracing::debug!(%window, "window opened, with nobody in it");
        }
        Event::Window(Past { window, members, rooms, late: Some(late) }) => {
            let late_ms = late.as_millis() as u64;
            tracing::info!(%window, members, rooms, late_ms, "window opened");
        }
        Event::Window(Past { window, members, rooms, late: None }) => {
            tracing::warn!(%window, members, rooms, "window missed: it was never opened");
        }
        Event::JournalRefuses(why) => tracing::error!(
            why,
            "the journal cannot be written; no registration is acked until it can"
        ),
        Event::JournalRecovered => tracing::warn!("the journal is written again"),
        Event::DocumentWritten(window) => tracing::info!(%window, "document written"),
        Event::DocumentFails(why) => tracing::error!("{why}; trying again"),
        Event::DocumentsRecovered => tracing::warn!("all documents are written again"),
        Event::ClockWrong(trouble) => tracing::error!("{trouble}"),
        Event::ClockRight => tracing::warn!("windows go by the clock again"),
        Event::Rejected(tally) => {
            tracing::warn!(counts = rejected(tally), "datagrams turned away")
        }
        Event::NotShown(events) => {
            tracing::warn!(events, "events not shown: the output was not read in time")
        }
    }
}

/// Formats how many datagrams were rejected for each reason, in a line.
pub(super) fn rejected(tally: &Tally) -> String {
    let counts: Vec<String> =
        tally.counted().map(|(why, count)| format!("{} {count}", why.name())).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_has_the_screen_shows_the_last_lines() {
        let logs = Logs::new(|_| {}, true);
        assert!(!logs.add("before"));
        logs.hold();
        (0..1000).for_each(|k| assert!(logs.add(&format!("line {k}\n"))));
        assert_eq!(logs.last(2), ["line 998", "line 999"]);
        assert_eq!(logs.last(5000).len(), MAX_HELD_LINES);
        assert!(logs.add("a\u{1b}[2Jb"));
        assert_eq!(logs.last(1), ["a\\u{1b}[2Jb"]);
    }
}
