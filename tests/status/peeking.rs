//! Rule 4: before a window opens, nothing over HTTP and nothing in the logs names one of its members.

use std::fs::{self, File};
use std::path::Path;

use hit7::window::Window;

use crate::http::{get, read_until};
use crate::registry::{Client, Registry, until};

const ROOM: &str = "veiled-room";
const NAME: &str = "veiled-name";
const ID: &str = "veiled-id";

/// Nothing in `text` tells the room, name, id or port of the client.
fn assert_names_nobody(client: &Client, what: &str, text: &str) {
    let port = client.0.local_addr().unwrap().port();
    // The digits alone could be part of another number.
    for trace in
        ["veiled".to_owned(), format!(":{port}"), format!("\"{port}\""), format!("={port}")]
    {
        assert!(!text.contains(&trace), "{what} names {trace}: {text}");
    }
}

/// All paths, with that of the window's document.
fn paths(window: Window) -> Vec<String> {
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
fn check_every_path(registry: &Registry, client: &Client, window: Window) {
    let events = read_until(registry.http, "/api/v1/events", r#""members":1}"#);
    assert_names_nobody(client, "/api/v1/events", &events);
    for path in paths(window) {
        let answer = get(registry.http, &path);
        assert_names_nobody(client, &path, &(answer.head + &answer.body));
    }
    let now = get(registry.http, "/api/v1/window").json();
    assert_eq!(now["next"]["members"], 1);
    let document = get(registry.http, &format!("/api/v1/windows/{window}")).json();
    assert_eq!(document["error"], "not_open");
    // A room that is asked for by name looks like one that does not exist.
    let guessed = get(registry.http, &format!("/api/v1/window?room={ROOM}")).json();
    assert_eq!(guessed["rooms"], serde_json::json!([]));
}

fn register(client: &Client, seq: u32) -> Window {
    let text =
        format!(r#"{{"type":"REGISTER","id":"{ID}","seq":{seq},"room":"{ROOM}","name":"{NAME}"}}"#);
    client.ask(&text)
}

#[test]
fn nothing_names_a_member_of_the_next_window() {
    let data = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let logs = data.path().join(format);
        let flags = ["--window", "1day", "--log-level", "debug", "--log-format", format];
        let folder = data.path().join("data").join(format);
        fs::create_dir_all(data.path().join("data")).unwrap();
        let file = File::create(&logs).unwrap();
        let registry = Registry::start_with(&flags, &folder, file.into());
        let client = Client::new(&registry);
        let window = register(&client, 1);
        // A bad datagram is counted, and logged without its content.
        client.0.send(br#"{"type":"REGISTER","name":"veiled name","room":"veiled-room"}"#).unwrap();
        client.0.send(b"veiled").unwrap();
        until("the rejected datagrams are logged", || {
            fs::read_to_string(&logs).unwrap().contains("turned away").then_some(())
        });
        check_every_path(&registry, &client, window);
        assert_eq!(register(&client, 2), window, "no window opened meanwhile");
        registry.stop();
        check_logs(&client, &logs);
    }
}

/// The logs have their lines, and no names in them.
fn check_logs(client: &Client, logs: &Path) {
    let log = fs::read_to_string(logs).unwrap();
    for what in ["starting", "listening", "page over HTTP", "turned away", "stopping", "stopped"] {
        assert!(log.contains(what), "{what}: {log}");
    }
    assert_names_nobody(client, "the log", &log);
}

/// The control: what is searched for above is found once the window is open.
#[test]
fn an_open_window_names_its_members_and_never_an_id() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1s", data.path());
    let client = Client::new(&registry);
    let mut seq = 0;
    let body = until("it is named", || {
        seq += 1;
        register(&client, seq);
        let body = get(registry.http, "/api/v1/window").body;
        body.contains(ROOM).then_some(body)
    });
    let addr = client.0.local_addr().unwrap().to_string();
    assert!(body.contains(NAME) && body.contains(&addr) && !body.contains(ID), "{body}");
}
