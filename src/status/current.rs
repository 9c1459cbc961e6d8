//! Answers `/api/v1/window`: the current window's members by room, and the next one's count.

use std::sync::{Arc, Mutex};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::archive::Entry;
use crate::proto::Room;
use crate::roster::{FinalizedWindow, Roster};
use crate::window::{Wall, Window};

use super::Site;
use super::feed::Next;
use super::reply::{self, Problem};

/// How many peers of a room a response has unless `?limit=` is given.
const DEFAULT_LIMIT: usize = 200;

/// The largest `?limit=` that is accepted.
const MAX_LIMIT: usize = 1000;

/// The most peers in a response, all rooms together.
const MAX_PEERS: usize = 10_000;

/// The most rooms in a response.
const MAX_ROOMS: usize = 1000;

/// A cache of the current window's rooms as JSON, with the default limit: made once a window.
#[derive(Default)]
pub(super) struct Current(Mutex<Option<(Window, Arc<RawValue>)>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    room: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct WindowBody<'a> {
    at: Wall,
    window: Option<Window>,
    closes: Option<Wall>,
    opened: Option<Wall>,
    members: usize,
    room_count: usize,
    rooms: &'a RawValue,
    next: Next,
}

#[derive(Serialize)]
struct RoomBody<'a> {
    room: &'a Room,
    members: usize,
    /// The room's first members, by address.
    peers: Vec<Entry>,
}

/// Answers `/api/v1/window` with the current window and its rooms, the largest first.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    match answer(&site, params) {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

fn answer(site: &Site, params: Result<Query<Params>, QueryRejection>) -> Result<Response, Problem> {
    let Query(params) = params?;
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if limit > MAX_LIMIT {
        return Err(Problem::bad("bad_query", format!("limit: at most {MAX_LIMIT}")));
    }
    let room: Option<Room> = match params.room.map(|room| room.parse()).transpose() {
        Ok(room) => room,
        Err(why) => return Err(Problem::bad("bad_query", format!("room: {why}"))),
    };
    let snapshot = site.feed.snapshot();
    let (current, now) = (&snapshot.current, site.clock.now().wall);
    let rooms = match room {
        None if limit == DEFAULT_LIMIT => site.current.rooms(current)?,
        room => write_rooms(current, room.as_ref(), limit)?,
    };
    let opened = current.opened();
    let body = WindowBody {
        at: now,
        window: opened.map(|_| current.window()),
        closes: opened.map(|_| current.closes()),
        opened,
        members: current.len(),
        room_count: current.rosters().len(),
        rooms: &rooms,
        next: Next::of(&snapshot, now),
    };
    Ok(reply::json(StatusCode::OK, &body))
}

impl Current {
    fn rooms(&self, current: &FinalizedWindow) -> Result<Arc<RawValue>, Problem> {
        let mut written = self.0.lock().expect("no holder of this lock panics");
        if let Some((window, rooms)) = &*written
            && *window == current.window()
        {
            return Ok(rooms.clone());
        }
        let rooms = write_rooms(current, None, DEFAULT_LIMIT)?;
        *written = Some((current.window(), rooms.clone()));
        Ok(rooms)
    }
}

fn write_rooms(
    current: &FinalizedWindow,
    room: Option<&Room>,
    limit: usize,
) -> Result<Arc<RawValue>, Problem> {
    let wanted = |roster: &&Roster| room.is_none_or(|room| room == roster.room());
    let mut rosters: Vec<&Roster> = current.rosters().iter().filter(wanted).collect();
    rosters.sort_by_key(|roster| std::cmp::Reverse(roster.len()));
    let mut left = MAX_PEERS;
    let rooms: Vec<RoomBody<'_>> = rosters
        .into_iter()
        .take(MAX_ROOMS)
        .map(|roster| {
            let peers = peers(roster, limit.min(left));
            left -= peers.len();
            RoomBody { room: roster.room(), members: roster.len(), peers }
        })
        .collect();
    let written = serde_json::value::to_raw_value(&rooms);
    written.map(Arc::from).map_err(|error| Problem::failed(error.to_string()))
}

fn peers(roster: &Roster, most: usize) -> Vec<Entry> {
    let members = roster.members().iter().take(most);
    let entry = members.map(|member| Entry {
        name: member.profile.name.clone(),
        addr: member.path.peer,
        registered: member.registered,
    });
    entry.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::mesh::ListCap;
    use crate::path::Path;
    use crate::proto::Profile;
    use crate::roster::Member;
    use crate::window::Length;

    /// Returns an open window with rooms of these names, each with so many members.
    fn window(rooms: &[(&str, u16)]) -> FinalizedWindow {
        let window = Length::MINUTE.window_at(Wall::from_millis(0));
        let mut next = crate::roster::NextWindow::new(window, Length::MINUTE, ListCap::default());
        for (room, (name, members)) in (1..).zip(rooms) {
            for port in 1..=*members {
                let path = Path::new(([10, 0, 0, room], port).into(), [10, 0, 0, 9].into());
                let profile = Profile { room: name.parse().unwrap(), ..Profile::default() };
                let registered = window.opens();
                next.register(Member { path, id: None, profile, registered, heard: 0 }, None);
            }
        }
        next.finalize(Some(window.opens()), &Secret::from_bytes([7; 32]))
    }

    /// Returns each room of a text with its count and the peers that are shown.
    fn shown(written: &RawValue) -> Vec<(String, u64, usize)> {
        let rooms: Vec<serde_json::Value> = serde_json::from_str(written.get()).unwrap();
        let shown = rooms.iter().map(|room| {
            let peers = room["peers"].as_array().unwrap().len();
            (room["room"].as_str().unwrap().to_owned(), room["members"].as_u64().unwrap(), peers)
        });
        shown.collect()
    }

    #[test]
    fn the_largest_rooms_come_first_and_all_members_are_counted() {
        let window = window(&[("a", 1), ("b", 5), ("c", 3)]);
        let all = write_rooms(&window, None, 2).unwrap();
        let expected = [("b", 5, 2), ("c", 3, 2), ("a", 1, 1)];
        assert_eq!(shown(&all), expected.map(|(room, all, shown)| (room.to_owned(), all, shown)));
        let one = write_rooms(&window, Some(&"c".parse().unwrap()), 9).unwrap();
        assert_eq!(shown(&one), [("c".to_owned(), 3, 3)]);
        assert_eq!(shown(&write_rooms(&window, Some(&"d".parse().unwrap()), 9).unwrap()), []);
    }

    #[test]
    fn rooms_are_written_once_a_window() {
        let (current, first) = (Current::default(), window(&[("a", 1)]));
        let written = current.rooms(&first).unwrap();
        assert!(Arc::ptr_eq(&written, &current.rooms(&first).unwrap()));
        let next = crate::roster::NextWindow::new(
            Length::MINUTE.window_at(first.closes()),
            Length::MINUTE,
            ListCap::default(),
        );
        let next = next.finalize(Some(first.closes()), &Secret::from_bytes([7; 32]));
        assert_eq!(shown(&current.rooms(&next).unwrap()), []);
    }
}
