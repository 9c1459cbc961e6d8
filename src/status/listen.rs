//! Accepts HTTP connections, up to a limit, each with timeouts: a client that is slow or silent
//! holds one for seconds only, and a bounded amount of memory.

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

/// The most HTTP connections at once, if there are files for them; further ones get a 503.
pub const MAX_CONNECTIONS: usize = 512;

/// How long the head of a request may take to come, including the idle time before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged before the kernel drops the connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// The most bytes in memory of a request's head, or of a response that is being sent.
const MAX_BUFFER_BYTES: usize = 16 << 10;

/// The kernel's send buffer of a connection, in bytes: what a slow reader can fill.
const SEND_BUFFER: usize = 64 << 10;

/// How many header fields a request may have.
const MAX_HEADERS: usize = 64;

/// How long to wait after a connection could not be accepted, as when no file handle is left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The response to a connection beyond the most that there may be.
const FULL_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves HTTP on at most `most` connections until `stopped`; then aborts the task `writer`, which ends the event streams, and
/// waits up to `SHUTDOWN_TIMEOUT` for other responses.
pub(super) async fn serve(
    listener: TcpListener,
    most: usize,
    router: Router,
    mut stopped: oneshot::Receiver<()>,
    writer: AbortHandle,
) {
    let permits = Arc::new(Semaphore::new(most));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (router, stopping) = (router.clone(), stopping.clone());
                        connections.spawn(serve_connection(stream, router, stopping, permit));
                    }
                    Err(_) => drop(stream.try_write(FULL_RESPONSE)),
                },
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, stop));
    writer.abort();
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await;
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    mut stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    limit(&stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // An error on one connection concerns its client alone.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Limits a connection's send buffer, and how long sent bytes may stay unacknowledged: a client
/// that reads nothing would otherwise hold the connection, and megabytes, for long.
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(SEND_TIMEOUT));
    let _ = stream.set_nodelay(true);
}
