//! One JSON document per window, for people: writing, listing, reading and pruning them.
//!
//! ```text
//! windows/
//!   2026-11-23/
//!     11-29.json
//!     11-30.json
//! ```
//!
//! The registry never rebuilds its state from documents: its state is in the journal. A document
//! exists as a whole or not at all, so that others can read it while a registry runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, Serializer};
use thiserror::Error;

use crate::proto::{Name, Room};
use crate::roster::{FinalizedWindow, Member, Roster};
use crate::store::{
    Disk, ErrorContext, Item, Kind, Store, StoreError, make_dir_durably, open_below, parent,
    remove_if_there, write_whole,
};
use crate::window::{Length, Wall, Window};

/// The shortest length of a window; documents of windows this short are named `11-29-00.json`.
const SECOND: Duration = Duration::from_secs(1);
/// The most bytes of a document before its rooms.
const MAX_HEAD_BYTES: usize = 256;

/// The length of a day in UTC.
const DAY: Duration = Duration::from_secs(86_400);

/// A window's JSON document: its members by room, each an `E`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document<E = Entry> {
    /// The window that the document is about.
    pub window: Window,
    /// The moment at which the window closed.
    #[serde(serialize_with = "whole_seconds")]
    pub closes: Wall,
    /// When the window opened; `None` if it was missed.
    pub opened: Option<Wall>,
    /// The members of each room.
    pub rooms: BTreeMap<Room, Vec<E>>,
}

/// One member of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name that the member registered with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The address that the member registered from.
    pub addr: SocketAddr,
    /// When the registry accepted the registration.
    pub registered: Wall,
}

impl Document {
    /// Makes the document of a window with these members: each room's in the order in which they
    /// registered.
    pub fn new<'a>(
        window: Window,
        closes: Wall,
        opened: Option<Wall>,
        members: impl Iterator<Item = &'a Member>,
    ) -> Document {
        let mut rooms: BTreeMap<Room, Vec<Entry>> = BTreeMap::new();
        for Member { profile, path, registered, .. } in members {
            let (name, addr, registered) = (profile.name.clone(), path.peer, *registered);
            let entry = Entry { name, addr, registered };
            match rooms.get_mut(&profile.room) {
                Some(room) => room.push(entry),
                None => drop(rooms.insert(profile.room.clone(), vec![entry])),
            }
        }
        let order = |entry: &Entry| (entry.registered, entry.addr);
        rooms.values_mut().for_each(|room| room.sort_unstable_by_key(order));
        Document { window, closes, opened, rooms }
    }
}

impl From<&FinalizedWindow> for Document {
    fn from(window: &FinalizedWindow) -> Document {
        let members = window.rosters().iter().flat_map(Roster::members);
        Document::new(window.window(), window.closes(), window.opened(), members)
    }
}

/// Writes a document as JSON, with a line break before each member.
struct MemberLines;

impl Formatter for MemberLines {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        out.write_all(if is_first { b"\n" } else { b",\n" })
    }
}

/// Serializes a moment that is a whole second, without its milliseconds.
pub(crate) fn whole_seconds<S: serde::Serializer>(
    moment: &Wall,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&moment.to_string().replace(".000Z", "Z"))
}

/// Why a document could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// An operation of the file system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The window had no members, or was pruned, or has not closed.
    #[error("no document of {window} in {}; a window without members has none", dir.display())]
    Missing {
        /// The window that was asked for.
        window: Window,
        /// The folder that its document would be in.
        dir: PathBuf,
    },
    /// The file was changed by something else than hit7.
    #[error("{} is not a document of its window ({why}); restore it, or remove it", path.display())]
    Damaged {
        /// The file of the document.
        path: PathBuf,
        /// What is wrong with its text.
        why: String,
    },
}

/// A document that exists in the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The window that the name of the file states.
    pub window: Window,
    /// The file that holds it.
    pub path: PathBuf,
}

/// The counts of one document, without its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// When the window opened; `None` if it was missed.
    pub opened: Option<Wall>,
    /// The number of members, in all rooms.
    pub members: usize,
    /// The number of rooms that had members.
    pub rooms: usize,
}

/// The folder with the documents of all windows.
#[derive(Clone, Debug)]
pub struct Archive<S = Disk> {
    store: S,
    dir: PathBuf,
}

