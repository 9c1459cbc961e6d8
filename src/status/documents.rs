//! Answers `/api/v1/windows`: past windows, from documents on disk that two threads read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use crate::archive::{self, Archive, ReadError, Summary};
use crate::snapshot::{Past, Snapshot};
use crate::store::{Disk, ErrorContext};
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

/// The most bytes of a window in a list: with a time of 20 and three counts of 20.
const MAX_LISTED_BYTES: usize = 160;

/// The most bytes of documents that are read for one list. Windows beyond that are listed without
/// counts, until their own documents are requested.
const MAX_READ: u64 = 16 << 20;

/// The most bytes of a missed window's document that is counted when that window is asked for: what
/// takes long would hold up others, as a client that has disconnected is not always noticed.
const MAX_COUNTED: u64 = 1 << 20;

/// The most document summaries in the cache, which is emptied when it is full.
const MAX_CACHED: usize = 4096;

/// The most bytes of a document that are in memory at once, for each client that downloads it.
const CHUNK_BYTES: usize = 64 << 10;

/// The time in which a failure to read documents is logged once.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The most different failures that are logged in that time.
const MAX_LOGGED: usize = 16;

/// The documents on disk, and the two threads that read them: no more, to leave the machine to the
/// registry.
pub(super) struct Documents {
    reader: Reader,
    /// Counts documents, which can take long.
    summaries: Worker,
    /// Reads what is sent of documents, a chunk at a time.
    chunks: Worker,
    logged: Mutex<Logged>,
}

/// The failures that were logged lately: a client that asks again and again could fill the log.
#[derive(Default)]
struct Logged {
    since: Duration,
    failures: HashSet<String>,
}

impl Logged {
    /// Returns whether to log a failure: each one once in `LOG_INTERVAL`, and few different ones.
    fn is_due(&mut self, now: Duration, failure: &str) -> bool {
        if now >= self.since + LOG_INTERVAL {
            *self = Logged { since: now, failures: HashSet::new() };
        }
        self.failures.len() < MAX_LOGGED && self.failures.insert(failure.to_owned())
    }
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

/// The response for a missed window: how many members it had, unless they are very many, but not
/// who, as they never met.
#[derive(Serialize)]
struct Missed {
    window: Window,
    opened: Option<Wall>,
    missed: bool,
    members: Option<usize>,
    room_count: Option<usize>,
}

impl Documents {
    /// Starts the threads that read the documents in the folder `windows`.
    pub(super) fn new(windows: PathBuf) -> Result<Documents, ThreadError> {
        let archive = Arc::new(Archive::new(Disk, windows));
        let reader = Reader { archive, cache: Arc::default() };
        let (summaries, chunks) = (Worker::start("summaries")?, Worker::start("chunks")?);
        Ok(Documents { reader, summaries, chunks, logged: Mutex::default() })
    }

    async fn count<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader, &dyn Fn() -> bool) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadFailure> {
        let reader = self.reader.clone();
        let done = self.summaries.run(move |is_wanted| work(&reader, is_wanted)).await;
        done.ok_or(ReadFailure::Stopped)?.map_err(ReadFailure::Read)
    }

    async fn chunk(&self, window: Window, offset: u64) -> Result<Chunk, ReadFailure> {
        let archive = self.reader.archive.clone();
        let done = self.chunks.run(move |_| Chunk::read(&archive, window, offset)).await;
        done.ok_or(ReadFailure::Stopped)?.map_err(ReadFailure::Read)
    }
}

/// A part of a document that is sent.
struct Chunk {
    bytes: Bytes,
    /// The length of the document, and when its file was written: both stay if the file does.
    file: (u64, Option<SystemTime>),
}

