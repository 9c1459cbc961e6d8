//! Tests `hit7 history`, which reads the documents of windows.

use hit7_support::{Program, Registry, UdpClient, assert_has, keys, text};
use serde_json::Value;

use crate::HIT7;

/// Registers a client and waits for its window's document; returns both.
fn one_window(registry: &Registry) -> (UdpClient, String) {
    let ana = registry.client();
    let window = ana.register_as("main", "ana");
    registry.home.document(&window);
    (ana, window)
}

#[test]
fn while_a_registry_runs_and_without_one() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1s"]);
    let (ana, window) = one_window(&registry);
    let check = || {
        let lines = home.history(&[]).succeeded();
        assert_eq!(lines, [format!("{window}  1 in main")]);
        let lines = home.history(&["--json"]).succeeded();
        assert_eq!((lines.len(), keys(&lines[0]).as_str()), (1, "window closes opened rooms"));
        let listed: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (text(&listed["window"]), &listed["rooms"]["main"]),
            (window.clone(), &1.into())
        );
        let lines = home.history(&[&window]).succeeded();
        assert_has(&lines[0], &[&format!("window {window}  opened 20")]);
        assert_eq!(lines[1], "1 member in room main");
        assert_has(&lines[2], &["ana", &ana.addr(), "registered 20"]);
        let lines = home.history(&[&window, "--json"]).succeeded();
        assert_eq!(keys(&lines[0]), "window closes opened rooms");
        let document: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(document["rooms"]["main"][0]["addr"], ana.addr());
    };
    check();
    registry.stop("TERM").succeeded();
    check();
}

#[test]
fn a_window_without_a_document() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1day"]);
    assert!(home.history(&[]).succeeded().is_empty(), "no window yet");
    let unknown = home.history(&["2001-01-01T00:00:00Z"]);
    unknown.failed(1, &["no document of 2001-01-01T00:00:00Z", "without members has none"]);
    registry.serves();
}

#[test]
fn a_missing_folder_is_named_with_the_remedy() {
    let home = HIT7.home();
    let path = home.data();
    for more in [&[][..], &["--json"], &["2001-01-01T00:00:00Z"]] {
        home.history(more).failed(1, &[path.to_str().unwrap(), "--data"]);
    }
    std::fs::write(&path, "").unwrap();
    home.history(&[]).failed(1, &[path.to_str().unwrap(), "--data"]);
}

#[test]
fn one_damaged_document_does_not_hide_the_others() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1s"]);
    let (_, window) = one_window(&registry);
    let day = home.data().join("windows").join(&window[..10]);
    let damaged = day.join("00-00-00.json");
    std::fs::write(&damaged, "{").unwrap();
    let exit = home.history(&[]);
    exit.failed(1, &[damaged.to_str().unwrap(), "restore it, or remove it"]);
    assert_eq!(exit.out.last().unwrap(), &format!("{window}  1 in main"));
}

#[test]
fn a_window_that_was_missed() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "2s"]);
    let ana = registry.client();
    let window = loop {
        ana.send(r#"{"type":"REGISTER","name":"ana"}"#);
        let registered = ana.receive_type("REGISTERED");
        // Enough time that the window does not open before the registry has ended.
        if registered["opens_in_ms"].as_u64().unwrap() > 1000 {
            break text(&registered["window"]);
        }
    };
    drop(registry);
    let opens: hit7::window::Window = window.parse().unwrap();
    let closes = opens.opens().millis() + 2000;
    let clock = hit7::clock::Clock::start();
    while clock.now().wall.millis() < closes {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut registry = home.serve(&["--window", "2s"]);
    assert_has(&registry.program.line_with("missed"), &[&window, "1 member"]);
    let document = home.document(&window);
    assert!(document["opened"].is_null());
    assert_eq!(document["rooms"]["main"][0]["name"], "ana");
    let lines = home.history(&[]).succeeded();
    assert_eq!(lines.last().unwrap(), &format!("{window}  1 in main  missed"));
    assert_has(&home.history(&[&window]).succeeded()[0], &["missed"]);
}

#[test]
fn a_closed_pipe_is_a_success() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1s"]);
    let _ana = one_window(&registry);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Program::start_into(home.with_data(&["history"]), writer.into()).end().succeeded();
}

#[test]
fn a_window_is_named_by_its_start() {
    for bad in ["11:29", "yesterday", "2026-11-23T11:29:00.5Z"] {
        let exit = HIT7.run(&["history", bad]);
        assert_eq!(exit.code, Some(2));
        assert_has(&exit.err[0], &[bad, "[WINDOW]"]);
    }
}

#[test]
fn no_link_is_followed_to_a_document_and_no_pipe_waited_for() {
    use std::os::unix::fs::symlink;
    let home = HIT7.home();
    let (windows, elsewhere) = (home.data().join("windows"), home.path().join("elsewhere"));
    std::fs::create_dir_all(windows.join("2026-11-23")).unwrap();
    std::fs::create_dir_all(&elsewhere).unwrap();
    let text = r#"{"window":"2026-11-22T11:29:00Z","closes":"2026-11-22T11:30:00Z","opened":null,"rooms":{}}"#;
    std::fs::write(elsewhere.join("11-29.json"), text).unwrap();
    symlink(&elsewhere, windows.join("2026-11-22")).unwrap();
    let pipe = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&windows.join("2026-11-23/11-29.json"), pipe).unwrap();
    home.history(&["2026-11-22T11:29:00Z"]).failed(1, &["2026-11-22/11-29.json", "behind a link"]);
    home.history(&["2026-11-23T11:29:00Z"]).failed(1, &["not a regular file"]);
    assert_eq!(home.history(&[]).succeeded(), [""; 0]);
}
