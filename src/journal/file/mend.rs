//! Mends a journal file: removes what a crash, a failed write or damage left in it. Every step is
//! durable when it is done, and can be repeated after a crash in its middle.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::store::{ErrorContext, Handle, Store, StoreError, parent, with_end, write_whole};

use super::lines::{FileLines, Line};

/// Cuts a file durably to its first `length` bytes; a shorter file is an error.
pub(super) fn cut(store: &impl Store, path: &Path, length: u64) -> Result<(), StoreError> {
    cut_open(&mut store.append(path).at("open", path)?, path, length)
}

/// Cuts an open file durably to its first `length` bytes; `path`, which it had, is for the messages.
pub(super) fn cut_open(file: &mut impl Handle, path: &Path, length: u64) -> Result<(), StoreError> {
    let found = file.length().at("read", path)?;
    if found < length {
        let why = format!(
            "it was {length} bytes long and is {found}: something else wrote to it; put it right, \
             and restart the registry"
        );
        return Err(StoreError::new("mend", path, io::Error::other(why)));
    }
    file.cut(length).at("cut", path)?;
    file.sync().at("sync", path)
}

/// Removes, durably, a file in which nothing was acked, and its day's folder if that is empty then.
pub(super) fn remove(store: &impl Store, path: &Path) -> Result<(), StoreError> {
    store.remove_file(path).at("remove", path)?;
    let day = parent(path);
    match store.remove_dir(day) {
        Ok(()) => store.sync_dir(parent(day)).at("sync", parent(day)),
        Err(_) => store.sync_dir(day).at("sync", day),
    }
}

/// Makes the content of a file durable.
pub(super) fn sync(store: &impl Store, path: &Path) -> Result<(), StoreError> {
    store.append(path).at("open", path)?.sync().at("sync", path)
}

/// Makes the name of a file and that of its day's folder durable.
pub(super) fn sync_names(store: &impl Store, path: &Path) -> Result<(), StoreError> {
    let day = parent(path);
    store.sync_dir(day).at("sync", day)?;
    store.sync_dir(parent(day)).at("sync", parent(day))
}

/// Copies a file to the first of `11-29.jsonl.damaged-1`, `-2`, … that is free, or does nothing if
/// one of them is the same: a registry that is restarted again and again must not fill the disk.
pub(super) fn copy_aside(store: &impl Store, path: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    loop {
        let copy = with_end(path, &format!(".damaged-{number}"));
        match store.read(&copy) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_whole(store, &copy, |file| io::copy(&mut store.read(path)?, file).map(drop))?;
                return Ok(copy);
            }
            found => {
                let original = store.read(path).at("read", path)?;
                if same_bytes(found.at("read", &copy)?, original).at("read", &copy)? {
                    return Ok(copy);
                }
            }
        }
        number += 1;
    }
}

/// Returns whether both readers yield the same bytes.
fn same_bytes(one: Box<dyn Read>, other: Box<dyn Read>) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a != b => return Ok(false),
            _ => {}
        }
    }
}

/// Replaces a file by one with its header, in the format of today, and its undamaged lines, before and
/// after the damage.
pub(super) fn rewrite(
    store: &impl Store,
    path: &Path,
    mut lines: FileLines,
) -> Result<(), StoreError> {
    write_whole(store, path, |file| {
        let mut buffer = Vec::new();
        while let Some(line) = lines.next()? {
            match line {
                Line::Record(_) => file.write_all(lines.bytes())?,
                Line::Header(_) | Line::Bad(_) if lines.number() == 1 => {
                    lines.header().write_line(&mut buffer);
                    file.write_all(&buffer)?;
                }
                Line::Header(_) | Line::Bad(_) | Line::Torn => {}
            }
        }
        Ok(())
    })
}
