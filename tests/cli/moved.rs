//! Tests clients whose registry moves to another address of its name.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;

use hit7_support::{Program, assert_has, skip};
use serde_json::{Value, json};

use crate::{HIT7, silent_registry};

/// Returns a command that runs in a mount namespace of its own with `hosts` as its `/etc/hosts`.
fn with_hosts(hosts: &Path, args: &[&str]) -> Command {
    let mut command = HIT7.command(args);
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let inner: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "sh", "-c", script]).arg(hosts).args(inner);
    outer.stdin(std::process::Stdio::null());
    command = outer;
    command
}

/// Returns whether this machine lets a test have an `/etc/hosts` of its own; if not, says so.
fn has_own_hosts(hosts: &Path) -> bool {
    let unshared = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/hosts && getent hosts registry.test",
        ])
        .arg(hosts)
        .output();
    let has = unshared.is_ok_and(|output| output.status.success());
    if !has {
        skip("no /etc/hosts of its own: that takes root and unshare");
    }
    has
}

#[test]
fn a_registry_that_moved_to_another_address_of_its_name_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 registry.test\n").unwrap();
    if !has_own_hosts(&hosts) {
        return;
    }
    let mut first = HIT7.serve(&["--window", "2s"]);
    let port = first.port();
    let join = ["join", "registry.test", &port, "--json", "--name", "ana"];
    let mut ana = Program::start(with_hosts(&hosts, &join));
    let watch = ["watch", "registry.test", &port, "--json", "--timeout", "1s"];
    let mut watcher = Program::start(with_hosts(&hosts, &watch));
    ana.event("registered");
    watcher.event("window");
    first.program.kill();
    let home = HIT7.home();
    let _second = home.start(home.with_data(&["serve", "127.0.0.2", &port, "--window", "2s"]));
    // Written in place: the file that is mounted must stay.
    fs::write(&hosts, "127.0.0.2 registry.test\n").unwrap();
    assert_has(&watcher.error_line(), &["no answer"]);
    // What was printed before the registry moved is read here, and the first missed window.
    ana.event("missed");
    ana.event("registered");
    while !watcher.line().contains("\"count\":1") {}
}

#[test]
fn a_registry_that_begins_anew_with_an_earlier_clock_is_followed() {
    let (ahead, port) = silent_registry();
    let mut ana = HIT7.start(&["join", "127.0.0.1", &port, "--json", "--timeout", "1s"]);
    let mut datagram = [0; 1500];
    let (len, from) = ahead.recv_from(&mut datagram).unwrap();
    let request: Value = serde_json::from_slice(&datagram[..len]).unwrap();
    let window = json!({"type": "WINDOW", "id": request["id"], "room": "main", "you": from,
        "window": "9999-11-23T11:29:00Z", "closes_in_ms": 1000, "pass": "the-pass-of-the-window",
        "part": 0, "parts": 1, "count": 1, "peers": [from]});
    ahead.send_to(window.to_string().as_bytes(), from).unwrap();
    assert_has(&ana.line(), &["window", "9999-11-23T11:29:00Z"]);
    drop(ahead);
    let _registry = HIT7.home().serve_at(port.parse().unwrap(), &["--window", "2s"]);
    while !ana.error_line().contains("after 9999-11-23T11:29:00Z; registering again") {}
    ana.event("registered");
    ana.event("window");
    assert_eq!(ana.stop("INT").code, Some(0));
}
