//! Tests `hit7 join`: clients that meet, leave, wait, and what they print.

use std::net::{ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::Duration;

use hit7_support::{Program, Registry, assert_has, has_ipv6, keys, skip, text};
use serde_json::{Value, json};

use crate::{HIT7, silent_registry};

/// Returns the window of the client's next registration that opens in more than two seconds.
fn registered(client: &mut Program) -> String {
    loop {
        let event = client.event("registered");
        if event["opens_in_ms"].as_u64().unwrap() > 2000 {
            return text(&event["window"]);
        }
    }
}

/// Starts `hit7 join --once`; returns the client and its window, which opens in more than 1.5
/// seconds. A client that came later is replaced by another, as it does not register again: also one
/// that was told at the opening alone, as its answer was late. The registry's windows take three
/// seconds or more.
fn join_once(registry: &Registry, more: &[&str]) -> (Program, String) {
    loop {
        let mut client = registry.join(&[&["--once", "--json"], more].concat());
        if let Some(event) = client.event_or_end("registered")
            && event["opens_in_ms"].as_u64().unwrap() > 1500
        {
            return (client, text(&event["window"]));
        }
    }
}

/// Returns all lines of the first window in which the client has this many peers.
fn window_of(client: &mut Program, peers: u64) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let line = client.line();
        let event: Value = serde_json::from_str(&line).unwrap();
        // Events for the window after are ignored here.
        if event["event"] == "window" {
            lines.clear();
        }
        lines.push(line);
        if event["event"] == "closed" && event["of"] == peers {
            return lines;
        }
    }
}

