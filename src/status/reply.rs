//! Builds responses in JSON, errors included.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ipnet::IpNet;
use serde::Serialize;

use super::Site;
use super::places::{Place, Places};
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

/// Whom a text is for that many read, instead of a client's address.
pub(super) const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Limits how many large texts are in memory until the last client has read them.
pub(super) struct LargeTexts {
    places: Places,
    refusals: Refusals,
}

/// A large text, and its place among those that may be in memory.
struct LargeText {
    text: Vec<u8>,
    _place: Place,
}

impl AsRef<[u8]> for LargeText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl LargeTexts {
    /// Creates the limit: a quarter of the texts may be for one address that is not in `trust`. What
    /// does not fit is counted in `refusals`.
    pub(super) fn new(trust: Vec<IpNet>, refusals: Refusals) -> LargeTexts {
        let places = Places::of_answers(MAX_LARGE_TEXTS, MAX_LARGE_TEXTS / 4, trust);
        LargeTexts { places, refusals }
    }

    /// Creates a limit of texts that are for all.
    pub(super) fn shared(refusals: Refusals) -> LargeTexts {
        let places = Places::of_answers(MAX_LARGE_TEXTS, MAX_LARGE_TEXTS, Vec::new());
        LargeTexts { places, refusals }
    }

    /// Writes a text of at most `most` bytes for `client`, which all its readers share; if it may be
    /// large and as many as may be are being read, fails before it is written.
    pub(super) fn write(
        &self,
        client: IpAddr,
        most: usize,
        write: impl FnOnce() -> Result<Vec<u8>, Problem>,
    ) -> Result<Bytes, Problem> {
        let place = (most > SMALL_TEXT).then(|| self.places.take(client)).transpose();
        let place = place.map_err(|_| {
            self.refusals.count(Refusal::TooManyLargeAnswers);
            let reason = "as many large answers are being read as there may be: ask again, or for \
                          less (?limit=)";
            Problem::busy(Refusal::TooManyLargeAnswers.name(), reason)
        })?;
        let mut text = write()?;
        text.shrink_to_fit();
        match place {
            Some(place) if text.len() > SMALL_TEXT => {
                Ok(Bytes::from_owner(LargeText { text, _place: place }))
            }
            _ => Ok(text.into()),
        }
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
        let texts = LargeTexts::shared(Refusals::new());
        let hold = |length| texts.write(ALL, length, || Ok(vec![b'1'; length]));
        let large: Vec<Bytes> =
            (0..MAX_LARGE_TEXTS).map(|_| hold(SMALL_TEXT + 1).unwrap()).collect();
        let second = large[0].clone();
        drop(large);
        let more: Vec<_> = (1..MAX_LARGE_TEXTS).map(|_| hold(SMALL_TEXT + 1).unwrap()).collect();
        let refused = hold(SMALL_TEXT + 1).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.word), (503, "too_many_large_answers"));
        assert!(hold(SMALL_TEXT).is_ok(), "small ones need none");
        let unwritten = texts.write(ALL, SMALL_TEXT + 1, || unreachable!("it has no place"));
        assert!(unwritten.is_err());
        drop(second);
        assert!(hold(SMALL_TEXT + 1).is_ok());
        drop(more);
        let small: Vec<Bytes> = (0..=MAX_LARGE_TEXTS)
            .map(|_| texts.write(ALL, SMALL_TEXT + 1, || Ok(Vec::new())).unwrap())
            .collect();
        assert!(small.iter().all(Bytes::is_empty), "what turns out small keeps none");
    }

    #[test]
    fn an_address_has_a_quarter_of_the_large_texts_and_a_trusted_one_all() {
        let texts = LargeTexts::new(vec!["192.0.2.9/32".parse().unwrap()], Refusals::new());
        let write = |client: [u8; 4]| {
            texts.write(client.into(), SMALL_TEXT + 1, || Ok(vec![b'1'; SMALL_TEXT + 1])).ok()
        };
        let all = |client| std::iter::from_fn(|| write(client)).collect::<Vec<Bytes>>();
        let (one, other) = (all([192, 0, 2, 1]), all([192, 0, 2, 2]));
        assert_eq!((one.len(), other.len()), (4, 4));
        assert_eq!(all([192, 0, 2, 9]).len(), 8);
    }
}
