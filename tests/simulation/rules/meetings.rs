//! What peers live through: that they believe nothing forged, hold the right list, and meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::peer::Event;
use hit7::proto::{Greeted, Id, Room};
use hit7::window::Window;

use super::{Pair, Rules};

impl Rules {
    pub(crate) fn on_peer_event(&mut self, place: usize, id: &Id, room: &Room, event: &Event) {
        match event {
            Event::Registered { window, .. } => {
                let told = self.told.contains(&(id.clone(), *window));
                self.expect(told, 2, || format!("{id} believes a forged REGISTERED of {window}"));
            }
            Event::Opened { window, peers, you, count, .. } => {
                let roster = self.roster(*window, room);
                let known = peers.iter().chain([you]).all(|peer| roster.contains(peer));
                let whole = roster.len() > self.cap + 1 || peers.len() + 1 == roster.len();
                self.expect(known && whole && *count as usize == roster.len(), 3, || {
                    format!("{id} holds {peers:?} of {window}, and the roster is {roster:?}")
                });
            }
            Event::Met { peer, .. } => {
                let answered = self.answered.iter().copied();
                let answered = answered.filter(|(at, _, by)| (*at, by) == (place, peer));
                let answered: Vec<_> = answered.collect();
                self.expect(!answered.is_empty(), 7, || format!("{id} met {peer}, who is silent"));
                self.met.extend(answered);
            }
            _ => {}
        }
    }

    /// A peer greets another one.
    pub(crate) fn on_greet(&mut self, place: usize, seq: u64) {
        self.greets.insert((place, seq));
    }

    /// A peer's greeting may have been answered.
    pub(crate) fn on_greeted(&mut self, place: usize, it: &Greeted) {
        if self.greets.contains(&(place, it.seq)) {
            self.answered.insert((place, it.window, it.from));
        }
    }

    fn roster(&self, window: Window, room: &Room) -> Vec<SocketAddr> {
        let members = self.books.get(&window).into_iter().flatten();
        members.filter(|(_, member)| member.profile.room == *room).map(|(addr, _)| *addr).collect()
    }

    /// Two peers in one room of a window that has just opened.
    pub(crate) fn expect_meeting(
        &mut self,
        window: Window,
        places: [usize; 2],
        other: SocketAddr,
        begun: Duration,
        due: Duration,
    ) {
        self.waiting.push(Pair { begun, due, window, places, other });
    }

    /// Whether a window ends when its members were first told that it would. If the registry's
    /// clock was set meanwhile it does not, and for some of them it may be over.
    pub(crate) fn ends_as_told(&mut self, window: Window, due: Duration) -> bool {
        let first = *self.ends.entry(window).or_insert(due);
        due.abs_diff(first) < Duration::from_secs(2)
    }

    /// When the next pair's time is over.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|pair| pair.due).min()
    }

    /// Pairs whose time is over: `steady` tells since when nothing is wrong with a peer, and with
    /// the registry.
    pub(crate) fn judge_meetings(&mut self, steady: impl Fn(usize) -> Duration) {
        let t = self.t;
        let (over, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|pair: &Pair| pair.due <= t);
        self.waiting = rest;
        for Pair { begun, window, places: [place, other_place], other, .. } in over {
            if steady(place).max(steady(other_place)) > begun {
                continue;
            }
            self.pairs += 1;
            if !self.met.contains(&(place, window, other)) {
                let what = format!("{window}: peer {place} did not meet {other}");
                self.expect(!self.every_pair, 7, || what.clone());
                self.unmet.push(what);
            }
        }
    }

    /// Lists in a larger room are mutual.
    pub(crate) fn at_the_end(&mut self) {
        let mut lists: BTreeMap<(Window, Room), BTreeMap<SocketAddr, BTreeSet<SocketAddr>>> =
            BTreeMap::new();
        for ((window, room, _, you, _), says) in &self.pages {
            let members = self.roster(*window, room).len();
            if you.port() == 0 || members <= self.cap + 1 {
                continue;
            }
            let peers = says.split(['"', ' ']).filter_map(|word| word.parse::<SocketAddr>().ok());
            let room = lists.entry((*window, room.clone())).or_default();
            room.entry(*you).or_default().extend(peers.filter(|peer| !peer.ip().is_loopback()));
        }
        for ((window, room), lists) in lists {
            for (you, peers) in &lists {
                let mutual = peers.iter().all(|peer| {
                    lists.get(peer).is_none_or(|list| list.len() < self.cap || list.contains(you))
                });
                let whole = peers.len() < self.cap || mutual;
                self.expect(whole, 3, || format!("lists of {room} in {window} are not mutual"));
            }
        }
    }
}
