//! Tests the logs on stderr, and `hit7 watch`, `completions` and `man`.

use hit7_support::{Program, assert_has};
use serde_json::Value;

use crate::{HIT7, silent_registry};

/// Reads the next JSON log line with this message.
fn log(program: &mut Program, message: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&program.error_line()).unwrap();
        if line["message"] == message {
            return line;
        }
    }
}

#[test]
fn what_an_operator_asks_is_logged_and_members_are_not_named() {
    let home = HIT7.home();
    let flags = ["--window", "2s", "--log-level", "info", "--log-format", "json"];
    let mut registry = home.serve(&flags);
    let starting = log(&mut registry.program, "starting");
    assert_eq!((&starting["level"], &starting["window_s"]), (&"INFO".into(), &2.into()));
    let replayed = log(&mut registry.program, "journal replayed");
    assert_eq!((&replayed["records"], &replayed["files"]), (&0.into(), &0.into()));
    let listening = log(&mut registry.program, "listening");
    assert_eq!(listening["addr"], registry.addr.to_string());
    let mut ana = registry.join(&["--name", "ana-of-the-test", "--json"]);
    let window = ana.event("registered")["window"].clone();
    let opened = log(&mut registry.program, "window opened");
    assert_eq!((&opened["window"], &opened["members"]), (&window, &1.into()));
    assert_eq!(log(&mut registry.program, "document written")["window"], window);
    let you = ana.event("registered")["you"].as_str().unwrap().to_owned();
    ana.stop("INT").succeeded();
    let rest = registry.program.stop("TERM").err;
    assert_has(&rest[rest.len() - 2], &["stopping", "SIGTERM"]);
    assert_has(rest.last().unwrap(), &["stopped"]);
    for line in &rest {
        assert!(!line.contains("ana-of-the-test") && !line.contains(&you), "{line}");
    }
}

#[test]
fn levels_and_formats_are_named() {
    for (flag, known) in [("--log-level", "debug"), ("--log-format", "json")] {
        let exit = HIT7.run(&["serve", "1", flag, "loud"]);
        assert_eq!(exit.code, Some(2));
        assert_has(&exit.err.join("\n"), &[flag, known]);
    }
}

#[test]
fn a_watcher_sees_a_window_once_and_is_in_none() {
    let registry = HIT7.serve(&["--window", "1s"]);
    let port = registry.port();
    let mut watcher = HIT7.start(&["watch", "127.0.0.1", &port, "--json"]);
    let windows: Vec<Value> = (0..3).map(|_| watcher.event("window")).collect();
    assert!(windows.windows(2).all(|two| two[0]["window"].as_str() < two[1]["window"].as_str()));
    assert!(
        windows
            .iter()
            .all(|window| window["count"] == 0 && window["peers"] == Value::Array(Vec::new()))
    );
    watcher.stop("INT").succeeded();
    let mut lines = HIT7.start(&["watch", "127.0.0.1", &port, "--room", "lab"]);
    assert_has(&lines.line(), &["window ", "0 members in room lab"]);
    lines.stop("TERM").succeeded();
}

#[test]
fn a_watcher_without_a_registry_says_so_and_goes_on() {
    let (_silent, port) = silent_registry();
    let mut watcher = HIT7.start(&["watch", "127.0.0.1", &port, "--timeout", "300ms"]);
    assert_has(&watcher.error_line(), &["hit7: no answer from the registry"]);
    assert!(watcher.is_running());
    let exit = watcher.stop("INT");
    assert_eq!((exit.code, exit.out.len()), (Some(0), 0));
}

#[test]
fn completions_and_manual_pages_have_every_argument() {
    let script = HIT7.run(&["completions", "bash"]).succeeded().join("\n");
    assert_has(&script, &["watch", "--log-format", "complete"]);
    assert_has(&HIT7.run(&["man"]).succeeded().join("\n"), &[".TH", "hit7"]);
    let home = HIT7.home();
    let man = home.path().join("man");
    HIT7.run(&["man", man.to_str().unwrap()]).succeeded();
    let page = std::fs::read_to_string(man.join("hit7-join.1")).unwrap();
    assert_has(&page, &["\\-\\-plain"]);
    std::fs::write(home.path().join("file"), "").unwrap();
    let file = home.path().join("file");
    HIT7.run(&["man", file.to_str().unwrap()]).failed(1, &["cannot write manual pages", "file"]);
}
