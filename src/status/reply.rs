//! Builds responses in JSON, errors included.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::refusals::Refusal;

/// Returns a response with `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            json_text(status, Body::from(text))
        }
        Err(error) => Problem::failed(error.to_string()).into_response(),
    }
}

/// Returns a response with a body that is already JSON.
pub(super) fn json_text(status: StatusCode, body: Body) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// An error response in JSON: a status, a word for programs and a sentence for people.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    word: &'static str,
    reason: String,
}

impl Problem {
    /// Returns a problem with this status, word and sentence.
    pub(super) fn new(
        status: StatusCode,
        word: &'static str,
        reason: impl Into<String>,
    ) -> Problem {
        Problem { status, word, reason: reason.into() }
    }

    /// Returns a 404: what the client requests does not exist.
    pub(super) fn missing(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::NOT_FOUND, word, reason: reason.into() }
    }

    /// Returns a 400: the request is invalid.
    pub(super) fn bad(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::BAD_REQUEST, word, reason: reason.into() }
    }

    /// Returns a 503: the request can be retried later.
    pub(super) fn busy(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::SERVICE_UNAVAILABLE, word, reason: reason.into() }
    }

    /// Returns a 500: the server failed.
    pub(super) fn failed(reason: impl Into<String>) -> Problem {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Problem { status, word: "failed", reason: reason.into() }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::bad("bad_query", rejection.body_text())
    }
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    error: &'a str,
    reason: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response =
            json(self.status, &ProblemBody { error: self.word, reason: &self.reason });
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            set(&mut response, header::RETRY_AFTER, "1");
        }
        response
    }
}

/// Sets a header of a response, replacing an earlier value.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Returns the 404 for a path that does not exist.
pub(super) async fn nothing_here() -> Problem {
    Problem::missing(
        "not_found",
        "nothing is here: try /, /api/v1/window, /api/v1/windows, /api/v1/events, /metrics, \
         /livez or /readyz",
    )
}

/// Returns the 503 for all but health checks on a connection that is kept for those.
pub(super) async fn full(State(site): State<Arc<Site>>) -> Problem {
    site.refusals.count(Refusal::TooManyConnections);
    let reason = "as many connections are open as there may be; the last are for health checks";
    Problem::busy(Refusal::TooManyConnections.name(), reason)
}

/// Returns the 405 for methods other than GET and HEAD.
pub(super) async fn only_get() -> Response {
    let reason = "only GET and HEAD: nothing can be changed over HTTP".to_owned();
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Problem { status, word: "method_not_allowed", reason }.into_response();
    set(&mut response, header::ALLOW, "GET, HEAD");
    response
}
