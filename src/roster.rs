//! The members of a window: the next window while it fills, and the frozen rosters of one that has
//! opened.
//!
//! ```text
//!   register, leave ──▶ NextWindow ──freeze──▶ FinalizedWindow ── Arc ──▶ answers, fan-out, document
//!                       by id, by address    a Roster a room, ordered by address, rendered once
//! ```

mod census;
mod places;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use std::mem;
use std::net::SocketAddr;

use slab::Slab;

use crate::cookie::Secret;
use crate::mesh::{ListCap, Mesh};
use crate::path::Path;
use crate::proto::{Candidate, Id, Listing, Page, Pass, Profile, Room};
use crate::window::{Length, Wall, Window};

pub use census::Census;
use places::SlotsByAddr;

/// A `HashMap` for keys that clients choose: its hash is seeded anew in each process, so that
/// nobody can provoke collisions; faster than the standard library's.
pub type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// A client whose registration is in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's address, and the registry's address that the member sent to.
    pub path: Path,
    /// The secret id that the member registered with, if any.
    pub id: Option<Id>,
    /// The room, name and LAN address that the member registered with.
    pub profile: Profile,
    /// When the registry accepted the registration.
    pub registered: Wall,
    /// When the member last sent a REGISTER, in tenths of a second of the monotonic clock; 0 after
    /// a restart.
    pub heard: u32,
}

/// What the registry remembers of a client's id until the window that it registered for closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdEntry {
    /// The highest `seq` that the id sent; `None` if it never sent one.
    pub seq: Option<u64>,
    /// Whether the id is a member, has left or was displaced.
    pub state: IdState,
}

/// Whether a client's id is a member of the window, has left or was displaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdState {
    /// The id is a member, in this slot of the window.
    Member(Slot),
    /// The id withdrew with a LEAVE from this address.
    Left(Box<SocketAddr>),
    /// The address of the id, given here, was registered again with another id or none.
    Displaced(Box<SocketAddr>),
}

impl IdState {
    /// Returns the last address of an id that is out; `None` if the id is a member.
    fn departed_from(&self) -> Option<SocketAddr> {
        match self {
            IdState::Member(_) => None,
            IdState::Left(addr) | IdState::Displaced(addr) => Some(**addr),
        }
    }
}

/// The index of a member in its window's table of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    fn of(key: usize) -> Slot {
        Slot(u32::try_from(key).expect("a window has less than 2^32 members"))
    }

    fn key(self) -> usize {
        self.0 as usize
    }
}

/// The next window, which clients register for: its members still change.
#[derive(Debug)]
pub struct NextWindow {
    window: Window,
    length: Length,
    cap: ListCap,
    members: Slab<Member>,
    by_id: Map<Id, IdEntry>,
    by_addr: SlotsByAddr,
    census: Census,
}

impl NextWindow {
    /// Makes a window without members, whose own lists will have at most `cap` peers.
    pub fn new(window: Window, length: Length, cap: ListCap) -> NextWindow {
        NextWindow {
            window,
            length,
            cap,
            members: Slab::new(),
            by_id: Map::default(),
            by_addr: SlotsByAddr::default(),
            census: Census::default(),
        }
    }

    /// Returns which window this is.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Returns the length of the window.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Returns the most peers that an own list of the window will have.
    pub fn cap(&self) -> ListCap {
        self.cap
    }

    /// Returns the window with another cap of its own lists.
    pub fn with_cap(self, cap: ListCap) -> NextWindow {
        NextWindow { cap, ..self }
    }

    /// Returns the moment at which the window closes.
    pub fn closes(&self) -> Wall {
        self.length.closes(self.window)
    }

    /// Returns the number of members in all rooms.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the window has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns what is remembered of a client's id; `None` if the id is unknown.
    pub fn id_entry(&self, id: &Id) -> Option<&IdEntry> {
        self.by_id.get(id)
    }

