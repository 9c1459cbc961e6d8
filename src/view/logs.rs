//! Logs: to stderr; while a view has the screen, its last lines stand in the view instead.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use super::plain;
use crate::server::Event;
use crate::snapshot::Past;
use crate::tally::Tally;

/// Lines that are kept while a view has the screen.
const KEPT: usize = 200;

/// Where logs go.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

struct Shared {
    stderr: fn() -> io::Stderr,
    /// `Some` while a view has the screen.
    last: Mutex<Option<VecDeque<String>>>,
}

impl Logs {
    /// Logs to `stderr`.
    pub fn new(stderr: fn() -> io::Stderr) -> Logs {
        Logs(Arc::new(Shared { stderr, last: Mutex::new(None) }))
    }

    /// From here on a view shows them.
    pub(super) fn hold(&self) {
        *self.kept() = Some(VecDeque::new());
    }

    /// From here on they go to stderr again, and first those that only the view has shown.
    pub(super) fn release(&self) {
        let held = self.kept().take().unwrap_or_default();
        let mut stderr = (self.0.stderr)();
        if stderr.is_terminal() {
            held.iter().for_each(|line| drop(writeln!(stderr, "{line}")));
        }
    }

    /// The last lines, oldest first; none unless a view has the screen.
    pub(super) fn last(&self, lines: usize) -> Vec<String> {
        let kept = self.kept();
        let Some(kept) = kept.as_ref() else { return Vec::new() };
        kept.iter().skip(kept.len().saturating_sub(lines)).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Option<VecDeque<String>>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, text: &str) -> bool {
        let mut kept = self.kept();
        let Some(kept) = kept.as_mut() else { return false };
        kept.extend(text.lines().map(plain));
        kept.drain(..kept.len().saturating_sub(KEPT));
        true
    }
}

impl Write for Logs {
    /// Takes whole lines. A stderr that is no terminal gets them also while a view shows them.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let shown = self.keep(&String::from_utf8_lossy(lines));
        let mut stderr = (self.0.stderr)();
        if !shown || !stderr.is_terminal() {
            stderr.write_all(lines)?;
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

/// Logs what happens to a registry. Of the next window's members nothing is said.
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
        Event::LogRefuses(why) => tracing::error!(
            why,
            "the log cannot be written; clients are told unavailable until it can"
        ),
        Event::LogRecovered => tracing::warn!("the log is written again"),
        Event::DocumentWritten(window) => tracing::info!(%window, "document written"),
        Event::DocumentFails(why) => tracing::error!("{why}; trying again"),
        Event::Rejected(tally) => {
            tracing::warn!(counts = rejected(tally), "datagrams turned away")
        }
    }
}

/// How often each reason came, in a line.
pub(super) fn rejected(tally: &Tally) -> String {
    let counts: Vec<String> =
        tally.counted().map(|(why, count)| format!("{} {count}", why.name())).collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_a_view_has_the_screen_the_last_lines_stand_in_it() {
        let logs = Logs::new(io::stderr);
        assert!(!logs.keep("before"));
        logs.hold();
        (0..1000).for_each(|k| assert!(logs.keep(&format!("line {k}\n"))));
        assert_eq!(logs.last(2), ["line 998", "line 999"]);
        assert_eq!(logs.last(5000).len(), KEPT);
        assert!(logs.keep("a\u{1b}[2Jb"));
        assert_eq!(logs.last(1), ["a\\u{1b}[2Jb"]);
    }
}
