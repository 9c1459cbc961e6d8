//! Whether it lives, and whether it can promise anything.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::reply::{self, Problem};

/// How long the registry may be silent: it shows itself every second, whatever happens.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Well {
    status: &'static str,
}

/// `/livez`: whether the registry moves.
pub(super) async fn alive(State(site): State<Arc<Site>>) -> Response {
    match stuck(&site) {
        Some(problem) => problem.into_response(),
        None => reply::json(StatusCode::OK, &Well { status: "alive" }),
    }
}

/// `/readyz`: whether what it promises can be stored.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Response {
    if let Some(problem) = stuck(&site) {
        return problem.into_response();
    }
    if !site.feed.snapshot().log_works {
        let reason = "the log cannot be written, so that no registration is taken: make room on \
                      the disk of --data, or see what the program says on stderr";
        return Problem::busy("log_not_writable", reason).into_response();
    }
    reply::json(StatusCode::OK, &Well { status: "ready" })
}

fn stuck(site: &Site) -> Option<Problem> {
    let silent = site.clock.now().mono.saturating_sub(site.feed.last_heard());
    let reason = || format!("nothing was heard of the registry for {} s", silent.as_secs());
    (silent > SILENCE).then(|| Problem::busy("registry_silent", reason()))
}
