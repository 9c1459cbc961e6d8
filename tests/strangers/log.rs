//! The log never grows by a line a datagram: what was rejected away is told by reason, every ten
//! seconds at most.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hit7::window::Wall;
use serde_json::Value;

use crate::wire::socket;

#[test]
fn what_is_turned_away_is_told_every_ten_seconds_at_most() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let mut registry = Command::new(env!("CARGO_BIN_EXE_hit7"))
        .args(["serve", "127.0.0.1", "0", "--trust", "192.0.2.1", "--log-format", "json"])
        .arg("--data")
        .arg(home.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(registry.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let addr: std::net::SocketAddr = first["listening on ".len()..].trim().parse().unwrap();
    let (stranger, begun, mut sent) = (socket([127, 0, 0, 1]), Instant::now(), 0_u64);
    while begun.elapsed() < Duration::from_secs(12) {
        for datagram in [&b"not json"[..], br#"{"type":"WINDOW"}"#] {
            stranger.send_to(datagram, addr).unwrap();
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    registry.kill().unwrap();
    registry.wait().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    println!("{sent} datagrams: {text}");
    assert!((2..=3).contains(&lines.len()), "{text}");
    let moment = |line: &Value| line["timestamp"].as_str().unwrap()[..23].to_owned() + "Z";
    let moments: Vec<Wall> = lines.iter().map(|line| moment(line).parse().unwrap()).collect();
    for pair in moments.windows(2) {
        // What is logged is cut to milliseconds.
        assert!(pair[0].until(pair[1]) >= Duration::from_millis(9_999), "{text}");
    }
    let counts = lines[1]["counts"].as_str().unwrap();
    assert!(counts.contains("unreadable ") && counts.contains("no_request "), "{counts}");
}
