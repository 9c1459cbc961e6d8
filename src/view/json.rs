//! Formats events, rosters and documents for programs: a JSON object on each line.

use std::net::SocketAddr;

use serde::Serialize;

use super::Line;
use super::lines::{client_line, refused_line};
use crate::archive::{Document, whole_seconds};
use crate::client::{self, Roster, Watched};
use crate::peer::{self, MissedWhy};
use crate::proto::{Name, Room};
use crate::window::{Wall, Window};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum JsonEvent<'a> {
    Registered { window: Window, opens_in_ms: u64, you: SocketAddr },
    Window { window: Window, count: u32, peers: &'a [SocketAddr] },
    Met { peer: SocketAddr, name: Option<&'a Name>, rtt_ms: f64 },
    Greeted { peer: SocketAddr, name: Option<&'a Name>, text: Option<&'a str> },
    Closed { window: Window, met: usize, of: usize, missing: &'a [SocketAddr] },
    Missed { window: Window, why: &'static str },
    Left,
}

/// Formats a client's event as a line of JSON for stdout, or a message as text for stderr.
pub fn client_json(told: &client::Event) -> Line {
    let event = match told {
        client::Event::Peer(event) => event,
        client::Event::Silent(..) | client::Event::NotShown(_) => return client_line(told),
    };
    Line::Out(json(&match event {
        peer::Event::Registered { window, opens_in, you, .. } => {
            let opens_in_ms = opens_in.as_millis() as u64;
            JsonEvent::Registered { window: *window, opens_in_ms, you: *you }
        }
        peer::Event::Opened { window, count, peers, .. } => {
            JsonEvent::Window { window: *window, count: *count, peers }
        }
        peer::Event::Met { peer, name, rtt } => {
            let rtt_ms = rtt.as_micros() as f64 / 1000.0;
            JsonEvent::Met { peer: *peer, name: name.as_ref(), rtt_ms }
        }
        peer::Event::Greeted { peer, name, text } => {
            let text = text.as_ref().map(|text| text.as_str());
            JsonEvent::Greeted { peer: *peer, name: name.as_ref(), text }
        }
        peer::Event::Closed { window, met, of, missing } => {
            JsonEvent::Closed { window: *window, met: *met, of: *of, missing }
        }
        peer::Event::Missed { window, why } => {
            let why = match why {
                MissedWhy::NotAMember => "not_a_member",
                MissedWhy::Silence => "silence",
                MissedWhy::Pause => "pause",
                MissedWhy::ListLost { .. } => "list_lost",
            };
            JsonEvent::Missed { window: *window, why }
        }
        peer::Event::WentBack { .. } | peer::Event::LeftOut(_) => return client_line(told),
        peer::Event::Left => JsonEvent::Left,
        peer::Event::Refused { code, reason, retry_in } => {
            return Line::Err(refused_line(*code, reason, *retry_in));
        }
    }))
}

fn json(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("these values have texts for keys");
    escape_breaks(json)
}

/// Escapes, as JSON can, the characters that change the direction of writing (Bidi_Control, UAX #9),
/// which a terminal would obey, and those that end a line for Python and Node (U+2028, U+2029).
fn escape_breaks(json: String) -> String {
    let breaks = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !json.contains(breaks) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match breaks(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    escaped
}

#[derive(Serialize)]
struct JsonRoster<'a> {
    room: &'a Room,
    window: Window,
    count: u32,
    peers: &'a [SocketAddr],
}

/// Formats a room's roster as a line of JSON.
pub fn roster_json(roster: &Roster) -> String {
    let Roster { room, window, count, peers, .. } = roster;
    json(&JsonRoster { room, window: *window, count: *count, peers })
}

#[derive(Serialize)]
struct JsonHistory<'a> {
    window: Window,
    #[serde(serialize_with = "whole_seconds")]
    closes: Wall,
    opened: Option<Wall>,
    rooms: std::collections::BTreeMap<&'a Room, usize>,
}

/// Formats one window of the history as a line of JSON.
pub fn history_json(document: &Document) -> String {
    let Document { window, closes, opened, .. } = document;
    let rooms = document.rooms.iter().map(|(room, members)| (room, members.len())).collect();
    json(&JsonHistory { window: *window, closes: *closes, opened: *opened, rooms })
}

/// Formats a window's document as a line of JSON.
pub fn document_json(document: &Document) -> String {
    json(document)
}

/// Formats a watcher's event: a roster as a line of JSON for stdout, a message as text for stderr.
pub fn watched_json(watched: &Watched) -> Vec<Line> {
    let Watched::Window(roster) = watched else { return super::watched_lines(watched) };
    let Roster { window, count, peers, .. } = roster;
    vec![Line::Out(json(&JsonEvent::Window { window: *window, count: *count, peers }))]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addr() -> SocketAddr {
        "203.0.113.9:40112".parse().unwrap()
    }

    fn out(line: Line) -> String {
        match line {
            Line::Out(text) => text,
            Line::Err(text) => panic!("on stderr: {text}"),
        }
    }

    #[test]
    fn each_event_of_a_client_is_one_object() {
        let window: Window = "2026-11-23T11:29:00Z".parse().unwrap();
        let lines = [
            (
                peer::Event::Registered {
                    window,
                    opens_in: Duration::from_millis(25_880),
                    you: addr(),
                    room: Room::default(),
                },
                r#"{"event":"registered","window":"2026-11-23T11:29:00Z","opens_in_ms":25880,"you":"203.0.113.9:40112"}"#,
            ),
            (
                peer::Event::Met {
                    peer: addr(),
                    name: Some("ana".parse().unwrap()),
                    rtt: Duration::from_micros(412),
                },
                r#"{"event":"met","peer":"203.0.113.9:40112","name":"ana","rtt_ms":0.412}"#,
            ),
            (
                peer::Event::Closed { window, met: 2, of: 3, missing: [addr()].into() },
                r#"{"event":"closed","window":"2026-11-23T11:29:00Z","met":2,"of":3,"missing":["203.0.113.9:40112"]}"#,
            ),
            (peer::Event::Left, r#"{"event":"left"}"#),
        ];
        for (event, expected) in lines {
            assert_eq!(out(client_json(&client::Event::Peer(event))), expected);
        }
    }

    #[test]
    fn a_line_of_the_history_has_its_times_as_the_document_has_them() {
        let document = r#"{"window":"2026-11-23T11:29:00Z","closes":"2026-11-23T11:30:00Z","opened":null,"rooms":{"main":[]}}"#;
        let document: Document = serde_json::from_str(document).unwrap();
        assert_eq!(
            history_json(&document),
            r#"{"window":"2026-11-23T11:29:00Z","closes":"2026-11-23T11:30:00Z","opened":null,"rooms":{"main":0}}"#
        );
    }

    #[test]
    fn messages_go_to_stderr() {
        let silent = client::Event::Silent(Duration::from_secs(30), client::Cause::Unknown);
        assert_eq!(client_line(&silent), client_json(&silent));
        assert!(matches!(client_line(&silent), Line::Err(text) if text.contains("30.0 s")));
    }

    #[test]
    fn a_watched_window_is_one_object() {
        let roster = Roster {
            room: Room::default(),
            window: "2026-11-23T11:29:00Z".parse().unwrap(),
            count: 1,
            peers: vec![addr()],
            closes_in: Duration::from_secs(40),
        };
        let [line] = watched_json(&Watched::Window(roster)).try_into().unwrap();
        let expected = r#"{"event":"window","window":"2026-11-23T11:29:00Z","count":1,"peers":["203.0.113.9:40112"]}"#;
        assert_eq!(out(line), expected);
    }

    #[test]
    fn a_text_cannot_change_the_direction_of_the_line_nor_end_it() {
        let text = Some("a\u{202e}b\u{2066}é\u{2028}\u{2029}".parse().unwrap());
        let greeted = peer::Event::Greeted { peer: addr(), name: None, text };
        let line = out(client_json(&client::Event::Peer(greeted)));
        assert!(line.ends_with(r#""text":"a\u202eb\u2066é\u2028\u2029"}"#), "{line}");
    }
}
