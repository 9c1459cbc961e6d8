//! A simple model of the registry: the members of two windows, and the last request of each id. The
//! model applies the records in the journal's order, has nothing in flight, and the registry must
//! agree with it on windows, members and answers.
//!
//! The simulation and the fuzz target `registry` compare the registry with it.
#![allow(dead_code, unused_imports, reason = "each of its users needs a part of it")]

mod answers;
mod requests;
mod rule;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hit7::mesh::ListCap;
use hit7::proto::{Id, Profile, Room};
use hit7::record::{Header, Leaving, Missing, Opening, Record, Registration};
use hit7::roster::FinalizedWindow;
use hit7::window::{Length, Wall, Window};

pub(crate) use answers::List;
pub(crate) use requests::{Verdict, told_window};
pub(crate) use rule::{Broken, Check, Rule};

/// A client that is registered for a window, at the address that is its key in [`Members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Option<Id>,
    pub(crate) profile: Profile,
    pub(crate) registered: Wall,
}

pub(crate) type Members = BTreeMap<SocketAddr, Member>;

impl Member {
    fn of(it: &Registration) -> Member {
        let Registration { id, profile, at, .. } = it.clone();
        Member { id, profile, registered: at }
    }
}

/// Returns the members that the registry itself has in a window.
pub(crate) fn members_of(frozen: &FinalizedWindow) -> Members {
    let members = frozen.rosters().iter().flat_map(|roster| roster.members());
    let member = |it: &hit7::roster::Member| {
        let hit7::roster::Member { path, id, profile, registered, .. } = it.clone();
        (path.peer, Member { id, profile, registered })
    };
    members.map(member).collect()
}

/// Whether an id is a member, has left or was displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdState {
    Member,
    Left,
    /// The id's address was registered again by another client.
    Displaced,
}

/// What the model remembers of an id: the highest `seq`, and the last address.
#[derive(Clone, Debug)]
pub(crate) struct IdEntry {
    pub(crate) seq: Option<u64>,
    pub(crate) addr: SocketAddr,
    pub(crate) state: IdState,
}

/// The settings that a window has from its first record to its close, whatever a restart brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) length: Length,
    /// The most peers in an own list.
    pub(crate) cap: usize,
}

/// One window of the model: its members, and what is remembered of the ids that sent requests.
#[derive(Clone, Debug)]
pub(crate) struct Filling {
    /// Which window this is; `None` until the first record.
    pub(crate) window: Option<Window>,
    pub(crate) settings: Settings,
    pub(crate) members: Members,
    pub(crate) ids: BTreeMap<Id, IdEntry>,
}

impl Filling {
    fn new(window: Option<Window>, settings: Settings) -> Filling {
        Filling { window, settings, members: Members::new(), ids: BTreeMap::new() }
    }

    fn register(&mut self, it: &Registration) {
        let addr = it.path.peer;
        self.members.retain(|_, member| member.id.is_none() || member.id != it.id);
        let displaced = self.members.insert(addr, Member::of(it)).and_then(|member| member.id);
        if let Some(entry) = displaced.and_then(|id| self.ids.get_mut(&id)) {
            (entry.addr, entry.state) = (addr, IdState::Displaced);
        }
        self.remember(it.id.as_ref(), it.seq, addr, IdState::Member);
    }

    fn leave(&mut self, it: &Leaving) {
        if let Some((addr, _)) = self.find(it.id.as_ref(), it.path.peer) {
            self.members.remove(&addr);
        }
        self.remember(it.id.as_ref(), it.seq, it.path.peer, IdState::Left);
    }

    fn remember(&mut self, id: Option<&Id>, seq: Option<u64>, addr: SocketAddr, state: IdState) {
        let Some(id) = id else { return };
        let before = self.ids.get(id).and_then(|entry| entry.seq);
        self.ids.insert(id.clone(), IdEntry { seq: before.max(seq), addr, state });
    }

    /// Returns the member with this id or, without an id, the one at this address.
    pub(crate) fn find(&self, id: Option<&Id>, from: SocketAddr) -> Option<(SocketAddr, &Member)> {
        let is_it = |(addr, member): &(&SocketAddr, &Member)| {
            member.id.as_ref() == id && (id.is_some() || **addr == from)
        };
        self.members.iter().find(is_it).map(|(addr, member)| (*addr, member))
    }

