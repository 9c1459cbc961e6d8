//! The live view of `hit7 serve`: a pure model of the registry's snapshots and counter rates.

mod draw;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ratatui::Frame;
use tokio::sync::watch;

use super::screen::Live;
use super::scroll::{Motion, Scroll};
use super::{count, escape_controls};
use crate::clock::Now;
use crate::proto::Room;
use crate::server::Event;
use crate::snapshot::Snapshot;
use crate::tally::Tally;

/// The span over which the rates of counters are measured.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// The counters of a registry at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Duration,
    counts: [u64; 4],
}

/// The model of a registry, updated by its snapshots.
#[derive(Debug)]
pub struct Serve {
    listening: Vec<SocketAddr>,
    data: String,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    samples: VecDeque<Sample>,
    /// The rooms of the current window, the largest first.
    rooms: Vec<(Room, usize)>,
    scroll: Scroll,
}

impl Serve {
    /// Creates the model of a registry that listens on `listening`, has its data in the folder
    /// `data` and publishes `snapshots`.
    pub fn new(
        listening: Vec<SocketAddr>,
        data: String,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Serve {
        let snapshot = snapshots.borrow().clone();
        let (rooms, samples) = (sizes(&snapshot), VecDeque::new());
        Serve { listening, data, snapshots, snapshot, samples, rooms, scroll: Scroll::default() }
    }

    fn update(&mut self, now: Now, snapshot: Arc<Snapshot>) {
        self.samples.push_back(Sample { at: now.mono, counts: counts(&snapshot) });
        while self.samples.len() > 2 && self.samples[1].at + RATE_SPAN <= now.mono {
            self.samples.pop_front();
        }
        if !Arc::ptr_eq(&self.snapshot.current, &snapshot.current) {
            (self.rooms, self.scroll) = (sizes(&snapshot), Scroll::default());
        }
        self.snapshot = snapshot;
    }

    /// Returns the datagrams received, answered, registered and rejected, each per second.
    fn rates(&self) -> [f64; 4] {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return [0.0; 4];
        };
        let span = last.at.saturating_sub(first.at).as_secs_f64();
        let rate = |k: usize| last.counts[k].saturating_sub(first.counts[k]) as f64 / span;
        if span > 0.0 { std::array::from_fn(rate) } else { [0.0; 4] }
    }
}

fn counts(snapshot: &Snapshot) -> [u64; 4] {
    let totals = &snapshot.totals;
    [totals.received, totals.answered, totals.registrations(), sum(&snapshot.rejected)]
}

fn sum(tally: &Tally) -> u64 {
    tally.counted().map(|(_, count)| count).sum()
}

/// Returns the rooms of the current window with their numbers of members, the largest first.
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

    fn refresh(&mut self, now: Now) {
        let snapshot = self.snapshots.borrow_and_update().clone();
        self.update(now, snapshot);
    }

    fn draw(&mut self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        draw::draw(self, now, logs, frame);
    }

    fn scroll(&mut self, motion: Motion) {
        self.scroll.go(motion);
    }

    fn summary(&self) -> Vec<String> {
        let totals = &self.snapshot.totals;
        let windows = count(totals.opened as usize, "window");
        let line = format!(
            "{windows} opened, {} missed; {}, {} turned away",
            totals.missed,
            count(totals.registrations() as usize, "registration"),
            count(sum(&self.snapshot.rejected) as usize, "datagram"),
        );
        vec![line, format!("data in {}", escape_controls(&self.data))]
    }
}

#[cfg(test)]
mod tests;
