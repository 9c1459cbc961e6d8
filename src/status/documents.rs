//! `/api/v1/windows`: the windows that were, from the disk; read beside, a few at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task;

use crate::archive::{Archive, ReadError, Summary};
use crate::snapshot::{Past, Snapshot};
use crate::store::Disk;
use crate::window::{Wall, Window};

use super::Site;
use super::lateness::lateness;
use super::reply::{self, Problem};

/// Windows that are listed unless `?limit=` says else, and at most.
const LISTED: usize = 60;
const MOST_LISTED: usize = 1000;

/// Documents that are looked through at once: their readers share the machine with the registry.
const AT_ONCE: usize = 1;

/// What one list may look through; what is over has no count until it is asked for by itself.
const LOOKED_THROUGH: u64 = 16 << 20;

/// How many documents' numbers are remembered.
const REMEMBERED: usize = 4096;

/// What of a document is in memory at once, for each who reads it.
const CHUNK: usize = 64 << 10;

/// The documents, and what is known of them.
pub(super) struct Documents {
    archive: Arc<Archive<Disk>>,
    known: Arc<Mutex<HashMap<Window, Summary>>>,
    turns: Semaphore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List {
    windows: Vec<Listed>,
}

/// A window that was. What is not known is `null`.
#[derive(Serialize)]
struct Listed {
    window: Window,
    members: Option<usize>,
    rooms: Option<usize>,
    late_ms: Option<u64>,
    missed: Option<bool>,
    /// Whether `/api/v1/windows/{window}` has it.
    document: bool,
}

/// Of a missed window, the count alone: its members never met.
#[derive(Serialize)]
struct Missed {
    window: Window,
    opened: Option<Wall>,
    missed: bool,
    members: usize,
    room_count: usize,
}

impl Documents {
    pub(super) fn new(windows: PathBuf) -> Documents {
        Documents {
            archive: Arc::new(Archive::new(Disk, windows)),
            known: Arc::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Does `work` on a thread that may wait for the disk, when its turn comes.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let _turn = self.turns.acquire().await;
        let shelf = Shelf { archive: self.archive.clone(), known: self.known.clone() };
        match task::spawn_blocking(move || work(&shelf)).await {
            Ok(done) => done.map_err(ReadFailure::Read),
            Err(_) => Err(ReadFailure::Stopped),
        }
    }
}

enum ReadFailure {
    Read(ReadError),
    Stopped,
}

/// What a reader takes along.
struct Shelf {
    archive: Arc<Archive<Disk>>,
    known: Arc<Mutex<HashMap<Window, Summary>>>,
}

impl Shelf {
    fn known(&self, window: Window) -> Option<Summary> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&window).cloned()
    }

    /// A document never changes, and is looked through once.
    fn summary(&self, window: Window) -> Result<Summary, ReadError> {
        if let Some(known) = self.known(window) {
            return Ok(known);
        }
        let summary = self.archive.summary(window)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(window, summary.clone());
        Ok(summary)
    }

    /// The newest windows before `next`, newest first.
    fn list(&self, most: usize, next: Window, past: Vec<Listed>) -> Result<Vec<Listed>, ReadError> {
        let mut windows: BTreeMap<Window, Listed> =
            past.into_iter().map(|listed| (listed.window, listed)).collect();
        let mut left = LOOKED_THROUGH;
        for found in self.archive.newest(most, |window| window < next)? {
            let listed = windows.entry(found.window).or_insert_with(|| Listed::new(found.window));
            listed.document = true;
            if listed.members.is_none() {
                let size = found.path.metadata().map_or(0, |data| data.len());
                if self.known(found.window).is_some() || size <= left {
                    left = left.saturating_sub(size);
                    // A damaged document is told to who asks for it.
                    self.summary(found.window)
                        .into_iter()
                        .for_each(|summary| listed.count(&summary));
                }
            }
        }
        Ok(windows.into_values().rev().take(most).collect())
    }
}

impl Listed {
    fn new(window: Window) -> Listed {
        Listed { window, members: None, rooms: None, late_ms: None, missed: None, document: false }
    }

