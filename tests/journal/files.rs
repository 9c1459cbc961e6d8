//! The files on the real disk: read, mended, refused, discarded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hit7::journal::{FileJournal, Journal};
use hit7::record::{Header, Record};
use hit7::store::{Disk, Store};
use hit7::window::Length;

use crate::ledger::{Ledger, Opened, block_on, leave, open, register, try_open, window};

/// A journal on the real disk that holds the script's first window and a part of its second.
struct Home {
    home: tempfile::TempDir,
    records: Vec<Record>,
}

impl Home {
    fn new() -> Home {
        let home = tempfile::tempdir().unwrap();
        let records = vec![register(0, 1), leave(0, 2), open(0), register(1, 3), register(1, 4)];
        let home = Home { home, records };
        home.write(&home.records);
        home
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("journal")
    }

    fn file(&self, stem: &str) -> PathBuf {
        self.dir().join("2026-11-23").join(format!("{stem}.jsonl"))
    }

    fn open(&self, accept_damage: bool) -> Opened {
        try_open(Disk, &self.dir(), accept_damage)
    }

    fn write(&self, records: &[Record]) {
        let (mut journal, ..) = self.open(false).unwrap();
        block_on(Ledger::default().propose(&mut journal, vec![records.to_vec()]));
    }

    /// Changes the lines of a file.
    fn edit(&self, stem: &str, edit: impl FnOnce(&mut Vec<String>)) {
        let text = std::fs::read_to_string(self.file(stem)).unwrap();
        let mut lines = text.split_inclusive('\n').map(str::to_owned).collect();
        edit(&mut lines);
        std::fs::write(self.file(stem), lines.concat()).unwrap();
    }
}

#[test]
fn the_log_is_text_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let text = std::fs::read_to_string(home.file("23-58")).unwrap();
    let types: Vec<_> = text.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(types, ["window", "register", "leave", "open"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.dir()), mode(&home.file("23-58"))), (0o700, 0o600));
    let (_, recovered, seen) = home.open(false).unwrap();
    assert_eq!((seen, recovered.cut.len(), recovered.damaged.len()), (home.records, 0, 0));
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
        let (_, recovered, seen) = home.open(true).unwrap();
        let kept = |(index, _): &(usize, &Record)| Some(*index) != lost;
        let good: Vec<_> = home.records.iter().enumerate().filter(kept).map(|(_, r)| r).collect();
        assert_eq!(seen.iter().collect::<Vec<_>>(), good, "line {line}");
        assert_eq!(recovered.damaged, [home.file("23-59.jsonl.damaged-1").with_extension("")]);
        let (_, recovered, again) = home.open(false).unwrap();
        assert_eq!((again, recovered.damaged.len(), recovered.foreign.len()), (seen, 0, 0));
    }
}

#[test]
fn a_torn_end_is_cut_off_and_written_over() {
    let home = Home::new();
    for torn in ["{\"type\":\"regis", "\0\0\0\0\0\0\0\0"] {
        home.edit("23-59", |lines| lines.push(torn.into()));
        let (_, recovered, seen) = home.open(false).unwrap();
        assert_eq!((seen, recovered.cut), (home.records.clone(), vec![home.file("23-59")]));
    }
    home.write(&[open(1)]);
    let (_, recovered, seen) = home.open(false).unwrap();
    assert_eq!((seen.len(), recovered.cut.len()), (home.records.len() + 1, 0));
}

#[test]
fn nothing_comes_after_an_opening() {
    let home = Home::new();
    home.write(&[register(0, 9)]);
    let said = home.open(false).unwrap_err().to_string();
    assert!(said.contains("line 5") && said.contains("after the opening"), "{said}");
    assert_eq!(home.open(true).unwrap().2, home.records);
}

#[test]
fn a_newer_format_is_refused_even_with_damage_accepted() {
    let home = Home::new();
    home.edit("23-59", |lines| {
        let body =
            lines[0].split(",\"crc\"").next().unwrap().replace("\"format\":1", "\"format\":9");
        lines[0] = format!("{body},\"crc\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    });
    for accept_damage in [false, true] {
        let said = home.open(accept_damage).unwrap_err().to_string();
        assert!(said.contains("its format is 9") && said.contains("23-59.jsonl"), "{said}");
    }
}

#[test]
fn what_is_not_ours_is_named_and_left_alone() {
    let home = Home::new();
    let foreign = [home.dir().join("2026-11-23/23-59.jsonl~"), home.dir().join("notes")];
    for path in &foreign {
        std::fs::write(path, "").unwrap();
    }
    let (_, recovered, seen) = home.open(false).unwrap();
    assert_eq!((seen, recovered.foreign), (home.records, foreign.to_vec()));
    assert!(foreign.iter().all(|path| path.exists()));
}

#[test]
fn a_discarded_window_goes_and_its_days_folder_with_the_last() {
    let home = Home::new();
    let (mut journal, ..) = home.open(false).unwrap();
    journal.discard(window(0));
    drop(journal);
    assert!(!home.file("23-58").exists() && home.file("23-59").exists());
    let (mut journal, ..) = home.open(false).unwrap();
    journal.discard(window(1));
    block_on(Ledger::default().propose(&mut journal, vec![vec![register(2, 1)]]));
    drop(journal);
    let left: Vec<_> = Disk.list(&home.dir()).unwrap();
    assert_eq!(left.iter().map(|item| item.name().unwrap()).collect::<Vec<_>>(), ["2026-11-24"]);
}

#[test]
fn windows_of_another_length_are_read_written_and_discarded_under_their_names() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("journal");
    let open = |seconds| {
        let (mut seen, length) = (0, Length::new(Duration::from_secs(seconds)).unwrap());
        let mut fold = |_: Header, record: Option<Record>| seen += usize::from(record.is_some());
        let (journal, found) =
            FileJournal::open(Disk, dir.clone(), length, false, &mut fold).unwrap();
        (journal, found.files, seen)
    };
    let (mut journal, ..) = open(2);
    block_on(Ledger::default().propose(&mut journal, vec![vec![register(0, 1)]]));
    drop(journal);
    let path = dir.join("2026-11-23/23-58-00.jsonl");
    let (mut journal, files, seen) = open(60);
    assert_eq!((files[0].length.seconds(), seen, path.exists()), (2, 1, true));
    block_on(Ledger::default().propose(&mut journal, vec![vec![leave(0, 2)]]));
    drop(journal);
    let (mut journal, _, seen) = open(60);
    assert_eq!(seen, 2);
    journal.discard(window(0));
    drop(journal);
    assert!(!path.exists());
}
