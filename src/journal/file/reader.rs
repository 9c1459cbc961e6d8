//! Reads back the file of one window that has ended, while the engine writes those of others.

use std::io::BufReader;
use std::path::PathBuf;

use crate::mesh::ListCap;
use crate::record::Header;
use crate::store::{ErrorContext, Store};
use crate::window::{Length, Window};

use super::super::{ReadError, Replayed, WindowReader};
use super::lines::{Line, Lines};
use super::names;

/// A reader of the journal's files, for another thread.
#[derive(Clone, Debug)]
pub(super) struct Reader<S> {
    store: S,
    dir: PathBuf,
}

impl<S: Store> Reader<S> {
    /// Makes a reader of the files in `dir`.
    pub(super) fn new(store: S, dir: PathBuf) -> Reader<S> {
        Reader { store, dir }
    }
}

impl<S: Store> WindowReader for Reader<S> {
    fn read(&self, window: Window, fold: &mut dyn FnMut(Replayed)) -> Result<(), ReadError> {
        let missing = || ReadError::Missing { window, dir: self.dir.clone() };
        let named = names::find(&self.store, &self.dir, window)?.ok_or_else(missing)?;
        let path = named.path.clone();
        let file = self.store.read(&path).at("read", &path)?;
        // Every file that was opened for writing has a header of its own.
        let assumed = Header { window, length: Length::MINUTE, cap: Some(ListCap::default()) };
        let mut lines = Lines::new(BufReader::with_capacity(1 << 16, file), &named, assumed);
        while let Some(line) = lines.next().at("read", &path)? {
            match line {
                Line::Header(header) => fold(Replayed::Begin(header)),
                Line::Record(record) => fold(Replayed::Record(record)),
                Line::Bad(_) | Line::Torn => {
                    return Err(ReadError::Damaged { path, line: lines.number() });
                }
            }
        }
        Ok(())
    }
}
