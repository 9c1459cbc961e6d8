//! Serves the page with its style, scripts and icon, and adds security headers to all responses.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{Site, reply};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files of the page: URL path, content type and text of each.
const FILES: [(&str, &str, &str); 6] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/plot.js", SCRIPT, include_str!("page/plot.js")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    // Browsers ask for this one when they show JSON, where no icon is named.
    ("/favicon.ico", SVG, include_str!("page/icon.svg")),
];

/// The Content-Security-Policy: only files of this server, nothing inline, no frames. A member's
/// name that got through as markup would still run nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The security headers of every response.
const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Returns the routes of the page's files.
pub(super) fn routes() -> Router<Arc<Site>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..16]);
        router.route(path, get(async move |headers| file(kind, text, &tag, &headers)))
    })
}

/// Returns a file, or 304 if the browser has it. With `no-cache`, a browser revalidates its copy
/// each time, so that a new version of the program is seen at once.
fn file(kind: &'static str, text: &'static str, tag: &str, headers: &HeaderMap) -> Response {
    let cached = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag)];
    match etag_matches(headers, tag) {
        true => (StatusCode::NOT_MODIFIED, cached).into_response(),
        false => (cached, [(header::CONTENT_TYPE, kind)], text).into_response(),
    }
}

/// Returns whether If-None-Match names `tag` (RFC 9110, §13.1.2).
fn etag_matches(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut named = named.flat_map(|tags| tags.split(',')).map(str::trim);
    named.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// Adds the security headers to a response, and `no-store` unless it is a file of the page.
pub(super) async fn harden(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        reply::set(&mut response, header::HeaderName::from_static(name), value);
    }
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        reply::set(&mut response, header::CACHE_CONTROL, "no-store");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_words_for_each_reason() {
        let (.., script) = FILES[2];
        for why in crate::tally::RejectReason::all() {
            assert!(script.contains(&format!("\n  {}: \"", why.name())), "{}", why.name());
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let answer = |tags: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
            file(CSS, "text", "\"a\"", &headers).status()
        };
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert_eq!(answer(tags), StatusCode::NOT_MODIFIED, "{tags}");
        }
        assert_eq!((answer("\"b\""), answer("a")), (StatusCode::OK, StatusCode::OK));
    }
}
