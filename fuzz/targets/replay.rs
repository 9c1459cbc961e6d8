//! Any bytes as a journal file, and damaged valid ones: nothing panics, nothing that is whole before
//! the damage is lost, and with damage accepted it always opens.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use hit7::journal::{FileJournal, FileOptions, Journal, OpenError, Replayed};
use hit7::mesh::ListCap;
use hit7::proto::Profile;
use hit7::record::{Header, Leaving, LineError, Opening, Record, Registration};
use hit7::store::{Handle, Store};
use hit7::window::{Length, Window};

use crate::disk::{FlakyDisk, ROOT};

const FIRST: &str = "2026-11-23T11:29:00Z";
/// What is said of a last batch that a crash damaged.
const CRASHED: &str = "the last batch was damaged";

const COPIED: &str = ": a damaged journal was copied here, and its good lines were kept";

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Damage {
    Flip { at: u16, bit: u8 },
    Cut(u16),
    Zero { at: u16, count: u8 },
    Insert { at: u16, byte: u8 },
    Remove { at: u16, count: u8 },
    Repeat { at: u16, count: u8 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Valid {
    records: u8,
    opened: bool,
}

/// The first byte says whether the rest is a file, or a list of damages to a valid file.
pub(crate) fn check(input: &[u8]) {
    match input {
        [] => {}
        [0, raw @ ..] => check_file(raw, &[]),
        [_, rest @ ..] => {
            let mut rest = Unstructured::new(rest);
            let Ok(valid) = Valid::arbitrary(&mut rest) else { return };
            let Ok(damages) = Vec::<Damage>::arbitrary_take_rest(rest) else { return };
            let whole = file(valid);
            let mut damaged = whole.clone();
            damages.into_iter().take(4).for_each(|damage| apply(&mut damaged, damage));
            check_file(&damaged, &whole);
        }
    }
}

fn window() -> Window {
    FIRST.parse().unwrap()
}

fn header() -> Header {
    Header { window: window(), length: Length::MINUTE, cap: Some(ListCap::default()) }
}

/// A journal file as it is written: so many registrations and a LEAVE, and perhaps the opening, in
/// batches of two.
fn file(Valid { records, opened }: Valid) -> Vec<u8> {
    let (window, at) = (window(), "2026-11-23T11:28:34.120Z".parse().unwrap());
    let path = hit7::path::Path::new("[2001:db8::7]:40112".parse().unwrap(), [127, 0, 0, 1].into());
    let id = Some("s3cret".parse().unwrap());
    let mut file = Vec::new();
    header().write_line(&mut file);
    let mut batch = 0;
    for seq in 0..u64::from(records % 8) {
        let (id, seq, room) = (id.clone(), Some(seq), "lab".parse().unwrap());
        let record = match seq {
            Some(3) => Record::Leave(Leaving { window, at, path, id, seq }),
            _ => Record::Register(Registration {
                window,
                at,
                path,
                id,
                seq,
                profile: Profile { room, name: Some("ana".parse().unwrap()), ..Profile::default() },
            }),
        };
        if seq.is_some_and(|seq| seq > 0 && seq % 2 == 0) {
            batch = file.len() as u64;
        }
        record.write_line(&mut file, batch);
    }
    if opened {
        let Header { window, length, cap } = header();
        let opening = Opening { window, length, cap, at: window.opens() };
        Record::Open(opening).write_line(&mut file, batch);
    }
    file
}

fn apply(file: &mut Vec<u8>, damage: Damage) {
    let place = |at: u16| usize::from(at) % (file.len() + 1);
    let range = |at: u16, count: u8| {
        let start = place(at);
        start..(start + usize::from(count)).min(file.len())
    };
    match damage {
        Damage::Flip { at, bit } if place(at) < file.len() => {
            let at = place(at);
            file[at] ^= 1 << (bit % 8);
        }
        Damage::Flip { .. } => {}
        Damage::Cut(at) => file.truncate(place(at)),
        Damage::Zero { at, count } => {
            let range = range(at, count);
            file[range].fill(0);
        }
        Damage::Insert { at, byte } => file.insert(place(at), byte),
        Damage::Remove { at, count } => drop(file.drain(range(at, count))),
        Damage::Repeat { at, count } => {
            let range = range(at, count);
            let again = file[range.clone()].to_vec();
            drop(file.splice(range.start..range.start, again));
        }
    }
}

fn path() -> PathBuf {
    Path::new(ROOT).join("journal/2026-11-23/11-29.jsonl")
}

fn disk_with(file: &[u8]) -> FlakyDisk {
    let disk = FlakyDisk::new();
    for dir in ["journal", "journal/2026-11-23"] {
        disk.make_dir(&Path::new(ROOT).join(dir)).unwrap();
    }
    let mut handle = disk.create(&path()).unwrap();
    handle.write_all(file).unwrap();
    handle.sync().unwrap();
    disk
}

fn read(disk: &FlakyDisk, path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    disk.read(path).ok()?.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

/// The notes, and the records that were read.
type Opened = Result<(Vec<String>, Vec<Record>), OpenError>;

fn open(disk: &FlakyDisk, accept_damage: bool) -> Opened {
    let mut seen = Vec::new();
    let mut fold = |replayed| match replayed {
        Replayed::Begin(_) => {}
        Replayed::Record(record) => seen.push(record),
    };
    let (store, dir) = (disk.clone(), Path::new(ROOT).join("journal"));
    let (length, cap) = (Length::MINUTE, ListCap::default());
    let options = FileOptions { store, dir, length, cap, accept_damage };
    let (_, found) = FileJournal::open(options, &mut fold)?;
    Ok((found.notes, seen))
}

/// The records of the whole valid lines before the first that is not, and where that begins.
fn good_start(file: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut end) = (Vec::new(), 0);
    let (mut header, mut has_ended) = (header(), false);
    for (number, line) in file.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(text) = line.strip_suffix(b"\n") else { break };
        match (number, Record::read_line(text, header)) {
            (0, _) => match Header::read_line(text) {
                Ok(read) if read == Header { cap: read.cap, ..header } => {
                    header.cap = read.cap.or(header.cap);
                }
                _ => break,
            },
            (_, Err(_)) => break,
            (_, Ok(_)) if has_ended => break,
            (_, Ok(read)) => {
                has_ended = matches!(read.record, Record::Open(_) | Record::Missed(_));
                records.push(read.record);
            }
        }
        end += line.len();
    }
    (records, end)
}

/// The file with a header that has all settings, also if it was of format 1.
fn with_settings(file: &[u8]) -> Vec<u8> {
    let first = file.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    match Header::read_line(&file[..first]) {
        Ok(read) if read.cap.is_none() => {
            let mut mended = Vec::new();
            header().write_line(&mut mended);
            [&mended, &file[first + 1..]].concat()
        }
        _ => file.to_vec(),
    }
}

/// Where the batch of the last valid record begins.
fn last_batch(file: &[u8]) -> u64 {
    let (mut last, mut has_ended) = (0, false);
    for line in file.split_inclusive(|byte| *byte == b'\n').skip(1) {
        let read = line.strip_suffix(b"\n").map(|text| Record::read_line(text, header()));
        if let (false, Some(Ok(read))) = (has_ended, read) {
            has_ended = matches!(read.record, Record::Open(_) | Record::Missed(_));
            last = read.batch.unwrap_or(u64::MAX);
        }
    }
    last
}

/// The bytes up to where the file was changed, or the end of the last line before that.
fn untouched<'a>(file: &'a [u8], whole: &[u8]) -> &'a [u8] {
    let same = file.iter().zip(whole).take_while(|(a, b)| a == b).count();
    let end = file[..same].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &file[..end]
}