#[test]
fn three_clients_meet_and_print_events_as_json() {
    let registry = HIT7.serve(&["--window", "2s"]);
    let names = ["ana", "ben", "eva"];
    let mut clients = names.map(|name| registry.join(&["--json", "--name", name]));
    for client in &mut clients {
        let first = client.line();
        assert_eq!(keys(&first), "event window opens_in_ms you");
        assert_has(&first, &[r#"{"event":"registered","window":""#, r#""you":"127.0.0.1:"#]);
    }
    let printed = clients.each_mut().map(|client| window_of(client, 2));
    for (own, lines) in names.iter().zip(&printed) {
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
        assert_has(closed, &[&text(&events[0]["window"]), r#""met":2,"of":2,"missing":[]}"#]);
    }
    for client in clients {
        assert_eq!(client.stop("INT").succeeded().last().unwrap(), r#"{"event":"left"}"#);
    }
}

#[test]
fn clients_of_ipv4_and_ipv6_meet() {
    if !has_ipv6() {
        return;
    }
    let home = HIT7.home();
    let registry = home.start(home.with_data(&["serve", "0", "--window", "2s"]));
    let mut clients = ["127.0.0.1", "::1"].map(|host| {
        HIT7.start(&["join", host, &registry.port(), "--json", "--name", "ana", "--bind", "0"])
    });
    for client in &mut clients {
        let lines = window_of(client, 1);
        assert_has(lines.last().unwrap(), &[r#""met":1,"of":1,"missing":[]}"#]);
    }
}

#[test]
fn once_alone_is_a_success() {
    let registry = HIT7.serve(&["--window", "3s"]);
    let (ana, opens) = join_once(&registry, &["--name", "ana"]);
    let lines = ana.end().succeeded();
    let [window, closed] = &lines[..] else { panic!("{lines:?}") };
    assert_has(window, &[r#""event":"window""#, &opens, r#""count":1,"peers":[]}"#]);
    assert_has(closed, &[r#""event":"closed""#, r#""met":0,"of":0,"missing":[]}"#]);
}

#[test]
fn once_is_one_window_also_together() {
    let registry = HIT7.serve(&["--window", "3s"]);
    let (ana, window) = join_once(&registry, &["--name", "ana"]);
    let ben = registry.join(&["--once", "--json", "--name", "ben"]);
    for client in [ana, ben] {
        let lines = client.end().succeeded();
        assert_has(lines.last().unwrap(), &[&window, r#""met":1,"of":1,"missing":[]}"#]);
    }
}

#[test]
fn a_signal_leaves_the_window_that_is_being_filled() {
    let leaves = |signal| {
        let home = HIT7.home();
        let registry = home.serve(&["--window", "4s"]);
        let join = HIT7.command(["join", "127.0.0.1", &registry.port(), "--json", "--name", "ana"]);
        let mut ana = Program::start(join);
        let window = registered(&mut ana);
        let witness = registry.client();
        witness.ask(r#"{"type":"REGISTER","name":"witness"}"#);
        let lines = ana.stop(signal).succeeded();
        assert_eq!(lines, [r#"{"event":"left"}"#]);
        let opened = witness.receive_type("WINDOW");
        assert_eq!((text(&opened["window"]), &opened["count"]), (window.clone(), &1.into()));
        let document = home.document(&window);
        assert_eq!(document["rooms"]["main"].as_array().unwrap().len(), 1);
        assert_eq!(document["rooms"]["main"][0]["name"], "witness");
    };
    thread::scope(|scope| {
        for signal in ["INT", "TERM", "QUIT", "HUP"] {
            scope.spawn(move || leaves(signal));
        }
    });
}

#[test]
fn without_a_registry_once_fails_when_its_time_is_over() {
    let (_silent, port) = silent_registry();
    let exit = HIT7.run(&["join", "127.0.0.1", &port, "--once", "--json", "--timeout", "1s"]);
    exit.failed(
        1,
        &["no registry answered", &format!("127.0.0.1:{port}"), "within 1s", "is it running"],
    );
    assert!(exit.out.is_empty());
}

#[test]
fn without_a_registry_it_says_so_and_goes_on() {
    let (silent, port) = silent_registry();
    let mut ana = HIT7.start(&["join", "127.0.0.1", &port, "--json", "--timeout", "1s"]);
    assert_has(&ana.error_line(), &["no answer", "trying on"]);
    assert!(ana.is_running());
    // Now a registry starts.
    drop(silent);
    let _registry = HIT7.home().serve_at(port.parse().unwrap(), &[]);
    ana.event("registered");
    assert_eq!(ana.stop("INT").code, Some(0));
}

#[test]
fn a_registry_that_falls_silent_later_is_reported_too() {
    let registry = HIT7.serve(&["--window", "3s"]);
    let mut ana = registry.join(&["--json", "--timeout", "1s"]);
    ana.event("registered");
    let (ben, _) = join_once(&registry, &["--timeout", "1s"]);
    registry.program.signal("KILL");
    assert_has(&ana.error_line(), &["no answer", "trying on"]);
    assert_eq!(ana.stop("INT").code, Some(0));
    // With --once a client waits only for the window that it is registered for.
    let exit = ben.end();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert_has(exit.out.last().unwrap(), &[r#""event":"missed""#]);
    assert_has(exit.err.last().unwrap(), &["no registry answered", "within 1s"]);
}

/// The registry opens windows during the pause, whose WINDOWs wait in the client's socket.
#[test]
fn what_waited_while_a_client_was_paused_is_not_new() {
    let registry = HIT7.serve(&["--window", "2s"]);
    let mut ana = registry.join(&["--json", "--name", "ana"]);
    let before = ana.event("window");
    // Without this there would be no next WINDOW to wait in the socket.
    ana.event("registered");
    ana.pause(Duration::from_secs(7));
    let opens = |event: &Value| {
        let window: hit7::window::Window = event["window"].as_str().unwrap().parse().unwrap();
        window.opens().millis() / 1000
    };
    let next = ana.event("window");
    // Three or more windows went by; a WINDOW that waited was of the next or the one after.
    assert!(opens(&next) >= opens(&before) + 6, "{before} {next}");
    assert_eq!(ana.stop("INT").code, Some(0));
}

/// A WINDOW comes while a client in windows of two seconds is paused for longer than half of one.
#[test]
fn in_short_windows_a_short_pause_is_noticed() {
    let (registry, port) = silent_registry();
    let mut ana = HIT7.start(&["join", "127.0.0.1", &port]);
    let mut datagram = [0; 1500];
    let mut next = || {
        let (len, from) = registry.recv_from(&mut datagram).unwrap();
        let datagram: Value = serde_json::from_slice(&datagram[..len]).unwrap();
        (datagram, from)
    };
    let (first, from) = next();
    let answer = |more: Value| {
        let mut answer = json!({"id": first["id"], "seq": first["seq"], "room": "main", "you": from,
            "window": "2026-11-23T11:29:00Z"});
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        registry.send_to(answer.to_string().as_bytes(), from).unwrap();
    };
    let list = json!({"window": "2026-11-23T11:28:58Z", "closes_in_ms": 60_000, "part": 0,
        "parts": 1, "count": 0, "peers": []});
    answer(
        json!({"type": "REGISTERED", "opens_in_ms": 60_000, "window_ms": 2000, "current": list}),
    );
    ana.line_with("registered");
    ana.signal("STOP");
    thread::sleep(Duration::from_millis(1500));
    answer(json!({"type": "WINDOW", "closes_in_ms": 2000, "pass": "the-pass-of-the-window",
        "part": 0, "parts": 1, "count": 1, "peers": [from]}));
    ana.signal("CONT");
    loop {
        let (datagram, _) = next();
        assert_ne!(datagram["type"], "ACK", "it takes for new what waited");
        if datagram["seq"] != first["seq"] {
            break;
        }
    }
}

#[test]
fn the_reason_of_the_system_is_told() {
    let (silent, port) = silent_registry();
    drop(silent);
    let refused = ["no registry answered", "Connection refused", "no program listens there"];
    HIT7.run(&["peers", "127.0.0.1", &port, "--timeout", "1s"]).failed(1, &refused);
    HIT7.run(&["join", "127.0.0.1", &port, "--once", "--timeout", "1s"]).failed(1, &refused);
    let mut ana = HIT7.start(&["join", "127.0.0.1", &port, "--timeout", "1s"]);
    assert_has(&ana.error_line(), &["no answer", "Connection refused", "trying on"]);
    let mut watcher = HIT7.start(&["watch", "127.0.0.1", &port, "--timeout", "1s"]);
    assert_has(&watcher.error_line(), &["no answer", "Connection refused", "trying on"]);
}

#[test]
fn an_address_of_more_machines_than_one_is_refused_at_once() {
    for (host, remedy) in [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("224.0.0.1", "machine"),
        ("255.255.255.255", "machine"),
    ] {
        for command in ["join", "peers", "watch"] {
            let exit = HIT7.run(&[command, host, "8080"]);
            exit.failed(1, &[host, "not the address of one machine", remedy]);
        }
    }
}

/// A registry that answers each request with a CHALLENGE, as if larger answers were lost on the way.
#[test]
fn lost_large_answers_are_told_from_a_silent_registry() {
    let (registry, port) = silent_registry();
    std::thread::spawn(move || {
        let mut request = [0; 1500];
        while let Ok((len, from)) = registry.recv_from(&mut request) {
            let request: Value = serde_json::from_slice(&request[..len]).unwrap();
            let seq = &request["seq"];
            let challenge = format!(r#"{{"type":"CHALLENGE","seq":{seq},"cookie":"c"}}"#);
            registry.send_to(challenge.as_bytes(), from).unwrap();
        }
    });
    let lost = ["small answers come", "1232 bytes", "MTU"];
    HIT7.run(&["peers", "127.0.0.1", &port, "--timeout", "1s"]).failed(1, &lost);
    // An answer to REGISTER has no list at first, but waits for the disk.
    let either = ["it is there", "its disk may hang", "small MTU"];
    HIT7.run(&["join", "127.0.0.1", &port, "--once", "--timeout", "1s"]).failed(1, &either);
}

#[test]
fn a_client_that_was_never_answered_stops_at_once() {
    let (silent, port) = silent_registry();
    let ana = HIT7.start(&["join", "127.0.0.1", &port, "--json"]);
    silent.recv(&mut [0; 1500]).unwrap();
    assert!(ana.stop("INT").succeeded().is_empty());
}

#[test]
fn rooms_are_apart_and_what_is_said_arrives() {
    let registry = HIT7.serve(&["--window", "2s"]);
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
    assert_has(&greeted.unwrap(), &[r#""name":"ben","text":null}"#]);
    let window = ana.event("window");
    assert_eq!((&window["count"], &window["peers"]), (&1.into(), &Value::Array(vec![])));
}

#[test]
fn it_renews_for_the_following_window() {
    let registry = HIT7.serve(&["--window", "3s"]);
    let mut ana = registry.join(&["--json"]);
    let seconds = |event: &Value| {
        let window: hit7::window::Window = event["window"].as_str().unwrap().parse().unwrap();
        window.opens().millis() / 1000
    };
    let first = ana.event("window");
    let renewed = ana.event("registered");
    assert_eq!(seconds(&renewed), seconds(&first) + 3);
    assert_eq!(ana.event("closed")["window"], first["window"]);
    assert_eq!(ana.event("window")["window"], renewed["window"]);
}

#[test]
fn a_person_reads_lines() {
    let registry = HIT7.serve(&["--window", "2s"]);
    let mut ana = registry.join(&["--name", "ana"]);
    let mut ben = registry.join(&["--name", "ben", "--say", "hola"]);
    let line = ana.line();
    assert!(line.starts_with("registered for 20"), "{line}");
    assert_has(&line, &["Z (in ", " s) in main as 127.0.0.1:"]);
    let line = ana.line_with("2 members");
    assert!(line.starts_with("window 20"), "{line}");
    assert_has(&line, &["Z is open: 2 members, 1 to greet; closes in "]);
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
        return skip("localhost has no IPv6 address here");
    }
    let registry = HIT7.serve(&["--window", "1s"]);
    let port = registry.port();
    let mut ana = HIT7.start(&["join", "localhost", &port, "--json"]);
    ana.event("registered");
    let lines = HIT7.run(&["peers", "localhost", &port]).succeeded();
    assert_has(&lines[0], &["room main"]);
}

#[test]
fn it_sends_from_the_address_that_bind_names() {
    let registry = HIT7.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json", "--bind", "127.0.0.2"]);
    assert_has(&text(&ana.event("registered")["you"]), &["127.0.0.2:"]);
    let port = registry.port();
    HIT7.run(&["peers", "localhost", &port, "--bind", "127.0.0.2", "--timeout", "1s"]).succeeded();
    for command in ["join", "peers"] {
        HIT7.run(&[command, "127.0.0.1", &port, "--bind", "198.51.100.1"])
            .failed(1, &["198.51.100.1", "--bind"]);
        HIT7.run(&[command, "::1", &port, "--bind", "127.0.0.1"])
            .failed(1, &["[::1]", "127.0.0.1", "--bind"]);
    }
}

#[test]
fn a_host_that_does_not_resolve() {
    for command in ["join", "peers"] {
        HIT7.run(&[command, "nowhere..invalid", "8080"])
            .failed(1, &["'nowhere..invalid'", "resolve", "the name server, or give an address"]);
    }
}

#[test]
fn a_closed_pipe_is_a_success() {
    let registry = HIT7.serve(&["--window", "1s"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let ana = HIT7.command(["join", "127.0.0.1", &registry.port(), "--name", "ana"]);
    let ana = Program::start_into(ana, writer.into());
    drop(reader);
    ana.end().succeeded();
}

#[test]
fn a_full_disk_under_stdout_is_a_failure() {
    let registry = HIT7.serve(&["--window", "1s"]);
    for command in ["join", "peers"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let command = HIT7.command([command, "127.0.0.1", &registry.port()]);
        Program::start_into(command, full.into()).end().failed(1, &["cannot write to stdout"]);
    }
}

#[test]
fn a_name_is_taken_from_the_host() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "1s"]);
    let mut ana = registry.join(&["--json"]);
    let window = text(&ana.event("window")["window"]);
    let name = text(&home.document(&window)["rooms"]["main"][0]["name"]);
    let host = gethostname::gethostname();
    assert_eq!(name, hit7::proto::Name::nearest(&host.to_string_lossy()).unwrap().as_str());
}

/// Starts a client and answers its first request with an ERROR; returns the client and the socket
/// that acts as its registry.
fn refused(command: &str, code: &str, more: &[&str]) -> (Program, UdpSocket) {
    let (registry, port) = silent_registry();
    let program = HIT7.start(&[&[command, "127.0.0.1", &port], more].concat());
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
            let (program, _registry) = refused(command, code, &[]);
            program.end().failed(1, &["refused", code, r"no\u{1b}[2J\u{202e}"]);
        }
    }
}

#[test]
fn a_temporary_refusal_is_reported_and_tried_again() {
    for code in ["full", "unavailable", "slow_down"] {
        let (mut program, registry) = refused("join", code, &["--json"]);
        let line = program.error_line();
        assert_has(&line, &["for now", code, r"no\u{1b}[2J\u{202e}", "trying again"]);
        registry.recv(&mut [0; 1500]).unwrap();
        assert!(program.is_running());
    }
}
