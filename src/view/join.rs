//! The live view of `hit7 join`: a pure model of the events of a client that takes part.

mod draw;
mod peers;

use std::time::Duration;

use ratatui::Frame;

use super::lines::{not_shown_line, peer_line, refused_line, silent_line};
use super::recent::Recent;
use super::screen::Live;
use super::scroll::{Motion, Scroll};
use super::{count, escape_controls};
use crate::client::{self, Event};
use crate::clock::Now;
use crate::peer;
use crate::proto::{Name, Room};
use crate::window::Window;
use peers::PeerTable;

/// What the top line of the view says of the client: its name, room and registry.
#[derive(Clone, Debug)]
pub struct Participant {
    /// The client's name, if it has one.
    pub name: Option<Name>,
    /// The room in which the client takes part.
    pub room: Room,
    /// The registry, as given on the command line.
    pub registry: String,
    /// Whether the client takes part in one window only.
    pub once: bool,
}

impl Participant {
    /// Takes the name, the room and `once` from the client's `config`.
    pub fn new(config: &client::Config, registry: String) -> Participant {
        let client::Config { name, room, once, .. } = config;
        Participant { name: name.clone(), room: room.clone(), registry, once: *once }
    }
}

/// The state of the registration for the next window.
#[derive(Clone, Debug)]
enum Registration {
    /// The registration is requested, or will be.
    Pending,
    /// The registry has confirmed the registration for `window`; `text` says as which address.
    Confirmed { window: Window, text: String },
    /// The registry has confirmed that the client has left.
    Left,
    /// There is no registration, for this reason.
    Failed(String),
}

/// The wait for the next window, on the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    from: Duration,
    until: Duration,
}

/// What the live view of `hit7 join` shows, updated by the events of its client.
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
    /// Creates the model of a client that has had no event yet.
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
                self.set_countdown(now, opens_in);
                self.registration = Registration::Confirmed { window, text: format!("as {you}") };
            }
            peer::Event::Opened { window, count, peers, closes_in, .. } => {
                self.set_countdown(now, closes_in);
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
            peer::Event::Missed { window, .. } => self.reset_registration(window),
            peer::Event::WentBack { .. } => self.registration = Registration::Pending,
            peer::Event::LeftOut(_) => {}
            peer::Event::Left => self.registration = Registration::Left,
            peer::Event::Refused { code, reason, retry_in } => {
                self.registration = Registration::Failed(refused_line(code, &reason, retry_in));
            }
        }
    }

    fn open(&mut self, peers: PeerTable) {
        if matches!(self.registration, Registration::Failed(_)) {
            self.registration = Registration::Pending;
        }
        self.reset_registration(peers.window);
        (self.windows, self.scroll) = (self.windows + 1, Scroll::default());
        self.peers = Some(peers);
    }

    /// Resets the registration if it was for `past`, which has opened or was missed, or for an
    /// earlier window.
    fn reset_registration(&mut self, past: Window) {
        if matches!(&self.registration, Registration::Confirmed { window, .. } if *window <= past) {
            self.registration = Registration::Pending;
        }
    }

    fn update(&mut self, change: impl FnOnce(&mut PeerTable)) {
        if let Some(peers) = &mut self.peers {
            change(peers);
        }
    }

    /// Sets the countdown: the next window opens in `left`. A time within 500 ms of the last one
    /// keeps the countdown's start, as answers about the same opening differ by their travel time.
    fn set_countdown(&mut self, now: Now, left: Duration) {
        if left.is_zero() {
            return;
        }
        let until = now.mono.saturating_add(left);
        let same = |wait: &Wait| wait.until.abs_diff(until) < Duration::from_millis(500);
        let from = self.wait.filter(same).map_or(now.mono, |wait| wait.from);
        self.wait = Some(Wait { from, until });
    }
}

/// Formats an event as a line, without what the view shows elsewhere.
fn recent_line(event: &peer::Event) -> String {
    match event {
        peer::Event::Registered { window, you, .. } => format!("registered for {window} as {you}"),
        // The table of peers shows who was not met.
        peer::Event::Closed { window, met, of, .. } => {
            format!("window {window} closed: met {met} of {of}")
        }
        event => peer_line(event),
    }
}

impl Live for Join {
    type Event = Event;

    fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Silent(waited, cause) => {
                self.recent.add(now.wall, silent_line(waited, &cause));
                self.registration = Registration::Failed(silent_line(waited, &cause));
            }
            Event::NotShown(events) => self.recent.add(now.wall, not_shown_line(events)),
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
        let mut lines = match &self.peers {
            None => vec!["left before a window opened".to_owned()],
            Some(peers) => {
                let (windows, met) = (count(self.windows, "window"), count(self.met, "meeting"));
                let room = escape_controls(self.participant.room.as_str());
                vec![peers.summary(), format!("{windows} and {met} in room {room}")]
            }
        };
        if let Registration::Failed(why) = &self.registration {
            lines.push(format!("last: {why}"));
        }
        lines
    }
}

#[cfg(test)]
mod tests;