    /// Returns all members, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|(_, member)| member)
    }

    /// Returns the member in a slot.
    pub fn member(&self, slot: Slot) -> &Member {
        &self.members[slot.key()]
    }

    /// Returns the member that registered from `addr`, if any.
    pub fn member_at(&self, addr: SocketAddr) -> Option<&Member> {
        let slot = self.by_addr.find(addr, |slot| self.member(slot).path.peer)?;
        Some(self.member(slot))
    }

    /// Returns the member that registered with `id`, if any.
    pub fn find(&self, id: &Id) -> Option<&Member> {
        Some(self.member(self.slot_of(id)?))
    }

    fn slot_of(&self, id: &Id) -> Option<Slot> {
        match self.by_id.get(id)?.state {
            IdState::Member(slot) => Some(slot),
            _ => None,
        }
    }

    /// Returns the counts of members that the caps are checked against.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Returns the counts of members, to count registrations that are on their way to the journal.
    pub fn census_mut(&mut self) -> &mut Census {
        &mut self.census
    }

    /// Returns the number of ids that are remembered, of members and of those that are out.
    pub fn ids(&self) -> usize {
        self.by_id.len()
    }

    /// Adds a member. Of one id, and of one address, only the latest registration is kept.
    pub fn register(&mut self, member: Member, seq: Option<u64>) {
        let own = member.id.as_ref().and_then(|id| self.slot_of(id));
        match own.map(|slot| (slot, self.member(slot).path.peer)) {
            Some((slot, addr)) if addr == member.path.peer => return self.renew(slot, member, seq),
            Some((_, elsewhere)) => drop(self.remove_at(elsewhere)),
            None => {}
        }
        self.take_in(member, seq);
    }

    /// Replaces a member that registered again with the same id from the same address.
    fn renew(&mut self, slot: Slot, member: Member, seq: Option<u64>) {
        if let Some(entry) = member.id.as_ref().and_then(|id| self.by_id.get_mut(id)) {
            entry.seq = entry.seq.max(seq);
        }
        let own = &mut self.members[slot.key()];
        let before = mem::replace(own, member);
        self.census.change_room(&before.profile.room, &own.profile.room);
    }

    fn take_in(&mut self, member: Member, seq: Option<u64>) {
        let (id, addr) = (member.id.clone(), member.path.peer);
        self.census.add(addr, &member.profile.room);
        let slot = Slot::of(self.members.insert(member));
        let at = |slot: Slot| self.members[slot.key()].path.peer;
        if let Some(before) = self.by_addr.insert(addr, slot, at) {
            self.displace(before);
        }
        if let Some(id) = id {
            self.remember(id, seq, IdState::Member(slot));
        }
    }

    /// Removes a member. Its id stays known, so that older copies of its requests are ignored.
    /// Without an id, removes the member at `addr` if that has no id either.
    pub fn leave(&mut self, id: Option<Id>, addr: SocketAddr, seq: Option<u64>) {
        match id {
            Some(id) => {
                self.remove_id(&id);
                self.remember(id, seq, IdState::Left(Box::new(addr)));
            }
            None if self.member_at(addr).is_some_and(|member| member.id.is_none()) => {
                self.remove_at(addr);
            }
            None => {}
        }
    }

    /// Notes that the member at `addr` sent a request, `at` tenths of a second of the monotonic
    /// clock.
    pub fn note_heard(&mut self, addr: SocketAddr, at: u32) {
        if let Some(slot) = self.by_addr.find(addr, |slot| self.member(slot).path.peer) {
            self.members[slot.key()].heard = at;
        }
    }

    fn remember(&mut self, id: Id, seq: Option<u64>, state: IdState) {
        if let Some(addr) = state.departed_from() {
            self.census.add_departed(addr);
        }
        let before = match self.by_id.entry(id) {
            Entry::Occupied(known) => {
                let entry = known.into_mut();
                entry.seq = entry.seq.max(seq);
                mem::replace(&mut entry.state, state)
            }
            Entry::Vacant(place) => {
                place.insert(IdEntry { seq, state });
                return;
            }
        };
        if let Some(addr) = before.departed_from() {
            self.census.remove_departed(addr);
        }
    }

    /// Removes the member in `slot`, whose address has just been registered again.
    fn displace(&mut self, slot: Slot) {
        let Member { id, path, .. } = self.remove(slot);
        if let Some(id) = id {
            self.remember(id, None, IdState::Displaced(Box::new(path.peer)));
        }
    }

    fn remove_id(&mut self, id: &Id) {
        if let Some(slot) = self.slot_of(id) {
            self.remove_at(self.members[slot.key()].path.peer);
        }
    }

    fn remove_at(&mut self, addr: SocketAddr) -> Option<Member> {
        let at = |slot: Slot| self.members[slot.key()].path.peer;
        self.by_addr.remove(addr, at).map(|slot| self.remove(slot))
    }

    fn remove(&mut self, slot: Slot) -> Member {
        let member = self.members.remove(slot.key());
        self.census.remove(member.path.peer, &member.profile.room);
        member
    }

    /// Ends the registrations and builds the rosters, which never change. `opened` is when the
    /// window opened, or `None` if it was missed.
    pub fn finalize(mut self, opened: Option<Wall>, secret: &Secret) -> FinalizedWindow {
        let NextWindow { window, length, cap, .. } = self;
        let slots = self.members.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
        let mut places = vec![Place::default(); slots];
        let mut rosters = Vec::with_capacity(self.census.rooms());
        for (room, order) in self.in_order() {
            let roster = rosters.len() as u32;
            let members = (0..).zip(order).map(|(member, (_, slot))| {
                places[slot] = Place { roster, member };
                self.members.remove(slot)
            });
            rosters.push(Roster::new(window, room, members.collect(), secret, cap));
        }
        FinalizedWindow {
            window,
            length,
            opened,
            rosters,
            places,
            by_id: self.by_id,
            by_addr: self.by_addr,
        }
    }

    /// Returns the address and slot of each member, by room, ordered by address. Sorting these is
    /// cheaper than sorting the members.
    fn in_order(&self) -> BTreeMap<Room, Vec<(SocketAddr, usize)>> {
        let mut rooms: BTreeMap<Room, Vec<_>> = BTreeMap::new();
        for (slot, Member { profile, path, .. }) in &self.members {
            let room = &profile.room;
            match rooms.get_mut(room) {
                Some(order) => order.push((path.peer, slot)),
                None => drop(rooms.insert(room.clone(), vec![(path.peer, slot)])),
            }
        }
        rooms.values_mut().for_each(|order| order.sort_unstable());
        rooms
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    roster: u32,
    member: u32,
}

