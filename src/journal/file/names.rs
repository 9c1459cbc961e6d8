//! Lists the journal's folder, and sorts the files in it by their names.

use std::path::{Path, PathBuf};

use crate::store::{ErrorContext, Item, Kind, Store, StoreError};
use crate::window::{Length, Window};

/// The name of a journal file, and the window that it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JournalFileName {
    /// The window whose journal the file is.
    pub(super) window: Window,
    /// The file name without its extension: `11-29`.
    pub(super) stem: String,
    /// The whole path of the file.
    pub(super) path: PathBuf,
}

impl JournalFileName {
    /// Returns whether a window of `length` begins then and would have this name.
    pub(super) fn fits(&self, length: Length) -> bool {
        let JournalFileName { window, ref stem, .. } = *self;
        length.window_at(window.opens()) == window && window.stem(length) == *stem
    }
}

/// All files found in the journal's folder.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The journal's files, oldest window first.
    pub(super) files: Vec<JournalFileName>,
    /// Temporary files that a crash left.
    pub(super) leftovers: Vec<PathBuf>,
    /// Files and folders that are not the journal's.
    pub(super) foreign: Vec<PathBuf>,
}

/// Returns the path of the journal file of `window`.
pub(super) fn path(dir: &Path, window: Window, length: Length) -> PathBuf {
    dir.join(window.day()).join(format!("{}.jsonl", window.stem(length)))
}

/// Lists the files in `dir` and its folders of days.
pub(super) fn survey(store: &impl Store, dir: &Path) -> Result<Survey, StoreError> {
    let mut survey = Survey::default();
    for day in store.list(dir).at("list", dir)? {
        if !is_day(&day) {
            survey.foreign.push(day.path);
            continue;
        }
        for item in store.list(&day.path).at("list", &day.path)? {
            survey.place(day.name().unwrap_or_default(), item);
        }
    }
    survey.files.sort();
    survey.leftovers.sort();
    survey.foreign.sort();
    Ok(survey)
}

/// Finds the journal file of `window` by its name, whatever the length of the window is.
pub(super) fn find(
    store: &impl Store,
    dir: &Path,
    window: Window,
) -> Result<Option<JournalFileName>, StoreError> {
    let (mut survey, day) = (Survey::default(), dir.join(window.day()));
    match store.list(&day).at("list", &day) {
        Err(error) if error.is_missing() => {}
        listed => listed?.into_iter().for_each(|item| survey.place(&window.day(), item)),
    }
    Ok(survey.files.into_iter().find(|named| named.window == window))
}

fn is_day(item: &Item) -> bool {
    let name = item.name().unwrap_or_default();
    item.kind == Kind::Dir && Window::named(name, "00-00").is_some()
}

/// Returns whether a file name ends as that of a journal, or of its copy, which is being written.
fn is_half_written(end: &str) -> bool {
    let copied = end.strip_prefix("jsonl.damaged-").and_then(|end| end.strip_suffix(".tmp"));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|digit| digit.is_ascii_digit());
    end == "jsonl.tmp" || copied.is_some_and(is_number)
}

impl Survey {
    fn place(&mut self, day: &str, item: Item) {
        let (stem, end) = item.name().and_then(|name| name.split_once('.')).unwrap_or_default();
        let window = Window::named(day, stem).filter(|_| item.kind == Kind::File);
        match (window, end) {
            (Some(window), "jsonl") => {
                self.files.push(JournalFileName { window, stem: stem.to_owned(), path: item.path });
            }
            (Some(_), end) if is_half_written(end) => self.leftovers.push(item.path),
            // A copy of a damaged file, which was reported when it was made.
            (Some(_), end) if end.starts_with("jsonl.damaged-") => {}
            _ => self.foreign.push(item.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Disk;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn every_name_has_its_place() {
        let home = tempfile::tempdir().unwrap();
        let day = home.path().join("2026-11-23");
        fs::create_dir(&day).unwrap();
        fs::create_dir(home.path().join("2026-11-31")).unwrap();
        for name in ["11-30.jsonl", "11-29-58.jsonl", "11-29.jsonl.damaged-1", "11-30.jsonl.tmp"] {
            fs::write(day.join(name), "").unwrap();
        }
        for name in [
            "11-29.jsonl.damaged-12.tmp",
            "11-29.jsonl.damaged-.tmp",
            "11-29.jsonl.damaged-1.x.tmp",
        ] {
            fs::write(day.join(name), "").unwrap();
        }
        for name in ["11-30.jsonl~", "11-61.jsonl", "notes"] {
            fs::write(day.join(name), "").unwrap();
        }
        for second in [7, 3, 9, 1, 5, 8, 2, 6, 4] {
            fs::write(day.join(format!("11-31-0{second}.jsonl")), "").unwrap();
        }
        let survey = survey(&Disk, home.path()).unwrap();
        let stems: Vec<_> = survey.files.iter().map(|named| named.stem.as_str()).collect();
        assert_eq!(stems[..2], ["11-29-58", "11-30"]);
        assert!(stems[2..].is_sorted(), "{stems:?}");
        let leftovers =
            ["11-29.jsonl.damaged-12.tmp", "11-30.jsonl.tmp"].map(|name| day.join(name));
        assert_eq!(survey.leftovers, leftovers);
        let foreign = ["11-30.jsonl~", "11-61.jsonl", "notes"].map(|name| day.join(name));
        assert_eq!(survey.foreign[..3], foreign);
        assert_eq!(survey.foreign[3..], [home.path().join("2026-11-31")]);
    }

    #[test]
    fn a_name_fits_windows_of_its_form_that_start_then() {
        let length = |seconds| Length::new(Duration::from_secs(seconds)).unwrap();
        let window: Window = "2026-11-23T11:29:00Z".parse().unwrap();
        let named = JournalFileName { window, stem: "11-29".into(), path: PathBuf::new() };
        assert!(named.fits(Length::MINUTE));
        assert!(!named.fits(length(2)), "it would be 11-29-00");
        assert!(!named.fits(length(120)), "none starts at an odd minute");
    }
}
