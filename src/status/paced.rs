//! Cuts a connection whose client takes an answer too slowly: neither hyper nor the kernel does, as
//! long as some bytes are taken now and then.
//!
//! A connection that is idle, as an event stream between two events, is never cut here.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::clock::Clock;

/// How long a client may let an answer wait, in all: each byte that it takes gives it more time.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How many bytes a client has to take in a second, on average, while more are waiting.
const MIN_RATE: u32 = 4 << 10;

/// How much longer a client may let an answer wait.
#[derive(Debug)]
struct Patience {
    left: Duration,
    /// Since when the socket has been full, on the monotonic clock.
    full_since: Option<Duration>,
}

impl Patience {
    /// Notes that the socket is full at `now`; returns for how much longer it may be.
    fn note_full(&mut self, now: Duration) -> Duration {
        let since = *self.full_since.get_or_insert(now);
        self.left.saturating_sub(now.saturating_sub(since))
    }

    /// Notes that the socket took this many bytes at `now`.
    fn note_taken(&mut self, now: Duration, bytes: usize) {
        self.left = self.note_full(now);
        self.full_since = None;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1).saturating_mul(bytes) / MIN_RATE;
        self.left = self.left.saturating_add(earned).min(MAX_WAIT);
    }
}

/// A connection that fails once its client has let an answer wait for too long.
pub(super) struct Paced {
    io: TokioIo<TcpStream>,
    clock: Clock,
    patience: Patience,
    /// Wakes the task when the patience ends; set while the socket is full.
    end: Option<Pin<Box<Sleep>>>,
    is_cut: bool,
    is_answered: bool,
}

impl Paced {
    /// Makes a connection of which nothing has been read or written yet.
    pub(super) fn new(stream: TcpStream, clock: Clock) -> Paced {
        let patience = Patience { left: MAX_WAIT, full_since: None };
        let io = TokioIo::new(stream);
        Paced { io, clock, patience, end: None, is_cut: false, is_answered: false }
    }

    /// Returns whether the connection has failed because its client was too slow.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns whether something was written since the client last sent anything.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    fn pace(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let now = self.clock.now().mono;
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.patience.note_taken(now, bytes);
                (self.end, self.is_answered) = (None, true);
            }
            Poll::Pending => {
                let left = self.patience.note_full(now);
                let end = self.end.get_or_insert_with(|| Box::pin(sleep(left)));
                if end.as_mut().poll(cx).is_ready() {
                    self.is_cut = true;
                    return Poll::Ready(Err(ErrorKind::TimedOut.into()));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl Read for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.is_answered &= read.is_pending();
        read
    }
}

impl Write for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.pace(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.pace(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns for how many whole seconds a client is waited for that takes `bytes` every `pause`
    /// seconds, up to an hour.
    fn waited(bytes: usize, pause: u32) -> u32 {
        let mut patience = Patience { left: MAX_WAIT, full_since: None };
        patience.note_full(Duration::ZERO);
        for second in 1..3600 {
            if patience.note_full(SECOND * second).is_zero() {
                return second - 1;
            }
            if second % pause == 0 {
                patience.note_taken(SECOND * second, bytes);
                patience.note_full(SECOND * second);
            }
        }
        3600
    }

    #[test]
    fn who_takes_nothing_or_a_byte_now_and_then_is_cut() {
        assert_eq!((waited(0, 3), waited(1, 3)), (29, 30));
        assert!((45..75).contains(&waited(2048, 1)), "half the rate: {}", waited(2048, 1));
    }

    #[test]
    fn who_keeps_to_the_rate_is_waited_for_in_whatever_pieces() {
        assert_eq!(waited(4 << 10, 1), 3600);
        assert_eq!(waited(64 << 10, 16), 3600);
    }

    #[test]
    fn an_idle_connection_loses_nothing_and_a_fast_one_saves_nothing_up() {
        let mut patience = Patience { left: MAX_WAIT, full_since: None };
        patience.note_taken(SECOND, 1 << 30);
        assert_eq!(patience.note_full(SECOND * 3000), MAX_WAIT);
        assert_eq!(patience.note_full(SECOND * 3025), SECOND * 5);
        patience.note_taken(SECOND * 3025, 8 << 10);
        assert_eq!(patience.note_full(SECOND * 9000), SECOND * 7);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_whose_socket_stays_full_fails_and_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut connection = Paced::new(listener.accept().await.unwrap().0, Clock::start());
        connection.patience.left = Duration::from_millis(20);
        let write = std::future::poll_fn(|cx| {
            while let Poll::Ready(Ok(_)) = Pin::new(&mut connection).poll_write(cx, &[0; 4096]) {
                connection.patience.left = Duration::from_millis(20);
            }
            if connection.is_cut() { Poll::Ready(()) } else { Poll::Pending }
        });
        let is_cut = tokio::time::timeout(Duration::from_secs(120), write).await.is_ok();
        assert!(is_cut && connection.is_answered());
    }
}