/// The counts of a window whose registrations have ended, without its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The window itself, by its start.
    pub window: Window,
    /// When the window opened; `None` if it was missed.
    pub opened: Option<Wall>,
    /// The number of members in all rooms.
    pub members: usize,
    /// The number of rooms that had members.
    pub rooms: usize,
}

/// A window whose registrations have ended: its rosters never change.
#[derive(Debug)]
pub struct FinalizedWindow {
    window: Window,
    length: Length,
    opened: Option<Wall>,
    /// A roster for each room with members, ordered by room.
    rosters: Vec<Roster>,
    /// The roster of each member and its number there, by slot.
    places: Vec<Place>,
    by_id: Map<Id, IdEntry>,
    by_addr: SlotsByAddr,
}

impl FinalizedWindow {
    /// Returns the counts of the window.
    pub fn ended(&self) -> Ended {
        let FinalizedWindow { window, opened, .. } = *self;
        Ended { window, opened, members: self.len(), rooms: self.rosters.len() }
    }

    /// Returns which window this is.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Returns the length of the window.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Returns when the window opened; `None` if it was missed.
    pub fn opened(&self) -> Option<Wall> {
        self.opened
    }

    /// Returns the moment at which the window closes.
    pub fn closes(&self) -> Wall {
        self.length.closes(self.window)
    }

    /// Returns the roster of each room that has members, ordered by room.
    pub fn rosters(&self) -> &[Roster] {
        &self.rosters
    }

    /// Returns the number of members in all rooms.
    pub fn len(&self) -> usize {
        self.rosters.iter().map(Roster::len).sum()
    }

    /// Returns whether the window has no members.
    pub fn is_empty(&self) -> bool {
        self.rosters.is_empty()
    }

    /// Returns what is remembered of a client's id; `None` if the id is unknown.
    pub fn id_entry(&self, id: &Id) -> Option<&IdEntry> {
        self.by_id.get(id)
    }

    /// Returns the roster of the member in `slot`, and the member's index there.
    pub fn member(&self, slot: Slot) -> (&Roster, usize) {
        let place = self.places[slot.key()];
        (&self.rosters[place.roster as usize], place.member as usize)
    }

    /// Returns the member in `slot`.
    pub fn member_in(&self, slot: Slot) -> &Member {
        let (roster, member) = self.member(slot);
        &roster.members[member]
    }