    /// Returns the addresses of a room's members, in order.
    pub(crate) fn room(&self, room: &Room) -> Vec<SocketAddr> {
        let there = self.members.iter().filter(|(_, member)| member.profile.room == *room);
        there.map(|(addr, _)| *addr).collect()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The settings of windows that have no record yet.
    pub(crate) settings: Settings,
    pub(crate) last_open: Option<Window>,
    /// The last window whose registrations were ended by an opening, or by being missed.
    pub(crate) last_ended: Option<Window>,
    /// When that window closes: the next one begins then, or later.
    free_from: Option<Wall>,
    pub(crate) current: Filling,
    pub(crate) next: Filling,
}

impl Model {
    pub(crate) fn new(length: Length, cap: usize) -> Model {
        let settings = Settings { length, cap };
        let empty = Filling::new(None, settings);
        let (current, next) = (empty.clone(), empty);
        Model { settings, last_open: None, last_ended: None, free_from: None, current, next }
    }

    /// Notes that the journal of a window begins, with the settings of that window. A registry that
    /// runs needs no such note: it gives its own settings to each window that begins.
    pub(crate) fn begin(&mut self, header: &Header) -> Check {
        let Header { window, length, cap } = *header;
        self.check_free(window)?;
        let cap = cap.map_or(self.settings.cap, ListCap::peers);
        self.next = Filling::new(Some(window), Settings { length, cap });
        Ok(())
    }

    fn check_free(&self, window: Window) -> Check {
        let is_free = self.free_from.is_none_or(|from| window.opens() >= from);
        Rule::TimeNeverRunsBack
            .require(is_free, || format!("{window} begins before {:?} has closed", self.last_ended))
    }

    /// Ends the window being filled at its opening, or when it is missed, and returns the window.
    fn end(&mut self, window: Window, Settings { length, .. }: Settings) -> Filling {
        let closes = length.closes(window);
        (self.last_ended, self.free_from) = (Some(window), Some(closes));
        let following = self.settings.length.first_from(closes);
        std::mem::replace(&mut self.next, Filling::new(Some(following), self.settings))
    }

    /// Applies a record of the journal. Returns a window that is missed, with its members.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<Option<(Window, Members)>, Broken> {
        let window = record.window();
        match record {
            Record::Open(opening) => return self.open(opening),
            Record::Missed(missing) => return self.miss(missing),
            Record::Register(_) | Record::Leave(_) => {}
        }
        let expected = self.next.window.unwrap_or(window);
        Rule::NextMinute.require(window == expected, || {
            format!("a record for {window} where {expected} is filled")
        })?;
        self.next.window = Some(window);
        match record {
            Record::Register(it) => {
                self.check_seq(it.id.as_ref(), it.seq, it.path.peer, it.at)?;
                self.next.register(it);
            }
            Record::Leave(it) => {
                self.check_seq(it.id.as_ref(), it.seq, it.path.peer, it.at)?;
                self.next.leave(it);
            }
            Record::Open(_) | Record::Missed(_) => unreachable!("handled above"),
        }
        Ok(None)
    }

    fn miss(&mut self, missing: &Missing) -> Result<Option<(Window, Members)>, Broken> {
        let Missing { window, at } = *missing;
        let rule = Rule::TimeNeverRunsBack;
        let filled = self.next.window;
        rule.require(filled == Some(window), || format!("{window} is missed, and not {filled:?}"))?;
        let settings = self.next.settings;
        let closes = settings.length.closes(window);
        rule.require(at >= closes, || format!("{window} is missed at {at}, before it closes"))?;
        Ok(Some((window, self.end(window, settings).members)))
    }

    fn open(&mut self, opening: &Opening) -> Result<Option<(Window, Members)>, Broken> {
        let (window, at) = (opening.window, opening.length.window_at(opening.at));
        let rule = Rule::TimeNeverRunsBack;
        let last = self.last_open;
        rule.require(last < Some(window), || format!("{window} opens after {last:?}"))?;
        rule.require(at == window, || format!("{window} opens outside its time, at {at}"))?;
        self.check_free(window)?;
        let passed = self.next.window.filter(|filled| *filled < window);
        let members = self.next.members.len();
        rule.require(passed.is_none() || members == 0, || {
            format!("{passed:?} is passed over without a word")
        })?;
        let settings = match self.next.window == Some(window) {
            true => self.next.settings,
            false => self.settings,
        };
        let cap = opening.cap.map_or(settings.cap, ListCap::peers);
        let opened_with = Settings { length: opening.length, cap };
        Rule::Frozen.require(opened_with == settings, || {
            format!("{window} began with {settings:?} and opens with {opened_with:?}")
        })?;
        self.last_open = Some(window);
        let filled = self.end(window, settings);
        self.current = match filled.window == Some(window) {
            true => filled,
            false => Filling::new(Some(window), settings),
        };
        Ok(None)
    }
}
