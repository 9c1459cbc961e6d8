//! The live view of a client that takes part: what it has lived through, as a pure model.

mod draw;
mod meeting;

use std::time::Duration;

use ratatui::Frame;

use super::lines::{peer_line, refused, silent};
use super::parts::{Recent, scrolled};
use super::screen::Live;
use super::{count, plain};
use crate::client::{self, Event};
use crate::clock::Now;
use crate::peer;
use crate::proto::{Name, Room};
use crate::window::Window;
use meeting::Meeting;

/// Who takes part where.
#[derive(Clone, Debug)]
pub struct Who {
    /// What others call it.
    pub name: Option<Name>,
    /// Its group.
    pub room: Room,
    /// The registry, as it was given.
    pub registry: String,
    /// One window only.
    pub once: bool,
}

impl Who {
    /// The one who runs with `config`.
    pub fn new(config: &client::Config, registry: String) -> Who {
        let client::Config { name, room, once, .. } = config;
        Who { name: name.clone(), room: room.clone(), registry, once: *once }
    }
}

/// How the registration for the next window stands.
#[derive(Clone, Debug)]
enum Registration {
    /// It is asked for, or will be.
    Asking,
    /// In.
    For { window: Window, text: String },
    /// Not in, and why.
    Out(String),
}

/// The wait for the next turn of windows, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    from: Duration,
    until: Duration,
}

/// What a client has lived through.
#[derive(Clone, Debug)]
pub struct Join {
    who: Who,
    wait: Option<Wait>,
    registration: Registration,
    meeting: Option<Meeting>,
    recent: Recent,
    windows: usize,
    met: usize,
    scrolled: usize,
}

impl Join {
    /// Nothing has happened yet.
    pub fn new(who: Who) -> Join {
        Join {
            who,
            wait: None,
            registration: Registration::Asking,
            meeting: None,
            recent: Recent::default(),
            windows: 0,
            met: 0,
            scrolled: 0,
        }
    }

    fn live(&mut self, now: Now, event: peer::Event) {
        match event {
            peer::Event::Registered { window, opens_in, you, .. } => {
                self.expect(now, opens_in);
                self.registration = Registration::For { window, text: format!("as {you}") };
            }
            peer::Event::Opened { window, count, peers, closes_in, .. } => {
                self.expect(now, closes_in);
                self.open(Meeting::new(window, count, &peers));
            }
            peer::Event::Met { peer, name, rtt } => {
                self.met += 1;
                self.with(|meeting| meeting.met(peer, name, rtt));
            }
            peer::Event::Greeted { peer, name, text } => {
                self.with(|meeting| meeting.greeted(peer, name, text));
            }
            peer::Event::Closed { .. } => self.with(Meeting::close),
            peer::Event::Missed { window } => self.turn(window),
            peer::Event::Left => self.registration = Registration::Out("left".to_owned()),
            peer::Event::Refused { code, reason, retry_in } => {
                self.registration = Registration::Out(refused(code, &reason, retry_in));
            }
        }
    }

    fn open(&mut self, meeting: Meeting) {
        self.turn(meeting.window);
        (self.windows, self.scrolled) = (self.windows + 1, 0);
        self.meeting = Some(meeting);
    }

    /// The registration for `window` is used up.
    fn turn(&mut self, rejected: Window) {
        if matches!(&self.registration, Registration::For { window, .. } if *window <= rejected) {
            self.registration = Registration::Asking;
        }
    }

    fn with(&mut self, act: impl FnOnce(&mut Meeting)) {
        if let Some(meeting) = &mut self.meeting {
            act(meeting);
        }
    }

    /// The next turn is `left` away. Answers differ by the way they took: that is the same turn.
    fn expect(&mut self, now: Now, left: Duration) {
        if left.is_zero() {
            return;
        }
        let until = now.mono.saturating_add(left);
        let same = |wait: &Wait| wait.until.abs_diff(until) < Duration::from_millis(500);
        let from = self.wait.filter(same).map_or(now.mono, |wait| wait.from);
        self.wait = Some(Wait { from, until });
    }
}

/// What has happened, without what stands in the view anyway.
fn told(event: &peer::Event) -> String {
    match event {
        peer::Event::Registered { window, you, .. } => format!("registered for {window} as {you}"),
        event => peer_line(event),
    }
}

impl Live for Join {
    type Event = Event;

    fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Silent(waited) => {
                self.recent.add(now.wall, silent(waited));
                self.registration = Registration::Out(silent(waited));
            }
            Event::Peer(event) => {
                self.recent.add(now.wall, told(&event));
                self.live(now, event);
            }
        }
    }

    fn draw(&self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        draw::draw(self, now, logs, frame);
    }

    fn scroll(&mut self, by: isize) {
        let all = self.meeting.as_ref().map_or(0, |meeting| meeting.rows.len());
        self.scrolled = scrolled(self.scrolled, by, all);
    }

    fn summary(&self) -> Vec<String> {
        let Some(meeting) = &self.meeting else {
            return vec!["left before a window opened".to_owned()];
        };
        let (windows, met) = (count(self.windows, "window"), count(self.met, "meeting"));
        let room = plain(self.who.room.as_str());
        vec![meeting.summary(), format!("{windows} in room {room}, {met}")]
    }
}

#[cfg(test)]
mod tests;
