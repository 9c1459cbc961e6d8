//! Answers in JSON, errors included.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A response with `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            json_text(status, Body::from(text))
        }
        Err(error) => Problem::failed(error.to_string()).into_response(),
    }
}

/// A response with a body that is JSON already.
pub(super) fn json_text(status: StatusCode, body: Body) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// What went wrong, as JSON: a word for programs and a sentence for people.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    word: &'static str,
    reason: String,
}

impl Problem {
    /// 404: what the client asks for does not exist.
    pub(super) fn missing(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::NOT_FOUND, word, reason: reason.into() }
    }

    /// 400: the request makes no sense.
    pub(super) fn bad(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::BAD_REQUEST, word, reason: reason.into() }
    }

    /// 503: the request can be tried again later.
    pub(super) fn busy(word: &'static str, reason: impl Into<String>) -> Problem {
        Problem { status: StatusCode::SERVICE_UNAVAILABLE, word, reason: reason.into() }
    }

    /// 500: something went wrong on this side.
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

/// Sets a header, and replaces an earlier value.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// The answer for a path that does not exist.
pub(super) async fn nothing_here() -> Problem {
    Problem::missing(
        "not_found",
        "nothing is here: try /, /api/v1/window, /api/v1/windows, /api/v1/events, /metrics, \
         /livez or /readyz",
    )
}

/// The answer for methods that change something.
pub(super) async fn only_get() -> Response {
    let reason = "only GET and HEAD: nothing can be changed over HTTP".to_owned();
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = Problem { status, word: "method_not_allowed", reason }.into_response();
    set(&mut response, header::ALLOW, "GET, HEAD");
    response
}
