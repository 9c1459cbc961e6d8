//! Tests where `hit7 serve` listens, what it prints first, and how it stops.

use std::io::{PipeReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;

use hit7_support::{Home, Program, Registry, UdpClient, assert_has, has_ipv6, listening, text};

use crate::HIT7;

/// Starts a registry with these arguments; returns it and the addresses that it listens on.
fn serve(home: &Home, args: &[&str]) -> (Program, Vec<SocketAddr>) {
    let mut program = Program::start(home.with_data(&[&["serve"], args].concat()));
    let mut addrs = Vec::new();
    loop {
        let line = program.line();
        if line == format!("data in {}", home.data().display()) {
            return (program, addrs);
        }
        addrs.push(listening(&line));
    }
}

#[test]
fn a_port_alone_listens_on_all_addresses() {
    let home = HIT7.home();
    let (program, addrs) = serve(&home, &["0"]);
    let port = addrs[0].port();
    let all = ["0.0.0.0", "[::]"].map(|any| format!("{any}:{port}").parse().unwrap());
    assert!(addrs == all[..addrs.len()] && port > 0, "{addrs:?}");
    let ipv4 = UdpClient::to(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(ipv4.ask(r#"{"type":"REGISTER"}"#)["you"], ipv4.addr());
    if has_ipv6() {
        assert_eq!(addrs.len(), 2, "a socket for each");
        let ipv6 = UdpClient::to(format!("[::1]:{port}").parse().unwrap());
        assert_eq!(ipv6.ask(r#"{"type":"REGISTER"}"#)["you"], ipv6.addr());
    }
    program.stop("TERM").succeeded();
}

#[test]
fn a_host_name_listens_on_every_address_it_has() {
    let home = HIT7.home();
    let (program, addrs) = serve(&home, &["localhost", "0"]);
    assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == addrs[0].port()));
    for addr in addrs {
        assert_eq!(UdpClient::to(addr).ask(r#"{"type":"QUERY"}"#)["type"], "PEERS");
    }
    program.stop("TERM").succeeded();
}

#[test]
fn an_ipv4_address() {
    let home = HIT7.home();
    let (program, addrs) = serve(&home, &["127.0.0.1", "0"]);
    assert!(addrs.len() == 1 && addrs[0].ip().to_string() == "127.0.0.1");
    UdpClient::to(addrs[0]).register();
    program.stop("INT").succeeded();
}

#[test]
fn an_ipv6_address() {
    if !has_ipv6() {
        return;
    }
    for host in ["::1", "[::1]"] {
        let home = HIT7.home();
        let (program, addrs) = serve(&home, &[host, "0"]);
        assert!(addrs.len() == 1 && addrs[0].ip().to_string() == "::1");
        UdpClient::to(addrs[0]).register();
        program.stop("INT").succeeded();
    }
}

#[test]
fn all_of_ipv6_is_no_ipv4() {
    if !has_ipv6() {
        return;
    }
    let home = HIT7.home();
    let (program, addrs) = serve(&home, &["::", "0"]);
    assert!(addrs.len() == 1 && addrs[0].is_ipv6(), "{addrs:?}");
    let port = addrs[0].port();
    UdpSocket::bind(("127.0.0.1", port)).expect("the port is free for IPv4");
    UdpClient::to(format!("[::1]:{port}").parse().unwrap()).register();
    program.stop("INT").succeeded();
}

#[test]
fn a_window_with_members_is_a_line() {
    let mut registry = HIT7.serve(&["--window", "1s"]);
    let (ana, ben) = (registry.client(), registry.client());
    let window = ana.register();
    ben.ask(r#"{"type":"REGISTER","room":"lab"}"#);
    let line = registry.program.line();
    assert_has(&line, &[&window, "room", "member", "opened ", " ms late"]);
    assert!(line.starts_with(&window));
}

#[test]
fn a_signal_stops_it_and_what_was_acked_is_kept() {
    for signal in ["TERM", "INT", "QUIT"] {
        let home = HIT7.home();
        let registry = home.serve(&["--window", "1day"]);
        let window = registry.client().register();
        registry.stop(signal).succeeded();
        let log = std::fs::read_to_string(home.journals().last().unwrap()).unwrap();
        assert_has(&log, &["\"register\"", &window]);
        // The acked client is a member after the restart too: its LEAVE removes it.
        let again = home.serve(&["--window", "1day"]);
        assert_eq!(UdpClient::to(again.addr).register(), window);
    }
}

#[test]
fn a_member_acked_before_a_stop_is_told_its_window_after_it() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "2s"]);
    let mut ana = registry.client();
    ana.send(r#"{"type":"REGISTER","id":"a","name":"ana"}"#);
    let window = text(&ana.receive_type("REGISTERED")["window"]);
    registry.stop("TERM").succeeded();
    let registry = home.serve(&["--window", "2s"]);
    ana.set_registry(registry.addr);
    let opened = ana.receive_type("WINDOW");
    assert_eq!((&opened["window"], &opened["count"]), (&window.clone().into(), &1.into()));
    assert_eq!(home.document(&window)["rooms"]["main"][0]["name"], "ana");
}

#[test]
fn a_restart_within_a_window_keeps_its_list_and_its_pass() {
    let home = HIT7.home();
    let registry = home.serve(&["--window", "3s"]);
    let mut ana = registry.client();
    ana.send(r#"{"type":"REGISTER","id":"a"}"#);
    let opened = ana.receive_type("WINDOW");
    registry.stop("TERM").succeeded();
    let registry = home.serve(&["--window", "3s"]);
    ana.set_registry(registry.addr);
    ana.send(r#"{"type":"QUERY","id":"a","seq":9}"#);
    let peers = ana.receive_type("PEERS");
    for key in ["window", "pass", "you", "peers", "count"] {
        assert_eq!(peers[key], opened[key], "{key}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = HIT7.home();
    for args in [&["serve", "127.0.0.1", &port][..], &["serve", &port]] {
        Program::start(home.with_data(args))
            .end()
            .failed(1, &[&format!("port {port}"), "choose another"]);
    }
    assert!(!home.data().exists(), "nothing was done");
}

#[test]
fn hosts_that_cannot_be_listened_on() {
    let home = HIT7.home();
    for (host, pieces) in [
        ("nowhere..invalid", ["cannot resolve", "'nowhere..invalid'"]),
        ("127.0.0.1:8080", ["cannot resolve", "the port as a word of its own"]),
        ("198.51.100.1", ["198.51.100.1", "no such address"]),
        ("224.0.0.1", ["224.0.0.1", "a multicast address"]),
        ("255.255.255.255", ["255.255.255.255", "a broadcast address"]),
        ("127.255.255.255", ["127.255.255.255", "give an address of this machine"]),
    ] {
        Program::start(home.with_data(&["serve", host, "0"])).end().failed(1, &pieces);
    }
    let http = ["serve", "127.0.0.1", "0", "--http", "224.0.0.1:0"];
    Program::start(home.with_data(&http)).end().failed(1, &["--http", "a multicast address"]);
    let bind = ["join", "127.0.0.1", "9", "--bind", "224.0.0.1"];
    HIT7.run(&bind).failed(1, &["a multicast address", "--bind"]);
}

/// Makes a full pipe, whose reader reads nothing.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let child = writer.try_clone().unwrap();
    let (full, filled) = std::sync::mpsc::channel();
    // The last write blocks until the reader is dropped: then the pipe is full.
    std::thread::spawn(move || {
        while writer.write_all(&[b'\n'; 1024]).is_ok() {
            let _ = full.send(());
        }
    });
    while filled.recv_timeout(std::time::Duration::from_millis(300)).is_ok() {}
    (reader, child.into())
}

#[test]
fn a_reader_that_stalls_does_not_keep_a_client_from_stopping() {
    let mut registry = HIT7.serve(&["--window", "1s"]);
    let (reader, stdout) = full_pipe();
    let client = HIT7.command(["join", "127.0.0.1", &registry.port(), "--name", "ana"]);
    let client = Program::start_into(client, stdout);
    registry.program.line_with("1 member");
    client.stop("TERM").succeeded();
    drop(reader);
}

#[test]
fn it_goes_on_serving_whoever_watches() {
    let home = HIT7.home();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let program = Program::start_into(home.command(&["--window", "1s"]), writer.into());
    let mut head = vec![0; "listening on 127.0.0.1:".len() + 4];
    reader.read_exact(&mut head).unwrap();
    let mut byte = [0];
    while reader.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {
        head.push(byte[0]);
    }
    drop(reader);
    let ana = UdpClient::to(listening(&String::from_utf8(head).unwrap()));
    for _ in 0..2 {
        let window = ana.register();
        loop {
            let opened = ana.receive_type("WINDOW");
            if opened["window"] == window {
                let pass = &opened["pass"];
                ana.send(format!(r#"{{"type":"ACK","window":"{window}","pass":{pass}}}"#));
                break;
            }
        }
    }
    program.stop("TERM").succeeded();
}

#[test]
fn two_registries_side_by_side() {
    let registries = [HIT7.serve(&[]), HIT7.serve(&[])];
    assert_ne!(registries[0].addr, registries[1].addr);
    registries.iter().for_each(Registry::serves);
}
