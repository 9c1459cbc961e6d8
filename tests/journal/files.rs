//! Journal files on the real disk: how they are read, mended, refused and discarded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hit7::journal::{FileJournal, FileOptions, Journal, Replayed, WindowReader};
use hit7::mesh::ListCap;
use hit7::record::Record;
use hit7::store::{Disk, Store};
use hit7::window::Length;

use crate::conformance::records::{leave, open, register, window};
use crate::subjects::{Opened, try_open, write};

/// A journal on the real disk that holds the script's first window and a part of its second.
struct Home {
    home: tempfile::TempDir,
    records: Vec<Record>,
}

impl Home {
    fn new() -> Home {
        let home = tempfile::tempdir().unwrap();
        let mut records = vec![register(0, 1), leave(0, 2), open(0)];
        records.extend([register(1, 3), register(1, 4), register(1, 5), leave(1, 6)]);
        let home = Home { home, records };
        // Of the second window, four batches: a header and a record, and one or two more records.
        for batch in [0..3, 3..4, 4..5, 5..7] {
            home.write(&home.records[batch]);
        }
        home
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("journal")
    }

    fn file(&self, stem: &str) -> PathBuf {
        self.dir().join("2026-11-23").join(format!("{stem}.jsonl"))
    }

    fn open(&self, accept_damage: bool) -> Opened<Disk> {
        try_open(Disk, &self.dir(), accept_damage)
    }

    fn write(&self, records: &[Record]) {
        let (mut journal, ..) = self.open(false).unwrap();
        write(&mut journal, records);
    }

    fn note(path: &Path, what: &str) -> String {
        format!("{}: {what}", path.display())
    }

    /// Rewrites a journal file with its lines changed by `edit`.
    fn edit(&self, stem: &str, edit: impl FnOnce(&mut Vec<String>)) {
        let text = std::fs::read_to_string(self.file(stem)).unwrap();
        let mut lines = text.split_inclusive('\n').map(str::to_owned).collect();
        edit(&mut lines);
        std::fs::write(self.file(stem), lines.concat()).unwrap();
    }
}

#[test]
fn the_journal_is_text_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let text = std::fs::read_to_string(home.file("23-58")).unwrap();
    let types: Vec<_> = text.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(types, ["window", "register", "leave", "open"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.dir()), mode(&home.file("23-58"))), (0o700, 0o600));
    let (_, found, seen) = home.open(false).unwrap();
    assert_eq!((seen, found.windows), (home.records, vec![window(0), window(1)]));
    assert_eq!(found.notes, [""; 0]);
}

#[test]
fn damage_is_copied_and_refused_and_with_the_flag_only_it_is_lost() {
    for (line, lost) in [(1, None), (2, Some(3)), (3, Some(4))] {
        let home = Home::new();
        home.edit("23-59", |lines| lines[line - 1] = lines[line - 1].replace("23", "24"));
        if line == 3 {
            home.edit("23-59", |lines| lines[2] = lines[2].replace("ana", "eva"));
        }
        for _ in 0..2 {
            let said = home.open(false).unwrap_err().to_string();
            let copy = home.file("23-59").to_str().unwrap().to_owned() + ".damaged-1";
            assert!(said.contains(&format!("23-59.jsonl: line {line} is damaged")), "{said}");
            assert!(said.contains("--accept-damage") && said.contains(&copy), "{said}");
        }
        let (_, found, seen) = home.open(true).unwrap();
        let kept = |(index, _): &(usize, &Record)| Some(*index) != lost;
        let good: Vec<_> = home.records.iter().enumerate().filter(kept).map(|(_, r)| r).collect();
        assert_eq!(seen.iter().collect::<Vec<_>>(), good, "line {line}");
        let copy = home.file("23-59.jsonl.damaged-1").with_extension("");
        let what = "a damaged journal was copied here, and its good lines were kept";
        assert_eq!(found.notes, [Home::note(&copy, what)]);
        let (_, found, again) = home.open(false).unwrap();
        assert_eq!((again, found.notes.len()), (seen, 0));
    }
}

#[test]
fn each_damage_has_one_copy() {
    let home = Home::new();
    for number in 1..=3 {
        home.edit("23-59", |lines| lines[number - 1].replace_range(20..21, "\0"));
        for _ in 0..2 {
            home.open(false).unwrap_err();
        }
        let copy = |number| home.file(&format!("23-59.jsonl.damaged-{number}")).with_extension("");
        let (copied, damaged) = (std::fs::read(copy(number)), std::fs::read(home.file("23-59")));
        assert_eq!((copied.unwrap(), copy(number + 1).exists()), (damaged.unwrap(), false));
    }
}