    /// Returns the roster of the member with `id`, if any, and the member's index there.
    pub fn find(&self, id: &Id) -> Option<(&Roster, usize)> {
        match self.by_id.get(id)?.state {
            IdState::Member(slot) => Some(self.member(slot)),
            _ => None,
        }
    }

    /// Returns the roster of the member at `addr`, if any, and the member's index there.
    pub fn find_at(&self, addr: SocketAddr) -> Option<(&Roster, usize)> {
        let slot = self.by_addr.find(addr, |slot| self.member_in(slot).path.peer)?;
        Some(self.member(slot))
    }

    /// Returns page `part` of the list of a room's members that everyone may see, or `None` if
    /// there is no such page. A room without members has one empty page.
    pub fn page(&self, room: &Room, part: u32) -> Option<Page<'_>> {
        match self.rosters.binary_search_by(|roster| roster.room.cmp(room)) {
            Ok(place) => self.rosters[place].page(part),
            Err(_) if part == 0 => Some(Page { part, parts: 1, count: 0, peers: "" }),
            Err(_) => None,
        }
    }
}

/// All members of one room in one window, ordered by address.
#[derive(Debug)]
pub struct Roster {
    room: Room,
    pass: Pass,
    members: Vec<Member>,
    listing: Listing,
    /// The listing with the LAN addresses of members; `None` if no member gave one.
    candidates: Option<Listing>,
    mesh: Mesh,
}

impl Roster {
    fn new(
        window: Window,
        room: Room,
        members: Vec<Member>,
        secret: &Secret,
        cap: ListCap,
    ) -> Roster {
        let bare = |member: &Member| Candidate { addr: member.path.peer, lan: None };
        let full = |member: &Member| Candidate { addr: member.path.peer, lan: member.profile.lan };
        let any_lan = members.iter().any(|member| member.profile.lan.is_some());
        let pass = secret.pass(window.to_bytes(), room.as_str());
        Roster {
            pass: pass.parse().expect("a pass is 22 characters of base64url"),
            listing: Listing::render(members.iter().map(bare)),
            candidates: any_lan.then(|| Listing::render(members.iter().map(full))),
            mesh: Mesh::new(members.len(), cap, secret.seed(window.to_bytes(), room.as_str())),
            room,
            members,
        }
    }

