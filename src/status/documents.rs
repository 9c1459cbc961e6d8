//! Answers `/api/v1/windows`: past windows, from documents on disk that two threads read.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::archive::{Archive, ReadError, Summary};
use crate::snapshot::{Past, Snapshot};
use crate::store::{self, Disk};
use crate::thread::ThreadError;
use crate::window::{Wall, Window};

use super::Site;
use super::lateness::lateness;
use super::reply::{self, Problem};
use super::worker::Worker;

/// How many windows a list has unless `?limit=` is given.
const DEFAULT_LIMIT: usize = 60;

/// The largest `?limit=` that is accepted.
const MAX_LIMIT: usize = 1000;

/// The most bytes of documents that are read for one list. Windows beyond that are listed without
/// counts, until their own documents are requested.
const MAX_READ: u64 = 16 << 20;

/// The most document summaries in the cache, which is emptied when it is full.
const MAX_CACHED: usize = 4096;

/// The most bytes of a document that are in memory at once, for each client that downloads it.
const CHUNK_BYTES: usize = 64 << 10;

/// The documents on disk, and the two threads that read them: no more, to leave the machine to the
/// registry.
pub(super) struct Documents {
    reader: Reader,
    summaries: Worker,
    chunks: Arc<Worker>,
    /// An eighth of the connections, each of which holds a second file meanwhile.
    downloads: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List {
    windows: Vec<Listed>,
}

/// A past window in the list; a field that is not known is `null`.
#[derive(Serialize)]
struct Listed {
    window: Window,
    members: Option<usize>,
    rooms: Option<usize>,
    late_ms: Option<u64>,
    missed: Option<bool>,
    /// Whether `/api/v1/windows/{window}` has this window's document.
    document: bool,
}

/// The response for a missed window: how many members it had, but not who, as they never met.
#[derive(Serialize)]
struct Missed {
    window: Window,
    opened: Option<Wall>,
    missed: bool,
    members: usize,
    room_count: usize,
}

impl Documents {
    /// Starts the threads that read the documents in the folder `windows` for `connections`.
    pub(super) fn new(windows: PathBuf, connections: usize) -> Result<Documents, ThreadError> {
        let archive = Arc::new(Archive::new(Disk, windows));
        let reader = Reader { archive, cache: Arc::default() };
        let (summaries, chunks) = (Worker::start("summaries")?, Worker::start("chunks")?);
        let downloads = Arc::new(Semaphore::new(connections / 8));
        Ok(Documents { reader, summaries, chunks: Arc::new(chunks), downloads })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let reader = self.reader.clone();
        let done = self.summaries.run(move || work(&reader)).await;
        done.ok_or(ReadFailure::Stopped)?.map_err(ReadFailure::Read)
    }
}

/// The reason why a document was not read.
enum ReadFailure {
    Read(ReadError),
    Stopped,
}

/// Reads documents, and caches their summaries: a document never changes.
#[derive(Clone)]
struct Reader {
    archive: Arc<Archive<Disk>>,
    cache: Arc<Mutex<HashMap<Window, Summary>>>,
}

impl Reader {
    fn cache(&self) -> MutexGuard<'_, HashMap<Window, Summary>> {
        self.cache.lock().expect("no holder of this lock panics")
    }

    fn summary(&self, window: Window) -> Result<Summary, ReadError> {
        if let Some(summary) = self.cache().get(&window) {
            return Ok(summary.clone());
        }
        let summary = self.archive.summary(window)?;
        let mut cache = self.cache();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(window, summary.clone());
        Ok(summary)
    }

