//! Formats events, rosters and documents as lines for people.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Line, count, escape_controls, lateness, millis, quoted, seconds};
use crate::archive::Document;
use crate::ask::{FIRST_RETRY_DELAY, LONGEST_WAIT};
use crate::client::{self, Cause, Roster, Watched};
use crate::peer::{self, MissedWhy};
use crate::proto::{Code, Name, Room};
use crate::server;
use crate::snapshot::Past;
use crate::window::Window;

/// The most peers that a line names.
pub(super) const MAX_NAMED_PEERS: usize = 8;

/// Formats a peer's name, if it has one, and its address.
pub(super) fn peer_name(peer: SocketAddr, name: Option<&Name>) -> String {
    match name {
        Some(name) => format!("{} at {peer}", escape_controls(name.as_str())),
        None => peer.to_string(),
    }
}

/// Formats a client's event as a line: a result for stdout, a message for stderr.
pub fn client_line(event: &client::Event) -> Line {
    match event {
        client::Event::Silent(waited, cause) => Line::Err(silent_line(*waited, cause)),
        client::Event::NotShown(events) => Line::Err(not_shown_line(*events)),
        client::Event::Peer(peer::Event::Refused { code, reason, retry_in }) => {
            Line::Err(refused_line(*code, reason, *retry_in))
        }
        client::Event::Peer(event @ (peer::Event::WentBack { .. } | peer::Event::LeftOut(_))) => {
            Line::Err(peer_line(event))
        }
        client::Event::Peer(event) => Line::Out(peer_line(event)),
    }
}

/// Formats the message that events were dropped because the output was not read in time.
pub(super) fn not_shown_line(events: u64) -> String {
    format!("{} not shown: the output was not read in time", count(events as usize, "event"))
}

/// Formats the message that the registry has not answered for `waited`, and why, if that is known.
pub(super) fn silent_line(waited: Duration, cause: &Cause) -> String {
    let why = match cause {
        Cause::Refused { code, reason } => return refused_line(*code, reason, None),
        Cause::Unknown => String::new(),
        cause => format!(": {}", escape_controls(&cause.to_string())),
    };
    format!("no answer from the registry for {}{why}; trying on", seconds(waited))
}

/// Formats a refusal of the registry after which the client retries.
pub(super) fn refused_line(code: Code, reason: &str, retry_in: Option<Duration>) -> String {
    // A registry may ask for any wait, but is not given it; and up to 20 % come on top.
    let wait = retry_in.map(|wait| wait.clamp(FIRST_RETRY_DELAY, LONGEST_WAIT));
    let wait = wait.map(|wait| format!(", in about {}", seconds(wait))).unwrap_or_default();
    format!("the registry refused for now ({code}): {}; trying again{wait}", quoted(reason))
}

/// Formats an event of the `Peer` state machine as a line of text.
pub(super) fn peer_line(event: &peer::Event) -> String {
    match event {
        peer::Event::Registered { window, opens_in, you, room } => {
            let room = escape_controls(room.as_str());
            let opens = seconds(*opens_in);
            format!("registered for {window} (in {opens}) in {room} as {you}")
        }
        peer::Event::Opened { window, count: members, peers, closes_in, .. } => {
            let (members, peers) = (count(*members as usize, "member"), peers.len());
            let closes = seconds(*closes_in);
            format!("window {window} is open: {members}, {peers} to greet; closes in {closes}")
        }
        peer::Event::Met { peer, name, rtt } => {
            format!("met {}, round trip {}", peer_name(*peer, name.as_ref()), millis(*rtt))
        }
        peer::Event::Greeted { peer, name, text } => {
            let said = text.as_ref().map(|text| format!(": {}", quoted(text.as_str())));
            format!("greeted by {}{}", peer_name(*peer, name.as_ref()), said.unwrap_or_default())
        }
        peer::Event::Closed { window, met, of, missing } => {
            closed_line(*window, *met, *of, missing)
        }
        peer::Event::Missed { window, why } => {
            format!("window {window} was missed: {}", missed_why(*why))
        }
        peer::Event::WentBack { latest, current } => format!(
            "the registry has begun anew: window {current} is open there, after {latest}; registering again"
        ),
        peer::Event::LeftOut(events) => {
            let events = count(*events as usize, "message");
            format!("{events} left out: the registry sends more than a registry does")
        }
        peer::Event::Left => "left".to_owned(),
        peer::Event::Refused { code, reason, .. } => {
            format!("refused ({code}): {}", quoted(reason))
        }
    }
}

