//! Follows a window from its opening to its close: collects the own list, and finds out if this
//! client is not a member.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::greetings::Greetings;
use super::reach::{Reach, same_address};
use super::requests::RequestSlot;
use super::{
    Added, Config, Event, Membership, MissedWhy, OpenWindow, PartialList, Peer, PromisedWindow,
    millis, whole_seconds,
};
use crate::ask::jitter;
use crate::clock::Now;
use crate::proto::{Ack, Candidate, Greet, Opened, Page, Peers, Request};
use crate::window::Window;

/// The longest time from the opening to the first QUERY for missing parts.
const MAX_FIRST_QUERY_DELAY: Duration = Duration::from_secs(2);
/// The time to the next QUERY after an answer that brought nothing new.
const QUERY_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long before its time a window's close means that the registry has gone on without it.
const EARLY_CLOSE: Duration = Duration::from_secs(1);
/// The most peers kept of an own list: greeting them all takes two minutes.
const MAX_PEERS: usize = 65_536;

impl Peer {
    /// Opens `window`, in which the REGISTER with the `seq` that is `confirmed` has put this client, if
    /// its answer has come. A pending REGISTER with another `seq` may be for the window after: its
    /// answer is waited for, unless one window is enough.
    pub(super) fn open_window(
        &mut self,
        now: Now,
        window: Window,
        closes_at: Duration,
        confirmed: Option<u64>,
    ) {
        self.close_window(now);
        if let Some(pending) = self.registration.under_way.as_mut().filter(|_| !self.leaving) {
            match self.config.renew && pending.seq() != confirmed {
                true => pending.set_deadline(now, closes_at),
                false => self.registration.under_way = None,
            }
        }
        let length = self.windows.length();
        let opened_at = closes_at.saturating_sub(length);
        let latest = MAX_FIRST_QUERY_DELAY.min(self.windows.longest_delay());
        let delay = self.rng.random_range(latest / 4..latest);
        self.query.under_way = None;
        self.query.due = Some(opened_at.saturating_add(delay));
        if self.windows.promised.is_none() {
            let delay = self.rng.random_range(Duration::ZERO..length / 2);
            let renew = self.config.renew && self.registers;
            self.registration.due = renew.then(|| opened_at.saturating_add(delay));
        }
        let list = PartialList::new(MAX_PEERS);
        self.windows.open = Some(OpenWindow { window, closes_at, list, greetings: None });
    }

    /// Switches to `window`, which the registry has shown to be open. Returns `false` if it is
    /// older than one that was seen open.
    fn move_to(&mut self, now: Now, window: Window, closes_at: Duration) -> bool {
        let open = self.windows.opened();
        let is_new = open != Some(window);
        if open > Some(window) || is_new && self.windows.latest >= Some(window) {
            return false;
        }
        // If REGISTERED was lost, the time left of the window gives its length.
        let left = closes_at.saturating_sub(now.mono);
        self.windows.length.get_or_insert_with(|| whole_seconds(left));
        if is_new {
            self.catch_up(now, window, closes_at);
        }
        if self.windows.open.is_none() {
            self.open_window(now, window, closes_at, None);
        }
        if let Some(open) = &mut self.windows.open {
            // The part with the least delay gives the most exact close, better than the estimate.
            let known = self.windows.latest == Some(window);
            open.closes_at = if known { open.closes_at.min(closes_at) } else { closes_at };
        }
        if self.windows.latest.replace(window) != Some(window) {
            self.windows.asked_before = self.registry.seq;
        }
        true
    }

    /// Adds a part of the own list of `window`, which proves that the window is open; returns what
    /// that did to the list.
    fn add_list_part(
        &mut self,
        now: Now,
        window: Window,
        closes_in_ms: u64,
        head: Membership,
        page: &Page<'_>,
    ) -> Added {
        let closes_at = now.mono.saturating_add(millis(closes_in_ms));
        if !self.move_to(now, window, closes_at) {
            return Added::Nothing;
        }
        let Some(open @ OpenWindow { greetings: None, .. }) = &mut self.windows.open else {
            return Added::Nothing;
        };
        let added = open.list.add(head, page);
        if let Some(whole) = open.list.take_whole() {
            self.start_greetings(now, whole.head, whole.count, &whole.peers);
        }
        added
    }

    /// Starts greeting the peers: the own list is complete.
    fn start_greetings(&mut self, now: Now, me: Membership, count: u32, list: &[Candidate]) {
        let (seed, longest) = (self.rng.next_u64(), self.windows.longest_delay());
        let Some(open) = &mut self.windows.open else { return };
        let OpenWindow { window, closes_at, .. } = *open;
        let Config { room, name, text, interfaces, .. } = self.config.clone();
        let Membership { you, pass } = me;
        let reach = Reach { registry: self.registry.address, own: you, interfaces };
        let own = Greet { room, window, pass, seq: 0, from: you, name, text };
        // The pace goes on from window to window: a registry may turn them as fast as it likes.
        let greet_at = self.greet_at.max(now.mono);
        let greetings = Greetings::new(own, reach, list, longest, seed, greet_at);
        let (peers, closes_in) = (greetings.peers(), closes_at.saturating_sub(now.mono));
        open.greetings = Some(greetings);
        self.report(now, Event::Opened { window, count, peers: peers.into(), closes_in, you });
        self.query = RequestSlot::default();
    }

