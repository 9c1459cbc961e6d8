//! A window from its opening to its close: the own list, and what it means if it is not ours.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::meeting::{Identity, Meeting};
use super::reach::Reach;
use super::share::{Head, Share};
use super::{Config, Event, Open, Peer, Promised, Stage, millis, whole_seconds};
use crate::ask::jitter;
use crate::clock::Now;
use crate::proto::{Ack, Candidate, Datagram, Opened, Page, Peers, Request};
use crate::window::Window;

/// The latest that missing parts are first asked for, after the opening.
const REPAIR: Duration = Duration::from_secs(2);
/// Before the next request where an answer was of no use.
const NO_USE: Duration = Duration::from_secs(1);

impl Peer {
    /// `window` opens: whatever was asked so that we are in it has been settled.
    pub(super) fn turn(&mut self, now: Now, window: Window, closes_at: Duration) {
        self.close(now);
        if !self.leaving {
            self.errand = None;
        }
        let opened_at = closes_at.saturating_sub(self.length());
        let most = REPAIR.min(self.quarter());
        let delay = self.rng.random_range(most / 4..most);
        (self.query, self.query_at) = (None, Some(opened_at.saturating_add(delay)));
        if self.told.is_none() {
            let delay = self.rng.random_range(Duration::ZERO..self.length() / 2);
            let renew = self.config.renew && !self.done;
            self.register_at = renew.then(|| opened_at.saturating_add(delay));
        }
        let stage = Stage::Gathering(Share::default());
        self.open = Some(Open { window, closes_at, stage });
    }

    /// Turns to `window`, if it is not older than what was seen open.
    fn see_open(&mut self, now: Now, window: Window, closes_at: Duration) -> bool {
        let open = self.open.as_ref().map(|open| open.window);
        if open > Some(window) || open != Some(window) && self.last >= Some(window) {
            return false;
        }
        // If REGISTERED was lost, what is left of the window tells its length.
        self.length.get_or_insert_with(|| whole_seconds(closes_at.saturating_sub(now.mono)));
        if open != Some(window) {
            self.catch_up(now, window, closes_at);
        }
        if self.open.is_none() {
            self.turn(now, window, closes_at);
        }
        if let Some(open) = &mut self.open {
            // The part that travelled fastest knows best; what the own clock thought, least.
            let known = self.last == Some(window);
            open.closes_at = if known { open.closes_at.min(closes_at) } else { closes_at };
        }
        self.last = Some(window);
        true
    }

    /// Takes a part of our list of `window`, which is proof that it is open; whether it was news.
    fn take_page(
        &mut self,
        now: Now,
        window: Window,
        closes_in_ms: u64,
        head: Head,
        page: &Page<'_>,
    ) -> bool {
        let closes_at = now.mono.saturating_add(millis(closes_in_ms));
        if !self.see_open(now, window, closes_at) {
            return false;
        }
        let Some(Open { stage: Stage::Gathering(share), .. }) = &mut self.open else {
            return false;
        };
        let news = share.add(head, page);
        if let Some((head, list)) = share.take_whole() {
            self.meet(now, head, &list);
        }
        news
    }

    /// The own list is whole.
    fn meet(&mut self, now: Now, head: Head, list: &[Candidate]) {
        let (seed, longest) = (self.rng.next_u64(), self.quarter());
        let Some(open) = &mut self.open else { return };
        let Config { registry, room, name, text, interfaces, .. } = self.config.clone();
        let reach = Reach { registry, me: head.you, interfaces };
        let voice =
            Identity { room, window: open.window, pass: head.pass, me: head.you, name, text };
        let meeting = Meeting::new(voice, reach, list, longest, seed, now.mono);
        self.events.push_back(Event::Opened {
            window: open.window,
            count: head.count,
            peers: meeting.peers(),
            closes_in: open.closes_at.saturating_sub(now.mono),
            you: head.you,
        });
        open.stage = Stage::Meeting(Box::new(meeting));
        (self.query, self.query_at) = (None, None);
    }

    pub(super) fn meeting(&mut self) -> Option<&mut Meeting> {
        match &mut self.open {
            Some(Open { stage: Stage::Meeting(meeting), .. }) => Some(meeting),
            _ => None,
        }
    }

