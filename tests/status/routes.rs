//! Tests each HTTP route of the real program: its answer, errors and headers.

use std::net::TcpListener;

use hit7::window::{Wall, Window};
use hit7_support::http::{ask, get, get_with};
use hit7_support::until;

use crate::{HIT7, PAGE, serve};

#[test]
fn an_opened_window_is_on_every_route() {
    let registry = serve("2s");
    let (ana, bruno) = (registry.client(), registry.client());
    let window = until("both in one window", || {
        let window = ana.register_as("main", "ana");
        (bruno.register_as("sala-3", "bruno") == window).then_some(window)
    });
    let path = format!("/api/v1/windows/{window}");
    let now = until("it opens", || {
        let now = get(registry.http(), "/api/v1/window").json();
        (now["window"] == window.as_str()).then_some(now)
    });
    assert_eq!((&now["members"], &now["room_count"]), (&2.into(), &2.into()));
    assert_eq!(now["rooms"][0]["room"], "main");
    assert_eq!(now["rooms"][1]["peers"][0]["name"], "bruno");
    assert_eq!(now["rooms"][0]["peers"][0]["addr"], ana.addr());
    assert!(now["next"]["opens_in_ms"].as_u64().unwrap() <= 2000);
    let document = until("its document is written", || {
        let answer = get(registry.http(), &path);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(document.json()["rooms"]["main"][0]["name"], "ana");
    assert_eq!(document.header("content-type"), Some("application/json"));
    let listed = get(registry.http(), "/api/v1/windows?limit=5").json();
    let listed = listed["windows"].as_array().unwrap();
    assert!(
        listed.len() <= 5
            && listed.is_sorted_by_key(|one| std::cmp::Reverse(one["window"].to_string()))
    );
    let one = listed.iter().find(|one| one["window"] == window.as_str()).unwrap();
    assert_eq!(
        (&one["members"], &one["missed"], &one["document"]),
        (&2.into(), &false.into(), &true.into())
    );
    let metrics = get(registry.http(), "/metrics").body;
    for line in ["hit7_log_writable 1", "hit7_turned_away_total{reason=\"full\"} 0"] {
        assert!(metrics.lines().any(|have| have == line), "{line}: {metrics}");
    }
    registry.close();
}

#[test]
fn a_window_that_was_open_before_a_restart_is_not_late_for_that() {
    let home = HIT7.home();
    let flags = [&PAGE[..], &["--window", "4s"]].concat();
    let registry = home.serve(&flags);
    let window = registry.client().register_as("main", "ana");
    let path = format!("/api/v1/windows/{window}");
    let document = until("its document is written", || {
        let answer = get(registry.http(), &path);
        (answer.status == 200).then(|| answer.json())
    });
    let opened: Wall = document["opened"].as_str().unwrap().parse().unwrap();
    registry.close();
    let registry = home.serve(&flags);
    let listed = until("it is listed", || {
        let listed = get(registry.http(), "/api/v1/windows").json();
        let listed = listed["windows"].as_array().unwrap();
        listed.iter().find(|one| one["window"] == window.as_str()).cloned()
    });
    let opens = window.parse::<Window>().unwrap().opens();
    assert_eq!(listed["late_ms"], opens.millis_to(opened));
}

#[test]
fn errors_are_json() {
    let registry = serve("1day");
    for (path, status, word) in [
        ("/nothing", 404, "not_found"),
        ("/page", 404, "not_found"),
        ("/page.css/", 404, "not_found"),
        ("/api/v1/windows/", 404, "not_found"),
        ("/api/v1/windows/2001-01-01T00:00:00Z", 404, "not_found"),
        ("/api/v1/windows/2099-01-01T00:00:00Z", 404, "not_open"),
        ("/api/v1/windows/yesterday", 400, "bad_window"),
        ("/api/v1/windows/..%2f..%2fsecret", 400, "bad_window"),
        ("/api/v1/windows?limit=0", 400, "bad_query"),
        ("/api/v1/windows?limit=1001", 400, "bad_query"),
        ("/api/v1/windows?limt=5", 400, "bad_query"),
        ("/api/v1/window?limit=-1", 400, "bad_query"),
        ("/api/v1/window?room=a%20b", 400, "bad_query"),
    ] {
        let answer = get(registry.http(), path);
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]), (status, &word.into()), "{path}");
        assert!(body["reason"].as_str().unwrap().len() > 10, "{path}: {body}");
    }
    let refused = ask(registry.http(), "POST", "/api/v1/window", "{}");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(refused.json()["error"], "method_not_allowed");
    assert_eq!(ask(registry.http(), "POST", "/page.css", "").status, 405);
    let long = get(registry.http(), &format!("/{}", "a".repeat(100_000)));
    assert!([414, 431].contains(&long.status), "{long:?}");
}

#[test]
fn every_answer_has_the_security_headers() {
    let registry = serve("1day");
    let page = ["/", "/page.css", "/page.js", "/plot.js", "/icon.svg", "/favicon.ico"];
    let others = ["/metrics", "/livez", "/readyz", "/api/v1/window", "/api/v1/windows", "/no"];
    for path in page.into_iter().chain(others) {
        let answer = get(registry.http(), path);
        assert_eq!(answer.status, if path == "/no" { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("script-src 'self'; style-src 'self'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let head = ask(registry.http(), "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (answer.status, ""), "{path}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let registry = serve("1day");
    for (path, kind, names) in [
        ("/", "text/html; charset=utf-8", &["icon.svg", "page.css", "page.js"][..]),
        ("/page.css", "text/css; charset=utf-8", &[]),
        ("/page.js", "text/javascript; charset=utf-8", &["./plot.js"]),
        ("/plot.js", "text/javascript; charset=utf-8", &[]),
        ("/icon.svg", "image/svg+xml", &[]),
        ("/favicon.ico", "image/svg+xml", &[]),
    ] {
        let answer = get(registry.http(), path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        for name in names {
            assert!(answer.body.contains(&format!("\"{name}\"")), "{path} names no {name}");
        }
        for inline in ["<style", "style=\"", "@import", "url("] {
            assert!(!answer.body.contains(inline), "{path} has {inline}");
        }
        let mut hosts = answer.body.split("://").skip(1);
        assert!(hosts.all(|host| host.starts_with("www.w3.org/2000/svg\"")), "{path}");
    }
}

#[test]
fn only_the_files_of_the_page_are_cached() {
    let registry = serve("1day");
    for path in ["/", "/page.css", "/page.js", "/plot.js", "/icon.svg"] {
        let answer = get(registry.http(), path);
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let tag = answer.header("etag").unwrap();
        let again = get_with(registry.http(), path, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), Some(tag), "{path}");
        let other = get_with(registry.http(), path, "If-None-Match: \"another\"\r\n");
        assert_eq!((other.status, &other.body), (200, &answer.body), "{path}");
    }
    for path in ["/api/v1/window", "/metrics", "/livez", "/no"] {
        let answer = get(registry.http(), path);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("etag"), None, "{path}");
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    HIT7.home().refused(&["--http", &addr]).failed(1, &["--http", "choose another"]);
}
