//! The log does not grow with each datagram: rejected datagrams are counted by reason, and logged
//! at most every ten seconds.

use std::time::Duration;

use hit7::window::Wall;
use hit7_support::until;
use serde_json::Value;

use crate::HIT7;
use crate::wire::socket;

#[test]
fn what_is_turned_away_is_told_every_ten_seconds_at_most() {
    let flags = ["--trust", "192.0.2.1", "--log-format", "json"];
    let mut registry = HIT7.serve(&flags);
    let (stranger, mut sent) = (socket([127, 0, 0, 1]), 0_u64);
    until("two lines", || {
        for datagram in [&b"not json"[..], br#"{"type":"WINDOW"}"#] {
            stranger.send_to(datagram, registry.addr).unwrap();
            sent += 1;
        }
        (registry.program.error_lines().len() >= 2).then_some(())
    });
    registry.program.kill();
    let text = registry.program.end().err.join("\n");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    println!("{sent} datagrams: {text}");
    assert_eq!(lines.len(), 2, "{text}");
    let moment = |line: &Value| line["timestamp"].as_str().unwrap()[..23].to_owned() + "Z";
    let moments: Vec<Wall> = lines.iter().map(|line| moment(line).parse().unwrap()).collect();
    // A line gets its time after it is decided on; on a busy machine the first may wait for that.
    assert!(moments[0].until(moments[1]) >= Duration::from_secs(9), "{text}");
    let counts = lines[1]["counts"].as_str().unwrap();
    assert!(counts.contains("unreadable ") && counts.contains("no_request "), "{counts}");
}
