//! The page: one file, put together from those in `page/`, and the headers that keep a browser to it.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::{Site, reply};

const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
/// One script, in this order.
const SCRIPTS: [&str; 2] = [include_str!("page/plot.js"), include_str!("page/page.js")];
const ICON: &str = include_str!("page/icon.svg");

/// Where the frame has room for them.
const PLACES: [&str; 3] = ["{{icon}}", "{{style}}", "{{script}}"];

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

/// The page, and what a browser may do with it.
struct Page {
    text: String,
    policy: HeaderValue,
}

impl Page {
    fn new() -> Page {
        let script = SCRIPTS.concat();
        let icon = format!("data:image/svg+xml;base64,{}", STANDARD.encode(ICON));
        let fill = |page: String, (place, what): (&str, &str)| page.replacen(place, what, 1);
        let parts = PLACES.into_iter().zip([icon.as_str(), STYLE, &script]);
        Page { text: parts.fold(FRAME.to_owned(), fill), policy: policy(STYLE, &script) }
    }
}

/// Nothing from elsewhere, nothing inline but these two by their hashes (CSP 3, §2.3.1), nobody's
/// frame: a name that got through as markup would still run nothing.
fn policy(style: &str, script: &str) -> HeaderValue {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script),
        hash(style)
    );
    HeaderValue::from_str(&policy).expect("it is ASCII")
}

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/", get(show)).route("/favicon.ico", get(icon))
}

async fn show() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE.text.as_str()).into_response()
}

/// For who opens a JSON text in a browser: the page has its icon in it.
async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], ICON).into_response()
}

/// What every answer carries.
pub(super) async fn harden(mut response: Response) -> Response {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        reply::set(&mut response, name, value);
    }
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    let cache = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(cache);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_in_the_page_and_fills_its_place() {
        let page = Page::new().text;
        for (place, part) in PLACES.iter().zip([&STANDARD.encode(ICON), STYLE, SCRIPTS[1]]) {
            assert!(page.contains(part) && !page.contains(place), "{place}");
        }
        // What ends an element within it would end it early.
        assert!(!STYLE.contains("</") && SCRIPTS.iter().all(|script| !script.contains("</")));
    }

    #[test]
    fn the_page_has_words_for_each_reason() {
        for why in crate::tally::RejectReason::all() {
            assert!(SCRIPTS[1].contains(&format!("\n  {}: \"", why.name())), "{}", why.name());
        }
    }

    #[test]
    fn a_hash_is_that_of_the_text() {
        let policy = policy("", "abc");
        let policy = policy.to_str().unwrap();
        // FIPS 180-2, appendix B.1; and that of nothing.
        assert!(policy.contains("'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='"));
        assert!(policy.contains("'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"));
    }
}
