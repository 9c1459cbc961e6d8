//! Tracks which documents are still to be written, and so which journals are still needed.
//!
//! ```text
//!   opened, missed ─▶ held in memory ─▶ written ──────────────────▶ its journal is discarded
//!                          │ failed, or too many held                        ▲
//!                          └─▶ from its journal, again and again ─▶ written ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::roster::FinalizedWindow;
use crate::window::Window;

use super::wait::Wait;

/// How long a document may take until that is reported; the largest take a second or two.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most windows kept in memory until their document is written; those of the others are made
/// from their journals.
const MAX_HELD_WINDOWS: usize = 2;

/// The first and the longest delay after which a document that could not be written is tried again;
/// the delay doubles each time. Meanwhile other documents are written.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The least time between two reports of documents that cannot be written, while each minute adds
/// one.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a window's document is made from.
#[derive(Clone, Debug)]
pub enum DocumentSource {
    /// The window itself, which is still in memory.
    Held(Arc<FinalizedWindow>),
    /// The window's journal, which is read back.
    Journal(Window),
}

impl DocumentSource {
    /// Returns the window whose document it is.
    pub fn window(&self) -> Window {
        match self {
            DocumentSource::Held(window) => window.window(),
            DocumentSource::Journal(window) => *window,
        }
    }
}

/// A document that is not durable yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The moment of the monotonic clock from which it may be written.
    due: Duration,
    /// The delay before the last retry; zero before the first failure.
    delay: Duration,
}

/// The windows whose documents are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// The window that is being announced and has not been handed in for writing yet.
    expected: Option<Window>,
    waiting: BTreeMap<Window, Waiting>,
    /// The newest of the waiting windows, oldest first.
    held: Vec<Arc<FinalizedWindow>>,
    /// The window whose document is being written, and for how long.
    writing: Option<(Window, Wait)>,
    /// The windows whose document could not be written the last time, or takes too long.
    failing: BTreeSet<Window>,
    /// Those of them whose failure was reported, each alone or in the count of others.
    reported: BTreeSet<Window>,
    /// The moment of the monotonic clock from which failures are reported again.
    reports_from: Duration,
}

impl Documents {
    /// Notes that a window has opened that will have a document: its journal is kept until then.
    pub(super) fn expect(&mut self, window: Window) {
        self.waiting.remove(&window);
        self.expected = Some(window);
    }

    /// Returns whether a window was announced and has not been handed in for writing yet.
    pub(super) fn is_expected(&self, window: Window) -> bool {
        self.expected == Some(window)
    }

    /// Queues the document of a window with members. If too many windows are held, releases the
    /// oldest from memory.
    pub(super) fn push(&mut self, window: Arc<FinalizedWindow>) {
        self.push_replayed(window.window());
        self.held.push(window);
        if self.held.len() > MAX_HELD_WINDOWS {
            self.held.remove(0);
        }
    }

    /// Queues the document of a window that was read back at the start, and is in its journal.
    pub(super) fn push_replayed(&mut self, window: Window) {
        self.expected.take_if(|expected| *expected == window);
        self.waiting.insert(window, Waiting { due: Duration::ZERO, delay: Duration::ZERO });
    }

    /// Returns the next document to write, if none is being written: the oldest of those that are due
    /// and never failed, or else of those that did.
    pub(super) fn poll(&mut self, now: Now) -> Option<DocumentSource> {
        if self.writing.is_some() {
            return None;
        }
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.due <= now.mono);
        let (&window, _) =
            due.min_by_key(|(window, waiting)| (!waiting.delay.is_zero(), **window))?;
        self.writing = Some((window, Wait::new(now, DOCUMENT_TIMEOUT)));
        let held = self.held.iter().position(|held| held.window() == window);
        Some(held.map_or(DocumentSource::Journal(window), |place| {
            DocumentSource::Held(self.held.remove(place))
        }))
    }

    /// Returns when [`Documents::poll`] will return a document or [`Documents::look_for_hang`] is to
    /// be called, by the monotonic clock, if any waits.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match &self.writing {
            Some((_, wait)) => Some(wait.look_at()),
            None => self.waiting.values().map(|waiting| waiting.due).min(),
        }
    }

    /// Returns the window whose document takes longer than the returned time, the first time that it
    /// does.
    pub(super) fn look_for_hang(&mut self, now: Now) -> Option<(Window, Duration)> {
        let (window, wait) = self.writing.as_mut()?;
        let is_new = wait.is_too_long(now) && self.failing.insert(*window);
        is_new.then_some((*window, DOCUMENT_TIMEOUT))
    }

    /// Notes that the document of a window is durable. If it had failed before, what hindered it may
    /// be gone for others too.
    pub(super) fn note_written(&mut self, window: Window) {
        self.writing = None;
        self.waiting.remove(&window);
        self.reported.remove(&window);
        if self.failing.remove(&window) {
            self.retry_now();
        }
    }

    /// Makes every document due that could not be written: the disk works again.
    pub(super) fn retry_now(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.due = Duration::ZERO);
    }

    /// Notes that the document of a window could not be written; it is tried again later. Returns,
    /// if that is to be reported, how many others are in that report: once for each document, but each
    /// `REPORT_INTERVAL` at most.
    pub(super) fn note_failed(&mut self, now: Now, window: Window) -> Option<usize> {
        self.writing = None;
        if let Some(waiting) = self.waiting.get_mut(&window) {
            let [first, longest] = RETRY_DELAYS;
            waiting.delay = (2 * waiting.delay).clamp(first, longest);
            waiting.due = now.mono + waiting.delay;
        }
        self.failing.insert(window);
        if now.mono < self.reports_from || self.reported.contains(&window) {
            return None;
        }
        self.reports_from = now.mono + REPORT_INTERVAL;
        let others = self.failing.len() - self.reported.len() - 1;
        self.reported.clone_from(&self.failing);
        Some(others)
    }

    /// Returns whether the journal of a closed window is still needed for its document.
    pub(super) fn needs_journal(&self, window: Window) -> bool {
        self.is_expected(window) || self.waiting.contains_key(&window)
    }

    /// Returns the number of documents that could not be written when they were last tried.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }

    /// Returns whether every document is durable, or could not be written the last time.
    pub(super) fn is_settled(&self) -> bool {
        self.writing.is_none() && self.waiting.len() == self.failing.len()
    }
}
