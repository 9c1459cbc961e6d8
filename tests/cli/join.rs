//! Clients that meet, leave, wait, and say so.

use std::net::{ToSocketAddrs, UdpSocket};

use serde_json::Value;

use crate::support::{Home, Netcat, Program, Registry, hit7, keys, run, says, text};

/// The window of the client's next registration that has time enough for what follows.
fn registered(client: &mut Program) -> String {
    loop {
        let event = client.event("registered");
        if event["opens_in_ms"].as_u64().unwrap() > 2000 {
            return text(&event["window"]);
        }
    }
}

/// A client that takes part once, and its window, which has time enough for what follows. One that
/// came too late does not come again by itself.
fn once_in_time(registry: &Registry, more: &[&str]) -> (Program, String) {
    loop {
        let mut client = registry.join(&[&["--once", "--json"], more].concat());
        let event = client.event("registered");
        if event["opens_in_ms"].as_u64().unwrap() > 1500 {
            return (client, text(&event["window"]));
        }
    }
}

fn of(event: &Value) -> u64 {
    event["of"].as_u64().unwrap()
}

/// All lines of the first window in which it has that many peers, from `registered` on.
fn window_of(client: &mut Program, peers: u64) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = client.line();
        let event: Value = serde_json::from_str(&line).unwrap();
        // What comes early for the window after is of no interest here.
        if event["event"] == "window" {
            lines.clear();
        }
        lines.push(line);
        if event["event"] == "closed" && of(&event) == peers {
            return lines;
        }
    }
}