fn missed_why(why: MissedWhy) -> String {
    match why {
        MissedWhy::NotAMember => "the registry did not open it, or not for us".to_owned(),
        MissedWhy::Silence => "the registry has said nothing since it opened".to_owned(),
        MissedWhy::Pause => "this program was paused meanwhile".to_owned(),
        MissedWhy::ListLost { came, of } => {
            let parts = match of {
                Some(of) => format!("{came} of {of} parts of its list came"),
                None => "its list did not come".to_owned(),
            };
            format!(
                "the registry answers, but {parts}: datagrams of up to 1232 bytes get lost on the way; \
                 look for a small MTU, or a firewall that drops fragments"
            )
        }
    }
}

fn closed_line(window: Window, met: usize, of: usize, missing: &[SocketAddr]) -> String {
    let mut line = format!("window {window} closed: met {met} of {of}");
    for (k, peer) in missing.iter().take(MAX_NAMED_PEERS).enumerate() {
        let _ = write!(line, "{}{peer}", if k == 0 { "; not met: " } else { ", " });
    }
    if missing.len() > MAX_NAMED_PEERS {
        let _ = write!(line, " and {} more", missing.len() - MAX_NAMED_PEERS);
    }
    line
}

/// Formats a registry's event if it is a window with members that opened or was missed; returns
/// `None` for other events, which are only logged.
pub fn server_line(event: &server::Event) -> Option<Line> {
    match event {
        server::Event::Window(past) if past.members > 0 => Some(Line::Out(past_line(past))),
        _ => None,
    }
}

fn past_line(past: &Past) -> String {
    let (rooms, members) = (count(past.rooms, "room"), count(past.members, "member"));
    let how = match past.late {
        Some(late) => format!("opened {}", lateness(late)),
        None => "missed: its time is over, and it was never opened".to_owned(),
    };
    format!("{}  {rooms}  {members}  {how}", past.window)
}

/// Formats a room's roster: a line about the window, and one for each member.
pub fn roster_lines(roster: &Roster) -> Vec<String> {
    let members = count(roster.count as usize, "member");
    let room = escape_controls(roster.room.as_str());
    let head = format!("window {}  {members} in room {room}", roster.window);
    std::iter::once(head).chain(roster.peers.iter().map(SocketAddr::to_string)).collect()
}

/// Formats one window of the history as a line, with the number of members per room.
pub fn history_line(document: &Document) -> String {
    let room = |(room, members): (&Room, &Vec<_>)| {
        format!("{} in {}", members.len(), escape_controls(room.as_str()))
    };
    let rooms: Vec<String> = document.rooms.iter().map(room).collect();
    let mut line = format!("{}  {}", document.window, rooms.join(" and "));
    if document.opened.is_none() {
        line.push_str("  missed");
    }
    line
}

/// Formats a window's document: lines for the window and its rooms, and one for each member.
pub fn document_lines(document: &Document) -> Vec<String> {
    let opened = match document.opened {
        Some(opened) => format!("opened {opened}"),
        None => "missed".to_owned(),
    };
    let mut lines = vec![format!("window {}  {opened}", document.window)];
    for (room, members) in &document.rooms {
        let room = escape_controls(room.as_str());
        lines.push(format!("{} in room {room}", count(members.len(), "member")));
        for member in members {
            let name = escape_controls(member.name.as_ref().map_or("-", |name| name.as_str()));
            let (addr, registered) = (member.addr.to_string(), member.registered);
            lines.push(format!("  {addr:<21}  registered {registered}  {name}"));
        }
    }
    lines
}

