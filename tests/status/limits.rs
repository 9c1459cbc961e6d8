//! Tests the limits of the HTTP server: open files, connections, slow readers and the Host header.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use hit7_support::http::get;
use hit7_support::{Home, Program, assert_has, until};
use socket2::{Domain, Socket, Type};

use crate::{HIT7, PAGE, turned_away};

/// Returns a command like `command`, which may open `files` files.
fn with_files(files: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh", &files.to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

#[test]
fn with_few_files_the_registry_serves_or_says_how_many_it_needs() {
    let mut served = 0;
    for files in 7..80 {
        let home = HIT7.home();
        let flags = [&PAGE[..], &["--workers", "2"]].concat();
        let mut program = Program::start(with_files(files, &home.command(&flags)));
        // A refused start prints nothing on stdout, and ends.
        while program.lines().is_empty() && program.is_running() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if program.is_running() {
            drop(program);
            let registry = home.start(with_files(files, &home.command(&flags)));
            registry.client().register_as("main", "ana");
            assert_eq!(get(registry.http(), "/livez").status, 200);
            served += 1;
        } else {
            program.end().failed(1, &["ulimit -n"]);
        }
    }
    assert!((10..70).contains(&served), "{served}");
}

/// A machine has many addresses of loopback, and its registry send-only sockets, on Linux alone.
#[cfg(target_os = "linux")]
#[test]
fn send_only_sockets_leave_the_files_that_the_journal_needs() {
    let home = HIT7.home();
    let flags = [&["serve", "0.0.0.0", "0", "--workers", "2"][..], &PAGE].concat();
    let registry = home.start(with_files(64, &home.with_data(&flags)));
    for host in 1..=30 {
        // At each address the registry opens sockets to answer from there.
        let client = hit7_support::UdpClient::to(([127, 0, 0, host], registry.addr.port()).into());
        assert_eq!(client.ask(r#"{"type":"QUERY","seq":7}"#)["seq"], 7);
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", registry.program.pid())).unwrap().count();
    assert!(files <= 64 - 16 - 8, "{files} are open; the journal, documents and HTTP need more");
}

#[test]
fn a_page_on_loopback_answers_no_other_host() {
    let registry = HIT7.serve(&[&PAGE[..], &["--http-host", "page.example.org"]].concat());
    let status = |host: &str| {
        let answer = hit7_support::http::get_as(registry.http(), "/api/v1/window", host);
        (answer.status, answer.body)
    };
    for host in ["localhost", "127.0.0.1:9", "[::1]:8081", "Page.Example.org."] {
        assert_eq!(status(host).0, 200, "{host}");
    }
    let (refused, body) = status("evil.example");
    assert_eq!(refused, 421);
    assert_has(&body, &["wrong_host", "--http-host"]);
    assert_eq!(turned_away(&registry, "wrong_host"), 1);
}

/// The window of the large document that `with_large_document` writes.
const LARGE: &str = "2026-01-01T00:00:00Z";

/// Writes a document of 4 MiB, more than what waits in the buffers of a connection.
fn with_large_document(home: &Home) {
    let day = home.data().join("windows/2026-01-01");
    std::fs::create_dir_all(&day).unwrap();
    let head = r#"{"window":"2026-01-01T00:00:00Z","closes":"2026-01-01T00:01:00Z","opened":"#;
    let text = format!(r#"{head}"2026-01-01T00:00:00.001Z","rooms":{{}}}}"#);
    std::fs::write(day.join("00-00.json"), text.clone() + &" ".repeat((4 << 20) - text.len()))
        .unwrap();
}

/// Connects from the address `from`, with a small receive buffer, and asks for `path`.
fn ask_from(from: [u8; 4], addr: SocketAddr, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(hit7_support::DEADLINE)).unwrap();
    // The registry may have refused the connection already.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream
}

fn ask_here(addr: SocketAddr, path: &str) -> TcpStream {
    ask_from([127, 0, 0, 1], addr, path)
}

#[test]
fn slow_readers_are_cut_and_take_no_files_from_the_registry() {
    let home = HIT7.home();
    with_large_document(&home);
    let flags = [&PAGE[..], &["--window", "1day"]].concat();
    let registry = home.start(with_files(1024, &home.command(&flags)));
    let path = format!("/api/v1/windows/{LARGE}");
    let mut readers: Vec<_> = (0..505).map(|_| ask_here(registry.http(), &path)).collect();
    for reader in &mut readers[..400] {
        assert!(reader.read(&mut [0]).unwrap() == 1, "it is being answered");
    }
    let client = registry.client();
    for name in 0..100 {
        // Each is a new record, for which the journal may have to open a file.
        client.register_as("main", &format!("ana-{name}"));
    }
    assert_eq!(get(registry.http(), "/readyz").status, 200);
    assert!(turned_away(&registry, "too_many_connections") > 0);
    until("all are cut, though each takes a byte now and then", || {
        for reader in &mut readers {
            reader.set_nonblocking(true).unwrap();
            let _ = reader.read(&mut [0]);
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
        (turned_away(&registry, "slow_reader") > 400).then_some(())
    });
    assert_eq!(get(registry.http(), &path).body.len(), 4 << 20, "who reads gets all of it");
}

#[test]
fn a_full_house_answers_health_checks_and_says_so_to_others() {
    let home = HIT7.home();
    let mut registry = home.start(with_files(80, &home.command(&PAGE)));
    let few = registry.program.error_line();
    let most: usize = few.rsplit_once("connections=").unwrap().1.trim().parse().unwrap();
    until("it is full", || {
        // Idle connections are closed after ten seconds, which a busy machine may take to open all.
        let _idle: Vec<_> = (0..most).map(|_| ask_here(registry.http(), "/livez")).collect();
        let refused = get(registry.http(), "/");
        let paths = ["/livez", "/readyz", "/metrics"];
        let answers = paths.map(|path| get(registry.http(), path).status);
        let is_told = refused.body.contains("too_many_connections");
        (refused.status == 503 && is_told && answers == [200; 3]).then_some(())
    });
    assert!(turned_away(&registry, "too_many_connections") > 0);
    until("there is room again", || (get(registry.http(), "/").status == 200).then_some(()));
    registry.serves();
}

/// Returns whether a connection is answered with 200; the rest of the answer is not read.
fn is_answered(mut stream: &TcpStream) -> bool {
    let mut status = [0; 12];
    stream.read_exact(&mut status).is_ok() && &status == b"HTTP/1.1 200"
}

/// A client address other than 127.0.0.1 is there without configuration on Linux alone.
#[cfg(target_os = "linux")]
#[test]
fn one_address_has_a_quarter_of_the_large_answers_unless_it_is_trusted() {
    let home = HIT7.home();
    let day = home.data().join("windows/2026-01-01");
    std::fs::create_dir_all(&day).unwrap();
    for minute in 0..1000 {
        std::fs::write(day.join(format!("{:02}-{:02}.json", minute / 60, minute % 60)), "")
            .unwrap();
    }
    let flags = [&PAGE[..], &["--trust", "127.0.0.3/32"]].concat();
    let registry = home.start(home.command(&flags));
    let readers = |from: [u8; 4], count: usize| -> Vec<TcpStream> {
        let ask = |_| ask_from(from, registry.http(), "/api/v1/windows?limit=1000");
        (0..count).map(ask).filter(is_answered).collect()
    };
    let slow = readers([127, 0, 0, 2], 16);
    assert_eq!((slow.len(), turned_away(&registry, "too_many_large_answers")), (4, 12));
    assert_eq!(readers([127, 0, 0, 3], 12).len(), 12);
}

/// A client address other than 127.0.0.1 is there without configuration on Linux alone.
#[cfg(target_os = "linux")]
#[test]
fn one_address_has_a_quarter_of_the_connections_unless_it_is_trusted() {
    let registry = HIT7.serve(&[&PAGE[..], &["--trust", "127.0.0.3/32"]].concat());
    let streams = |from: [u8; 4], count: usize| -> usize {
        let ask = |_| ask_from(from, registry.http(), "/api/v1/events");
        let streams: Vec<_> = (0..count).map(ask).collect();
        streams.iter().filter(|stream| is_answered(stream)).count()
    };
    assert_eq!(streams([127, 0, 0, 2], 130), 128);
    assert_eq!(turned_away(&registry, "too_many_from_address"), 2);
    assert_eq!(streams([127, 0, 0, 3], 130), 130);
    assert_eq!(turned_away(&registry, "too_many_from_address"), 2);
}