    /// Returns the room that the roster is of.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Returns the pass, by which the members of the room recognize each other.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Returns the members of the room, in the order in which they are listed.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the number of members of the room.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the room has no members, which no roster of a finalized window has.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns page `part` of the list that everyone may see, or `None` if there is no such page.
    pub fn page(&self, part: u32) -> Option<Page<'_>> {
        self.listing.page(part, self.len())
    }

    /// Returns the list that a member is sent: the whole roster, or its share of a larger one.
    pub fn own_list(&self, member: usize) -> Cow<'_, Listing> {
        let listing = self.candidates.as_ref().unwrap_or(&self.listing);
        if self.mesh.is_full() {
            Cow::Borrowed(listing)
        } else {
            Cow::Owned(listing.select(&self.mesh.peers_of(member)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        "2026-11-23T11:29:00Z".parse().unwrap()
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn member(id: &str, port: u16) -> Member {
        Member {
            path: Path::new(addr(port), addr(port).ip()),
            id: (!id.is_empty()).then(|| id.parse().unwrap()),
            profile: Profile::default(),
            registered: Wall::from_millis(i64::from(port)),
            heard: 0,
        }
    }

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    fn finalize(filling: NextWindow) -> FinalizedWindow {
        filling.finalize(Some(window().opens()), &Secret::from_bytes([7; 32]))
    }

    fn ports(roster: &Roster) -> Vec<u16> {
        roster.members().iter().map(|member| member.path.peer.port()).collect()
    }

    #[test]
    fn a_roster_is_ordered_by_address() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        for port in [30, 9, 200] {
            filling.register(member("", port), Some(0));
        }
        let frozen = finalize(filling);
        assert_eq!(ports(&frozen.rosters()[0]), [9, 30, 200]);
        let page = frozen.page(&Room::default(), 0).unwrap();
        assert_eq!(page.peers, r#""10.0.0.1:9","10.0.0.1:30","10.0.0.1:200""#);
        assert_eq!((page.parts, page.count), (1, 3));
    }

    #[test]
    fn an_id_that_moves_has_one_address() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        filling.register(member("a", 1), Some(1));
        filling.register(member("a", 2), Some(2));
        let frozen = finalize(filling);
        assert_eq!(ports(&frozen.rosters()[0]), [2]);
        assert!(frozen.find_at(addr(1)).is_none());
    }

    #[test]
    fn an_address_that_is_taken_over_has_one_member() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        filling.register(member("a", 1), Some(5));
        filling.register(member("b", 1), Some(1));
        let entry = filling.id_entry(&id("a")).unwrap();
        assert_eq!(entry.seq, Some(5));
        assert!(matches!(entry.state, IdState::Displaced(_)));
        let frozen = finalize(filling);
        assert_eq!(frozen.len(), 1);
        assert!(frozen.find(&id("a")).is_none());
        let (roster, member) = frozen.find(&id("b")).unwrap();
        assert_eq!(roster.members()[member].id, Some(id("b")));
    }

    #[test]
    fn swapped_addresses_leave_no_ghost() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        filling.register(member("a", 1), Some(1));
        filling.register(member("b", 2), Some(1));
        filling.register(member("a", 2), Some(2));
        assert_eq!(filling.len(), 1);
        filling.register(member("b", 1), Some(2));
        assert_eq!(filling.len(), 2);
        assert_eq!(ports(&finalize(filling).rosters()[0]), [1, 2]);
    }

    #[test]
    fn who_left_is_remembered_and_not_in() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        filling.register(member("a", 1), Some(1));
        filling.leave(Some(id("a")), addr(1), Some(2));
        filling.leave(Some(id("ghost")), addr(3), Some(9));
        assert!(filling.is_empty());
        assert_eq!(filling.id_entry(&id("a")).unwrap().seq, Some(2));
        assert_eq!(filling.id_entry(&id("ghost")).unwrap().seq, Some(9));
        assert!(finalize(filling).rosters().is_empty());
    }

    #[test]
    fn without_an_id_only_its_own_kind_leaves_by_address() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        filling.register(member("a", 1), Some(1));
        filling.register(member("", 2), Some(1));
        filling.leave(None, addr(1), Some(0));
        filling.leave(None, addr(2), Some(0));
        assert_eq!(ports(&finalize(filling).rosters()[0]), [1]);
    }

    #[test]
    fn rooms_are_apart_and_empty_ones_have_a_page() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        let room: Room = "sala".parse().unwrap();
        filling.register(member("a", 1), Some(1));
        let profile = Profile { room: room.clone(), ..Profile::default() };
        filling.register(Member { profile, ..member("b", 2) }, Some(1));
        let frozen = finalize(filling);
        assert_eq!(frozen.page(&room, 0).unwrap().peers, r#""10.0.0.1:2""#);
        assert_eq!(frozen.page(&room, 1), None);
        let nobody: Room = "nobody".parse().unwrap();
        assert_eq!(frozen.page(&nobody, 0), Some(Page { part: 0, parts: 1, count: 0, peers: "" }));
        assert_eq!(frozen.page(&nobody, 1), None);
        assert_ne!(frozen.rosters()[0].pass(), frozen.rosters()[1].pass());
    }

    #[test]
    fn only_own_lists_have_second_candidates() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        let lan = Some("192.168.1.7:40".parse().unwrap());
        let profile = Profile { lan, ..Profile::default() };
        filling.register(Member { profile, ..member("a", 1) }, Some(1));
        filling.register(member("b", 2), Some(1));
        let frozen = finalize(filling);
        let roster = &frozen.rosters()[0];
        assert_eq!(roster.page(0).unwrap().peers, r#""10.0.0.1:1","10.0.0.1:2""#);
        let own = roster.own_list(1);
        assert_eq!(own.page(0, 2).unwrap().peers, r#""10.0.0.1:1 192.168.1.7:40","10.0.0.1:2""#);
    }

    #[test]
    fn a_share_of_a_larger_room_is_without_oneself() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(4));
        for port in 1..=20 {
            filling.register(member("", port), Some(0));
        }
        let frozen = finalize(filling);
        let roster = &frozen.rosters()[0];
        for (member, own) in roster.members().iter().enumerate() {
            let list = roster.own_list(member).page(0, roster.len()).unwrap().candidates().unwrap();
            assert_eq!(list.len(), 4);
            assert!(list.iter().all(|peer| peer.addr != own.path.peer));
        }
    }
}
