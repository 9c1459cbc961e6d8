//! Health checks: whether the registry is alive, and whether it serves and writes all that it should.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::snapshot::Snapshot;

use super::Site;
use super::reply::{self, Problem};

/// How long the registry counts as alive after its last snapshot; one is due at least every second.
const MAX_SILENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Healthy {
    status: &'static str,
}

/// Answers `/livez`: 200 if the registry still sends snapshots, else 503.
pub(super) async fn alive(State(site): State<Arc<Site>>) -> Response {
    match silence_problem(&site) {
        Some(problem) => problem.into_response(),
        None => reply::json(StatusCode::OK, &Healthy { status: "alive" }),
    }
}

/// Answers `/readyz`: 200 if the registry serves and writes all that it should, else 503.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Response {
    match silence_problem(&site).or_else(|| problem(&site.feed.snapshot())) {
        Some(problem) => problem.into_response(),
        None => reply::json(StatusCode::OK, &Healthy { status: "ready" }),
    }
}

/// Returns a 503 if the registry does not serve or write all that it should, else `None`.
fn problem(snapshot: &Snapshot) -> Option<Problem> {
    if !snapshot.journal_works {
        let reason = "the journal cannot be written, so that no registration is acked: see what the \
                      program says on stderr";
        return Some(Problem::busy("log_not_writable", reason));
    }
    let trouble = snapshot.troubles.first()?;
    Some(Problem::busy(trouble.code(), trouble.to_string()))
}

/// Returns a 503 if the registry's last snapshot is older than `MAX_SILENCE`, else `None`.
fn silence_problem(site: &Site) -> Option<Problem> {
    let silence = site.clock.now().mono.saturating_sub(site.feed.last_heard());
    let reason = || format!("nothing was heard of the registry for {} s", silence.as_secs());
    (silence > MAX_SILENCE).then(|| Problem::busy("registry_silent", reason()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Trouble;

    #[test]
    fn a_journal_that_refuses_is_told_before_any_other_trouble() {
        let mut snapshot = Snapshot::example();
        assert!(problem(&snapshot).is_none());
        let told = |snapshot: &Snapshot| format!("{:?}", problem(snapshot).unwrap());
        snapshot.troubles = vec![Trouble::Documents(2), Trouble::ClockInDoubt(3_600_000)];
        assert!(told(&snapshot).contains("documents_not_writable"), "{}", told(&snapshot));
        snapshot.journal_works = false;
        assert!(told(&snapshot).contains("log_not_writable"), "{}", told(&snapshot));
    }
}
