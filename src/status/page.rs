//! The page and its style, scripts and icon, each a file of its own, and the headers that keep a
//! browser to them.

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

/// Where each file is found, its type, and its text.
const FILES: [(&str, &str, &str); 6] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/plot.js", SCRIPT, include_str!("page/plot.js")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    // Browsers ask for this one when they show JSON, where no icon is named.
    ("/favicon.ico", SVG, include_str!("page/icon.svg")),
];

/// What a browser may do: load these files and ask this server, nothing from elsewhere, nothing
/// inline, in nobody's frame: a name that got through as markup would still run nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of every answer.
const HARDENED: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The routes of the page's files.
pub(super) fn routes() -> Router<Arc<Site>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..16]);
        router.route(path, get(async move |headers| file(kind, text, &tag, &headers)))
    })
}

/// A file, unless the browser has it already: it may keep one, but asks each time whether that is
/// still the one, so that a new version of the program is seen at once.
fn file(kind: &'static str, text: &'static str, tag: &str, headers: &HeaderMap) -> Response {
    let cached = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, tag)];
    match has(headers, tag) {
        true => (StatusCode::NOT_MODIFIED, cached).into_response(),
        false => (cached, [(header::CONTENT_TYPE, kind)], text).into_response(),
    }
}

/// Whether If-None-Match names `tag` (RFC 9110, §13.1.2).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let mut named = named.flat_map(|tags| tags.split(',')).map(str::trim);
    named.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// Adds the headers that every answer has; what is no file of the page is not kept.
pub(super) async fn harden(mut response: Response) -> Response {
    for (name, value) in HARDENED {
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
