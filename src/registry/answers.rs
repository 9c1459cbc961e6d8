//! Makes the datagrams that a registry answers requests with.

use std::time::Duration;

use super::caps::Cap;
use super::{Handled, REFUSAL_BACKOFF, Registry};
use crate::clock::Now;
use crate::path::{Path, Transmit};
use crate::proto::{
    Code, Current, Id, Left, Listing, Page, Peers, Refusal, Registered, Request, Room,
};
use crate::record::{Record, Registration};
use crate::roster::Roster;
use crate::window::{Length, Window};

impl Registry {
    pub(super) fn answer_registration(&self, now: Now, registration: &Registration) -> Transmit {
        let Registration { window, path, id, seq, profile, .. } = registration;
        self.registered(now, *path, id.clone(), *seq, profile.room.clone(), *window)
    }

    pub(super) fn registered(
        &self,
        now: Now,
        path: Path,
        id: Option<Id>,
        seq: Option<u64>,
        room: Room,
        window: Window,
    ) -> Transmit {
        let page = self.current.page(&room, 0).expect("page 0 of any room is there");
        let current =
            Current { window: self.current.window(), closes_in_ms: self.closes_in_ms(now), page };
        let registered = Registered {
            id,
            seq,
            room,
            window,
            opens_in_ms: now.wall.millis_to(window.opens()),
            window_ms: self.length_of(window).millis(),
            you: path.peer,
            current,
        };
        Transmit { path, payload: registered.encode() }
    }

    /// Returns the length of a window that clients are told.
    fn length_of(&self, window: Window) -> Length {
        let filling = [Some(&self.next), self.after.as_ref()].into_iter().flatten();
        let mut lengths = filling.map(|filling| (filling.window(), filling.length()));
        let found = lengths.find(|(filling, _)| *filling == window);
        found.map_or(self.current.length(), |(_, length)| length)
    }

    fn closes_in_ms(&self, now: Now) -> u64 {
        now.wall.millis_to(self.current.closes())
    }

    /// Answers a QUERY: with a page of the member's own list if its id is one of a member of the
    /// current window, else with a page of the room's public list.
    pub(super) fn answer_query(
        &self,
        now: Now,
        path: Path,
        query: &Request,
        room: &Room,
        part: u32,
    ) -> Handled {
        match query.id.as_ref().and_then(|id| self.current.find(id)) {
            Some((roster, member)) => self.own_page(now, path, query, part, roster, member),
            None => self.public_page(now, path, query, room, part),
        }
    }

    fn own_page(
        &self,
        now: Now,
        path: Path,
        query: &Request,
        part: u32,
        roster: &Roster,
        member: usize,
    ) -> Handled {
        let own = roster.own_list(member);
        let Some(page) = Listing::page(&own, part, roster.len()) else {
            return no_such_part(path, query.seq, own.parts());
        };
        let you = Some(roster.members()[member].path.peer);
        let pass = Some(roster.pass().clone());
        let peers = Peers { you, pass, ..self.peers(now, query, roster.room(), page) };
        Handled::Answer(Transmit { path, payload: peers.encode() })
    }

    fn public_page(
        &self,
        now: Now,
        path: Path,
        query: &Request,
        room: &Room,
        part: u32,
    ) -> Handled {
        let Some(page) = self.current.page(room, part) else {
            let first = self.current.page(room, 0).expect("page 0 of any room is there");
            return no_such_part(path, query.seq, first.parts);
        };
        let payload = self.peers(now, query, room, page).encode();
        Handled::Answer(Transmit { path, payload })
    }

    /// Makes a PEERS datagram without what only members are sent (`you` and the pass).
    fn peers<'a>(&self, now: Now, query: &Request, room: &Room, page: Page<'a>) -> Peers<'a> {
        Peers {
            id: query.id.clone(),
            seq: query.seq,
            room: room.clone(),
            window: self.current.window(),
            closes_in_ms: self.closes_in_ms(now),
            you: None,
            pass: None,
            page,
        }
    }
}

pub(super) fn left_answer(
    path: Path,
    id: Option<Id>,
    seq: Option<u64>,
    window: Window,
) -> Transmit {
    Transmit { path, payload: Left { id, seq, window }.encode() }
}

fn no_such_part(path: Path, seq: Option<u64>, parts: u32) -> Handled {
    let reason = match parts {
        1 => "part must be 0: the list has one part".to_owned(),
        _ => format!("part must be from 0 to {}", parts - 1),
    };
    let refusal = Refusal { seq, code: Code::BadField, reason, retry_in_ms: None };
    Handled::Refused(Transmit { path, payload: refusal.encode() }, Code::BadField)
}

pub(super) fn unavailable_error(path: Path, seq: Option<u64>) -> Transmit {
    let refusal = Refusal {
        seq,
        code: Code::Unavailable,
        reason: "the registry cannot store this now: nothing is promised, try again".to_owned(),
        retry_in_ms: Some(REFUSAL_BACKOFF.as_millis() as u64),
    };
    Transmit { path, payload: refusal.encode() }
}

/// Makes the ERROR `unavailable` for the client whose record the journal refused; `None` for the
/// end of a window, which no client asked for.
pub fn unavailable_answer(record: &Record) -> Option<Transmit> {
    match record {
        Record::Register(registration) => {
            Some(unavailable_error(registration.path, registration.seq))
        }
        Record::Leave(leaving) => Some(unavailable_error(leaving.path, leaving.seq)),
        Record::Open(_) | Record::Missed(_) => None,
    }
}

/// Makes the ERROR `full` for a cap that is reached; the client may retry after the opening of the
/// window, in `opens_in`.
pub(super) fn full_error(path: Path, seq: Option<u64>, cap: Cap, opens_in: Duration) -> Transmit {
    let retry_in_ms = Some(opens_in.as_millis() as u64);
    let refusal = Refusal { seq, code: Code::Full, reason: cap.to_string(), retry_in_ms };
    Transmit { path, payload: refusal.encode() }
}
