//! Writes to stdout and stderr. Stderr has a thread of its own: nobody who logs or prints there waits,
//! also if nobody reads it.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use hit7::events::EventSender;
use tokio::sync::mpsc;

/// The capacity of the queue of lines to write; further ones are dropped and counted.
const MAX_QUEUED_LINES: usize = 1024;

/// How long to wait before a stream that does not take anything now is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// A writer that waits where a stream is full, also if another program that shares the stream has
/// made it non-blocking.
pub(crate) struct Waiting<W>(W);

/// Returns stdout, as a writer that waits where it is full.
pub(crate) fn stdout() -> Waiting<io::Stdout> {
    Waiting(io::stdout())
}

impl<W: Write> Waiting<W> {
    fn retry<T>(&mut self, write: impl Fn(&mut W) -> io::Result<T>) -> io::Result<T> {
        loop {
            match write(&mut self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
                done => return done,
            }
        }
    }
}

impl<W: Write> Write for Waiting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry(W::flush)
    }
}

impl<W: AsFd> AsFd for Waiting<W> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The thread that writes to stderr; `None` once it is closed, or if the system gave no thread.
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

/// Queues a whole line for stderr.
pub(crate) fn write_stderr(line: &[u8]) {
    match writer().as_mut() {
        Some(writer) => drop(writer.queue.send(Line::Text(line.to_vec()))),
        None => write_now(line),
    }
}

/// Waits until all lines for stderr are written, at most for `patience`.
pub(crate) fn close_stderr(patience: Duration) {
    let Some(Writer { queue, ended }) = writer().take() else { return };
    drop(queue);
    let _ = ended.recv_timeout(patience);
}

fn writer() -> MutexGuard<'static, Option<Writer>> {
    WRITER.lock().expect("no holder of this lock panics")
}

fn write_now(text: &[u8]) {
    // If stderr is closed, there is nowhere to report it.
    let _ = Waiting(io::stderr()).write_all(text);
}
