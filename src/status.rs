//! Serves a registry's state over HTTP: a page, JSON, metrics and health checks.
//!
//! ```text
//!   registry's thread          │          this thread
//!   Snapshot, a few a second ──┼──▶ feed ──▶ events, one text for all ──▶ every open page
//!                              │     └─────▶ /api/v1/window, /metrics, /readyz
//!                documents ────┼──────────▶ /api/v1/windows
//! ```
//!
//! The server has a thread and a runtime of its own, and takes nothing from the registry but
//! snapshots: clients that are slow, silent or many do not slow the registry down. Of the next
//! window the server knows how many members there are, not who they are.

mod current;
mod documents;
mod feed;
mod health;
mod hosts;
mod lateness;
mod listen;
mod metrics;
mod paced;
mod page;
mod places;
mod refusals;
mod reply;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::get;
use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::snapshot::Snapshot;
use crate::thread::{self, Runtime, ThreadError};

use current::Current;
use documents::Documents;
use feed::Feed;
use hosts::Hosts;
use listen::Rules;
use metrics::Metrics;
use places::Places;
use refusals::Refusals;
use reply::LargeTexts;

pub use hosts::HostName;
pub use listen::MAX_CONNECTIONS;

/// How long shutdown waits for responses that are being sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// The state that all request handlers share.
struct Site {
    clock: Clock,
    feed: Feed,
    current: Current,
    documents: Documents,
    hosts: Hosts,
    large: LargeTexts,
    metrics: Metrics,
    refusals: Refusals,
}

/// The configuration of the HTTP server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the documents.
    pub windows: PathBuf,
    /// The names that the server has besides `localhost` and its addresses.
    pub hosts: Vec<HostName>,
    /// The most connections at once, as far as open files allow; never more than [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Clients that may have all connections and large answers, and not only a quarter.
    pub trust: Vec<IpNet>,
}

/// The reason why the HTTP server cannot start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error("cannot serve HTTP: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

/// The handle of the HTTP server's thread; dropping it stops the server.
#[derive(Debug)]
pub struct Status {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Status {
    /// Serves the registry's `snapshots` and documents on `listener`.
    pub fn start(
        listener: TcpListener,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        config: Config,
        clock: Clock,
    ) -> Result<Status, StartError> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let most = config.connections.min(listen::MAX_CONNECTIONS);
        let refusals = Refusals::new();
        let large = LargeTexts::new(config.trust.clone(), refusals.clone());
        let places = Places::new(most, config.trust);
        let documents = Documents::new(config.windows)?;
        let hosts = Hosts::new(addr, config.hosts);
        let (feed, writer) = Feed::new(snapshots, clock, most);
        let metrics = Metrics::new(&feed, &refusals, places.clone());
        let current = Current::new(LargeTexts::shared(refusals.clone()));
        let site = Site { clock, feed, current, documents, hosts, large, metrics, refusals };
        let runtime = Runtime::new()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let served = runtime.block_on(run(listener, places, site, writer, stopped));
            if let Err(error) = served {
                tracing::error!("the page on {addr} has stopped: {error}; the registry goes on");
            }
        };
        let thread = thread::start("status", serve)?;
        Ok(Status { addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address that the server listens on.
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
    places: Places,
    site: Site,
    writer: feed::Writer,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let writing = tokio::spawn(writer.run());
    let (clock, refusals) = (site.clock, site.refusals.clone());
    let [all, checks] = routers(&Arc::new(site));
    let rules = Rules { clock, places, refusals, all, checks };
    listen::serve(listener, rules, stopped, writing.abort_handle()).await;
    Ok(())
}

/// Returns the router of all requests, and that of health checks and metrics alone.
fn routers(site: &Arc<Site>) -> [Router; 2] {
    let checks = Router::new()
        .route("/metrics", get(metrics::show))
        .route("/livez", get(health::alive))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(reply::only_get);
    let all = checks
        .clone()
        .merge(page::routes())
        .route("/api/v1/window", get(current::show))
        .route("/api/v1/windows", get(documents::list))
        .route("/api/v1/windows/{window}", get(documents::show))
        .route("/api/v1/events", get(feed::stream))
        .fallback(reply::nothing_here)
        .method_not_allowed_fallback(reply::only_get);
    [all, checks.fallback(reply::full)].map(|router| {
        router
            .layer(from_fn_with_state(site.clone(), hosts::check))
            .layer(map_response(page::harden))
            .with_state(site.clone())
    })
}
