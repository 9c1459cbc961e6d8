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