impl<S: Store> Archive<S> {
    /// Makes an archive in the folder `dir`, which need not exist yet.
    pub fn new(store: S, dir: PathBuf) -> Archive<S> {
        Archive { store, dir }
    }

    /// Writes `document`, of a window that is `length` long, durably, and replaces an older one.
    pub fn write(&self, document: &Document, length: Length) -> Result<(), StoreError> {
        let day = self.dir.join(document.window.day());
        make_dir_durably(&self.store, &self.dir)?;
        make_dir_durably(&self.store, &day)?;
        let path = day.join(format!("{}.json", document.window.stem(length)));
        write_whole(&self.store, &path, |file| {
            document.serialize(&mut Serializer::with_formatter(&mut *file, MemberLines))?;
            file.write_all(b"\n")
        })
    }

    /// Removes the documents of the oldest day that ended `keep` or more before `now`, and returns
    /// that day's folder, or `None` if no day is so old. Removes one day at most, so that a long
    /// history never delays an opening. Other files stay.
    pub fn prune(&self, now: Wall, keep: Duration) -> Result<Option<PathBuf>, StoreError> {
        for (start, day) in self.days()? {
            if start.opens().plus(DAY).plus(keep) > now {
                break;
            }
            if self.prune_day(&day)? {
                return Ok(Some(day));
            }
        }
        Ok(None)
    }

    /// Removes the documents in the folder of a day; returns whether there was anything to remove.
    fn prune_day(&self, day: &Path) -> Result<bool, StoreError> {
        let mut removed = false;
        for item in self.list(day)? {
            if document_of(&item).is_some() || is_temporary(&item) {
                remove_if_there(&self.store, &item.path)?;
                removed = true;
            }
        }
        // A folder with other files in it is not removed.
        Ok(self.store.remove_dir(day).is_ok() || removed)
    }

    /// Lists all documents, oldest first; skips other files.
    pub fn windows(&self) -> Result<Vec<Listed>, StoreError> {
        let mut windows = Vec::new();
        for (_, day) in self.days()? {
            windows.extend(self.documents(&day)?);
        }
        Ok(windows)
    }

    /// Lists at most `most` documents of the windows that are `wanted`, newest first.
    pub fn newest(
        &self,
        most: usize,
        wanted: impl Fn(Window) -> bool,
    ) -> Result<Vec<Listed>, StoreError> {
        let mut newest: Vec<Listed> = Vec::new();
        for (_, day) in self.days()?.into_iter().rev() {
            let documents = self.documents(&day)?.into_iter().rev();
            newest.extend(documents.filter(|listed| wanted(listed.window)));
            if newest.len() >= most {
                break;
            }
        }
        newest.truncate(most);
        Ok(newest)
    }

    /// Reads the document of `window`, of any length.
    pub fn read(&self, window: Window) -> Result<Document, ReadError> {
        let (path, mut file) = self.open(window)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &path)?;
        checked(serde_json::from_slice(&bytes), window, &path)
    }

    /// Reads the document of `window` and counts its members and rooms; fails as soon as it is not
    /// wanted any more.
    pub fn summary(
        &self,
        window: Window,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Summary, ReadError> {
        let (path, file) = self.open(window)?;
        let file = BufReader::with_capacity(1 << 16, Wanted { file, is_wanted });
        // An `IgnoredAny` takes no memory: there may be a million members.
        let parsed = serde_json::from_reader(file);
        let Document::<IgnoredAny> { opened, rooms, .. } = checked(parsed, window, &path)?;
        let members = rooms.values().map(Vec::len).sum();
        Ok(Summary { opened, members, rooms: rooms.len() })
    }

    fn open(&self, window: Window) -> Result<(PathBuf, Box<dyn Read + Send>), ReadError> {
        self.find(window, |path| self.store.read_below(parent(&self.dir), path))
    }

    /// Opens the document of `window` by the first of its possible names that exists.
    fn find<T>(
        &self,
        window: Window,
        open: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(PathBuf, T), ReadError> {
        let dir = self.dir.join(window.day());
        for stem in stems(window) {
            let path = dir.join(format!("{stem}.json"));
            match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => {
                    let file = file.at("read", &path)?;
                    return Ok((path, file));
                }
            }
        }
        Err(ReadError::Missing { window, dir })
    }

    /// Lists the folders of days, oldest first; symbolic links to folders are not followed.
    fn days(&self) -> Result<Vec<(Window, PathBuf)>, StoreError> {
        let day = |item: Item| match item.kind {
            Kind::Dir => Some((Window::named(item.name()?, "00-00")?, item.path)),
            _ => None,
        };
        let mut days: Vec<_> = self.list(&self.dir)?.into_iter().filter_map(day).collect();
        days.sort();
        Ok(days)
    }

    /// Lists the documents in the folder of a day, oldest first.
    fn documents(&self, day: &Path) -> Result<Vec<Listed>, StoreError> {
        let listed = |item: Item| Some(Listed { window: document_of(&item)?, path: item.path });
        let mut documents: Vec<Listed> = self.list(day)?.into_iter().filter_map(listed).collect();
        documents.sort();
        Ok(documents)
    }

    /// Lists a folder; one that does not exist, or was pruned a moment ago, counts as empty.
    fn list(&self, dir: &Path) -> Result<Vec<Item>, StoreError> {
        match self.store.list(dir).at("list", dir) {
            Err(error) if error.is_missing() => Ok(Vec::new()),
            listed => listed,
        }
    }
}

