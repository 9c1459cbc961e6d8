//! The live view of a registry: its snapshots, and how fast its counters run, as a pure model.

mod draw;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ratatui::Frame;
use tokio::sync::watch;

use super::parts::scrolled;
use super::screen::Live;
use super::{count, plain};
use crate::clock::Now;
use crate::proto::Room;
use crate::server::Event;
use crate::snapshot::Snapshot;
use crate::tally::Tally;
use crate::window::Window;

/// Over how long a rate is taken.
const OVER: Duration = Duration::from_secs(5);

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Duration,
    counts: [u64; 4],
}

/// What a registry shows of itself.
#[derive(Debug)]
pub struct Serve {
    listening: Vec<SocketAddr>,
    data: String,
    shown: watch::Receiver<Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    marks: VecDeque<Mark>,
    /// The rooms of the current window, the largest first.
    rooms: (Window, Vec<(Room, usize)>),
    scrolled: usize,
}

impl Serve {
    /// The view of the registry that shows itself in `shown`.
    pub fn new(
        listening: Vec<SocketAddr>,
        data: String,
        shown: watch::Receiver<Arc<Snapshot>>,
    ) -> Serve {
        let snapshot = shown.borrow().clone();
        let rooms = (snapshot.current.window(), sizes(&snapshot));
        let marks = VecDeque::new();
        Serve { listening, data, shown, snapshot, marks, rooms, scrolled: 0 }
    }

    fn take(&mut self, now: Now, snapshot: Arc<Snapshot>) {
        self.marks.push_back(Mark { at: now.mono, counts: counts(&snapshot) });
        while self.marks.len() > 2 && self.marks[1].at + OVER <= now.mono {
            self.marks.pop_front();
        }
        let window = snapshot.current.window();
        if self.rooms.0 != window || self.snapshot.past.len() != snapshot.past.len() {
            (self.rooms, self.scrolled) = ((window, sizes(&snapshot)), 0);
        }
        self.snapshot = snapshot;
    }

    /// Datagrams received, answered, registered and rejected, each per second.
    fn rates(&self) -> [f64; 4] {
        let (Some(first), Some(last)) = (self.marks.front(), self.marks.back()) else {
            return [0.0; 4];
        };
        let span = last.at.saturating_sub(first.at).as_secs_f64();
        let rate = |k: usize| last.counts[k].saturating_sub(first.counts[k]) as f64 / span;
        if span > 0.0 { std::array::from_fn(rate) } else { [0.0; 4] }
    }
}

fn counts(snapshot: &Snapshot) -> [u64; 4] {
    let done = &snapshot.done;
    [done.received, done.answered, done.registrations(), sum(&snapshot.rejected)]
}

fn sum(tally: &Tally) -> u64 {
    tally.counted().map(|(_, count)| count).sum()
}

fn sizes(snapshot: &Snapshot) -> Vec<(Room, usize)> {
    let rosters = snapshot.current.rosters().iter();
    let mut sizes: Vec<(Room, usize)> =
        rosters.map(|roster| (roster.room().clone(), roster.len())).collect();
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes
}

impl Live for Serve {
    type Event = Event;

    fn handle(&mut self, _now: Now, event: Event) {
        super::log(&event);
    }

    fn look(&mut self, now: Now) {
        let snapshot = self.shown.borrow_and_update().clone();
        self.take(now, snapshot);
    }

    fn draw(&self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        draw::draw(self, now, logs, frame);
    }

    fn scroll(&mut self, by: isize) {
        self.scrolled = scrolled(self.scrolled, by, self.rooms.1.len());
    }

    fn summary(&self) -> Vec<String> {
        let done = &self.snapshot.done;
        let windows = count(done.opened as usize, "window");
        let line = format!(
            "{windows} opened, {} missed; {}, {} turned away",
            done.missed,
            count(done.registrations() as usize, "registration"),
            count(sum(&self.snapshot.rejected) as usize, "datagram"),
        );
        vec![line, format!("data in {}", plain(&self.data))]
    }
}

#[cfg(test)]
mod tests;