    /// Sends ACK to `to` if the own list of `window` is complete; called for each part that arrives.
    fn ack(&mut self, now: Now, to: SocketAddr, window: Window) {
        let id = Some(self.config.id.clone());
        let Some(greetings) = self.windows.greetings() else { return };
        if greetings.own.window == window {
            let pass = greetings.own.pass.clone();
            if self.registry.pace.take(now.mono) {
                self.send(to, Ack { id, window, pass }.encode());
            }
        }
    }

    /// Closes the open window, if any, and reports it as closed, or as missed without its list.
    pub(super) fn close_window(&mut self, now: Now) {
        let Some(open) = self.windows.open.take() else { return };
        self.query = RequestSlot::default();
        let window = open.window;
        let Some(greetings) = open.greetings else {
            let why = self.why_missed(now, &open);
            return self.miss(now, window, why);
        };
        self.greet_at = greetings.ready_at();
        let (of, missing) = (greetings.peers().len(), greetings.missing());
        let met = of - missing.len();
        self.report(now, Event::Closed { window, met, of, missing: missing.into() });
    }

    /// Returns why the own list of an open window has not come whole.
    fn why_missed(&self, now: Now, open: &OpenWindow) -> MissedWhy {
        let opened_at = open.closes_at.saturating_sub(self.windows.length());
        let early = open.closes_at > now.mono.saturating_add(EARLY_CLOSE);
        match open.list.progress() {
            _ if self.registry.may_be_old => MissedWhy::Pause,
            None if early => MissedWhy::NotAMember,
            Some((came, of)) => MissedWhy::ListLost { came, of: Some(of) },
            None if self.registry.heard_at < Some(opened_at) => MissedWhy::Silence,
            None => MissedWhy::ListLost { came: 0, of: None },
        }
    }

    /// Reports that `window` was missed, and registers again unless a later window is promised.
    pub(super) fn miss(&mut self, now: Now, window: Window, why: MissedWhy) {
        self.report(now, Event::Missed { window, why });
        if self.windows.promised.is_none() && self.registers {
            self.registration.due = Some(now.mono);
        }
    }

    /// Sends a QUERY for the first missing part of the own list.
    pub(super) fn query(&mut self, now: Now) {
        let Some(OpenWindow { list, greetings: None, .. }) = &self.windows.open else { return };
        let part = list.missing();
        let (id, seq) = (Some(self.config.id.clone()), Some(self.registry.next_seq()));
        let room = self.config.room.clone();
        let query = Request::query(id, seq, room, part);
        self.query.under_way = Some(self.ask(now, query, None));
    }

    fn query_later(&mut self, now: Now) {
        let delay = jitter(&mut self.rng, QUERY_RETRY_DELAY).min(self.windows.longest_delay());
        self.query.due = Some(now.mono.saturating_add(delay));
    }

    pub(super) fn on_window(&mut self, now: Now, from: SocketAddr, opened: &Opened<'_>) {
        let Opened { id, room, window, closes_in_ms, you, pass, page } = opened.clone();
        let ours = id.as_ref() == Some(&self.config.id) && room == self.config.room;
        if !ours || self.registry.may_be_old {
            return;
        }
        self.registry.note_heard(now, false);
        if !same_address(from, self.registry.address) {
            self.registry.switch(from);
        }
        self.add_list_part(now, window, closes_in_ms, Membership { you, pass }, &page);
        self.ack(now, from, window);
    }

    pub(super) fn on_peers(&mut self, now: Now, peers: &Peers<'_>) {
        let Peers { window, closes_in_ms, you, pass, page, .. } = peers.clone();
        let Some(mine) = self.windows.opened() else { return };
        if peers.room != self.config.room {
            return self.query_later(now);
        }
        if window < mine {
            return self.wait_for_opening(now, closes_in_ms);
        }
        let (Some(you), Some(pass)) = (you, pass) else { return self.not_a_member(now, window) };
        match self.add_list_part(now, window, closes_in_ms, Membership { you, pass }, &page) {
            Added::New => self.query(now),
            Added::Restarted | Added::Nothing => self.query_later(now),
        }
        self.ack(now, self.registry.address, window);
    }

    /// Makes the open window a promised one again: the registry, whose clock or disk is late, opens
    /// it when its current window closes.
    fn wait_for_opening(&mut self, now: Now, closes_in_ms: u64) {
        if self.windows.promised.is_some() {
            return self.query_later(now);
        }
        let Some(open) = self.windows.open.take() else { return };
        let opens_at = now.mono.saturating_add(millis(closes_in_ms));
        self.windows.promised = Some(PromisedWindow { window: open.window, opens_at, seq: None });
        if self.registration.under_way.is_none() && self.registers {
            self.keep_alive(now);
        }
    }

    /// Closes or misses all windows up to `current`: the registry says that this client is not a
    /// member.
    fn not_a_member(&mut self, now: Now, current: Window) {
        if let Some(open) = self.windows.open.take_if(|open| open.greetings.is_none()) {
            self.query = RequestSlot::default();
            self.miss(now, open.window, MissedWhy::NotAMember);
        }
        self.close_window(now);
        self.miss_promised(now, |promised| promised <= current);
    }
}
