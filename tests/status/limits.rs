//! Tests few open files, and the Host header: a registry either serves, or says what it lacks.

use std::process::Command;

use hit7_support::http::get;
use hit7_support::{Program, assert_has};

use crate::{HIT7, PAGE};

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
}