impl Archive<Disk> {
    /// Opens the document of `window` for reading; returns its file, and the path of that.
    pub fn file(&self, window: Window) -> Result<(PathBuf, File), ReadError> {
        self.find(window, |path| open_below(parent(&self.dir), path))
    }
}

/// Returns the document of `window` without its rooms, from the beginning of its text; `None` if that
/// is not as this program writes it.
pub fn head(window: Window, beginning: &[u8]) -> Option<Document<IgnoredAny>> {
    let head = String::from_utf8_lossy(&beginning[..beginning.len().min(MAX_HEAD_BYTES)]);
    let (head, _) = head.split_once(r#""rooms":{"#)?;
    let whole = format!(r#"{head}"rooms":{{}}}}"#);
    serde_json::from_str(&whole).ok().filter(|document: &Document<_>| document.window == window)
}

/// A file that cannot be read on once it is not wanted any more.
struct Wanted<'a, R> {
    file: R,
    is_wanted: &'a dyn Fn() -> bool,
}

impl<R: Read> Read for Wanted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.is_wanted)() {
            true => self.file.read(buffer),
            false => Err(io::Error::other("nobody waits for it any more")),
        }
    }
}

/// Returns the window of a document by the names of its file and folder; `None` for other files.
fn document_of(item: &Item) -> Option<Window> {
    let day = item.path.parent()?.file_name()?.to_str()?;
    let stem = item.name()?.strip_suffix(".json")?;
    Window::named(day, stem).filter(|_| item.kind == Kind::File)
}

/// Returns whether a file is a half written document that a crash left.
fn is_temporary(item: &Item) -> bool {
    let whole = Item { path: item.path.with_extension(""), kind: item.kind };
    item.path.extension().is_some_and(|end| end == "tmp") && document_of(&whole).is_some()
}

/// Returns the names, without `.json`, that a window's document can have: `11-29` and `11-29-00`,
/// or only `11-29-02`.
fn stems(window: Window) -> Vec<String> {
    let whole = Length::MINUTE.window_at(window.opens()) == window;
    let minute = whole.then_some(Length::MINUTE);
    minute.into_iter().chain(Length::new(SECOND)).map(|length| window.stem(length)).collect()
}