#[test]
fn three_clients_meet_and_tell_it_in_json() {
    let home = Home::new();
    let registry = home.serve(&["--window", "2s"]);
    let names = ["ana", "ben", "eva"];
    let mut clients = names.map(|name| registry.join(&["--json", "--name", name]));
    for client in &mut clients {
        let first = client.line();
        assert_eq!(keys(&first), "event window opens_in_ms you");
        says(&first, &[r#"{"event":"registered","window":""#, r#""you":"127.0.0.1:"#]);
    }
    let said = clients.each_mut().map(|client| window_of(client, 2));
    for (own, lines) in names.iter().zip(&said) {
        let shape = |line: &String| keys(line);
        assert_eq!(shape(&lines[0]), "event window count peers");
        let events: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&events[0]["event"], &events[0]["count"]), (&"window".into(), &3.into()));
        for (kind, keys) in [("met", "event peer name rtt_ms"), ("greeted", "event peer name text")]
        {
            let of_kind = || lines.iter().zip(&events).filter(|(_, event)| event["event"] == kind);
            assert!(of_kind().all(|(line, _)| shape(line) == keys), "{lines:?}");
            let mut met: Vec<String> = of_kind().map(|(_, event)| text(&event["name"])).collect();
            met.push((*own).into());
            met.sort();
            assert_eq!(met, names, "{lines:?}");
        }
        let closed = lines.last().unwrap();
        assert_eq!(shape(closed), "event window met of missing");
        says(closed, &[&text(&events[0]["window"]), r#""met":2,"of":2,"missing":[]}"#]);
    }
    for client in clients {
        assert_eq!(client.stop("INT").succeeded().last().unwrap(), r#"{"event":"left"}"#);
    }
}

#[test]
fn once_alone_is_a_success() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let lines = registry.join(&["--once", "--json", "--name", "ana"]).end().succeeded();
    let [first, window, closed] = &lines[..] else { panic!("{lines:?}") };
    says(first, &[r#""event":"registered""#]);
    says(window, &[r#""event":"window""#, r#""count":1,"peers":[]}"#]);
    says(closed, &[r#""event":"closed""#, r#""met":0,"of":0,"missing":[]}"#]);
}

#[test]
fn once_is_one_window_also_together() {
    let home = Home::new();
    let registry = home.serve(&["--window", "3s"]);
    let (ana, window) = once_in_time(&registry, &["--name", "ana"]);
    let ben = registry.join(&["--once", "--json", "--name", "ben"]);
    for client in [ana, ben] {
        let lines = client.end().succeeded();
        says(lines.last().unwrap(), &[&window, r#""met":1,"of":1,"missing":[]}"#]);
    }
}

#[test]
fn a_signal_leaves_the_window_that_is_being_filled() {
    for signal in ["INT", "TERM"] {
        let home = Home::new();
        let registry = home.serve(&["--window", "4s"]);
        let mut ana = registry.join(&["--json", "--name", "ana"]);
        let window = registered(&mut ana);
        let witness = Netcat::to(registry.addr);
        witness.ask(r#"{"type":"REGISTER","name":"witness"}"#);
        let lines = ana.stop(signal).succeeded();
        assert_eq!(lines, [r#"{"event":"left"}"#]);
        let told = witness.hear_type("WINDOW");
        assert_eq!((text(&told["window"]), &told["count"]), (window.clone(), &1.into()));
        let document = home.document(&window);
        assert_eq!(document["rooms"]["main"].as_array().unwrap().len(), 1);
        assert_eq!(document["rooms"]["main"][0]["name"], "witness");
    }
}

#[test]
fn without_a_registry_once_fails_when_its_time_is_over() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let port = addr.port().to_string();
    let ended = run(&["join", "127.0.0.1", &port, "--once", "--json", "--timeout", "1s"]);
    ended.failed(1, &["no registry answered", &addr.to_string(), "within 1s", "is it running"]);
    assert!(ended.out.is_empty());
}

#[test]
fn without_a_registry_it_says_so_and_goes_on() {
    let mut silent = Some(UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = silent.as_ref().unwrap().local_addr().unwrap().port().to_string();
    let mut ana = Program::run(&["join", "127.0.0.1", &port, "--json", "--timeout", "1s"]);
    says(&ana.complaint(), &["no answer", "trying on"]);
    assert!(ana.is_running());
    // A registry comes up at last.
    drop(silent.take());
    let home = Home::new();
    let mut command = hit7(&["serve", "127.0.0.1", &port, "--data"]);
    command.arg(home.data());
    let _registry = Registry::start(command);
    ana.event("registered");
    assert_eq!(ana.stop("INT").code, Some(0));
}

#[test]
fn a_registry_that_falls_silent_later_is_told_of_too() {
    let home = Home::new();
    let registry = home.serve(&["--window", "3s"]);
    let mut ana = registry.join(&["--json", "--timeout", "1s"]);
    ana.event("registered");
    let (ben, _) = once_in_time(&registry, &["--timeout", "1s"]);
    registry.program.signal("KILL");
    says(&ana.complaint(), &["no answer", "trying on"]);
    assert_eq!(ana.stop("INT").code, Some(0));
    // Who takes part once waits for the window that it was promised, and for no other.
    let ended = ben.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    says(ended.out.last().unwrap(), &[r#""event":"missed""#]);
    says(ended.err.last().unwrap(), &["no registry answered", "within 1s"]);
}

#[test]
fn a_client_that_was_never_answered_stops_at_once() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let ana = Program::run(&["join", "127.0.0.1", &port, "--json"]);
    silent.recv(&mut [0; 1500]).unwrap();
    assert!(ana.stop("INT").succeeded().is_empty());
}

#[test]
fn rooms_are_apart_and_what_is_said_arrives() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json", "--name", "ana", "--room", "a"]);
    let mut ben = registry.join(&["--json", "--name", "ben", "--room", "b"]);
    let mut eva =
        registry.join(&["--json", "--name", "eva", "--room", "b", "--say", "¿qué tal? \"hola\""]);
    let lines = window_of(&mut ben, 1);
    let greeted = lines.iter().find(|line| line.contains("greeted")).unwrap();
    let greeted: Value = serde_json::from_str(greeted).unwrap();
    assert_eq!(
        (text(&greeted["name"]), text(&greeted["text"])),
        ("eva".into(), "¿qué tal? \"hola\"".into())
    );
    let greeted = window_of(&mut eva, 1).into_iter().find(|line| line.contains("greeted"));
    says(&greeted.unwrap(), &[r#""name":"ben","text":null}"#]);
    let window = ana.event("window");
    assert_eq!((&window["count"], &window["peers"]), (&1.into(), &Value::Array(vec![])));
}

#[test]
fn it_renews_for_the_following_window() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json"]);
    let seconds = |event: &Value| {
        let window: hit7::window::Window = event["window"].as_str().unwrap().parse().unwrap();
        window.opens().millis() / 1000
    };
    let first = ana.event("window");
    let renewed = ana.event("registered");
    assert_eq!(seconds(&renewed), seconds(&first) + 1);
    assert_eq!(ana.event("closed")["window"], first["window"]);
    assert_eq!(ana.event("window")["window"], renewed["window"]);
}

#[test]
fn a_person_reads_lines() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--name", "ana"]);
    let mut ben = registry.join(&["--name", "ben", "--say", "hola"]);
    let line = ana.line();
    assert!(line.starts_with("registered for 20"), "{line}");
    says(&line, &["Z in room main as 127.0.0.1:", "; opens in ", " s"]);
    let line = ana.line_with("2 members");
    assert!(line.starts_with("window 20"), "{line}");
    says(&line, &["Z is open: 2 members, 1 peer to greet; closes in "]);
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("closed")) {
        lines.push(ana.line());
    }
    let has = |start: &str, end: &str| {
        let found = lines.iter().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(found, "{start}…{end} is not in {lines:?}");
    };
    has("met ben at 127.0.0.1:", " ms");
    has("greeted by ben at 127.0.0.1:", ": hola");
    has("window 20", "Z closed: met 1 of 1");
    assert_eq!(ana.stop("INT").succeeded().last().unwrap(), "left");
    ben.line_with("greeted by ana at");
}

#[test]
fn every_address_of_a_host_is_tried() {
    let addrs: Vec<_> = ("localhost", 1).to_socket_addrs().unwrap().collect();
    if !addrs.iter().any(|addr| addr.is_ipv6()) {
        return eprintln!("skipped: localhost is no IPv6 address here");
    }
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let port = registry.port();
    let mut ana = Program::run(&["join", "localhost", &port, "--json"]);
    ana.event("registered");
    let lines = run(&["peers", "localhost", &port]).succeeded();
    says(&lines[0], &["room main"]);
}

#[test]
fn it_sends_from_where_it_is_told_to() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json", "--bind", "127.0.0.2"]);
    says(&text(&ana.event("registered")["you"]), &["127.0.0.2:"]);
    let port = registry.port();
    run(&["peers", "localhost", &port, "--bind", "127.0.0.2", "--timeout", "1s"]).succeeded();
    for command in ["join", "peers"] {
        run(&[command, "127.0.0.1", &port, "--bind", "198.51.100.1"])
            .failed(1, &["198.51.100.1", "--bind"]);
        run(&[command, "::1", &port, "--bind", "127.0.0.1"])
            .failed(1, &["[::1]", "127.0.0.1", "--bind"]);
    }
}

#[test]
fn a_host_that_does_not_resolve() {
    for command in ["join", "peers"] {
        run(&[command, "nowhere..invalid", "8080"]).failed(1, &["'nowhere..invalid'", "resolve"]);
    }
}

#[test]
fn a_closed_pipe_is_a_success() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let words = ["join", "127.0.0.1", &registry.port(), "--name", "ana"];
    let ana = Program::start_into(hit7(&words), writer.into());
    drop(reader);
    ana.end().succeeded();
}

#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    for command in ["join", "peers"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let words = [command, "127.0.0.1", &registry.port()];
        let program = Program::start_into(hit7(&words), full.into());
        program.end().failed(1, &["cannot write to stdout"]);
    }
}

#[test]
fn a_name_is_taken_from_the_host() {
    let home = Home::new();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json"]);
    let window = text(&ana.event("window")["window"]);
    let name = text(&home.document(&window)["rooms"]["main"][0]["name"]);
    let host = gethostname::gethostname();
    assert_eq!(name, hit7::proto::Name::nearest(&host.to_string_lossy()).unwrap().as_str());
}

/// A registry that answers the first request with an ERROR, and shows what comes then.
fn refusing(command: &str, code: &str, more: &[&str]) -> (Program, UdpSocket) {
    let registry = UdpSocket::bind("127.0.0.1:0").unwrap();
    registry.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let port = registry.local_addr().unwrap().port().to_string();
    let program = Program::run(&[&[command, "127.0.0.1", &port], more].concat());
    let mut request = [0; 1500];
    let (len, from) = registry.recv_from(&mut request).unwrap();
    let request: Value = serde_json::from_slice(&request[..len]).unwrap();
    let error = format!(
        r#"{{"type":"ERROR","seq":{},"code":"{code}","reason":"no\u001b[2J\u202e","retry_in_ms":1}}"#,
        request["seq"]
    );
    registry.send_to(error.as_bytes(), from).unwrap();
    (program, registry)
}

#[test]
fn a_final_refusal_is_one_line_that_no_terminal_acts_on() {
    for code in ["forbidden", "bad_field", "malformed", "unknown_type", "too_large"] {
        for command in ["join", "peers"] {
            let (program, _registry) = refusing(command, code, &[]);
            program.end().failed(1, &["refused", code, r"no\u{1b}[2J\u{202e}"]);
        }
    }
}

#[test]
fn a_passing_refusal_is_told_and_tried_again() {
    for code in ["full", "unavailable", "slow_down"] {
        let (mut program, registry) = refusing("join", code, &["--json"]);
        let line = program.complaint();
        says(&line, &["for now", code, r"no\u{1b}[2J\u{202e}", "trying again"]);
        registry.recv(&mut [0; 1500]).unwrap();
        assert!(program.is_running());
    }
}