#[test]
fn a_copy_of_damage_that_cannot_be_read_is_not_replaced() {
    let home = Home::new();
    home.edit("23-59", |lines| make_hole(&mut lines[1]));
    let copy = home.file("23-59.jsonl.damaged-1").with_extension("");
    std::os::unix::fs::symlink("elsewhere", &copy).unwrap();
    let said = home.open(false).unwrap_err().to_string();
    assert!(said.contains("damaged-1: it is a link") && copy.is_symlink(), "{said}");
}

#[test]
fn damage_within_the_last_batch_is_a_crash_and_is_cut_off() {
    // The last batch is lines 4 and 5. A hole is what a power failure leaves of unwritten pages.
    for (first, last, kept) in [(4, 4, 5), (4, 5, 5), (5, 5, 6)] {
        let home = Home::new();
        home.edit("23-59", |lines| lines[first - 1..last].iter_mut().for_each(make_hole));
        let damaged = std::fs::read(home.file("23-59")).unwrap();
        let (_, found, seen) = home.open(false).unwrap();
        assert_eq!(seen, home.records[..kept], "lines {first} to {last}");
        let copy = home.file("23-59.jsonl.damaged-1").with_extension("");
        assert!(found.notes[0].contains("the last batch was damaged"), "{:?}", found.notes);
        assert!(found.notes[0].ends_with(copy.to_str().unwrap()), "{:?}", found.notes);
        assert_eq!(std::fs::read(copy).unwrap(), damaged);
        home.write(&[register(1, 7)]);
        let (_, found, seen) = home.open(false).unwrap();
        assert_eq!((seen.len(), found.notes.len()), (kept + 1, 0));
    }
}

/// Fills the middle of a line with zeros.
fn make_hole(line: &mut String) {
    let hole = 20..line.len() - 5;
    line.replace_range(hole.clone(), &"\0".repeat(hole.len()));
}

#[test]
fn damage_before_the_last_batch_is_refused_also_if_it_reaches_into_that() {
    let home = Home::new();
    home.edit("23-59", |lines| lines[2..4].iter_mut().for_each(make_hole));
    let said = home.open(false).unwrap_err().to_string();
    assert!(said.contains("23-59.jsonl: line 3 is damaged"), "{said}");
}

#[test]
fn what_was_written_before_a_later_window_was_synced() {
    let torn = |lines: &mut Vec<String>| lines[3].truncate(40);
    let damaged = |lines: &mut Vec<String>| make_hole(&mut lines[3]);
    for edit in [torn as fn(&mut Vec<String>), damaged] {
        let home = Home::new();
        home.edit("23-58", edit);
        let said = home.open(false).unwrap_err().to_string();
        assert!(said.contains("23-58.jsonl: line 4 is damaged"), "{said}");
    }
}

/// Rewrites the lines of a journal file as format 1 had them.
fn format_1(lines: &mut Vec<String>) {
    for line in lines {
        let mut fields =
            line.split(",\"crc\"").next().unwrap().replace("\"format\":2", "\"format\":1");
        while let Some(start) = fields.find(",\"batch\":").or(fields.find(",\"peers\":")) {
            let end =
                fields[start + 1..].find([',', '}']).map_or(fields.len(), |len| start + 1 + len);
            fields.replace_range(start..end, "");
        }
        *line = format!("{fields},\"crc\":\"{:08x}\"}}\n", crc32fast::hash(fields.as_bytes()));
    }
}

