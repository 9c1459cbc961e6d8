//! The server-sent events that open pages follow, each formatted once for all streams.
//!
//! A stream has no queue: it sends the latest event when the connection has room, so that a slow
//! reader skips events and costs no more than a fast one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::clock::{Alarm, Clock, Now};
use crate::snapshot::Snapshot;
use crate::window::{Wall, Window};

use super::Site;
use super::lateness::Lateness;
use super::refusals::Refusal;
use super::reply::Problem;

/// The shortest time between two events, except for an opening, which is sent at once.
const MIN_UPDATE_INTERVAL: Duration = Duration::from_millis(500);

/// The longest time between two events.
const MAX_UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// The first line of a stream: makes a browser wait 2000 ms before it reconnects.
const RETRY_FIELD: &str = "retry: 2000\n\n";

/// The latest snapshot and event of the registry, for the request handlers.
pub(super) struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: watch::Receiver<Bytes>,
    last_heard: Arc<AtomicU64>,
    lateness: Histogram,
    started: Wall,
    /// Three quarters of the connections, to leave some for requests.
    streams: Arc<Semaphore>,
}

/// Follows the registry's snapshots, and formats the events that streams send.
pub(super) struct Writer {
    clock: Clock,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events: watch::Sender<Bytes>,
    /// When the last snapshot came, in milliseconds of the monotonic clock.
    last_heard: Arc<AtomicU64>,
    lateness: Lateness,
}

impl Feed {
    /// Creates the feed of a registry's snapshots, and the writer that updates it once it is run.
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        clock: Clock,
        connections: usize,
    ) -> (Feed, Writer) {
        let now = clock.now();
        let started = Wall::from_millis(now.wall.millis() - now.mono.as_millis() as i64);
        let lateness = Lateness::new(started);
        let last_heard = Arc::new(AtomicU64::new(0));
        let (sender, events) = watch::channel(event(&snapshots.borrow(), now));
        let feed = Feed {
            snapshots: snapshots.clone(),
            events,
            last_heard: last_heard.clone(),
            lateness: lateness.histogram(),
            started,
            streams: Arc::new(Semaphore::new(connections / 4 * 3)),
        };
        let writer = Writer { clock, snapshots, events: sender, last_heard, lateness };
        writer.note_heard();
        (feed, writer)
    }

    /// Returns the last snapshot of the registry.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Subscribes to the registry's snapshots from now on.
    pub(super) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Returns when the last snapshot came, on the monotonic clock.
    pub(super) fn last_heard(&self) -> Duration {
        Duration::from_millis(self.last_heard.load(Ordering::Relaxed))
    }

    /// Returns when the program was started.
    pub(super) fn started(&self) -> Wall {
        self.started
    }

    /// Returns the histogram of how late windows opened.
    pub(super) fn lateness(&self) -> &Histogram {
        &self.lateness
    }
}

impl Writer {
    /// Writes events until the registry is gone.
    pub(super) async fn run(mut self) {
        let mut last = LastEvent::default();
        loop {
            let now = self.clock.now();
            let snapshot = self.snapshots.borrow_and_update().clone();
            self.lateness.observe(&snapshot);
            if last.is_outdated(&snapshot, now) {
                self.events.send_replace(event(&snapshot, now));
                last = LastEvent::of(&snapshot, now);
            }
            let due = last.next_due(&snapshot);
            drop(snapshot);
            tokio::select! {
                changed = self.snapshots.changed() => match changed {
                    Ok(()) => self.note_heard(),
                    Err(_) => return,
                },
                () = self.clock.sleep(Alarm::mono(Some(due))) => {}
            }
        }
    }

    fn note_heard(&self) {
        self.last_heard.store(self.clock.now().mono.as_millis() as u64, Ordering::Relaxed);
    }
}

/// The last event: when it was written, and from which snapshot.
#[derive(Default)]
struct LastEvent {
    at: Duration,
    snapshot: Wall,
    urgent: (Option<Window>, bool),
}

