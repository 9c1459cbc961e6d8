//! Tests the program's arguments, and the environment variables in their place.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use hit7_support::{Program, assert_has, keys};

use crate::HIT7;

#[test]
fn help_shows_every_flag_with_its_variable() {
    for (command, flags) in [
        (
            "serve",
            "window data peers trust key-file max-per-ip max-room max-window max-rooms rate burst \
             workers http http-host keep accept-damage accept-weak-disk plain",
        ),
        ("join", "name room say once json plain bind key-file timeout"),
        ("watch", "room json plain bind key-file timeout"),
        ("peers", "room json bind key-file timeout"),
        ("history", "data json"),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let lines = HIT7.run(&[command, "--help"]).succeeded();
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        let help = words.join(" ");
        for flag in flags.iter().chain(&["log-level", "log-format"]) {
            let name = format!("HIT7_{}", flag.to_uppercase().replace('-', "_"));
            assert_has(&help, &[&format!("--{flag}"), &format!("[env: {name}=")]);
        }
        let shown = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
        let everywhere = ["--help", "--version", "--log-level", "--log-format"];
        let known = |word: &&&str| flags.contains(&&word[2..]) || everywhere.contains(*word);
        let unknown: Vec<&&str> =
            shown.filter(|word| !known(word) && !word.starts_with("--once")).collect();
        assert!(unknown.is_empty(), "{unknown:?} of {command} is not tested");
    }
    assert_has(&HIT7.run(&["--version"]).succeeded()[0], &["hit7 ", env!("CARGO_PKG_VERSION")]);
}

/// Wrong arguments, each with a text that the error message must contain.
const BAD_ARGUMENTS: &[(&[&str], &str)] = &[
    (&[], "Usage"),
    (&["dance"], "dance"),
    (&["serve"], "<PORT>"),
    (&["serve", "nope"], "<PORT>"),
    (&["serve", "localhost", "nope"], "<PORT>"),
    (&["serve", "65536"], "<PORT>"),
    (&["serve", "8080", "--workers", "0"], "--workers"),
    (&["serve", "-1"], "-1"),
    (&["serve", "a", "1", "2"], "2"),
    (&["serve", "1", "--colour"], "--colour"),
    (&["serve", "1", "--window", "1500ms"], "--window"),
    (&["serve", "1", "--window", "0s"], "--window"),
    (&["serve", "1", "--window", "2d"], "--window"),
    (&["serve", "1", "--window", "soon"], "--window"),
    (&["serve", "1", "--peers", "1"], "--peers"),
    (&["serve", "1", "--peers", "many"], "--peers"),
    (&["serve", "1", "--trust", "10.0.0.0/33"], "--trust"),
    (&["serve", "1", "--trust", "localhost"], "--trust"),
    (&["serve", "1", "--max-per-ip", "few"], "--max-per-ip"),
    (&["serve", "1", "--rate", "1.5"], "--rate"),
    (&["serve", "1", "--burst", "4294967296"], "--burst"),
    (&["serve", "1", "--keep", "1h"], "--keep"),
    (&["serve", "1", "--keep", "always"], "--keep"),
    (&["join"], "<HOST>"),
    (&["join", "localhost"], "<PORT>"),
    (&["join", "localhost", "0"], "<PORT>"),
    (&["join", "localhost", "1", "--name", "a  b"], "--name"),
    (&["join", "localhost", "1", "--room", ""], "--room"),
    (&["join", "localhost", "1", "--room", "a/b"], "--room"),
    (&["join", "localhost", "1", "--say", "a\nb"], "--say"),
    (&["join", "localhost", "1", "--timeout", "long"], "--timeout"),
    (&["join", "localhost", "1", "--bind", "localhost"], "--bind"),
    (&["peers", "localhost", "nope"], "<PORT>"),
    (&["peers", "localhost", "1", "--room", "a b"], "--room"),
    (&["peers", "localhost", "1", "--timeout", "-1s"], "-1"),
    (&["peers", "localhost", "1", "--timeout", "0s"], "--timeout"),
    (&["history", "yesterday"], "[WINDOW]"),
];

#[test]
fn bad_arguments_are_named() {
    let long = "x".repeat(65);
    let say = "é".repeat(201);
    let too_long: [(&[&str], &str); 2] = [
        (&["join", "localhost", "1", "--name", &long], "--name"),
        (&["join", "localhost", "1", "--say", &say], "--say"),
    ];
    for (args, named) in BAD_ARGUMENTS.iter().chain(&too_long) {
        let exit = HIT7.run(args);
        assert_eq!((exit.code, exit.out.len()), (Some(2), 0), "{args:?}: {exit:?}");
        assert!(exit.err.iter().any(|line| line.contains(named)), "{args:?}: {exit:?}");
        for jargon in ["invalid digit", "too large to fit", "not in 1..=", "parse"] {
            assert!(!exit.err.concat().contains(jargon), "{args:?}: {exit:?}");
        }
    }
}

