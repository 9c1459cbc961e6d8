//! Each route of the real program: its answer, its errors, its headers.

use std::net::TcpListener;
use std::process::Command;

use hit7::window::Wall;

use crate::http::{get, get_with, request};
use crate::registry::{Client, Registry, until};

#[test]
fn an_opened_window_is_on_every_route() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("2s", data.path());
    let (ana, bruno) = (Client::new(&registry), Client::new(&registry));
    let window = until("both in one window", || {
        let window = ana.register("main", "ana");
        (bruno.register("sala-3", "bruno") == window).then(|| window.to_string())
    });
    let path = format!("/api/v1/windows/{window}");
    let now = until("it opens", || {
        let now = get(registry.http, "/api/v1/window").json();
        (now["window"] == window.as_str()).then_some(now)
    });
    assert_eq!((&now["members"], &now["room_count"]), (&2.into(), &2.into()));
    assert_eq!(now["rooms"][0]["room"], "main");
    assert_eq!(now["rooms"][1]["peers"][0]["name"], "bruno");
    assert_eq!(now["rooms"][0]["peers"][0]["addr"], ana.0.local_addr().unwrap().to_string());
    assert!(now["next"]["opens_in_ms"].as_u64().unwrap() <= 2000);
    let document = until("its document is written", || {
        let answer = get(registry.http, &path);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(document.json()["rooms"]["main"][0]["name"], "ana");
    assert_eq!(document.header("content-type"), Some("application/json"));
    let listed = get(registry.http, "/api/v1/windows?limit=5").json();
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
    let metrics = get(registry.http, "/metrics").body;
    for line in ["hit7_log_writable 1", "hit7_turned_away_total{reason=\"full\"} 0"] {
        assert!(metrics.lines().any(|have| have == line), "{line}: {metrics}");
    }
    registry.stop();
}

#[test]
fn a_window_that_was_open_before_a_restart_is_not_late_for_that() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("4s", data.path());
    let window = Client::new(&registry).register("main", "ana");
    let path = format!("/api/v1/windows/{window}");
    let document = until("its document is written", || {
        let answer = get(registry.http, &path);
        (answer.status == 200).then(|| answer.json())
    });
    let opened: Wall = document["opened"].as_str().unwrap().parse().unwrap();
    registry.stop();
    let registry = Registry::start("4s", data.path());
    let listed = until("it is listed", || {
        let listed = get(registry.http, "/api/v1/windows").json();
        let listed = listed["windows"].as_array().unwrap();
        listed.iter().find(|one| one["window"] == window.to_string()).cloned()
    });
    assert_eq!(listed["late_ms"], window.opens().millis_to(opened));
}

#[test]
fn errors_are_json() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1day", data.path());
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
        let answer = get(registry.http, path);
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]), (status, &word.into()), "{path}");
        assert!(body["reason"].as_str().unwrap().len() > 10, "{path}: {body}");
    }
    let refused = request(registry.http, "POST", "/api/v1/window", "{}");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(refused.json()["error"], "method_not_allowed");
    assert_eq!(request(registry.http, "POST", "/page.css", "").status, 405);
    let long = get(registry.http, &format!("/{}", "a".repeat(100_000)));
    assert!([414, 431].contains(&long.status), "{long:?}");
}

#[test]
fn every_answer_has_the_security_headers() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1day", data.path());
    let page = ["/", "/page.css", "/page.js", "/plot.js", "/icon.svg", "/favicon.ico"];
    let others = ["/metrics", "/livez", "/readyz", "/api/v1/window", "/api/v1/windows", "/no"];
    for path in page.into_iter().chain(others) {
        let answer = get(registry.http, path);
        assert_eq!(answer.status, if path == "/no" { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("script-src 'self'; style-src 'self'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let head = request(registry.http, "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (answer.status, ""), "{path}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1day", data.path());
    for (path, kind, names) in [
        ("/", "text/html; charset=utf-8", &["icon.svg", "page.css", "page.js"][..]),
        ("/page.css", "text/css; charset=utf-8", &[]),
        ("/page.js", "text/javascript; charset=utf-8", &["./plot.js"]),
        ("/plot.js", "text/javascript; charset=utf-8", &[]),
        ("/icon.svg", "image/svg+xml", &[]),
        ("/favicon.ico", "image/svg+xml", &[]),
    ] {
        let answer = get(registry.http, path);
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
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1day", data.path());
    for path in ["/", "/page.css", "/page.js", "/plot.js", "/icon.svg"] {
        let answer = get(registry.http, path);
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
        let tag = answer.header("etag").unwrap();
        let again = get_with(registry.http, path, &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), Some(tag), "{path}");
        let other = get_with(registry.http, path, "If-None-Match: \"another\"\r\n");
        assert_eq!((other.status, &other.body), (200, &answer.body), "{path}");
    }
    for path in ["/api/v1/window", "/metrics", "/livez", "/no"] {
        let answer = get(registry.http, path);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("etag"), None, "{path}");
    }
}

#[test]
fn a_port_in_use_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_hit7"))
        .args(["serve", "127.0.0.1", "0", "--http", &addr, "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("--http") && said.contains("choose another"), "{said}");
}