#[test]
fn a_journal_of_format_1_gets_its_settings_once_and_is_format_2_then() {
    let home = Home::new();
    for stem in ["23-58", "23-59"] {
        home.edit(stem, format_1);
    }
    let caps = |peers| {
        let mut caps = Vec::new();
        let mut fold = |replayed| match replayed {
            Replayed::Begin(header) => caps.push(header.cap),
            Replayed::Record(Record::Open(opening)) => caps.push(opening.cap),
            Replayed::Record(_) => {}
        };
        let (dir, length, cap) = (home.dir(), Length::MINUTE, ListCap::new(peers));
        let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
        let notes = FileJournal::open(options, &mut fold).unwrap().1.notes;
        (caps, notes)
    };
    let notes = ["23-58", "23-59"].map(|stem| {
        Home::note(&home.file(stem), "is of format 2 now, which earlier versions refuse")
    });
    let first = (vec![Some(ListCap::new(8)); 3], notes.to_vec());
    assert_eq!(caps(8), first, "of both windows and an opening");
    assert_eq!(caps(100), (first.0, Vec::new()));
    assert_eq!(home.open(false).unwrap().2.len(), home.records.len());
    let text = std::fs::read_to_string(home.file("23-58")).unwrap();
    assert!(text.starts_with(r#"{"type":"window","format":2,"#), "{text}");
    assert!(!home.file("23-58.jsonl.damaged-1").with_extension("").exists());
}

#[test]
fn a_journal_of_format_1_has_no_batches_and_is_continued() {
    let home = Home::new();
    home.edit("23-59", format_1);
    assert_eq!(home.open(false).unwrap().2, home.records);
    home.edit("23-59", |lines| make_hole(&mut lines[4]));
    let said = home.open(false).unwrap_err().to_string();
    assert!(said.contains("23-59.jsonl: line 5 is damaged"), "{said}");
    home.open(true).unwrap();
    home.write(&[register(1, 7), leave(1, 8)]);
    home.edit("23-59", |lines| make_hole(&mut lines[4]));
    assert_eq!(home.open(false).unwrap().2, home.records[..6], "this batch has a number");
}

#[test]
fn a_torn_end_is_cut_off_and_written_over() {
    let home = Home::new();
    let path = home.file("23-59");
    for torn in ["{\"type\":\"regis", "\0\0\0\0\0\0\0\0"] {
        home.edit("23-59", |lines| lines.push(torn.into()));
        let (_, found, seen) = home.open(false).unwrap();
        let what = "a torn last line was cut off; nothing that was acked";
        assert_eq!((seen, found.notes), (home.records.clone(), vec![Home::note(&path, what)]));
    }
    home.write(&[open(1)]);
    let (_, found, seen) = home.open(false).unwrap();
    assert_eq!((seen.len(), found.notes.len()), (home.records.len() + 1, 0));
}

#[test]
fn a_file_without_a_whole_header_is_removed_and_its_days_folder_too() {
    for torn in ["", "{\"type\":\"win"] {
        let home = tempfile::tempdir().unwrap();
        let day = home.path().join("2026-11-23");
        std::fs::create_dir(&day).unwrap();
        std::fs::write(day.join("23-58.jsonl"), torn).unwrap();
        let (_, found, seen) = try_open(Disk, home.path(), false).unwrap();
        assert_eq!((found.windows, seen, day.exists()), (vec![], vec![], false), "{torn:?}");
    }
}

#[test]
fn nothing_comes_after_an_opening() {
    let home = Home::new();
    home.write(&[register(0, 9)]);
    let said = home.open(false).unwrap_err().to_string();
    assert!(said.contains("line 5") && said.contains("after the last record"), "{said}");
    assert_eq!(home.open(true).unwrap().2, home.records);
}

#[test]
fn a_newer_format_is_refused_even_with_damage_accepted_or_in_the_last_batch() {
    let one_batch = Home { home: tempfile::tempdir().unwrap(), records: vec![register(1, 3)] };
    one_batch.write(&one_batch.records);
    for home in [Home::new(), one_batch] {
        home.edit("23-59", |lines| {
            let body =
                lines[0].split(",\"crc\"").next().unwrap().replace("\"format\":2", "\"format\":9");
            lines[0] = format!("{body},\"crc\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
        });
        for accept_damage in [false, true] {
            let said = home.open(accept_damage).unwrap_err().to_string();
            assert!(said.contains("its format is 9") && said.contains("23-59.jsonl"), "{said}");
        }
    }
}

#[test]
fn a_file_whose_header_is_damaged_is_repaired_only_if_its_name_fits_the_length() {
    let home = Home::new();
    home.edit("23-59", |lines| make_hole(&mut lines[0]));
    let unfit = home.file("23-59-00");
    std::fs::rename(home.file("23-59"), &unfit).unwrap();
    let before = std::fs::read(&unfit).unwrap();
    let said = home.open(true).unwrap_err().to_string();
    assert!(said.contains("--window") && said.contains("23-59-00.jsonl"), "{said}");
    assert_eq!(std::fs::read(&unfit).unwrap(), before);
}

#[test]
fn what_is_not_the_journals_is_named_and_left_alone() {
    let home = Home::new();
    let foreign = [home.dir().join("2026-11-23/23-59.jsonl~"), home.dir().join("notes")];
    foreign.iter().for_each(|path| std::fs::write(path, "").unwrap());
    let (_, found, seen) = home.open(false).unwrap();
    let notes = foreign.clone().map(|it| Home::note(&it, "not a file of the journal; left alone"));
    assert_eq!((seen, found.notes), (home.records, notes.to_vec()));
    assert!(foreign.iter().all(|path| path.exists()));
}

#[test]
fn what_a_crash_left_half_written_is_removed_and_told() {
    let home = Home::new();
    let left = ["23-58.jsonl.damaged-1.tmp", "23-59.jsonl.tmp"]
        .map(|name| home.dir().join("2026-11-23").join(name));
    left.iter().for_each(|path| std::fs::write(path, "half").unwrap());
    let (_, found, seen) = home.open(false).unwrap();
    let what = "a crash left it half written; removed";
    assert_eq!(
        (seen, found.notes),
        (home.records.clone(), left.clone().map(|it| Home::note(&it, what)).to_vec())
    );
    assert!(!left.iter().any(|path| path.exists()));
    std::fs::write(&left[1], "half").unwrap();
    home.edit("23-58", |lines| lines.reverse());
    home.open(false).unwrap_err();
    assert!(left[1].exists(), "a start that is refused tells nothing else");
}

#[test]
fn a_discarded_window_is_removed_and_its_days_folder_with_the_last() {
    let home = Home::new();
    let (mut journal, ..) = home.open(false).unwrap();
    journal.discard(window(0));
    drop(journal);
    assert!(!home.file("23-58").exists() && home.file("23-59").exists());
    let (mut journal, ..) = home.open(false).unwrap();
    journal.discard(window(1));
    write(&mut journal, &[register(2, 1)]);
    drop(journal);
    let left: Vec<_> = Disk.list(&home.dir()).unwrap();
    assert_eq!(left.iter().map(|item| item.name().unwrap()).collect::<Vec<_>>(), ["2026-11-24"]);
}

#[test]
fn a_window_that_cannot_be_read_back_says_whether_its_journal_is_gone() {
    let home = Home::new();
    let (journal, ..) = home.open(false).unwrap();
    let read = |index| {
        journal.reader().read(window(index), &mut |read| match read {
            Replayed::Begin(header) => assert_eq!(header.window, window(index)),
            Replayed::Record(record) => assert_eq!(record.window(), window(index)),
        })
    };
    read(1).unwrap();
    let gone = read(2).unwrap_err().to_string();
    assert!(gone.starts_with("no journal of 2026-11-24"), "{gone}");
    let (day, elsewhere) = (home.dir().join("2026-11-23"), home.dir().join("elsewhere"));
    std::fs::rename(&day, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &day).unwrap();
    let hidden = read(0).unwrap_err().to_string();
    assert!(hidden.starts_with("cannot list"), "{hidden}");
}

#[test]
fn windows_of_another_length_are_read_written_and_discarded_under_their_names() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("journal");
    let open = |seconds| {
        let (mut seen, length) = (0, Length::new(Duration::from_secs(seconds)).unwrap());
        let mut lengths = Vec::new();
        let mut fold = |replayed| match replayed {
            Replayed::Begin(header) => lengths.push(header.length.seconds()),
            Replayed::Record(_) => seen += 1,
        };
        let dir = dir.clone();
        let cap = ListCap::default();
        let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
        let (journal, _) = FileJournal::open(options, &mut fold).unwrap();
        (journal, lengths, seen)
    };
    let (mut journal, ..) = open(2);
    write(&mut journal, &[register(0, 1)]);
    drop(journal);
    let path = dir.join("2026-11-23/23-58-00.jsonl");
    let (mut journal, lengths, seen) = open(60);
    assert_eq!((lengths, seen, path.exists()), (vec![2], 1, true));
    write(&mut journal, &[leave(0, 2)]);
    drop(journal);
    let (mut journal, _, seen) = open(60);
    assert_eq!(seen, 2);
    journal.discard(window(0));
    drop(journal);
    assert!(!path.exists());
}
