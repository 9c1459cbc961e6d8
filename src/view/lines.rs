//! What a person reads: a line for each event.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Line, count, millis, plain, seconds};
use crate::archive::Document;
use crate::client::{self, Roster, Watched};
use crate::peer;
use crate::proto::{Code, Name};
use crate::server;
use crate::snapshot::Past;
use crate::window::Window;

/// A peer by its name, if it has one, and its address.
pub(super) fn peer_name(peer: SocketAddr, name: Option<&Name>) -> String {
    match name {
        Some(name) => format!("{} at {peer}", plain(name.as_str())),
        None => peer.to_string(),
    }
}

/// A client's event as a line for a person.
pub fn client_line(event: &client::Event) -> Line {
    match event {
        client::Event::Silent(waited) => Line::Err(silent(*waited)),
        client::Event::NotShown(events) => Line::Err(not_shown(*events)),
        client::Event::Peer(peer::Event::Refused { code, reason, retry_in }) => {
            Line::Err(refused(*code, reason, *retry_in))
        }
        client::Event::Peer(event) => Line::Out(peer_line(event)),
    }
}

/// So many events were lost, for nobody read the output.
pub(super) fn not_shown(events: u64) -> String {
    format!("{} not shown: the output was not read in time", count(events as usize, "event"))
}

/// The registry has not answered for so long.
pub(super) fn silent(waited: Duration) -> String {
    format!("no answer from the registry for {}; trying on", seconds(waited))
}

/// A refusal that is tried again.
pub(super) fn refused(code: Code, reason: &str, retry_in: Option<Duration>) -> String {
    let wait = retry_in.map(|wait| format!(", in {}", seconds(wait))).unwrap_or_default();
    format!("the registry refused for now ({code}): {}; trying again{wait}", plain(reason))
}

/// An event of a peer, in words.
pub(super) fn peer_line(event: &peer::Event) -> String {
    match event {
        peer::Event::Registered { window, opens_in, you, room } => {
            let room = plain(room.as_str());
            let opens = seconds(*opens_in);
            format!("registered for {window} in room {room} as {you}; opens in {opens}")
        }
        peer::Event::Opened { window, count: members, peers, closes_in, .. } => {
            let (members, peers) = (count(*members as usize, "member"), count(peers.len(), "peer"));
            let closes = seconds(*closes_in);
            format!("window {window} is open: {members}, {peers} to greet; closes in {closes}")
        }
        peer::Event::Met { peer, name, rtt } => {
            format!("met {}, round trip {}", peer_name(*peer, name.as_ref()), millis(*rtt))
        }
        peer::Event::Greeted { peer, name, text } => {
            let said = text.as_ref().map(|text| format!(": {}", plain(text.as_str())));
            format!("greeted by {}{}", peer_name(*peer, name.as_ref()), said.unwrap_or_default())
        }
        peer::Event::Closed { window, met, of, missing } => closed(*window, *met, *of, missing),
        peer::Event::Missed { window } => {
            format!("window {window} was missed: the registry did not open it, or not for us")
        }
        peer::Event::Left => "left".to_owned(),
        peer::Event::Refused { code, reason, .. } => format!("refused ({code}): {}", plain(reason)),
    }
}

fn closed(window: Window, met: usize, of: usize, missing: &[SocketAddr]) -> String {
    let mut line = format!("window {window} closed: met {met} of {of}");
    for (k, peer) in missing.iter().enumerate() {
        let _ = write!(line, "{}{peer}", if k == 0 { "; not met: " } else { ", " });
    }
    line
}

/// A registry's result as a line: a window with members that has opened, or was missed. Errors are
/// in the logs.
pub fn server_line(event: &server::Event) -> Option<Line> {
    match event {
        server::Event::Window(past) if past.members > 0 => Some(Line::Out(past_line(past))),
        _ => None,
    }
}

fn past_line(past: &Past) -> String {
    let (rooms, members) = (count(past.rooms, "room"), count(past.members, "member"));
    let how = match past.late {
        Some(late) => format!("opened {} ms late", late.as_millis()),
        None => "missed: its time is over, and it was never opened".to_owned(),
    };
    format!("{}  {rooms}  {members}  {how}", past.window)
}

/// A room's roster: a line about it, and one for each member.
pub fn roster_lines(roster: &Roster) -> Vec<String> {
    let members = count(roster.count as usize, "member");
    let head = format!("window {}  room {}  {members}", roster.window, plain(roster.room.as_str()));
    std::iter::once(head).chain(roster.peers.iter().map(SocketAddr::to_string)).collect()
}

/// One window of the history, with its members per room.
pub fn history_line(document: &Document) -> String {
    let mut line = document.window.to_string();
    for (room, members) in &document.rooms {
        let _ = write!(line, "  {} {}", plain(room.as_str()), members.len());
    }
    if document.opened.is_none() {
        line.push_str("  missed");
    }
    line
}

/// A window's document: its times, and a line for each member.
pub fn document_lines(document: &Document) -> Vec<String> {
    let opened = match document.opened {
        Some(opened) => format!("opened {opened}"),
        None => "missed".to_owned(),
    };
    let mut lines = vec![format!("window {}  {opened}", document.window)];
    for (room, members) in &document.rooms {
        lines.push(format!("room {}  {}", plain(room.as_str()), count(members.len(), "member")));
        for member in members {
            let name = plain(member.name.as_ref().map_or("-", |name| name.as_str()));
            let (addr, registered) = (member.addr.to_string(), member.registered);
            lines.push(format!("  {name:<12}  {addr:<21}  registered {registered}"));
        }
    }
    lines
}

/// What a watcher sees: a room's roster, or a message.
pub fn watched_lines(watched: &Watched) -> Vec<Line> {
    match watched {
        Watched::Window(roster) => roster_lines(roster).into_iter().map(Line::Out).collect(),
        Watched::Silent(waited) => vec![Line::Err(silent(*waited))],
        Watched::NotShown(events) => vec![Line::Err(not_shown(*events))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        "203.0.113.9:40112".parse().unwrap()
    }

    #[test]
    fn lost_events_are_told_of_on_stderr() {
        let text = "2 events not shown: the output was not read in time".to_owned();
        assert_eq!(client_line(&client::Event::NotShown(2)), Line::Err(text.clone()));
        assert_eq!(watched_lines(&Watched::NotShown(2)), [Line::Err(text)]);
    }

    #[test]
    fn peers_that_were_not_met_are_named() {
        let window: Window = "2026-11-23T11:29:00Z".parse().unwrap();
        let line = closed(window, 1, 2, &[addr()]);
        assert_eq!(
            line,
            "window 2026-11-23T11:29:00Z closed: met 1 of 2; not met: 203.0.113.9:40112"
        );
    }
}
