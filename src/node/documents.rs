//! Which documents are still to be written, and so which journals are still needed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::roster::FinalizedWindow;
use crate::window::Window;

/// The most windows that are kept in memory for their documents, besides those that were replayed.
/// Those beyond are written from their journals at the next start.
const MOST_WAITING: usize = 16;

/// How long after a failure a document is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The windows whose documents are not durable yet.
#[derive(Debug)]
pub(super) struct Documents {
    /// Windows with members whose document is not durable: their journals stay.
    unarchived: BTreeSet<Window>,
    /// The window that is announced and has not been handed in yet.
    expected: Option<Window>,
    waiting: VecDeque<Arc<FinalizedWindow>>,
    most_waiting: usize,
    /// The one that is being written.
    writing: Option<Arc<FinalizedWindow>>,
    /// Nothing is written before this moment of the monotonic clock.
    resumes_at: Duration,
    /// The windows whose failure has been told.
    failed: BTreeSet<Window>,
}

impl Documents {
    /// Nothing waits yet; until [`Documents::end_replay`], there is no limit to it.
    pub(super) fn new() -> Documents {
        Documents {
            unarchived: BTreeSet::new(),
            expected: None,
            waiting: VecDeque::new(),
            most_waiting: usize::MAX,
            writing: None,
            resumes_at: Duration::ZERO,
            failed: BTreeSet::new(),
        }
    }

    /// A window has opened that will have a document: its journal stays until then.
    pub(super) fn expect(&mut self, window: Window) {
        self.unarchived.insert(window);
        self.expected = Some(window);
    }

    /// Whether a window was announced and has not been handed in yet.
    pub(super) fn is_expected(&self, window: Window) -> bool {
        self.expected == Some(window)
    }

    /// Hands in a window to be written. If too many wait, the oldest is given back: it is not held
    /// in memory any longer.
    pub(super) fn push(&mut self, window: Arc<FinalizedWindow>) -> Option<Window> {
        self.expected.take_if(|expected| *expected == window.window());
        if window.is_empty() {
            return None;
        }
        self.unarchived.insert(window.window());
        self.waiting.push_back(window);
        let too_many = self.waiting.len() > self.most_waiting;
        too_many.then(|| self.waiting.pop_front()).flatten().map(|oldest| oldest.window())
    }

    /// The journal has been replayed: whatever it had is in memory, and is written.
    pub(super) fn end_replay(&mut self) {
        self.most_waiting = self.waiting.len() + MOST_WAITING;
    }

    /// The next window to write, if none is being written.
    pub(super) fn poll(&mut self, now: Now) -> Option<Arc<FinalizedWindow>> {
        if self.writing.is_some() || now.mono < self.resumes_at {
            return None;
        }
        self.writing = self.waiting.pop_front();
        self.writing.clone()
    }

    /// When [`Documents::poll`] has something again after a failure.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        (self.writing.is_none() && !self.waiting.is_empty()).then_some(self.resumes_at)
    }

    /// The document of a window is durable.
    pub(super) fn note_written(&mut self, window: Window) {
        self.unarchived.remove(&window);
        self.failed.remove(&window);
        self.writing = None;
    }

    /// The document of a window could not be written: it is tried again, behind all others. Whether
    /// that is news.
    pub(super) fn note_failed(&mut self, now: Now, window: Window) -> bool {
        self.resumes_at = now.mono + RETRY;
        self.waiting.extend(self.writing.take());
        self.failed.insert(window)
    }

    /// Whether the journal of a closed window is needed, for its document.
    pub(super) fn needs_journal(&self, window: Window) -> bool {
        self.unarchived.contains(&window)
    }

    /// Whether every document that was handed in has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.writing.is_none() && self.waiting.is_empty()
    }
}
