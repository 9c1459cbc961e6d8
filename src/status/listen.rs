//! Takes connections, so many at once, each held to its time: who is slow or silent costs a seat
//! for seconds, and memory that is bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::SHUTDOWN_TIMEOUT;

/// Connections at once.
const SEATS: usize = 512;

/// How long a request's head may take, and a connection be idle between two.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what was sent may stay untaken.
const UNTAKEN: Duration = Duration::from_secs(20);

/// What of a request's head, or of an answer on its way, is in memory.
const BUFFER: usize = 16 << 10;

/// What the system holds for a reader that is behind.
const SYSTEM_BUFFER: usize = 64 << 10;

/// Header fields that a request may have.
const FIELDS: usize = 64;

/// How long to wait when no connection can be taken: no files are left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves until `stopped`; then ends the streams, by stopping `editor`, and waits for the rest.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopped: oneshot::Receiver<()>,
    editor: AbortHandle,
) {
    let seats = Arc::new(Semaphore::new(SEATS));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match seats.clone().try_acquire_owned() {
                    Ok(seat) => {
                        let (router, stopping) = (router.clone(), stopping.clone());
                        connections.spawn(converse(stream, router, stopping, seat));
                    }
                    Err(_) => drop(stream.try_write(FULL)),
                },
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, stop));
    editor.abort();
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await;
}

async fn converse(
    stream: TcpStream,
    router: Router,
    mut stopping: watch::Receiver<()>,
    _seat: OwnedSemaphorePermit,
) {
    limit(&stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(FIELDS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on one connection is its client's.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Without these, a client that reads nothing would hold its seat, and megabytes, for long.
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_send_buffer_size(SYSTEM_BUFFER);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(UNTAKEN));
    let _ = stream.set_nodelay(true);
}
