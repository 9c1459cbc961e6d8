//! Rule 4: before a window opens, neither HTTP answers nor logs name one of its members.

use hit7_support::http::{get, read_to};
use hit7_support::{Registry, UdpClient, assert_has, until};

use crate::{HIT7, PAGE, serve};

const ROOM: &str = "veiled-room";
const NAME: &str = "veiled-name";
const ID: &str = "veiled-id";

/// Fails if `text` contains the room, name, id or port of the client.
fn assert_names_nobody(client: &UdpClient, what: &str, text: &str) {
    let addr = client.addr();
    let (_, port) = addr.rsplit_once(':').unwrap();
    // With a colon: the digits alone could be part of another number.
    for trace in
        ["veiled".to_owned(), format!(":{port}"), format!("\"{port}\""), format!("={port}")]
    {
        assert!(!text.contains(&trace), "{what} names {trace}: {text}");
    }
}

/// Returns all HTTP paths, with that of the window's document.
fn paths(window: &str) -> Vec<String> {
    let path = [
        "/",
        "/page.css",
        "/page.js",
        "/plot.js",
        "/icon.svg",
        "/favicon.ico",
        "/api/v1/window",
        "/api/v1/window?limit=1000",
        "/api/v1/window?room=main",
        "/api/v1/windows",
        "/api/v1/windows?limit=1000",
        "/metrics",
        "/livez",
        "/readyz",
        "/nothing",
    ];
    path.map(str::to_owned).into_iter().chain([format!("/api/v1/windows/{window}")]).collect()
}

/// Checks every path while `window` is being filled.
fn check_every_path(registry: &Registry, client: &UdpClient, window: &str) {
    let events = read_to(registry.http(), "/api/v1/events", r#""members":1}"#);
    assert_names_nobody(client, "/api/v1/events", &events);
    for path in paths(window) {
        let answer = get(registry.http(), &path);
        assert_names_nobody(client, &path, &(answer.head + &answer.body));
    }
    let now = get(registry.http(), "/api/v1/window").json();
    assert_eq!(now["next"]["members"], 1);
    let document = get(registry.http(), &format!("/api/v1/windows/{window}")).json();
    assert_eq!(document["error"], "not_open");
    // A room that is asked for by name looks like one that does not exist.
    let guessed = get(registry.http(), &format!("/api/v1/window?room={ROOM}")).json();
    assert_eq!(guessed["rooms"], serde_json::json!([]));
}

/// Registers with `seq`, and returns the window that the client is registered for.
fn register(client: &UdpClient, seq: u32) -> String {
    let text =
        format!(r#"{{"type":"REGISTER","id":"{ID}","seq":{seq},"room":"{ROOM}","name":"{NAME}"}}"#);
    client.register_with(text)
}

#[test]
fn nothing_names_a_member_of_the_next_window() {
    for format in ["text", "json"] {
        let logging = ["--log-level", "debug", "--log-format", format];
        let registry = HIT7.serve(&[&PAGE[..], &["--window", "1day"], &logging].concat());
        let client = registry.client();
        let window = register(&client, 1);
        // A bad datagram is counted, and logged without its content.
        client.send(br#"{"type":"REGISTER","name":"veiled  name","room":"veiled-room"}"#);
        client.send(b"veiled");
        let log = || registry.program.error_lines().join("\n");
        until("the rejected datagrams are logged", || log().contains("turned away").then_some(()));
        check_every_path(&registry, &client, &window);
        assert_eq!(register(&client, 2), window, "no window opened meanwhile");
        let log = registry.close().err.join("\n");
        assert_has(&log, &["starting", "listening", "page over HTTP", "turned away"]);
        assert_has(&log, &["stopping", "stopped"]);
        assert_names_nobody(&client, "the log", &log);
    }
}

/// The control test: the names that must be hidden before are found once the window is open.
#[test]
fn an_open_window_names_its_members_and_never_an_id() {
    let registry = serve("1s");
    let client = registry.client();
    let mut seq = 0;
    let body = until("it is named", || {
        seq += 1;
        register(&client, seq);
        let body = get(registry.http(), "/api/v1/window").body;
        body.contains(ROOM).then_some(body)
    });
    let addr = client.addr();
    assert!(body.contains(NAME) && body.contains(&addr) && !body.contains(ID), "{body}");
}
