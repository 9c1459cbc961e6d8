//! Answers `/api/v1/window`: the current window's members by room, and the next one's count.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::archive::Entry;
use crate::proto::Room;
use crate::roster::{FinalizedWindow, Roster};
use crate::window::{Wall, Window};

use super::Site;
use super::feed::Next;
use super::reply::{self, LargeTexts, Problem};

/// How many peers of a room a response has unless `?limit=` is given.
const DEFAULT_LIMIT: usize = 200;

/// The largest `?limit=` that is accepted.
const MAX_LIMIT: usize = 1000;

/// The most peers in a response, all rooms together.
const MAX_PEERS: usize = 10_000;

/// The most rooms in a response.
const MAX_ROOMS: usize = 1000;

/// The most bytes of a peer in a response: a name of 64, an address of 58, a time of 24, and the keys.
const MAX_PEER_BYTES: usize = 192;

/// The most bytes of a room in a response, without its peers: a name of 32, a count of 20, and the keys.
const MAX_ROOM_BYTES: usize = 96;

/// A cache of the current window's rooms as JSON, with the default limit: made once a window, and
/// shared by all who read it.
pub(super) struct Current {
    written: Mutex<Option<(Window, Bytes)>>,
    /// Limits the texts of former windows that are still being read.
    texts: LargeTexts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    room: Option<String>,
    limit: Option<usize>,
}

/// The response's fields but for the rooms, which follow.
#[derive(Serialize)]
struct WindowBody {
    at: Wall,
    window: Option<Window>,
    closes: Option<Wall>,
    opened: Option<Wall>,
    members: usize,
    room_count: usize,
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
    Extension(client): Extension<IpAddr>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    match answer(&site, client, params) {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

fn answer(
    site: &Site,
    client: IpAddr,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Problem> {
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
        room => write(&site.large, client, current, room.as_ref(), limit)?,
    };
    let opened = current.opened();
    let body = WindowBody {
        at: now,
        window: opened.map(|_| current.window()),
        closes: opened.map(|_| current.closes()),
        opened,
        members: current.len(),
        room_count: current.rosters().len(),
        next: Next::of(&snapshot, now),
    };
    respond(reply::text(&body)?, rooms)
}

/// Returns a response with `fields`, a JSON object, and the rooms as its last field.
fn respond(mut fields: Vec<u8>, rooms: Bytes) -> Result<Response, Problem> {
    fields.pop();
    fields.extend_from_slice(br#","rooms":"#);
    let pieces = [fields.into(), rooms, Bytes::from_static(b"}\n")];
    Ok(reply::json_text(StatusCode::OK, pieces))
}

impl Current {
    /// Creates the cache, with a limit for its texts.
    pub(super) fn new(texts: LargeTexts) -> Current {
        Current { written: Mutex::new(None), texts }
    }

    fn rooms(&self, current: &FinalizedWindow) -> Result<Bytes, Problem> {
        let mut written = self.written.lock().expect("no holder of this lock panics");
        if let Some((window, rooms)) = &*written
            && *window == current.window()
        {
            return Ok(rooms.clone());
        }
        let rooms = write(&self.texts, reply::ALL, current, None, DEFAULT_LIMIT)?;
        *written = Some((current.window(), rooms.clone()));
        Ok(rooms)
    }
}

/// Writes the rooms that a response shows, if there is a place for so large a text.
fn write(
    texts: &LargeTexts,
    client: IpAddr,
    current: &FinalizedWindow,
    room: Option<&Room>,
    limit: usize,
) -> Result<Bytes, Problem> {
    let most = most_bytes(current, room, limit);
    texts.write(client, most, || write_rooms(current, room, limit))
}

/// Returns how many bytes the rooms that a response shows have at most.
fn most_bytes(current: &FinalizedWindow, room: Option<&Room>, limit: usize) -> usize {
    let wanted =
        current.rosters().iter().filter(|roster| room.is_none_or(|it| it == roster.room()));
    let shown = wanted.map(|roster| roster.len().min(limit));
    let (rooms, peers) = shown.fold((0, 0), |(rooms, peers), shown| (rooms + 1, peers + shown));
    2 + rooms.min(MAX_ROOMS) * MAX_ROOM_BYTES + peers.min(MAX_PEERS) * MAX_PEER_BYTES
}

fn write_rooms(
    current: &FinalizedWindow,
    room: Option<&Room>,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
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
    reply::text(&rooms)
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
    use futures_util::StreamExt;

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
    fn shown(written: &[u8]) -> Vec<(String, u64, usize)> {
        let rooms: Vec<serde_json::Value> = serde_json::from_slice(written).unwrap();
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
    fn no_text_is_longer_than_is_said_before_it_is_written() {
        let opens = Length::MINUTE.window_at(Wall::from_millis(0));
        let mut next = crate::roster::NextWindow::new(opens, Length::MINUTE, ListCap::default());
        for (room, port) in (0..40_u16).map(|member| (member % 7, 65_535 - member)) {
            let mut ip = std::net::Ipv6Addr::from([255; 16]).segments();
            ip[0] = 0xfe80;
            let peer = std::net::SocketAddrV6::new(ip.into(), port, 0, u32::MAX);
            let path = Path::new(peer.into(), peer.ip().to_owned().into());
            let (name, room) =
                ("n".repeat(64).parse().unwrap(), format!("{}{room}", "r".repeat(31)));
            let profile = Profile { name: Some(name), room: room.parse().unwrap(), lan: None };
            let registered = "9999-12-31T23:59:59.999Z".parse().unwrap();
            next.register(Member { path, id: None, profile, registered, heard: 0 }, None);
        }
        let window = next.finalize(Some(opens.opens()), &Secret::from_bytes([7; 32]));
        for (limit, room) in
            [0, 1, 3, 1000].into_iter().flat_map(|limit| [(limit, false), (limit, true)])
        {
            let room = room.then(|| window.rosters()[0].room());
            let text = write_rooms(&window, room, limit).unwrap();
            assert!(text.len() <= most_bytes(&window, room, limit), "{limit}: {}", text.len());
        }
    }

    #[tokio::test]
    async fn rooms_are_written_once_a_window_and_all_responses_share_them() {
        let texts = LargeTexts::shared(super::super::Refusals::new());
        let (current, first) = (Current::new(texts), window(&[("a", 1)]));
        let written = current.rooms(&first).unwrap();
        for _ in 0..2 {
            let rooms = current.rooms(&first).unwrap();
            let response = respond(br#"{"members":1}"#.to_vec(), rooms).unwrap();
            let sent: Vec<Bytes> =
                response.into_body().into_data_stream().map(Result::unwrap).collect().await;
            assert!(sent.iter().any(|piece| piece.as_ptr() == written.as_ptr()), "not a copy");
            let whole: serde_json::Value = serde_json::from_slice(&sent.concat()).unwrap();
            assert_eq!((&whole["members"], &whole["rooms"][0]["room"]), (&1.into(), &"a".into()));
        }
        let next = crate::roster::NextWindow::new(
            Length::MINUTE.window_at(first.closes()),
            Length::MINUTE,
            ListCap::default(),
        );
        let next = next.finalize(Some(first.closes()), &Secret::from_bytes([7; 32]));
        assert_eq!(shown(&current.rooms(&next).unwrap()), []);
    }
}