impl Chunk {
    /// Reads a chunk at `offset`. The file is open meanwhile only: however many clients take the
    /// document slowly, they hold no files.
    fn read(archive: &Archive, window: Window, offset: u64) -> Result<Chunk, ReadError> {
        let (path, mut file) = archive.file(window)?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        let mut read = || {
            file.seek(SeekFrom::Start(offset))?;
            (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
            file.metadata()
        };
        let data = read().at("read", &path)?;
        Ok(Chunk { bytes: bytes.into(), file: (data.len(), data.modified().ok()) })
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

    fn summary(&self, window: Window, is_wanted: &dyn Fn() -> bool) -> Result<Summary, ReadError> {
        if let Some(summary) = self.cache().get(&window) {
            return Ok(summary.clone());
        }
        let summary = self.archive.summary(window, is_wanted)?;
        let mut cache = self.cache();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(window, summary.clone());
        Ok(summary)
    }

    /// Lists at most `most` windows before `next`, newest first: those of the snapshot, in `past`,
    /// and those on disk.
    fn list(
        &self,
        (most, next): (usize, Window),
        past: Vec<Listed>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Listed>, ReadError> {
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
                    let summary = self.summary(found.window, is_wanted);
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
    Extension(client): Extension<IpAddr>,
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
    let list = move |reader: &Reader, is_wanted: &dyn Fn() -> bool| {
        reader.list((most, next), past, is_wanted)
    };
    let windows = site.documents.count(list).await.map_err(|failure| failed(&site, failure))?;
    let most = windows.len() * MAX_LISTED_BYTES;
    let text = site.large.write(client, most, || reply::text(&List { windows }))?;
    Ok(reply::json_text(StatusCode::OK, [text, Bytes::from_static(b"\n")]))
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
    let told = |failure| match failure {
        ReadFailure::Read(ReadError::Missing { .. }) => none,
        failure => failed(&site, failure),
    };
    send(site.clone(), window).await.map_err(told)
}

/// Returns a document, or its counts if its window was missed.
async fn send(site: Arc<Site>, window: Window) -> Result<Response, ReadFailure> {
    let first = site.documents.chunk(window, 0).await?;
    let counted = match archive::head(window, &first.bytes) {
        Some(head) if head.opened.is_some() => return Ok(body(site, window, first)),
        Some(_) if first.file.0 > MAX_COUNTED => None,
        _ => {
            Some(site.documents.count(move |reader, wanted| reader.summary(window, wanted)).await?)
        }
    };
    let members = counted.as_ref().map(|summary| summary.members);
    let room_count = counted.as_ref().map(|summary| summary.rooms);
    match counted.and_then(|summary| summary.opened) {
        // Something else than this program began it in another way.
        Some(_) => Ok(body(site, window, first)),
        opened => {
            let missed = Missed { window, opened, missed: true, members, room_count };
            Ok(reply::json(StatusCode::OK, &missed))
        }
    }
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
            format!(
                "the document of {window} is not on disk yet: it is being written, or tried again"
            ),
        ),
        None => Problem::missing(
            "not_found",
            format!("no document of {window}: it had no members, or is older than what is kept"),
        ),
    }
}

fn failed(site: &Site, failure: ReadFailure) -> Problem {
    match failure {
        ReadFailure::Read(error) => {
            let error = error.to_string();
            let mut logged = site.documents.logged.lock().expect("no holder of this lock panics");
            if logged.is_due(site.clock.now().mono, &error) {
                // The error names folders of this machine: it is for the operator, not for clients.
                tracing::warn!("cannot show a window: {error}");
            }
            Problem::failed("the documents cannot be read; the registry's messages say why")
        }
        ReadFailure::Stopped => Problem::busy("stopping", "the registry is stopping"),
    }
}

/// Returns a response with a document as its body, each chunk of which is read when the one before
/// it was sent. If the file is replaced meanwhile, the response ends before its length.
fn body(site: Arc<Site>, window: Window, first: Chunk) -> Response {
    let file = first.file;
    let chunks = stream::try_unfold((0, Some(first)), move |(offset, chunk)| {
        let site = site.clone();
        async move {
            let chunk = match chunk {
                Some(first) => first,
                None => site.documents.chunk(window, offset).await.map_err(|_| cut())?,
            };
            let next = offset + chunk.bytes.len() as u64;
            match chunk.file == file {
                true => Ok::<_, io::Error>((next > offset).then_some((chunk.bytes, (next, None)))),
                false => Err(cut()),
            }
        }
    });
    let mut response = reply::json_body(StatusCode::OK, Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(file.0));
    response
}

fn cut() -> io::Error {
    io::Error::other("the document cannot be read on")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Length;
    use std::fs;
    use std::path::Path as FilePath;

    fn window(minute: i64) -> Window {
        Length::MINUTE.window_at(Wall::from_millis(minute * 60_000))
    }

    fn past(minute: i64, members: usize, late: Option<u64>) -> Past {
        let late = late.map(Duration::from_millis);
        Past { window: window(minute), members, rooms: 1, late }
    }

    /// Writes a document with `members`, and spaces up to its `length` in bytes.
    fn write(windows: &FilePath, minute: i64, members: usize, length: usize) {
        let dir = windows.join("1970-01-01");
        fs::create_dir_all(&dir).unwrap();
        let (window, closes) = (window(minute), window(minute + 1));
        let member = r#"{"addr":"127.0.0.1:4000","registered":"1970-01-01T00:00:01.000Z"}"#;
        let members = vec![member; members].join(",");
        let text = format!(
            r#"{{"window":"{window}","closes":"{closes}","opened":"{window}","rooms":{{"main":[{members}]}}}}"#
        );
        let path = dir.join(format!("00-{minute:02}.json"));
        let spaces = " ".repeat(length.saturating_sub(text.len()));
        fs::write(path, text + &spaces).unwrap();
    }

    fn reader() -> (tempfile::TempDir, Reader) {
        let home = tempfile::tempdir().unwrap();
        let archive = Arc::new(Archive::new(Disk, home.path().join("windows")));
        (home, Reader { archive, cache: Arc::default() })
    }

    #[test]
    fn no_window_of_a_list_is_longer_than_is_said_before_it_is_written() {
        let window = "9999-12-31T23:59:59Z".parse().unwrap();
        let (most, late_ms, missed) = (Some(usize::MAX), Some(u64::MAX), Some(false));
        let listed =
            Listed { window, members: most, rooms: most, late_ms, missed, document: false };
        let text = reply::text(&[listed]).unwrap();
        assert!(text.len() <= MAX_LISTED_BYTES, "{}", text.len());
    }

    #[test]
    fn a_list_joins_what_is_remembered_and_what_is_on_disk() {
        let (home, reader) = reader();
        for minute in [1, 2, 4] {
            write(&home.path().join("windows"), minute, 5, 0);
        }
        let started = Wall::from_millis(0);
        let past = [past(2, 3, Some(7)), past(3, 2, None)].map(|it| Listed::of(&it, started));
        let listed = reader.list((9, window(4)), past.into(), &|| true).unwrap();
        let all = listed.iter().map(|it| (it.window, it.members, it.missed, it.document));
        let expected = [
            (window(3), Some(2), Some(true), false),
            (window(2), Some(3), Some(false), true),
            (window(1), Some(5), Some(false), true),
        ];
        assert_eq!(all.collect::<Vec<_>>(), expected, "newest first, and none that is not open");
        assert_eq!(
            listed.iter().map(|it| it.late_ms).collect::<Vec<_>>(),
            [None, Some(7), Some(0)]
        );
        assert_eq!(reader.list((2, window(4)), Vec::new(), &|| true).unwrap().len(), 2);
    }

    #[test]
    fn a_list_counts_as_many_bytes_as_it_may_and_nothing_for_a_client_that_left() {
        let (home, reader) = reader();
        for (minute, length) in [(1, 0), (2, MAX_READ as usize), (3, 1000)] {
            write(&home.path().join("windows"), minute, 1, length);
        }
        let counted = |is_wanted: &dyn Fn() -> bool| {
            let listed = reader.list((9, window(9)), Vec::new(), is_wanted).unwrap();
            listed.iter().map(|it| it.members.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(counted(&|| false), [false; 3]);
        assert_eq!(counted(&|| true), [true, false, true], "the large one is too much");
        assert_eq!(reader.cache().len(), 2);
    }

    #[test]
    fn a_failure_is_logged_once_in_ten_seconds_and_few_are() {
        let mut logged = Logged::default();
        let mut is_due =
            |second, failure: &str| logged.is_due(Duration::from_secs(second), failure);
        assert_eq!([1, 2, 9].map(|second| is_due(second, "a")), [true, false, false]);
        assert!(is_due(9, "b") && is_due(10, "a"));
        let all = (0..100).filter(|it| is_due(11, &it.to_string())).count();
        assert_eq!(all, MAX_LOGGED - 1);
        assert!(is_due(20, "a"));
    }

    #[test]
    fn a_chunk_holds_what_follows_and_knows_its_file() {
        let (home, reader) = reader();
        let windows = home.path().join("windows");
        write(&windows, 1, 0, CHUNK_BYTES + 10);
        let read = |offset| Chunk::read(&reader.archive, window(1), offset as u64).unwrap();
        let (first, rest) = (read(0), read(CHUNK_BYTES));
        assert_eq!((first.bytes.len(), rest.bytes.len()), (CHUNK_BYTES, 10));
        assert!(first.file == rest.file && read(CHUNK_BYTES + 10).bytes.is_empty());
        write(&windows, 1, 1, CHUNK_BYTES + 11);
        assert!(read(0).file != first.file, "it was replaced");
    }

    #[test]
    fn why_there_is_no_document_is_told_as_far_as_it_is_known() {
        let mut snapshot = Snapshot::example();
        snapshot.remember(past(1, 0, Some(1)));
        snapshot.remember(past(2, 3, Some(1)));
        for (minute, word) in [(1, "no_members"), (2, "not_written"), (3, "not_found")] {
            assert!(
                format!("{:?}", no_document(&snapshot, window(minute))).contains(word),
                "{word}"
            );
        }
    }
}
