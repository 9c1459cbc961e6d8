//! Each route of the real program: its shape, its errors, its headers.

use std::net::TcpListener;

use hit7::window::{Wall, Window};
use hit7_support::http::{ask, get};
use hit7_support::until;

use crate::{HIT7, PAGE, serve};

#[test]
fn a_window_turns_and_is_told_everywhere() {
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
        assert!(metrics.lines().any(|told| told == line), "{line}: {metrics}");
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
fn what_is_not_there_is_said_in_json() {
    let registry = serve("1day");
    for (path, status, word) in [
        ("/nothing", 404, "not_found"),
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
        let told = answer.json();
        assert_eq!((answer.status, &told["error"]), (status, &word.into()), "{path}");
        assert!(told["reason"].as_str().unwrap().len() > 10, "{path}: {told}");
    }
    let refused = ask(registry.http(), "POST", "/api/v1/window", "{}");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(refused.json()["error"], "method_not_allowed");
    let long = get(registry.http(), &format!("/{}", "a".repeat(100_000)));
    assert!([414, 431].contains(&long.status), "{long:?}");
}

#[test]
fn every_answer_keeps_a_browser_to_what_is_ours() {
    let registry = serve("1day");
    let paths = ["/", "/favicon.ico", "/metrics", "/livez", "/readyz"];
    for path in paths.into_iter().chain(["/api/v1/window", "/api/v1/windows", "/no"]) {
        let answer = get(registry.http(), path);
        assert_eq!(answer.status, if path == "/no" { 404 } else { 200 }, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let head = ask(registry.http(), "HEAD", path, "");
        assert_eq!((head.status, head.body.as_str()), (answer.status, ""), "{path}");
    }
}

#[test]
fn the_page_is_one_file_and_asks_nobody_else() {
    let registry = serve("1day");
    let page = get(registry.http(), "/").body;
    for asks in ["src=", "<link rel=\"stylesheet", "@import", "url(", "import ", "style=\""] {
        assert!(!page.contains(asks), "{asks}");
    }
    let hosts: Vec<&str> = page.split("://").skip(1).collect();
    assert!(
        hosts.iter().all(|host| host.starts_with("www.w3.org/2000/svg\"")),
        "a namespace alone"
    );
}

#[test]
fn a_port_in_use_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    HIT7.home().refused(&["--http", &addr]).failed(1, &["--http", "choose another"]);
}