impl LastEvent {
    fn of(snapshot: &Snapshot, now: Now) -> LastEvent {
        LastEvent { at: now.mono, snapshot: snapshot.at, urgent: urgent(snapshot) }
    }

    /// Returns whether the next event is due.
    fn is_outdated(&self, snapshot: &Snapshot, now: Now) -> bool {
        self.urgent != urgent(snapshot) || now.mono >= self.next_due(snapshot)
    }

    /// Returns when the next event is due, by the monotonic clock, if no later snapshot comes.
    fn next_due(&self, snapshot: &Snapshot) -> Duration {
        let is_same = self.snapshot == snapshot.at;
        self.at + if is_same { MAX_UPDATE_INTERVAL } else { MIN_UPDATE_INTERVAL }
    }
}

/// Returns the state whose changes are sent at once: the last window that opened or was missed, and
/// whether the journal works.
fn urgent(snapshot: &Snapshot) -> (Option<Window>, bool) {
    (snapshot.past.back().map(|past| past.window), snapshot.journal_works)
}

#[derive(Serialize)]
struct Event {
    at: Wall,
    window_ms: u64,
    current: Option<Opened>,
    next: Next,
    log_writable: bool,
    totals: Totals,
    turned_away: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Opened {
    window: Window,
    closes_in_ms: u64,
    members: usize,
    rooms: usize,
}

/// The next window: how many members it has, but not who they are.
#[derive(Serialize)]
pub(super) struct Next {
    window: Window,
    opens_in_ms: u64,
    members: usize,
}

#[derive(Serialize)]
struct Totals {
    datagrams: u64,
    answered: u64,
    challenged: u64,
    registrations: u64,
    opened: u64,
    missed: u64,
}

impl Next {
    pub(super) fn of(snapshot: &Snapshot, now: Wall) -> Next {
        let opens_in_ms = now.millis_to(snapshot.next.opens());
        Next { window: snapshot.next, opens_in_ms, members: snapshot.waiting }
    }
}

fn event(snapshot: &Snapshot, now: Now) -> Bytes {
    let (current, totals) = (&snapshot.current, &snapshot.totals);
    let event = Event {
        at: now.wall,
        window_ms: snapshot.length.millis(),
        current: current.opened().map(|_| Opened {
            window: current.window(),
            closes_in_ms: now.wall.millis_to(current.closes()),
            members: current.len(),
            rooms: current.rosters().len(),
        }),
        next: Next::of(snapshot, now.wall),
        log_writable: snapshot.journal_works,
        totals: Totals {
            datagrams: totals.received,
            answered: totals.answered,
            challenged: totals.challenged,
            registrations: totals.registrations(),
            opened: totals.opened,
            missed: totals.missed,
        },
        turned_away: snapshot.rejected.counted().map(|(why, count)| (why.name(), count)).collect(),
    };
    let text = serde_json::to_string(&event).unwrap_or_default();
    Bytes::from(format!("data: {text}\n\n"))
}

/// Answers `/api/v1/events` with a stream of the registry's state: now, at each change, and at
/// least every second.
pub(super) async fn stream(State(site): State<Arc<Site>>) -> Response {
    let Ok(permit) = site.feed.streams.clone().try_acquire_owned() else {
        site.refusals.count(Refusal::TooManyStreams);
        let reason = "as many streams are open as there may be";
        return Problem::busy(Refusal::TooManyStreams.name(), reason).into_response();
    };
    let mut events = site.feed.events.clone();
    let first = [RETRY_FIELD.as_bytes(), &events.borrow_and_update()].concat();
    let first = Some(Bytes::from(first));
    let body = stream::unfold((events, permit, first), async |(mut events, permit, first)| {
        let text = match first {
            Some(first) => first,
            None => {
                events.changed().await.ok()?;
                events.borrow_and_update().clone()
            }
        };
        Some((Ok::<_, Infallible>(text), (events, permit, None)))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    // The header stops some proxies from buffering the stream.
    (kind, [("x-accel-buffering", "no")], Body::from_stream(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(millis: u64) -> Now {
        Now { wall: Wall::from_millis(millis as i64), mono: Duration::from_millis(millis) }
    }

    #[test]
    fn an_event_is_due_each_second_sooner_if_something_changed_and_at_once_if_it_is_urgent() {
        let snapshot = Snapshot::example();
        let last = LastEvent::of(&snapshot, now(5000));
        let is_due = |snapshot: &Snapshot| {
            [5001, 5499, 5500, 5999, 6000].map(|millis| last.is_outdated(snapshot, now(millis)))
        };
        assert_eq!(is_due(&snapshot), [false, false, false, false, true]);
        let changed = Snapshot { at: Wall::from_millis(1), ..snapshot.clone() };
        assert_eq!(is_due(&changed), [false, false, true, true, true]);
        let refusing = Snapshot { journal_works: false, ..snapshot.clone() };
        assert_eq!(is_due(&refusing), [true; 5]);
        let mut opened = snapshot;
        opened.remember(crate::snapshot::Past {
            window: opened.next,
            members: 0,
            rooms: 0,
            late: None,
        });
        assert_eq!(is_due(&opened), [true; 5]);
    }

    /// Returns a feed whose writer runs, once the clock has reached `start`; and the sender of
    /// its snapshots.
    async fn start(clock: Clock, start: Duration) -> (Feed, watch::Sender<Arc<Snapshot>>) {
        clock.sleep(Alarm::mono(Some(start))).await;
        let (sender, snapshots) = watch::channel(Arc::new(Snapshot::example()));
        let (feed, writer) = Feed::new(snapshots, clock, 8);
        tokio::spawn(writer.run());
        (feed, sender)
    }

    #[tokio::test]
    async fn the_registry_is_heard_of_at_the_start_and_with_each_snapshot() {
        let (clock, start_after) = (Clock::start(), Duration::from_millis(50));
        let before = clock.now().wall;
        let (feed, sender) = start(clock, start_after).await;
        assert!(feed.started() < before.plus(start_after), "the program, not the feed");
        assert_eq!(feed.streams.available_permits(), 6, "of 8 connections");
        let first = feed.last_heard();
        assert!(first >= start_after);
        clock.sleep(Alarm::mono(Some(first + start_after))).await;
        sender.send_replace(Arc::new(Snapshot::example()));
        let heard = async {
            while feed.last_heard() == first {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), heard).await.expect("it is heard of");
    }

    #[tokio::test]
    async fn snapshots_that_follow_each_other_at_once_share_an_event() {
        let clock = Clock::start();
        let (feed, sender) = start(clock, Duration::ZERO).await;
        let (mut events, mut count) = (feed.events.clone(), 0);
        for millis in 1..=100 {
            let at = Wall::from_millis(millis);
            sender.send_replace(Arc::new(Snapshot { at, ..Snapshot::example() }));
            tokio::task::yield_now().await;
            count += u128::from(events.has_changed().unwrap());
            events.mark_unchanged();
        }
        let most = 1 + clock.now().mono.as_millis() / MIN_UPDATE_INTERVAL.as_millis();
        assert!((1..=most).contains(&count), "{count} events, and not up to {most}");
    }

    #[test]
    fn an_event_tells_the_next_window_by_its_count_and_every_reason_that_was_counted() {
        let mut snapshot = Snapshot { waiting: 3, ..Snapshot::example() };
        let why = crate::tally::RejectReason::Refused(crate::tally::Code::Full);
        snapshot.rejected.count(why);
        let text = event(&snapshot, now(45_000));
        let text = std::str::from_utf8(&text).unwrap();
        let json = text.strip_prefix("data: ").and_then(|text| text.strip_suffix("\n\n")).unwrap();
        let event: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            (&event["next"]["members"], &event["next"]["opens_in_ms"]),
            (&3.into(), &15_000.into())
        );
        assert_eq!(event["current"]["closes_in_ms"], 15_000);
        assert_eq!(event["turned_away"], serde_json::json!({"full": 1}));
    }
}