    /// Tells the registry that the list is whole, as often as it tells the list.
    fn ack(&mut self, window: Window) {
        let id = Some(self.config.id.clone());
        let Some(voice) = self.meeting().map(|meeting| meeting.voice()) else { return };
        if voice.window == window {
            let pass = voice.pass.clone();
            self.send(self.config.registry, Ack { id, window, pass }.encode());
        }
    }

    /// The open window is over.
    pub(super) fn close(&mut self, now: Now) {
        let Some(open) = self.open.take() else { return };
        (self.query, self.query_at) = (None, None);
        match open.stage {
            Stage::Gathering(_) => self.miss(now, open.window),
            Stage::Meeting(meeting) => {
                let (of, missing) = (meeting.peers().len(), meeting.missing());
                let met = of - missing.len();
                self.events.push_back(Event::Closed { window: open.window, met, of, missing });
            }
        }
    }

    /// Says so, and registers anew unless that has been done.
    pub(super) fn miss(&mut self, now: Now, window: Window) {
        self.events.push_back(Event::Missed { window });
        if self.told.is_none() && !self.done {
            self.register_at = Some(now.mono);
        }
    }

    /// Asks for the first part that lacks.
    pub(super) fn query(&mut self, now: Now) {
        let Some(Open { stage: Stage::Gathering(share), .. }) = &self.open else { return };
        let part = share.missing();
        let (id, seq) = (Some(self.config.id.clone()), Some(self.next_seq()));
        let room = self.config.room.clone();
        let query = Request::query(id, seq, room, part);
        self.query = Some(self.ask(now, query, None));
    }

    fn query_later(&mut self, now: Now) {
        let delay = jitter(&mut self.rng, NO_USE).min(self.quarter());
        self.query_at = Some(now.mono.saturating_add(delay));
    }

    /// A QUERY that is finally refused is not repeated; WINDOW may still come.
    pub(super) fn on_query(&mut self, now: Now, datagram: &Datagram<'_>) {
        if let Datagram::Peers(peers) = datagram {
            self.on_peers(now, peers);
        }
    }

    pub(super) fn on_window(&mut self, now: Now, opened: &Opened<'_>) {
        let Opened { room, window, closes_in_ms, you, pass, page, .. } = opened.clone();
        if opened.id.as_ref() != Some(&self.config.id) || room != self.config.room {
            return;
        }
        self.heard = true;
        let head = Head { you, pass, count: page.count, parts: page.parts };
        self.take_page(now, window, closes_in_ms, head, &page);
        self.ack(window);
    }

    fn on_peers(&mut self, now: Now, peers: &Peers<'_>) {
        let Peers { window, closes_in_ms, you, pass, page, .. } = peers.clone();
        let Some(mine) = self.open.as_ref().map(|open| open.window) else { return };
        if peers.room != self.config.room {
            return self.query_later(now);
        }
        if window < mine {
            return self.not_yet(now, closes_in_ms);
        }
        let (Some(you), Some(pass)) = (you, pass) else { return self.not_in(now, window) };
        let head = Head { you, pass, count: page.count, parts: page.parts };
        if self.take_page(now, window, closes_in_ms, head, &page) {
            self.query(now);
        } else {
            self.query_later(now);
        }
        self.ack(window);
    }

    /// The registry has not opened our window: its clock or its disk is late. It opens when its
    /// current one closes.
    fn not_yet(&mut self, now: Now, closes_in_ms: u64) {
        if self.told.is_some() {
            return self.query_later(now);
        }
        let Some(open) = self.open.take() else { return };
        let opens_at = now.mono.saturating_add(millis(closes_in_ms));
        self.told = Some(Promised { window: open.window, opens_at });
        if self.errand.is_none() && !self.done {
            self.keep_alive(now);
        }
    }

    /// The registry's current window does not have us.
    fn not_in(&mut self, now: Now, current: Window) {
        self.close(now);
        if let Some(told) = self.told.take_if(|told| told.window <= current) {
            self.miss(now, told.window);
        }
    }
}
