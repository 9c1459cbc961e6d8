//! How cost grows: members, rooms, peers per list. In one process, without sockets or disk but for
//! the log that is replayed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hit7::clock::{Clock, Now};
use hit7::cookie::Secret;
use hit7::fanout::Fanout;
use hit7::journal::FileJournal;
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::proto::Profile;
use hit7::record::{Header, Record, Registration};
use hit7::registry::{Caps, Config, Event, Registry};
use hit7::store::Disk;
use hit7::window::{Length, Window};
use serde::Serialize;

use crate::proc;

/// Members whose WINDOWs are made, to tell what one costs.
const TOLD: usize = 2000;

/// What so many cost.
#[derive(Debug, Serialize)]
pub struct Told {
    members: usize,
    rooms: usize,
    peers: usize,
    /// From the log's file to a registry that is ready.
    replay_ms: f64,
    replay_us_per_member: f64,
    /// Resident memory with all members in the next window, less what there was before.
    memory_mb: f64,
    memory_bytes_per_member: f64,
    /// Closing the window: sorting, rendering, drawing.
    freeze_ms: f64,
    freeze_us_per_member: f64,
    /// With the frozen window beside an empty next one.
    frozen_mb: f64,
    /// Gathering and writing all WINDOWs of one member.
    window_us_per_member: f64,
    window_us_per_datagram: f64,
}

fn header() -> Header {
    let window: Window = "2026-11-23T11:29:00Z".parse().expect("a window");
    Header { window, length: Length::MINUTE }
}

fn registration(member: usize, rooms: usize) -> Record {
    let [_, a, b, c] = (member as u32).to_be_bytes();
    let peer = SocketAddr::new(IpAddr::from([203, a, b, c]), 40_000 + (member % 1000) as u16);
    let room = match member % rooms {
        0 => "main".to_owned(),
        room => format!("room-{room}"),
    };
    Record::Register(Registration {
        window: header().window,
        at: "2026-11-23T11:28:34.120Z".parse().expect("a time"),
        path: Path::new(peer, IpAddr::from([198, 51, 100, 10])),
        // As long as hit7's own client's: 64 bits as text.
        id: format!("{:011x}", member * 0x9e37_79b9).parse().ok(),
        seq: Some(1),
        profile: Profile {
            room: room.parse().expect("a room"),
            name: format!("member-{member}").parse().ok(),
            ..Profile::default()
        },
    })
}

/// Writes a log of so many members, reads it back, and opens their window.
pub fn run(members: usize, rooms: usize, peers: usize) -> io::Result<Told> {
    let dir = std::env::temp_dir().join(format!("hit7-grow-{}", std::process::id()));
    let told = run_in(&dir, members, rooms, peers);
    let _ = std::fs::remove_dir_all(&dir);
    told
}

fn run_in(dir: &std::path::Path, members: usize, rooms: usize, peers: usize) -> io::Result<Told> {
    write_log(dir, members, rooms)?;
    let (clock, own) = (Clock::start(), std::process::id());
    let wall = header().window.opens();
    let now = Now { wall, mono: Duration::ZERO };
    let caps = Caps { per_ip: 0, room: 0, window: 0, rooms: 0 };
    let config = Config { length: Length::MINUTE, cap: ListCap::new(peers), caps };
    let bare = proc::memory(own)?;

    let begun = clock.now().mono;
    let mut registry = Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), now);
    let mut fold = |header: Header, record: Option<Record>| match record {
        None => registry.begin(header.window, header.length),
        Some(record) => drop(registry.commit(now, None, record)),
    };
    FileJournal::open(Disk, dir.to_owned(), Length::MINUTE, false, &mut fold)
        .map_err(io::Error::other)?;
    let replay = clock.now().mono - begun;
    let full = proc::memory(own)?;

    let begun = clock.now().mono;
    registry.handle_timeout(now);
    let (ticket, open) = registry.poll_proposal().expect("the window is due");
    registry.commit(now, Some(ticket), open);
    let freeze = clock.now().mono - begun;
    let window = std::iter::from_fn(|| registry.poll_event()).find_map(|event| match event {
        Event::Opened(window) => Some(window),
        Event::Missed(_) => None,
    });
    let frozen = proc::memory(own)?;

    let begun = clock.now().mono;
    let mut fanout = Fanout::new(window.expect("it opened"), now);
    let later = Now { wall, mono: Duration::from_secs(60) };
    let mut told = std::collections::BTreeSet::new();
    let mut datagrams = 0;
    while let Some(train) = fanout.poll_transmit(later) {
        told.insert(train.path.peer);
        datagrams += train.datagrams().len();
        if told.len() > TOLD {
            break;
        }
    }
    let windows = clock.now().mono - begun;
    let us = |span: Duration, of: usize| span.as_secs_f64() * 1e6 / of as f64;
    let grown = |memory: u64| memory.saturating_sub(bare) as f64;
    Ok(Told {
        members,
        rooms,
        peers,
        replay_ms: replay.as_secs_f64() * 1e3,
        replay_us_per_member: us(replay, members),
        memory_mb: grown(full) / 1e6,
        memory_bytes_per_member: grown(full) / members as f64,
        freeze_ms: freeze.as_secs_f64() * 1e3,
        freeze_us_per_member: us(freeze, members),
        frozen_mb: grown(frozen) / 1e6,
        window_us_per_member: us(windows, told.len()),
        window_us_per_datagram: us(windows, datagrams),
    })
}

fn write_log(dir: &std::path::Path, members: usize, rooms: usize) -> io::Result<()> {
    let day = dir.join("2026-11-23");
    std::fs::create_dir_all(&day)?;
    let mut log = Vec::new();
    header().write_line(&mut log);
    (0..members).for_each(|member| registration(member, rooms).write_line(&mut log));
    std::fs::write(day.join("11-29.jsonl"), log)
}