/// `whole` is what it was before the damage, if that is known.
fn check_file(file: &[u8], whole: &[u8]) {
    let (good, end) = good_start(file);
    let is_whole = end == file.len();
    let (before, _) = good_start(untouched(file, whole));
    assert!(good.starts_with(&before));
    let disk = disk_with(file);
    match open(&disk, false) {
        Ok((notes, seen)) => {
            assert!(seen == good, "{seen:?} of {good:?}");
            let said = ["torn", CRASHED, "is of format 2 now"];
            let is_said = |note: &String| said.iter().any(|what| note.contains(what));
            assert!(notes.iter().all(is_said), "{notes:?}");
            let is_torn = !file[end..].contains(&b'\n');
            assert!(is_torn || end as u64 >= last_batch(file), "cut off before the last batch");
            assert_eq!(read(&disk, &path()).unwrap_or_default(), with_settings(&file[..end]));
        }
        Err(OpenError::Damaged { copy, .. }) => {
            assert!(!is_whole && (end as u64) < last_batch(file));
            assert_eq!(read(&disk, &copy).as_deref(), Some(file));
            assert_eq!(read(&disk, &path()).as_deref(), Some(file), "it is left as it is");
        }
        Err(OpenError::Format { .. }) => return assert!(is_of_another_format(file)),
        Err(error) => panic!("{error}"),
    }
    let (notes, seen) = open(&disk, true).expect("with damage accepted it opens");
    assert!(seen.starts_with(&good));
    for copy in notes.iter().filter_map(|note| note.strip_suffix(COPIED)) {
        assert_eq!(read(&disk, Path::new(copy)).as_deref(), Some(file));
    }
    let (notes, again) = open(&disk, false).expect("what was mended is whole");
    assert!(again == seen && notes.is_empty());
}

fn is_of_another_format(file: &[u8]) -> bool {
    let first = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
    matches!(Header::read_line(first), Err(LineError::Format(_)))
}
