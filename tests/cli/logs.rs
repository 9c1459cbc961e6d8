//! What an operator finds on stderr.

use serde_json::Value;

use crate::support::{Home, Program, run, says};

/// The next log of that name.
fn log(program: &mut Program, message: &str) -> Value {
    loop {
        let line: Value = serde_json::from_str(&program.complaint()).unwrap();
        if line["message"] == message {
            return line;
        }
    }
}

#[test]
fn what_an_operator_asks_is_logged_and_members_are_not_named() {
    let home = Home::new();
    let flags = ["--window", "2s", "--log-level", "info", "--log-format", "json"];
    let mut registry = home.serve(&flags);
    let starting = log(&mut registry.program, "starting");
    assert_eq!((&starting["level"], &starting["window_s"]), (&"INFO".into(), &2.into()));
    let replayed = log(&mut registry.program, "journal replayed");
    assert_eq!((&replayed["records"], &replayed["files"]), (&0.into(), &0.into()));
    let listening = log(&mut registry.program, "listening");
    assert_eq!(listening["addr"], registry.addr.to_string());
    let port = registry.addr.port().to_string();
    let mut ana =
        Program::run(&["join", "127.0.0.1", &port, "--name", "ana-of-the-test", "--json"]);
    let window = ana.event("registered")["window"].clone();
    let opened = log(&mut registry.program, "window opened");
    assert_eq!((&opened["window"], &opened["members"]), (&window, &1.into()));
    assert_eq!(log(&mut registry.program, "document written")["window"], window);
    let you = ana.event("registered")["you"].as_str().unwrap().to_owned();
    ana.stop("INT").succeeded();
    let rest = registry.program.stop("TERM").err;
    says(&rest[rest.len() - 2], &["stopping", "SIGTERM"]);
    says(rest.last().unwrap(), &["stopped"]);
    for line in &rest {
        assert!(!line.contains("ana-of-the-test") && !line.contains(&you), "{line}");
    }
}

#[test]
fn levels_and_formats_are_named() {
    for (flag, known) in [("--log-level", "debug"), ("--log-format", "json")] {
        let ended = run(&["serve", "1", flag, "loud"]);
        assert_eq!(ended.code, Some(2));
        says(&ended.err.join("\n"), &[flag, known]);
    }
}

#[test]
fn a_watcher_sees_a_window_once_and_is_in_none() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let port = registry.addr.port().to_string();
    let mut watcher = Program::run(&["watch", "127.0.0.1", &port, "--json"]);
    let windows: Vec<Value> = (0..3).map(|_| watcher.event("window")).collect();
    assert!(windows.windows(2).all(|two| two[0]["window"].as_str() < two[1]["window"].as_str()));
    assert!(
        windows
            .iter()
            .all(|window| window["count"] == 0 && window["peers"] == Value::Array(Vec::new()))
    );
    watcher.stop("INT").succeeded();
    let mut lines = Program::run(&["watch", "127.0.0.1", &port, "--room", "lab"]);
    says(&lines.line(), &["window ", "room lab  0 members"]);
    lines.stop("TERM").succeeded();
}

#[test]
fn a_watcher_of_nobody_says_so_and_goes_on() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port().to_string();
    let mut watcher = Program::run(&["watch", "127.0.0.1", &port, "--timeout", "300ms"]);
    says(&watcher.complaint(), &["hit7: no answer from the registry"]);
    assert!(watcher.is_running());
    let ended = watcher.stop("INT");
    assert_eq!((ended.code, ended.out.len()), (Some(0), 0));
}

#[test]
fn shells_and_manuals_are_told_the_words() {
    let script = run(&["completions", "bash"]).succeeded().join("\n");
    says(&script, &["watch", "--log-format", "complete"]);
    says(&run(&["man"]).succeeded().join("\n"), &[".TH", "hit7"]);
    let home = Home::new();
    let man = home.path().join("man");
    run(&["man", man.to_str().unwrap()]).succeeded();
    let page = std::fs::read_to_string(man.join("hit7-join.1")).unwrap();
    says(&page, &["\\-\\-plain"]);
    std::fs::write(home.path().join("file"), "").unwrap();
    let file = home.path().join("file");
    run(&["man", file.to_str().unwrap()]).failed(1, &["cannot write manual pages", "file"]);
}
