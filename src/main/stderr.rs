//! Writes to stderr on a thread of its own: nobody who logs or prints there waits, also if nobody
//! reads it.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use hit7::events::EventSender;
use tokio::sync::mpsc;

/// The capacity of the queue of lines to write; further ones are dropped and counted.
const MAX_QUEUED_LINES: usize = 1024;

/// The thread that writes; `None` once it is closed, or if the system gave no thread.
static WRITER: LazyLock<Mutex<Option<Writer>>> = LazyLock::new(|| Mutex::new(Writer::start().ok()));

struct Writer {
    queue: EventSender<Line>,
    ended: Receiver<()>,
}

/// A line to be written, or the number of lines that were dropped before it.
enum Line {
    Text(Vec<u8>),
    Lost(u64),
}

impl Writer {
    fn start() -> io::Result<Writer> {
        let (queue, mut lines) = mpsc::channel(MAX_QUEUED_LINES);
        let (end, ended) = sync_channel(1);
        let write = move || {
            while let Some(line) = lines.blocking_recv() {
                match line {
                    Line::Text(text) => write_now(&text),
                    Line::Lost(lines) => {
                        tracing::warn!(lines, "lines not written: stderr was not read in time");
                    }
                }
            }
            let _ = end.send(());
        };
        thread::Builder::new().name("stderr".to_owned()).spawn(write)?;
        Ok(Writer { queue: EventSender::new(queue, Line::Lost), ended })
    }
}

/// Queues a whole line to be written.
pub(crate) fn write(line: &[u8]) {
    match writer().as_mut() {
        Some(writer) => drop(writer.queue.send(Line::Text(line.to_vec()))),
        None => write_now(line),
    }
}

/// Waits until all queued lines are written, at most for `patience`.
pub(crate) fn close(patience: Duration) {
    let Some(Writer { queue, ended }) = writer().take() else { return };
    drop(queue);
    let _ = ended.recv_timeout(patience);
}

fn writer() -> MutexGuard<'static, Option<Writer>> {
    WRITER.lock().expect("no holder of this lock panics")
}

fn write_now(text: &[u8]) {
    // If stderr is closed, there is nowhere to report it.
    let _ = io::stderr().write_all(text);
}
