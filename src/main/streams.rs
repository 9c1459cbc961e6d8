//! Writes to stdout and stderr. Stderr has a thread of its own: nobody who logs or prints there waits,
//! also if nobody reads it.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::Duration;

use hit7::events::EventSender;
use hit7::thread::{self, ThreadError};
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(RETRY_DELAY),
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

/// The thread that writes to stderr; `None` before it is started and once it is closed.
static WRITER: Mutex<Option<Writer>> = Mutex::new(None);

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
    /// Starts a thread that writes to `out`, and passes the number of lines that were dropped to
    /// `log_lost` once there is room again.
    fn start(
        mut out: impl Write + Send + 'static,
        log_lost: impl Fn(u64) + Send + 'static,
    ) -> Result<Writer, ThreadError> {
        let (queue, mut lines) = mpsc::channel(MAX_QUEUED_LINES);
        let (end, ended) = sync_channel(1);
        let write = move || {
            while let Some(line) = lines.blocking_recv() {
                match line {
                    // If this fails, there is nowhere to report it.
                    Line::Text(text) => drop(out.write_all(&text)),
                    Line::Lost(lines) => log_lost(lines),
                }
            }
            let _ = end.send(());
        };
        thread::start("stderr", write)?;
        Ok(Writer { queue: EventSender::new(queue, Line::Lost), ended })
    }
}

/// Starts the thread that writes to stderr.
pub(crate) fn start_stderr() -> Result<(), ThreadError> {
    *writer() = Some(Writer::start(Waiting(io::stderr()), log_lost)?);
    Ok(())
}

/// Queues a whole line for stderr; before the thread is started and once it is closed, writes the line.
pub(crate) fn write_stderr(line: &[u8]) {
    match writer().as_mut() {
        Some(writer) => drop(writer.queue.send(Line::Text(line.to_vec()))),
        // If this fails, there is nowhere to report it.
        None => drop(Waiting(io::stderr()).write_all(line)),
    }
}

/// Waits until all lines for stderr are written, at most for `timeout`.
pub(crate) fn close_stderr(timeout: Duration) {
    let Some(Writer { queue, ended }) = writer().take() else { return };
    drop(queue);
    let _ = ended.recv_timeout(timeout);
}

fn writer() -> MutexGuard<'static, Option<Writer>> {
    WRITER.lock().expect("no holder of this lock panics")
}

fn log_lost(lines: u64) {
    tracing::warn!(lines, "lines not written: stderr was not read in time");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A writer that passes on what it is given, and takes the next only when that was received.
    struct Slow(mpsc::SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted_and_a_failing_stream_changes_nothing() {
        let ((slow, written), (lost, told)) = (mpsc::sync_channel(0), mpsc::channel());
        let mut writer = Writer::start(Slow(slow), move |lines| lost.send(lines).unwrap()).unwrap();
        let text = |n: usize| n.to_string().into_bytes();
        let all = 3 * MAX_QUEUED_LINES;
        (0..all).for_each(|n| assert!(writer.queue.send(Line::Text(text(n)))));
        for n in 0..MAX_QUEUED_LINES {
            assert_eq!(written.recv().unwrap(), text(n), "in their order");
        }
        assert!(writer.queue.send(Line::Text(text(all))));
        // One more line had its place: the thread had taken the first from the queue.
        let more = written.iter().take_while(|line| *line != text(all)).count();
        assert_eq!(told.recv().unwrap() as usize, all - MAX_QUEUED_LINES - more);
        drop(written);
        drop(writer.queue);
        assert_eq!(writer.ended.recv(), Ok(()), "it ends, although it can write nothing");
    }
}