#[test]
fn bad_values_of_the_environment_are_named() {
    for (command, name, value, flag) in [
        ("serve", "HIT7_WINDOW", "soon", "--window"),
        ("serve", "HIT7_PEERS", "1", "--peers"),
        ("serve", "HIT7_TRUST", "10.0.0.0/8,nope", "--trust"),
        ("serve", "HIT7_KEEP", "1h", "--keep"),
        ("join", "HIT7_NAME", "a  b", "--name"),
        ("join", "HIT7_ROOM", "a b", "--room"),
        ("join", "HIT7_SAY", "a\tb", "--say"),
        ("join", "HIT7_BIND", "nope", "--bind"),
        ("join", "HIT7_TIMEOUT", "long", "--timeout"),
        ("peers", "HIT7_ROOM", "a b", "--room"),
        ("peers", "HIT7_ROOM", "", "--room"),
        ("join", "HIT7_NAME", "", "--name"),
        ("join", "HIT7_KEY_FILE", "", "--key-file"),
        ("serve", "HIT7_DATA", "", "--data"),
        ("serve", "HIT7_MAX_PER_IP", "", "--max-per-ip"),
        ("serve", "HIT7_TRUST", "", "--trust"),
        ("serve", "HIT7_LOG_LEVEL", "loud", "--log-level"),
    ] {
        let mut command = HIT7.command([command, "127.0.0.1", "1"]);
        command.env(name, value);
        let exit = Program::start(command).end();
        assert_eq!(exit.code, Some(2), "{name}");
        assert_has(&exit.err[0], &[flag]);
        assert_has(&exit.err.join("\n"), &[&format!("the value is that of {name} in the")]);
    }
}

#[test]
fn a_variable_that_is_no_text_is_named() {
    let mut command = HIT7.command(["join", "127.0.0.1", "1"]);
    command.env("HIT7_NAME", OsStr::from_bytes(b"\xff")).env("HIT7_ROOM", "lab");
    let exit = Program::start(command).end();
    assert_eq!(exit.code, Some(2));
    assert_has(&exit.err.join("\n"), &["the value is that of HIT7_NAME in the environment"]);
}

#[test]
fn a_failure_names_the_variable_of_the_flag_that_it_names() {
    let home = HIT7.home();
    let open = home.data().join("open");
    fs::create_dir_all(home.data()).unwrap();
    fs::write(&open, "correct horse battery").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (command, name, value, flag) in [
        ("join", "HIT7_KEY_FILE", "/nowhere/key", "--key-file"),
        ("serve", "HIT7_KEY_FILE", open.to_str().unwrap(), "--key-file"),
        ("peers", "HIT7_BIND", "192.0.2.1", "--bind"),
        ("serve", "HIT7_HTTP", "192.0.2.1:0", "--http"),
        ("serve", "HIT7_DATA", "/dev/null", "--data"),
    ] {
        let port = if command == "serve" { "0" } else { "9" };
        let mut command = HIT7.command([command, "127.0.0.1", port]);
        if name != "HIT7_DATA" {
            command.env("HIT7_DATA", home.data());
        }
        command.env(name, value);
        let exit = Program::start(command).end();
        exit.failed(1, &[flag, &format!("; {flag} is from {name}")]);
    }
    let mut command = HIT7.command(["peers", "127.0.0.1", "9", "--bind", "192.0.2.1"]);
    command.env("HIT7_BIND", "127.0.0.1");
    let exit = Program::start(command).end();
    assert!(exit.code == Some(1) && !exit.err.concat().contains("HIT7_"), "{exit:?}");
}

#[test]
fn flags_come_from_the_environment() {
    let home = HIT7.home();
    let mut command = HIT7.command(["serve", "127.0.0.1", "0"]);
    command.env("HIT7_DATA", home.data()).env("HIT7_WINDOW", "2s");
    command.env("HIT7_TRUST", "127.0.0.0/8,::1").env("HIT7_ACCEPT_DAMAGE", "1");
    let registry = home.start(command);
    let mut command = HIT7.command(["join", "127.0.0.1", &registry.port()]);
    for (name, value) in
        [("JSON", "1"), ("ONCE", "true"), ("NAME", "ana"), ("ROOM", "lab"), ("BIND", "127.0.0.3")]
    {
        command.env(format!("HIT7_{name}"), value);
    }
    let lines = Program::start(command).end().succeeded();
    assert_has(&lines[0], &[r#""event":"registered""#, "127.0.0.3:"]);
    for (value, is_json) in [("1", true), ("0", false), ("false", false)] {
        let mut command = HIT7.command(["peers", "127.0.0.1", &registry.port()]);
        command.env("HIT7_JSON", value).env("HIT7_ROOM", "lab");
        let lines = Program::start(command).end().succeeded();
        assert_eq!(lines[0].starts_with('{'), is_json, "{value}");
    }
    let mut command = HIT7.command(["history"]);
    command.env("HIT7_JSON", "1").env("HIT7_DATA", home.data());
    let lines = Program::start(command).end().succeeded();
    assert_eq!(keys(&lines[0]), "window closes opened rooms");
    assert_has(&lines[0], &[r#""rooms":{"lab":1}"#]);
}

#[test]
fn a_flag_stands_above_the_environment() {
    let mut command = HIT7.command(["join", "127.0.0.1", "1", "--name", "a  b"]);
    command.env("HIT7_NAME", "ana");
    let exit = Program::start(command).end();
    assert!(exit.code == Some(2) && !exit.err.concat().contains("HIT7_"), "{exit:?}");
}
