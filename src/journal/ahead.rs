//! Lines read on a thread of their own, a few batches ahead of who folds over them: half of a start
//! is reading text, the other half waiting for memory.
//!
//! ```text
//!   file ──▶ lines ──▶ judged ══ batches, in order ══▶ fold
//!            a thread of its own                       who asked
//! ```

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use super::lines::{FileLines, Line};

/// Lines that are handed over at once.
const BATCH: usize = 256;
/// Batches that may wait.
const AHEAD: usize = 4;

/// A line, and where it stood.
pub(super) struct Judged {
    pub(super) line: Line,
    /// From 1.
    pub(super) number: u64,
    /// Where in the file it starts.
    pub(super) start: u64,
}

/// The lines in their order, ending with the file or with an error. Whoever drops them ends the
/// thread.
pub(super) fn read<'scope>(
    scope: &'scope Scope<'scope, '_>,
    lines: &'scope mut FileLines,
) -> io::Result<impl Iterator<Item = io::Result<Judged>>> {
    let (batches, read) = sync_channel(AHEAD);
    Builder::new().name("replay".into()).spawn_scoped(scope, || send_all(lines, batches))?;
    Ok(read.into_iter().flatten())
}

fn send_all(lines: &mut FileLines, batches: SyncSender<Vec<io::Result<Judged>>>) {
    loop {
        let batch = batch(lines);
        let is_last = batch.len() < BATCH;
        if batches.send(batch).is_err() || is_last {
            return;
        }
    }
}

/// A full batch, but at the end of the file or behind an error.
fn batch(lines: &mut FileLines) -> Vec<io::Result<Judged>> {
    let mut batch = Vec::with_capacity(BATCH);
    while batch.len() < BATCH
        && !batch.last().is_some_and(io::Result::is_err)
        && let Some(line) = lines.next().transpose()
    {
        let (number, start) = (lines.number(), lines.start());
        batch.push(line.map(|line| Judged { line, number, start }));
    }
    batch
}
