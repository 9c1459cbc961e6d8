//! What a registry answers, as datagrams.

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
use crate::window::Window;

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
            window_ms: self.config.length.millis(),
            you: path.peer,
            current,
        };
        Transmit { path, payload: registered.encode() }
    }

    fn closes_in_ms(&self, now: Now) -> u64 {
        now.wall.millis_to(self.current.closes())
    }

    /// A member's own list, or a page of the room's roster.
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

    /// PEERS as everyone is told it.
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

pub(super) fn left(path: Path, id: Option<Id>, seq: Option<u64>, window: Window) -> Transmit {
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

pub(super) fn unavailable(path: Path, seq: Option<u64>) -> Transmit {
    let refusal = Refusal {
        seq,
        code: Code::Unavailable,
        reason: "the registry cannot store this now: nothing is promised, try again".to_owned(),
        retry_in_ms: Some(REFUSAL_BACKOFF.as_millis() as u64),
    };
    Transmit { path, payload: refusal.encode() }
}

/// What whoever asked for a record is told that is certainly not in the journal; nobody asks for an
/// opening.
pub fn refused(record: &Record) -> Option<Transmit> {
    match record {
        Record::Register(registration) => Some(unavailable(registration.path, registration.seq)),
        Record::Leave(leaving) => Some(unavailable(leaving.path, leaving.seq)),
        Record::Open(_) => None,
    }
}

/// No room is left under a cap; there may be after the opening, which is so far away.
pub(super) fn full(path: Path, seq: Option<u64>, cap: Cap, opens_in: Duration) -> Transmit {
    let retry_in_ms = Some(opens_in.as_millis() as u64);
    let refusal = Refusal { seq, code: Code::Full, reason: cap.to_string(), retry_in_ms };
    Transmit { path, payload: refusal.encode() }
}
