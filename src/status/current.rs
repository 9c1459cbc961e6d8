//! `/api/v1/window`: the current window's members by room, and the count of the next.

use std::sync::{Arc, Mutex, PoisonError};

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

/// Peers of a room that are shown unless `?limit=` says else, and at most.
const PEERS: usize = 200;
const MOST_PEERS: usize = 1000;

/// Peers of all rooms that one answer shows, and rooms.
const PEERS_IN_ALL: usize = 10_000;
const ROOMS: usize = 1000;

/// The rooms of the current window as most ask for them, written once a window.
#[derive(Default)]
pub(super) struct Current(Mutex<Option<(Window, Arc<RawValue>)>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    room: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Shown<'a> {
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
struct ShownRoom<'a> {
    room: &'a Room,
    members: usize,
    /// The first of them, by address.
    peers: Vec<Entry>,
}

/// Answers with the largest rooms first.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    match answer(&site, asked) {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

fn answer(site: &Site, asked: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let Query(asked) = asked?;
    let limit = asked.limit.unwrap_or(PEERS);
    if limit > MOST_PEERS {
        return Err(Problem::bad("bad_query", format!("limit: at most {MOST_PEERS}")));
    }
    let room: Option<Room> = match asked.room.map(|room| room.parse()).transpose() {
        Ok(room) => room,
        Err(why) => return Err(Problem::bad("bad_query", format!("room: {why}"))),
    };
    let snapshot = site.feed.snapshot();
    let (current, now) = (&snapshot.current, site.clock.now().wall);
    let rooms = match room {
        None if limit == PEERS => site.current.rooms(current)?,
        room => write_rooms(current, room.as_ref(), limit)?,
    };
    let opened = current.opened();
    let shown = Shown {
        at: now,
        window: opened.map(|_| current.window()),
        closes: opened.map(|_| current.closes()),
        opened,
        members: current.len(),
        room_count: current.rosters().len(),
        rooms: &rooms,
        next: Next::of(&snapshot, now),
    };
    Ok(reply::json(StatusCode::OK, &shown))
}

impl Current {
    fn rooms(&self, current: &FinalizedWindow) -> Result<Arc<RawValue>, Problem> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((window, rooms)) = &*kept
            && *window == current.window()
        {
            return Ok(rooms.clone());
        }
        let rooms = write_rooms(current, None, PEERS)?;
        *kept = Some((current.window(), rooms.clone()));
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
    let mut left = PEERS_IN_ALL;
    let rooms: Vec<ShownRoom<'_>> = rosters
        .into_iter()
        .take(ROOMS)
        .map(|roster| {
            let peers = peers(roster, limit.min(left));
            left -= peers.len();
            ShownRoom { room: roster.room(), members: roster.len(), peers }
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