    fn of(past: &Past, started: Wall) -> Listed {
        Listed {
            members: Some(past.members),
            rooms: Some(past.rooms),
            late_ms: lateness(past, started).map(|late| late.as_millis() as u64),
            missed: Some(past.late.is_none()),
            ..Listed::new(past.window)
        }
    }

    fn count(&mut self, summary: &Summary) {
        (self.members, self.rooms) = (Some(summary.members), Some(summary.rooms));
        self.missed = Some(summary.opened.is_none());
        self.late_ms = summary.opened.map(|opened| self.window.opens().millis_to(opened));
    }
}

/// `/api/v1/windows`: a list, newest first.
pub(super) async fn list(
    State(site): State<Arc<Site>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let most = asked?.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&most) {
        return Err(Problem::bad("bad_query", format!("limit: from 1 to {MOST_LISTED}")));
    }
    let snapshot = site.feed.snapshot();
    let listed = |past| Listed::of(past, site.feed.started());
    let (next, past) = (snapshot.next, snapshot.past.iter().map(listed).collect());
    drop(snapshot);
    match site.documents.in_turn(move |shelf| shelf.list(most, next, past)).await {
        Ok(windows) => Ok(reply::json(StatusCode::OK, &List { windows })),
        Err(failure) => Err(failed(failure)),
    }
}

/// `/api/v1/windows/{window}`: its document, as it is on disk.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Path(window): Path<String>,
) -> Result<Response, Problem> {
    let window: Window = window.parse().map_err(|why| {
        Problem::bad("bad_window", format!("give a window like 2026-11-23T11:29:00Z: {why}"))
    })?;
    let snapshot = site.feed.snapshot();
    // Also if its file were there: nobody sees who is in a window before it opens.
    if window >= snapshot.next {
        let reason = format!("{window} is not open yet: nobody sees who is in before it opens");
        return Err(Problem::missing("not_open", reason));
    }
    let none = no_document(&snapshot, window);
    drop(snapshot);
    let summary = match site.documents.in_turn(move |shelf| shelf.summary(window)).await {
        Ok(summary) => summary,
        Err(ReadFailure::Read(ReadError::Missing { .. })) => return Err(none),
        Err(failure) => return Err(failed(failure)),
    };
    if summary.opened.is_none() {
        let Summary { opened, members, rooms: room_count, .. } = summary;
        let missed = Missed { window, opened, missed: true, members, room_count };
        return Ok(reply::json(StatusCode::OK, &missed));
    }
    whole(summary.path).await.ok_or(none)
}

/// RejectReason a window has none, as far as that is known.
fn no_document(snapshot: &Snapshot, window: Window) -> Problem {
    let past = snapshot.past.iter().find(|past| past.window == window);
    match past {
        Some(Past { members: 0, .. }) => {
            Problem::missing("no_members", format!("{window} had no members"))
        }
        Some(_) => Problem::missing(
            "not_written",
            format!("the document of {window} is being written; /api/v1/window has who is in now"),
        ),
        None => Problem::missing(
            "not_found",
            format!("no document of {window}: it had no members, or is older than what is kept"),
        ),
    }
}

fn failed(failure: ReadFailure) -> Problem {
    match failure {
        ReadFailure::Read(error) => {
            // It names folders of this machine: for who runs it, not for who asks.
            tracing::warn!("cannot show a window: {error}");
            Problem::failed("the documents cannot be read; the registry's messages say why")
        }
        ReadFailure::Stopped => Problem::busy("stopping", "the registry is stopping"),
    }
}

/// A file as a body: a piece is read when the one before it was taken.
async fn whole(path: PathBuf) -> Option<Response> {
    let open = move || {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        Some((file, length))
    };
    let (file, length) = task::spawn_blocking(open).await.ok()??;
    let pieces = stream::try_unfold(file, async |file| read_on(file).await);
    let mut response = reply::json_text(StatusCode::OK, Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Some(response)
}

async fn read_on(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let read = move || {
        let mut piece = vec![0; CHUNK];
        let length = file.read(&mut piece)?;
        piece.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(piece), file)))
    };
    task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}