    /// Lists at most `most` windows before `next`, newest first: those of the snapshot, in `past`,
    /// and those on disk.
    fn list(&self, most: usize, next: Window, past: Vec<Listed>) -> Result<Vec<Listed>, ReadError> {
        let mut windows: BTreeMap<Window, Listed> =
            past.into_iter().map(|listed| (listed.window, listed)).collect();
        let mut left = MAX_READ;
        for found in self.archive.newest(most, |window| window < next)? {
            let listed = windows.entry(found.window).or_insert_with(|| Listed::new(found.window));
            listed.document = true;
            if listed.members.is_none() {
                let size = found.path.metadata().map_or(0, |data| data.len());
                if self.cache().contains_key(&found.window) || size <= left {
                    left = left.saturating_sub(size);
                    // A damaged document fails the request for itself, not this list.
                    let summary = self.summary(found.window);
                    summary.into_iter().for_each(|summary| listed.count(&summary));
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

/// Answers `/api/v1/windows` with a list of past windows, newest first.
pub(super) async fn list(
    State(site): State<Arc<Site>>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Response, Problem> {
    let most = params?.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&most) {
        return Err(Problem::bad("bad_query", format!("limit: from 1 to {MAX_LIMIT}")));
    }
    let snapshot = site.feed.snapshot();
    let listed = |past| Listed::of(past, site.feed.started());
    let (next, past) = (snapshot.next, snapshot.past.iter().map(listed).collect());
    drop(snapshot);
    match site.documents.read(move |reader| reader.list(most, next, past)).await {
        Ok(windows) => Ok(reply::json(StatusCode::OK, &List { windows })),
        Err(failure) => Err(failed(failure)),
    }
}

/// Answers `/api/v1/windows/{window}` with the window's document, as it is on disk.
pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Path(window): Path<String>,
) -> Result<Response, Problem> {
    let window: Window = window.parse().map_err(|why| {
        Problem::bad("bad_window", format!("give a window like 2026-11-23T11:29:00Z: {why}"))
    })?;
    let snapshot = site.feed.snapshot();
    // Even if there were a document: nobody sees who is in a window before it opens.
    if window >= snapshot.next {
        let reason = format!("{window} is not open yet: nobody sees who is in before it opens");
        return Err(Problem::missing("not_open", reason));
    }
    let none = no_document(&snapshot, window);
    drop(snapshot);
    let summary = match site.documents.read(move |reader| reader.summary(window)).await {
        Ok(summary) => summary,
        Err(ReadFailure::Read(ReadError::Missing { .. })) => return Err(none),
        Err(failure) => return Err(failed(failure)),
    };
    if summary.opened.is_none() {
        let Summary { opened, members, rooms: room_count, .. } = summary;
        let missed = Missed { window, opened, missed: true, members, room_count };
        return Ok(reply::json(StatusCode::OK, &missed));
    }
    file_body(&site.documents, summary.path).await?.ok_or(none)
}

/// Returns the 404 for a window without a document, with the reason as far as it is known.
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
            // The error names folders of this machine: it is for the operator, not for clients.
            tracing::warn!("cannot show a window: {error}");
            Problem::failed("the documents cannot be read; the registry's messages say why")
        }
        ReadFailure::Stopped => Problem::busy("stopping", "the registry is stopping"),
    }
}

/// Returns a response with a file as its body, each chunk of which is read when the one before it
/// was sent; `None` if the file cannot be opened.
async fn file_body(documents: &Documents, path: PathBuf) -> Result<Option<Response>, Problem> {
    let Ok(permit) = documents.downloads.clone().try_acquire_owned() else {
        let reason = "as many documents are being read as there may be";
        return Err(Problem::busy("too_many_downloads", reason));
    };
    let worker = documents.chunks.clone();
    let open = move || {
        let file = store::open_regular(OpenOptions::new().read(true), &path).ok()?;
        let length = file.metadata().ok()?.len();
        Some((file, length))
    };
    let Some((file, length)) = worker.run(open).await.flatten() else { return Ok(None) };
    let chunks = stream::try_unfold((file, worker, permit), async |(file, worker, permit)| {
        let chunk = worker.run(move || next_chunk(file)).await;
        let chunk = chunk.ok_or_else(|| io::Error::other("the server is stopping"))??;
        Ok::<_, io::Error>(chunk.map(|(bytes, file)| (bytes, (file, worker, permit))))
    });
    let mut response = reply::json_text(StatusCode::OK, Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(Some(response))
}

fn next_chunk(mut file: File) -> io::Result<Option<(Bytes, File)>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let length = file.read(&mut chunk)?;
    chunk.truncate(length);
    Ok((length > 0).then(|| (Bytes::from(chunk), file)))
}