/// Formats a watcher's event: the lines of a room's roster, or a message for stderr.
pub fn watched_lines(watched: &Watched) -> Vec<Line> {
    match watched {
        Watched::Window(roster) => roster_lines(roster).into_iter().map(Line::Out).collect(),
        Watched::Silent(waited, cause) => vec![Line::Err(silent_line(*waited, cause))],
        Watched::NotShown(events) => vec![Line::Err(not_shown_line(*events))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::assert_in_place;

    fn addr() -> SocketAddr {
        "203.0.113.9:40112".parse().unwrap()
    }

    #[test]
    fn a_refusal_tells_the_wait_that_is_kept_not_any_that_a_registry_asks_for() {
        let told = |millis: Option<u64>| {
            let wait = millis.map(Duration::from_millis);
            refused_line(Code::Unavailable, "no disk", wait)
        };
        let line = "the registry refused for now (unavailable): no disk; trying again";
        assert_eq!(told(None), line);
        for (asked, kept) in [(1, "0.2 s"), (4000, "4.0 s"), (u64::MAX, "60.0 s")] {
            assert_eq!(told(Some(asked)), format!("{line}, in about {kept}"));
        }
    }

    #[test]
    fn dropped_events_are_reported_on_stderr() {
        let text = "2 events not shown: the output was not read in time".to_owned();
        assert_eq!(client_line(&client::Event::NotShown(2)), Line::Err(text.clone()));
        assert_eq!(watched_lines(&Watched::NotShown(2)), [Line::Err(text)]);
    }

    #[test]
    fn peers_that_were_not_met_are_named() {
        let window: Window = "2026-11-23T11:29:00Z".parse().unwrap();
        let line = closed_line(window, 1, 2, &[addr()]);
        assert_eq!(
            line,
            "window 2026-11-23T11:29:00Z closed: met 1 of 2; not met: 203.0.113.9:40112"
        );
        let line = closed_line(window, 0, 10, &[addr(); 10]);
        assert_eq!(line.matches("203.0.113.9:40112").count(), 8);
        assert!(line.ends_with(":40112 and 2 more"), "{line}");
    }

    fn greeted(name: &str, text: &str) -> peer::Event {
        let (name, text) = (name.parse().ok(), text.parse().ok());
        peer::Event::Greeted { peer: addr(), name, text }
    }

    #[test]
    fn a_name_from_right_to_left_turns_nothing_around() {
        let (window, room): (Window, Room) =
            ("2026-11-23T11:29:00Z".parse().unwrap(), "חדר".parse().unwrap());
        let (opens_in, rtt) = (Duration::from_secs(7), Duration::from_millis(3));
        let document = r#"{"window":"2026-11-23T11:29:00Z","closes":"2026-11-23T11:30:00Z","opened":null,
            "rooms":{"חדר":[{"name":"שלום","addr":"203.0.113.9:40112","registered":"2026-11-23T11:28:34.120Z"}],
            "غرفة":[{"name":"محمد علي","addr":"[fd00::7]:5","registered":"2026-11-23T11:28:35Z"}]}}"#;
        let document: Document = serde_json::from_str(document).unwrap();
        let mut lines = vec![
            peer_line(&peer::Event::Registered {
                window,
                opens_in,
                you: addr(),
                room: room.clone(),
            }),
            peer_line(&peer::Event::Met { peer: addr(), name: "שלום".parse().ok(), rtt }),
            peer_line(&greeted("محمد علي", "שלום לך")),
            refused_line(Code::Full, "מלא", Some(rtt)),
            history_line(&document),
        ];
        let (peers, closes_in) = (vec![addr()], opens_in);
        lines.extend(roster_lines(&Roster { room, window, count: 1, peers, closes_in }));
        lines.extend(document_lines(&document));
        lines.iter().for_each(|line| assert_in_place(line));
        assert_eq!(lines[4], "2026-11-23T11:29:00Z  1 in חדר and 1 in غرفة  missed");
        assert_eq!(lines[5], "window 2026-11-23T11:29:00Z  1 member in room חדר");
    }

    #[test]
    fn the_usual_lines_fit_into_80_columns() {
        let (window, room) = ("2026-11-23T11:29:00Z".parse().unwrap(), Room::default());
        let (opens_in, closes_in) = (Duration::from_millis(39_512), Duration::from_secs(60));
        let you: SocketAddr = "203.0.113.255:40112".parse().unwrap();
        let peers = vec![you; 99].into();
        for event in [
            peer::Event::Registered { window, opens_in, you, room },
            peer::Event::Opened { window, count: 100, peers, closes_in, you },
            peer::Event::Closed { window, met: 98, of: 99, missing: vec![you].into() },
        ] {
            assert!(peer_line(&event).len() <= 80, "{}", peer_line(&event));
        }
    }

    #[test]
    fn a_text_that_must_be_escaped_fills_no_screen_and_any_other_is_shown_whole() {
        let line = |text: &str| peer_line(&greeted("eva", text));
        let longest = "あ".repeat(166);
        assert!(line(&longest).ends_with(&longest));
        let hidden = line(&"\u{e0001}".repeat(125));
        assert_eq!(hidden.matches("\\u{e0001}").count(), 44);
        assert!(hidden.ends_with("\\u{e0001}…"), "{hidden}");
        let refused = refused_line(Code::Full, &"\u{1}".repeat(400), None);
        assert!(refused.ends_with("\\u{1}…; trying again"), "{refused}");
    }

    #[test]
    #[should_panic(expected = "turned around")]
    fn digits_behind_such_a_name_would_be_turned_around() {
        assert_in_place("  שלום  203.0.113.9:40112");
    }
}
