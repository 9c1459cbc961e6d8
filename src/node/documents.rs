//! Tracks which documents are still to be written, and so which journals are still needed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::roster::FinalizedWindow;
use crate::window::Window;

/// The most windows kept in memory until their document is written, besides replayed ones. The
/// documents of those beyond are written from their journals at the next start.
const MAX_WAITING_WINDOWS: usize = 16;

/// How long after a failed write of a document the next write is tried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The windows whose documents are not durable yet.
#[derive(Debug)]
pub(super) struct Documents {
    /// Windows with members whose document is not durable: their journals are kept.
    unarchived: BTreeSet<Window>,
    /// The window that is being announced and has not been handed in for writing yet.
    expected: Option<Window>,
    waiting: VecDeque<Arc<FinalizedWindow>>,
    most_waiting: usize,
    /// The window whose document is being written.
    writing: Option<Arc<FinalizedWindow>>,
    /// The moment of the monotonic clock before which no document is written.
    resumes_at: Duration,
    /// The windows whose failed write has been reported.
    failed: BTreeSet<Window>,
}

impl Documents {
    /// Makes an empty queue, without a limit until [`Documents::end_replay`].
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

    /// Notes that a window has opened that will have a document: its journal is kept until then.
    pub(super) fn expect(&mut self, window: Window) {
        self.unarchived.insert(window);
        self.expected = Some(window);
    }

    /// Returns whether a window was announced and has not been handed in for writing yet.
    pub(super) fn is_expected(&self, window: Window) -> bool {
        self.expected == Some(window)
    }

    /// Queues a window's document for writing. If too many wait, drops the oldest window from
    /// memory and returns it.
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

    /// Ends the replay: all windows queued so far will be written, and from now on the queue is
    /// limited.
    pub(super) fn end_replay(&mut self) {
        self.most_waiting = self.waiting.len() + MAX_WAITING_WINDOWS;
    }

    /// Returns the next window to write, if none is being written.
    pub(super) fn poll(&mut self, now: Now) -> Option<Arc<FinalizedWindow>> {
        if self.writing.is_some() || now.mono < self.resumes_at {
            return None;
        }
        self.writing = self.waiting.pop_front();
        self.writing.clone()
    }

    /// Returns when [`Documents::poll`] will return a window, by the monotonic clock, if any waits.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        (self.writing.is_none() && !self.waiting.is_empty()).then_some(self.resumes_at)
    }

    /// Notes that the document of a window is durable.
    pub(super) fn note_written(&mut self, window: Window) {
        self.unarchived.remove(&window);
        self.failed.remove(&window);
        self.writing = None;
    }

    /// Notes that the document of a window could not be written, and queues it again behind all
    /// others. Returns whether this is the first failure of that window.
    pub(super) fn note_failed(&mut self, now: Now, window: Window) -> bool {
        self.resumes_at = now.mono + RETRY_DELAY;
        self.waiting.extend(self.writing.take());
        self.failed.insert(window)
    }

    /// Returns whether the journal of a closed window is still needed for its document.
    pub(super) fn needs_journal(&self, window: Window) -> bool {
        self.unarchived.contains(&window)
    }

    /// Returns whether no document waits to be written or is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.writing.is_none() && self.waiting.is_empty()
    }
}