/// Returns a parsed document if it names `window`, and an error otherwise.
fn checked<E>(
    parsed: serde_json::Result<Document<E>>,
    window: Window,
    path: &Path,
) -> Result<Document<E>, ReadError> {
    let why = match parsed {
        Ok(document) if document.window == window => return Ok(document),
        Ok(document) => format!("it names {}", document.window),
        Err(error) => error.to_string(),
    };
    Err(ReadError::Damaged { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    fn document(text: &str) -> Document {
        let ana = Entry {
            name: Some("ana".parse().unwrap()),
            addr: "127.0.0.1:40112".parse().unwrap(),
            registered: "2026-11-23T11:28:34.120Z".parse().unwrap(),
        };
        Document {
            window: window(text),
            closes: Length::MINUTE.closes(window(text)),
            opened: Some(window(text).opens().plus(Duration::from_millis(1))),
            rooms: BTreeMap::from([(Room::default(), vec![ana])]),
        }
    }

    fn archive() -> (tempfile::TempDir, Archive) {
        let home = tempfile::tempdir().unwrap();
        let archive = Archive::new(Disk, home.path().join("windows"));
        (home, archive)
    }

    #[test]
    fn a_document_has_a_line_a_member_for_people_and_jq() {
        let (home, archive) = archive();
        archive.write(&document("2026-11-23T11:29:00Z"), Length::MINUTE).unwrap();
        let path = home.path().join("windows/2026-11-23/11-29.json");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"window":"2026-11-23T11:29:00Z","closes":"2026-11-23T11:30:00Z","#,
                r#""opened":"2026-11-23T11:29:00.001Z","rooms":{"main":["#,
                "\n",
                r#"{"name":"ana","addr":"127.0.0.1:40112","registered":"2026-11-23T11:28:34.120Z"}]}}"#,
                "\n"
            )
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn rooms_are_sorted_members_keep_their_order_and_a_missed_window_was_not_opened() {
        let mut document = document("2026-11-23T11:29:00Z");
        let nameless = Entry { name: None, ..document.rooms[&Room::default()][0].clone() };
        document.opened = None;
        document.rooms.get_mut(&Room::default()).unwrap().insert(0, nameless.clone());
        document.rooms.insert("lab".parse().unwrap(), vec![nameless]);
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.contains(r#""opened":null,"rooms":{"lab":[{"addr":"#), "{text}");
        assert!(text.contains(r#""main":[{"addr":"#), "{text}");
        let (_home, archive) = archive();
        archive.write(&document, Length::MINUTE).unwrap();
        assert_eq!(archive.read(document.window).unwrap(), document);
    }

    #[test]
    fn a_document_is_found_whatever_the_length_of_its_window_was() {
        let (_home, archive) = archive();
        let second = Length::new(SECOND).unwrap();
        for (text, length) in [
            ("2026-11-23T11:29:00Z", second),
            ("2026-11-23T11:29:02Z", second),
            ("2026-11-23T11:30:00Z", Length::MINUTE),
        ] {
            archive.write(&document(text), length).unwrap();
            assert_eq!(archive.read(window(text)).unwrap().window, window(text));
        }
        for text in ["2026-11-23T11:30:02Z", "2026-11-22T11:29:00Z"] {
            let said = archive.read(window(text)).unwrap_err().to_string();
            assert!(said.contains(text) && said.contains("windows"), "{said}");
        }
    }

    #[test]
    fn documents_are_listed_from_the_oldest_and_other_files_are_skipped() {
        let (home, archive) = archive();
        assert_eq!(archive.windows().unwrap(), []);
        let texts = ["2026-11-22T23:59:00Z", "2026-11-23T11:29:00Z", "2026-11-23T11:30:00Z"];
        for text in [1, 2, 0].map(|index| texts[index]) {
            archive.write(&document(text), Length::MINUTE).unwrap();
        }
        let windows = home.path().join("windows");
        fs::write(windows.join("notes"), "").unwrap();
        fs::create_dir(windows.join("2026-11-24")).unwrap();
        fs::write(windows.join("2026-11-23/11-31.json~"), "").unwrap();
        fs::write(windows.join("2026-11-23/11-31.json.tmp"), "").unwrap();
        symlink(windows.join("2026-11-23"), windows.join("2026-11-25")).unwrap();
        let listed = archive.windows().unwrap();
        assert_eq!(
            listed.iter().map(|listed| listed.window).collect::<Vec<_>>(),
            texts.map(window)
        );
        assert_eq!(listed[0].path, windows.join("2026-11-22/23-59.json"));
    }

    #[test]
    fn a_damaged_document_is_named() {
        let (home, archive) = archive();
        archive.write(&document("2026-11-23T11:29:00Z"), Length::MINUTE).unwrap();
        let day = home.path().join("windows/2026-11-23");
        fs::copy(day.join("11-29.json"), day.join("11-30.json")).unwrap();
        fs::write(day.join("11-31.json"), "{").unwrap();
        for minute in [30, 31] {
            let asked = window(&format!("2026-11-23T11:{minute}:00Z"));
            let said = archive.read(asked).unwrap_err().to_string();
            assert!(said.contains(&format!("11-{minute}.json")), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_missing() {
        let (home, archive) = archive();
        let asked = window("2026-11-23T11:29:00Z");
        fs::create_dir_all(home.path().join("windows/2026-11-23/11-29.json")).unwrap();
        assert!(matches!(archive.read(asked), Err(ReadError::Store(_))));
        fs::remove_dir_all(home.path().join("windows")).unwrap();
        assert!(matches!(archive.read(asked), Err(ReadError::Missing { .. })));
        fs::write(home.path().join("windows"), "").unwrap();
        assert!(archive.windows().is_err());
    }

    #[test]
    fn a_file_left_by_a_crash_does_not_stop_the_next_document() {
        let (home, archive) = archive();
        let day = home.path().join("windows/2026-11-23");
        fs::create_dir_all(&day).unwrap();
        fs::write(day.join("11-29.json.tmp"), "half").unwrap();
        for _ in 0..2 {
            archive.write(&document("2026-11-23T11:29:00Z"), Length::MINUTE).unwrap();
        }
        assert!(!day.join("11-29.json.tmp").exists());
    }

    #[test]
    fn one_whole_day_is_pruned_at_a_time_and_only_when_all_of_it_is_old() {
        let (home, archive) = archive();
        for day in 20..=23 {
            let document = document(&format!("2026-11-{day}T11:29:00Z"));
            archive.write(&document, Length::MINUTE).unwrap();
        }
        let prune = |now: &str| archive.prune(now.parse().unwrap(), DAY).unwrap();
        let day = |day: u32| Some(home.path().join(format!("windows/2026-11-{day}")));
        assert_eq!(prune("2026-11-21T23:59:59.999Z"), None);
        assert_eq!(prune("2026-11-23T00:00:00.000Z"), day(20));
        assert_eq!(prune("2026-11-23T00:00:00.000Z"), day(21));
        assert_eq!(prune("2026-11-23T00:00:00.000Z"), None);
        assert!(!day(20).unwrap().exists() && day(22).unwrap().exists());
    }

    #[test]
    fn pruning_removes_documents_only() {
        let (home, archive) = archive();
        assert_eq!(archive.prune(Wall::from_millis(0), DAY).unwrap(), None);
        let windows = home.path().join("windows");
        for text in ["2026-11-20T11:29:00Z", "2026-11-21T11:29:00Z"] {
            archive.write(&document(text), Length::MINUTE).unwrap();
        }
        fs::write(windows.join("2026-11-20/notes.txt"), "").unwrap();
        // What a crash left is removed too, and what only looks like it is not.
        fs::write(windows.join("2026-11-20/11-30.json.tmp"), "half").unwrap();
        fs::write(windows.join("2026-11-20/notes.tmp"), "").unwrap();
        fs::write(windows.join("2026-11-20/11-31.json.old"), "").unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("11-29.json"), "").unwrap();
        symlink(&elsewhere, windows.join("2026-11-01")).unwrap();
        let now = "2027-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(archive.prune(now, DAY).unwrap(), Some(windows.join("2026-11-20")));
        assert_eq!(archive.prune(now, DAY).unwrap(), Some(windows.join("2026-11-21")));
        assert_eq!(archive.prune(now, DAY).unwrap(), None);
        let left = |day: &str| fs::read_dir(windows.join(day)).unwrap().count();
        assert_eq!(left("2026-11-20"), 3, "what is no document");
        assert!(windows.join("2026-11-20/11-31.json.old").exists());
        assert!(elsewhere.join("11-29.json").exists());
    }

    #[test]
    fn a_document_is_counted_as_it_is_read() {
        let (home, archive) = archive();
        let mut document = document("2026-11-23T11:29:00Z");
        let entry = document.rooms[&Room::default()][0].clone();
        document.rooms.insert("lab".parse().unwrap(), vec![entry; 3]);
        archive.write(&document, Length::MINUTE).unwrap();
        let count = |window| archive.summary(window, &|| true);
        let summary = count(document.window).unwrap();
        assert_eq!((summary.members, summary.rooms, summary.opened), (4, 2, document.opened));
        let other = home.path().join("windows/2026-11-23/11-30.json");
        fs::copy(other.with_file_name("11-29.json"), &other).unwrap();
        let said = count(window("2026-11-23T11:30:00Z")).unwrap_err().to_string();
        assert!(said.contains("it names 2026-11-23T11:29:00Z"), "{said}");
        fs::write(&other, "{").unwrap();
        assert!(count(window("2026-11-23T11:30:00Z")).is_err());
        assert!(count(window("2026-11-23T11:31:00Z")).is_err());
    }

    #[test]
    fn a_document_that_nobody_waits_for_is_not_read_on() {
        let (_home, archive) = archive();
        let mut document = document("2026-11-23T11:29:00Z");
        let entry = document.rooms[&Room::default()][0].clone();
        document.rooms.insert(Room::default(), vec![entry; 10_000]);
        archive.write(&document, Length::MINUTE).unwrap();
        let looks = std::cell::Cell::new(0);
        let is_wanted = || looks.replace(looks.get() + 1) < 3;
        let said = archive.summary(document.window, &is_wanted).unwrap_err().to_string();
        assert!(said.contains("nobody waits for it") && looks.get() < 10, "{said} {looks:?}");
    }

    #[test]
    fn the_beginning_of_a_document_says_when_its_window_opened() {
        let (home, archive) = archive();
        let mut document = document("2026-11-23T11:29:00Z");
        let path = home.path().join("windows/2026-11-23/11-29.json");
        for is_missed in [false, true] {
            document.opened = document.opened.filter(|_| !is_missed);
            archive.write(&document, Length::MINUTE).unwrap();
            let text = fs::read(&path).unwrap();
            assert_eq!(head(document.window, &text).unwrap().opened, document.opened);
            assert_eq!(head(window("2026-11-23T11:30:00Z"), &text), None);
            assert_eq!(head(document.window, &text[..80]), None);
        }
    }

    #[test]
    fn no_link_on_the_way_to_a_document_is_followed() {
        let (home, archive) = archive();
        let document = document("2026-11-23T11:29:00Z");
        archive.write(&document, Length::MINUTE).unwrap();
        let (windows, elsewhere) = (home.path().join("windows"), home.path().join("elsewhere"));
        let linked_root = home.path().join("root");
        symlink(home.path(), &linked_root).unwrap();
        let by_link = Archive::new(Disk, linked_root.join("windows"));
        assert_eq!(by_link.read(document.window).unwrap(), document, "--data may be a link");
        for part in ["2026-11-23/11-29.json", "2026-11-23", ""] {
            let place = windows.join(part);
            let place = place.components().as_path();
            fs::rename(place, &elsewhere).unwrap();
            symlink(&elsewhere, place).unwrap();
            let said = archive.read(document.window).unwrap_err().to_string();
            assert!(said.contains("link") && said.contains("remove"), "{part}: {said}");
            assert!(archive.file(document.window).is_err(), "{part}");
            assert!(archive.summary(document.window, &|| true).is_err(), "{part}");
            assert!(archive.windows().is_err() || archive.windows().unwrap().is_empty(), "{part}");
            fs::remove_file(place).unwrap();
            fs::rename(&elsewhere, place).unwrap();
        }
        assert_eq!(archive.read(document.window).unwrap(), document);
    }

    #[test]
    fn a_pipe_in_the_place_of_a_document_holds_up_nobody() {
        let (home, archive) = archive();
        let day = home.path().join("windows/2026-11-23");
        fs::create_dir_all(&day).unwrap();
        nix::unistd::mkfifo(&day.join("11-29.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let said = archive.read(window("2026-11-23T11:29:00Z")).unwrap_err().to_string();
        assert!(said.contains("not a regular file"), "{said}");
    }

    #[test]
    fn the_newest_are_listed_first_and_no_more_than_asked_for() {
        let (_home, archive) = archive();
        let texts = ["2026-11-23T11:30:00Z", "2026-11-23T11:29:00Z", "2026-11-22T23:59:00Z"];
        for text in texts {
            archive.write(&document(text), Length::MINUTE).unwrap();
        }
        let newest = |most, before: &str| {
            let listed = archive.newest(most, |found| found < window(before)).unwrap();
            listed.into_iter().map(|listed| listed.window.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(newest(9, "2026-11-24T00:00:00Z"), texts);
        assert_eq!(newest(1, "2026-11-24T00:00:00Z"), texts[..1]);
        assert_eq!(newest(9, "2026-11-23T11:30:00Z"), texts[1..]);
    }
}
