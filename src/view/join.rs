//! The live view of a client that takes part: a pure model of what has happened to it.

mod draw;
mod peers;

use std::time::Duration;

use ratatui::Frame;

use super::lines::{not_shown, peer_line, refused, silent};
use super::recent::Recent;
use super::screen::Live;
use super::scroll::{Motion, Scroll};
use super::{count, plain};
use crate::client::{self, Event};
use crate::clock::Now;
use crate::peer;
use crate::proto::{Name, Room};
use crate::window::Window;
use peers::PeerTable;

/// The client that takes part, as the top line names it.
#[derive(Clone, Debug)]
pub struct Participant {
    /// What others call it.
    pub name: Option<Name>,
    /// The room in which it takes part.
    pub room: Room,
    /// The registry, as it was given.
    pub registry: String,
    /// Whether it takes part in one window only.
    pub once: bool,
}

impl Participant {
    /// The one that runs with `config`.
    pub fn new(config: &client::Config, registry: String) -> Participant {
        let client::Config { name, room, once, .. } = config;
        Participant { name: name.clone(), room: room.clone(), registry, once: *once }
    }
}

/// How the registration for the next window stands.
#[derive(Clone, Debug)]
enum Registration {
    /// It is requested, or will be.
    Pending,
    /// The registry has confirmed it for that window.
    Confirmed { window: Window, text: String },
    /// There is none, for that reason.
    Failed(String),
}

/// The wait for the next window, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    from: Duration,
    until: Duration,
}

/// A client that takes part, and what it has seen so far.
#[derive(Clone, Debug)]
pub struct Join {
    participant: Participant,
    wait: Option<Wait>,
    registration: Registration,
    /// The peers of the current window.
    peers: Option<PeerTable>,
    recent: Recent,
    windows: usize,
    met: usize,
    scroll: Scroll,
}

impl Join {
    /// A client to which nothing has happened yet.
    pub fn new(participant: Participant) -> Join {
        Join {
            participant,
            wait: None,
            registration: Registration::Pending,
            peers: None,
            recent: Recent::default(),
            windows: 0,
            met: 0,
            scroll: Scroll::default(),
        }
    }

    fn handle_peer(&mut self, now: Now, event: peer::Event) {
        match event {
            peer::Event::Registered { window, opens_in, you, .. } => {
                self.expect(now, opens_in);
                self.registration = Registration::Confirmed { window, text: format!("as {you}") };
            }
            peer::Event::Opened { window, count, peers, closes_in, .. } => {
                self.expect(now, closes_in);
                self.open(PeerTable::new(window, count, &peers));
            }
            peer::Event::Met { peer, name, rtt } => {
                self.met += 1;
                self.update(|peers| peers.met(peer, name, rtt));
            }
            peer::Event::Greeted { peer, name, text } => {
                self.update(|peers| peers.greeted(peer, name, text));
            }
            peer::Event::Closed { .. } => self.update(PeerTable::close),
            peer::Event::Missed { window } => self.use_up(window),
            peer::Event::Left => self.registration = Registration::Failed("left".to_owned()),
            peer::Event::Refused { code, reason, retry_in } => {
                self.registration = Registration::Failed(refused(code, &reason, retry_in));
            }
        }
    }

    fn open(&mut self, peers: PeerTable) {
        self.use_up(peers.window);
        (self.windows, self.scroll) = (self.windows + 1, Scroll::default());
        self.peers = Some(peers);
    }

    /// A window has opened or was missed: the registration for it, or for an earlier one, is over.
    fn use_up(&mut self, past: Window) {
        if matches!(&self.registration, Registration::Confirmed { window, .. } if *window <= past) {
            self.registration = Registration::Pending;
        }
    }

    fn update(&mut self, change: impl FnOnce(&mut PeerTable)) {
        if let Some(peers) = &mut self.peers {
            change(peers);
        }
    }

    /// The next window opens in `left`. Two answers may differ a little about the same opening,
    /// by how long they were under way: the wait for it goes on.
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

/// An event as a line, without what the view shows elsewhere.
fn recent_line(event: &peer::Event) -> String {
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
                self.registration = Registration::Failed(silent(waited));
            }
            Event::NotShown(events) => self.recent.add(now.wall, not_shown(events)),
            Event::Peer(event) => {
                self.recent.add(now.wall, recent_line(&event));
                self.handle_peer(now, event);
            }
        }
    }

    fn draw(&mut self, now: Now, logs: &[String], frame: &mut Frame<'_>) {
        draw::draw(self, now, logs, frame);
    }

    fn scroll(&mut self, motion: Motion) {
        self.scroll.go(motion);
    }

    fn summary(&self) -> Vec<String> {
        let Some(peers) = &self.peers else {
            return vec!["left before a window opened".to_owned()];
        };
        let (windows, met) = (count(self.windows, "window"), count(self.met, "meeting"));
        let room = plain(self.participant.room.as_str());
        vec![peers.summary(), format!("{windows} in room {room}, {met}")]
    }
}

#[cfg(test)]
mod tests;
