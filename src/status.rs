//! What others see of a registry over HTTP: a page, JSON, metrics, health.
//!
//! ```text
//!   registry's thread          │          this thread
//!   Snapshot, a few a second ──┼──▶ feed ──▶ events, one text for all ──▶ every open page
//!                              │     └─────▶ /api/v1/window, /metrics, /readyz
//!                documents ────┼──────────▶ /api/v1/windows
//! ```
//!
//! It has a thread and a runtime of its own, and takes nothing from the registry but what it
//! shows: whoever is slow, silent or many here holds up nobody there. Of the next window it knows
//! the count alone.

mod current;
mod documents;
mod feed;
mod health;
mod lateness;
mod listen;
mod metrics;
mod page;
mod reply;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::middleware::map_response;
use axum::routing::get;
use tokio::runtime;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::snapshot::Snapshot;

use current::Current;
use documents::Documents;
use feed::Feed;
use metrics::Metrics;

/// Threads that read documents.
const READERS: usize = 2;

/// The stack that one of them, or the server itself, needs.
const STACK: usize = 1 << 20;

/// How long a stop waits for answers that are on their way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// What the handlers share.
struct Site {
    clock: Clock,
    feed: Feed,
    current: Current,
    documents: Documents,
    metrics: Metrics,
}

/// An HTTP server on a thread of its own; dropped, it stops.
#[derive(Debug)]
pub struct Status {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Status {
    /// Serves what `shown` shows, and the documents in the folder `windows`, on `listener`.
    pub fn start(
        listener: TcpListener,
        shown: watch::Receiver<Arc<Snapshot>>,
        windows: PathBuf,
        clock: Clock,
    ) -> io::Result<Status> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READERS)
            .thread_stack_size(STACK)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(run(listener, shown, windows, clock, stopped));
            if let Err(error) = served {
                tracing::error!("the page on {addr} has stopped: {error}; the registry goes on");
            }
            // A document that is being read may take its time.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("status".into()).stack_size(STACK).spawn(serve)?;
        Ok(Status { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    listener: TcpListener,
    shown: watch::Receiver<Arc<Snapshot>>,
    windows: PathBuf,
    clock: Clock,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (feed, writer) = Feed::new(shown, clock);
    let metrics = Metrics::new(&feed);
    let documents = Documents::new(windows);
    let site = Site { clock, feed, current: Current::default(), documents, metrics };
    let writing = tokio::spawn(writer.run());
    let router = router(Arc::new(site));
    let serving = listen::serve(listener, router, stopped, writing.abort_handle());
    serving.await;
    Ok(())
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .merge(page::routes())
        .route("/api/v1/window", get(current::show))
        .route("/api/v1/windows", get(documents::list))
        .route("/api/v1/windows/{window}", get(documents::show))
        .route("/api/v1/events", get(feed::stream))
        .route("/metrics", get(metrics::show))
        .route("/livez", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(reply::nothing_here)
        .method_not_allowed_fallback(reply::only_get)
        .layer(map_response(page::harden))
        .with_state(site)
}
