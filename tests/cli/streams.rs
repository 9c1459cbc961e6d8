//! Streams that nobody reads, that fail or that another program has changed, and every signal.

use std::fs::{OpenOptions, read_to_string};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use hit7_support::{Program, assert_has, free_port, receive, udp_socket, until};

use crate::HIT7;

/// Returns a stream that takes nothing more and does not block, and its unread end.
fn full() -> (UnixStream, UnixStream) {
    let (mut full, unread) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    for piece in [&[b'\n'; 4096][..], b"\n"] {
        while full.write(piece).is_ok() {}
    }
    (full, unread)
}

/// Returns a stream that blocks whoever writes to it, and its unread end.
fn blocking() -> (Stdio, UnixStream) {
    let (full, unread) = full();
    full.set_nonblocking(false).unwrap();
    (OwnedFd::from(full).into(), unread)
}

/// Returns an address of loopback that is free: a registry whose stdout nobody reads cannot say
/// which one it took.
fn free_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[test]
fn streams_that_nobody_reads_hold_up_neither_a_registry_nor_its_stop() {
    let stops = |is_out, is_err| {
        let (home, addr) = (HIT7.home(), free_addr());
        let port = addr.port().to_string();
        let mut serve = home.with_data(&["serve", "127.0.0.1", &port, "--log-level", "info"]);
        let ((out, _unread_out), (err, _unread_err)) = (blocking(), blocking());
        serve.stdout(if is_out { out } else { Stdio::null() });
        serve.stderr(if is_err { err } else { Stdio::null() });
        let mut registry = serve.spawn().unwrap();
        until_it_answers(addr);
        terminate(&mut registry).code()
    };
    for (is_out, is_err) in [(true, false), (false, true), (true, true)] {
        // A stop has a second of its own, of which a busy machine may give it too little.
        let in_order = (0..5).any(|_| stops(is_out, is_err) == Some(0));
        assert!(in_order, "stdout {is_out}, stderr {is_err}");
    }
}

#[test]
fn a_full_disk_under_stdout_and_stderr_ends_no_registry() {
    let (home, addr) = (HIT7.home(), free_addr());
    let port = addr.port().to_string();
    let mut serve = home.with_data(&["serve", "127.0.0.1", &port, "--log-level", "info"]);
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    serve.stdout(full()).stderr(full());
    let mut registry = serve.spawn().unwrap();
    until_it_answers(addr);
    assert_eq!(terminate(&mut registry).code(), Some(0));
}

#[test]
fn a_help_text_that_cannot_be_written_is_a_failure() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let help = Program::start_into(HIT7.command(["--help"]), full.into());
    help.end().failed(1, &["cannot write to stdout", "No space left"]);
}

#[test]
fn a_full_stdout_that_another_program_made_non_blocking_is_waited_for() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let (full, mut unread) = full();
    let join = HIT7.command(["join", "127.0.0.1", &registry.port(), "--json"]);
    let client = Program::start_into(join, OwnedFd::from(full).into());
    until("the client has something to print", || {
        let journals = registry.home.journals();
        journals.iter().any(|path| read_to_string(path).unwrap().contains("register")).then_some(())
    });
    let (mut printed, mut piece) = (Vec::new(), [0; 4096]);
    until("the client is registered", || {
        let read = unread.read(&mut piece).unwrap();
        printed.extend(piece[..read].iter().filter(|byte| **byte != b'\n'));
        String::from_utf8_lossy(&printed).contains(r#"{"event":"registered""#).then_some(())
    });
    client.stop("INT").succeeded();
}

#[test]
fn a_signal_without_a_meaning_ends_no_registry() {
    let mut registry = HIT7.serve(&[]);
    for (signal, said) in [
        ("HUP", "SIGHUP: there is no --key-file to read again"),
        ("USR1", "SIGUSR1 means nothing to hit7: ignored"),
        ("USR2", "SIGUSR2 means nothing to hit7: ignored"),
    ] {
        registry.program.signal(signal);
        assert_has(&registry.program.error_line(), &["WARN", said]);
    }
    registry.serves();
    registry.stop("QUIT").succeeded();
}

#[test]
fn a_registry_without_processor_time_says_so_and_stops_in_order() {
    let exit = HIT7.serve(&[]).stop("XCPU");
    assert_eq!((exit.code, exit.err.len()), (Some(0), 1), "{exit:?}");
    assert_has(&exit.err[0], &["ERROR", "no more processor time", "ulimit -t"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_under_nohup_outlives_its_terminal() {
    let registry = HIT7.serve(&["--window", "1day"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", HIT7.0, "join", "127.0.0.1"]);
    shell.args([&registry.port(), "--json"]);
    let mut client = Program::start(shell);
    client.event("registered");
    client.signal("HUP");
    client.signal("USR1");
    assert_has(&client.error_line(), &["SIGUSR1 means nothing"]);
    assert_eq!(client.stop("TERM").succeeded(), [r#"{"event":"left"}"#]);
}

/// As of `hit7 serve … &` in a script, whose Ctrl-C is not for the registry.
#[cfg(target_os = "linux")]
#[test]
fn a_registry_behind_a_script_outlives_the_keyboard_of_the_script() {
    let home = HIT7.home();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' INT QUIT; exec \"$0\" \"$@\"", HIT7.0, "serve", "127.0.0.1", "0"]);
    shell.arg("--data").arg(home.data());
    let mut registry = home.start(shell);
    for signal in ["INT", "QUIT", "USR1"] {
        registry.program.signal(signal);
    }
    assert_has(&registry.program.error_line(), &["SIGUSR1 means nothing"]);
    registry.serves();
    registry.stop("TERM").succeeded();
}

#[cfg(target_os = "linux")]
#[test]
fn bad_arguments_are_told_from_a_failure_also_where_stderr_takes_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(HIT7.command(["bogus"]).stderr(full).status().unwrap().code(), Some(2));
}

fn until_it_answers(registry: SocketAddr) {
    let socket = udp_socket(Ipv4Addr::LOCALHOST, Duration::from_millis(100));
    until("an answer", || {
        let _ = socket.send_to(br#"{"type":"QUERY"}"#, registry);
        receive(&socket)
    });
}

/// Sends SIGTERM, and waits until the program ends.
fn terminate(program: &mut Child) -> ExitStatus {
    let kill = Command::new("kill").arg(program.id().to_string()).status();
    assert!(kill.unwrap().success());
    until("the end", || program.try_wait().unwrap())
}
