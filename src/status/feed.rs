//! What is told to open pages: one text at a time, written once for all of them.
//!
//! A stream holds no queue: it is told the latest when it has room for it, so that a slow reader
//! skips what it missed and costs what a fast one does.

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
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::clock::{Alarm, Clock, Now};
use crate::snapshot::{Past, Snapshot};
use crate::window::{Wall, Window};

use super::Site;
use super::metrics::Lateness;
use super::reply::Problem;

/// How many streams there may be: fewer than connections, so that health is answered still.
const STREAMS: usize = 384;

/// How often streams are told at most, but for an opening.
const PACE: Duration = Duration::from_millis(500);

/// How often they are told at least.
const PULSE: Duration = Duration::from_secs(1);

/// How long a browser waits before it asks again.
const RETRY: &str = "retry: 2000\n\n";

/// What the registry shows, as handlers see it.
pub(super) struct Feed {
    shown: watch::Receiver<Arc<Snapshot>>,
    events: watch::Receiver<Bytes>,
    heard: Arc<AtomicU64>,
    lateness: Lateness,
    started: Wall,
    seats: Arc<Semaphore>,
}

/// Follows the registry, and writes the events.
pub(super) struct Editor {
    clock: Clock,
    shown: watch::Receiver<Arc<Snapshot>>,
    events: watch::Sender<Bytes>,
    /// When the registry was last heard of, in milliseconds of the monotonic clock.
    heard: Arc<AtomicU64>,
    lateness: Lateness,
    started: Wall,
    /// Openings that were noted.
    noted: u64,
}

impl Feed {
    /// Both ends.
    pub(super) fn new(shown: watch::Receiver<Arc<Snapshot>>, clock: Clock) -> (Feed, Editor) {
        let (heard, lateness) = (Arc::new(AtomicU64::new(0)), Lateness::default());
        let now = clock.now();
        let started = Wall::from_millis(now.wall.millis() - now.mono.as_millis() as i64);
        let (told, events) = watch::channel(event(&shown.borrow(), now));
        let editor = Editor {
            clock,
            shown: shown.clone(),
            events: told,
            heard: heard.clone(),
            lateness: lateness.clone(),
            started,
            noted: 0,
        };
        editor.hear();
        let seats = Arc::new(Semaphore::new(STREAMS));
        (Feed { shown, events, heard, lateness, started, seats }, editor)
    }

    /// The registry as it was last shown.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shown.borrow().clone()
    }

    /// A second pair of eyes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.clone()
    }

    /// When the registry was last heard of, by the monotonic clock.
    pub(super) fn heard(&self) -> Duration {
        Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// When the program was started.
    pub(super) fn started(&self) -> Wall {
        self.started
    }

    /// How late windows opened.
    pub(super) fn lateness(&self) -> &Lateness {
        &self.lateness
    }
}

impl Editor {
    /// Writes events until the registry is gone.
    pub(super) async fn run(mut self) {
        let mut told = Told::default();
        loop {
            let now = self.clock.now();
            let snapshot = self.shown.borrow_and_update().clone();
            self.note_openings(&snapshot);
            if told.is_due(&snapshot, now) {
                self.events.send_replace(event(&snapshot, now));
                told = Told::of(&snapshot, now);
            }
            let wait = if snapshot.at == told.shown { PULSE } else { PACE };
            drop(snapshot);
            tokio::select! {
                changed = self.shown.changed() => match changed {
                    Ok(()) => self.hear(),
                    Err(_) => return,
                },
                () = self.clock.sleep(Alarm::mono(Some(told.at + wait))) => {}
            }
        }
    }

    fn hear(&self) {
        self.heard.store(self.clock.now().mono.as_millis() as u64, Ordering::Relaxed);
    }

    /// Each opening counts once, also if several were shown at once; those of an earlier run, which
    /// stand before them, not again.
    fn note_openings(&mut self, snapshot: &Snapshot) {
        let all = snapshot.done.opened + snapshot.done.missed;
        let new = all.saturating_sub(self.noted) as usize;
        for past in snapshot.past.iter().rev().take(new) {
            lateness(past, self.started).into_iter().for_each(|late| self.lateness.observe(late));
        }
        self.noted = all;
    }
}

/// How late a window opened. Nobody waited for the one in which the registry was first started:
/// that it began before is not its lateness.
pub(super) fn lateness(past: &Past, started: Wall) -> Option<Duration> {
    past.late.filter(|_| past.members > 0 || past.window.opens() >= started)
}

/// What streams were last told, and when.
#[derive(Default)]
struct Told {
    at: Duration,
    shown: Wall,
    stands: (Option<Window>, bool),
}

impl Told {
    fn of(snapshot: &Snapshot, now: Now) -> Told {
        Told { at: now.mono, shown: snapshot.at, stands: stands(snapshot) }
    }

    fn is_due(&self, snapshot: &Snapshot, now: Now) -> bool {
        let since = now.mono.saturating_sub(self.at);
        let changed = self.shown != snapshot.at && since >= PACE;
        self.stands != stands(snapshot) || changed || since >= PULSE
    }
}

/// What is told at once.
fn stands(snapshot: &Snapshot) -> (Option<Window>, bool) {
    (snapshot.past.back().map(|past| past.window), snapshot.log_works)
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

/// Of the next window, the count alone.
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
    let (current, done) = (&snapshot.current, &snapshot.done);
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
        log_writable: snapshot.log_works,
        totals: Totals {
            datagrams: done.received,
            answered: done.answered,
            challenged: done.challenged,
            registrations: done.registrations(),
            opened: done.opened,
            missed: done.missed,
        },
        turned_away: snapshot.rejected.counted().map(|(why, count)| (why.name(), count)).collect(),
    };
    let text = serde_json::to_string(&event).unwrap_or_default();
    Bytes::from(format!("data: {text}\n\n"))
}

/// `/api/v1/events`: how it stands, now and at each change, at least every second.
pub(super) async fn stream(State(site): State<Arc<Site>>) -> Response {
    let Ok(seat) = site.feed.seats.clone().try_acquire_owned() else {
        return Problem::busy("too_many_streams", format!("{STREAMS} streams are open already"))
            .into_response();
    };
    let mut events = site.feed.events.clone();
    events.mark_changed();
    let first = Some(Bytes::from_static(RETRY.as_bytes()));
    let body = stream::unfold((events, seat, first), async |(mut events, seat, first)| {
        let text = match first {
            Some(first) => first,
            None => {
                events.changed().await.ok()?;
                events.borrow_and_update().clone()
            }
        };
        Some((Ok::<_, Infallible>(text), (events, seat, None)))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    // A proxy that gathers answers would hold them back.
    (kind, [("x-accel-buffering", "no")], Body::from_stream(body)).into_response()
}
