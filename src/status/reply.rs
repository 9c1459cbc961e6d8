//! Builds responses in JSON, errors included.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Site;
use super::refusals::{Refusal, Refusals};

/// The length in bytes up to which a text is small: as many as there are connections may be in
/// memory at once.
const SMALL_TEXT: usize = 64 << 10;

/// The most large texts in memory at once: a client may take minutes to read one.
const MAX_LARGE_TEXTS: usize = 16;

/// Returns a response with `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match text(value) {
        Ok(text) => json_text(status, [text.into(), Bytes::from_static(b"\n")]),
        Err(problem) => problem.into_response(),
    }
}

/// Returns `value` as JSON text.
pub(super) fn text(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::failed(error.to_string()))
}

/// Returns a response whose body is JSON in pieces, which are not copied.
pub(super) fn json_text<const N: usize>(status: StatusCode, pieces: [Bytes; N]) -> Response {
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
    let mut response = json_body(status, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Returns a response with a body that is already JSON.
pub(super) fn json_body(status: StatusCode, body: Body) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Limits how many large texts are in memory until the last client has read them.
pub(super) struct LargeTexts {
    places: Arc<Semaphore>,
    refusals: Refusals,
}

/// A large text, and its place among those that may be in memory.
struct LargeText {
    text: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for LargeText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl LargeTexts {
    /// Creates the limit; what does not fit is counted in `refusals`.
    pub(super) fn new(refusals: Refusals) -> LargeTexts {
        LargeTexts { places: Arc::new(Semaphore::new(MAX_LARGE_TEXTS)), refusals }
    }

    /// Returns a text that all its readers share; fails if it is large and as many as may be are
    /// being read.
    pub(super) fn hold(&self, mut text: Vec<u8>) -> Result<Bytes, Problem> {
        text.shrink_to_fit();
        if text.len() <= SMALL_TEXT {
            return Ok(text.into());
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.refusals.count(Refusal::TooManyLargeAnswers);
            let reason = "as many large answers are being read as there may be: ask again, or for \
                          less (?limit=)";
            return Err(Problem::busy(Refusal::TooManyLargeAnswers.name(), reason));
        };
        Ok(Bytes::from_owner(LargeText { text, _place: place }))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_text_has_its_place_until_the_last_reader_is_done() {
        let texts = LargeTexts::new(Refusals::new());
        let hold = |length| texts.hold(vec![b'1'; length]);
        let large: Vec<Bytes> =
            (0..MAX_LARGE_TEXTS).map(|_| hold(SMALL_TEXT + 1).unwrap()).collect();
        let second = large[0].clone();
        drop(large);
        let more: Vec<_> = (1..MAX_LARGE_TEXTS).map(|_| hold(SMALL_TEXT + 1).unwrap()).collect();
        let refused = hold(SMALL_TEXT + 1).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.word), (503, "too_many_large_answers"));
        assert!(hold(SMALL_TEXT).is_ok(), "small ones need none");
        drop(second);
        assert!(hold(SMALL_TEXT + 1).is_ok());
        drop(more);
    }
}
