//! Accepts HTTP connections, up to a limit, each with timeouts: a client that is slow or silent
//! holds one for seconds only, and a bounded amount of memory.

use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::clock::Clock;

use super::SHUTDOWN_TIMEOUT;
use super::paced::Paced;
use super::places::{Place, Places};
use super::refusals::{Refusal, Refusals};

/// The most HTTP connections at once, if there are files for them; further ones get a 503.
pub const MAX_CONNECTIONS: usize = 512;

/// How long the head of a request may take to come, including the idle time before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may last in all that is one of the last, kept for health checks.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes in memory of a request's head, or of a response that is being sent.
const MAX_BUFFER_BYTES: usize = 16 << 10;

/// The send buffer of a connection, in bytes, of which Linux takes twice as much and frees it in pieces as
/// large: at the slowest rate (`paced.rs`) that takes 16 s.
const SEND_BUFFER: usize = 32 << 10;

/// How many header fields a request may have.
const MAX_HEADERS: usize = 64;

/// How long to wait after a connection could not be accepted, as when no file handle is left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The response to a connection beyond the most that there may be.
const FULL_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                      Content-Length: 0\r\nConnection: close\r\n\r\n";

/// What connections are accepted and answered by.
pub(super) struct Rules {
    pub(super) clock: Clock,
    pub(super) places: Places,
    pub(super) refusals: Refusals,
    /// Answers requests for everything.
    pub(super) all: Router,
    /// Answers health checks alone, on the last connections that there may be.
    pub(super) checks: Router,
}

/// Serves HTTP until `stopped`; then aborts the task `writer`, which ends the event streams, and
/// waits up to `SHUTDOWN_TIMEOUT` for other responses.
pub(super) async fn serve(
    listener: TcpListener,
    rules: Rules,
    mut stopped: oneshot::Receiver<()>,
    writer: AbortHandle,
) {
    let rules = Arc::new(rules);
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => match rules.places.take(from.ip()) {
                    Ok(place) => {
                        let (rules, stopping) = (rules.clone(), stopping.clone());
                        let client = from.ip();
                        connections.spawn(serve_connection(stream, client, rules, stopping, place));
                    }
                    Err(why) => refuse(&stream, &rules.refusals, why),
                },
                Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, stop));
    writer.abort();
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(SHUTDOWN_TIMEOUT, rest).await;
}

fn refuse(stream: &TcpStream, refusals: &Refusals, why: Refusal) {
    refusals.count(why);
    let socket = SockRef::from(stream);
    let _ = socket.send(FULL_RESPONSE);
    // What has come and is not read would make the system reset the connection, response and all.
    let _ = (&*socket).read(&mut [0; MAX_BUFFER_BYTES]);
}

async fn serve_connection(
    stream: TcpStream,
    client: IpAddr,
    rules: Arc<Rules>,
    mut stopping: watch::Receiver<()>,
    place: Place,
) {
    limit(&stream);
    let (router, longest) = match place.is_for_checks() {
        true => (&rules.checks, CHECK_TIMEOUT),
        false => (&rules.all, Duration::MAX),
    };
    let service = TowerToHyperService::new(router.clone());
    let answer = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        service.call(request)
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(!place.is_for_checks())
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(Paced::new(stream, rules.clock), service_fn(answer));
    let served = timeout(longest, async {
        tokio::select! {
            served = &mut connection => return served,
            _ = stopping.changed() => std::pin::Pin::new(&mut connection).graceful_shutdown(),
        }
        (&mut connection).await
    });
    let is_late = match served.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.is_timeout(),
        Err(_) => true,
    };
    count(&rules.refusals, &connection.into_parts().io, is_late);
}

/// Counts a connection that has failed because its client was too slow. Other errors concern that
/// client alone, and an idle connection that is closed is no failure.
fn count(refusals: &Refusals, io: &Paced, is_late: bool) {
    if io.is_cut() {
        refusals.count(Refusal::SlowReader);
    } else if is_late && !io.is_answered() {
        refusals.count(Refusal::SlowRequest);
    }
}

/// Limits a connection's send buffer: a client that reads nothing, or is gone, would otherwise hold
/// megabytes, and the connection for longer. (`TCP_USER_TIMEOUT` would also cut slow but steady readers.)
fn limit(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = stream.set_nodelay(true);
}
