//! How cost grows with members, rooms and peers per list: in one process, without sockets, and without
//! files but the journal that is replayed.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hit7::clock::{Clock, Now};
use hit7::cookie::Secret;
use hit7::fanout::Fanout;
use hit7::journal::{FileJournal, FileOptions, Journal, Replayed};
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::proto::Profile;
use hit7::record::{Entry, Header, Record, Registration};
use hit7::registry::{Caps, Config, Event, Registry};
use hit7::roster::FinalizedWindow;
use hit7::store::Disk;
use hit7::window::{Length, Window};
use serde::Serialize;

use crate::proc;

/// How many members' WINDOWs are made, to tell what one costs.
const SAMPLE: usize = 2000;

/// What so many members, rooms and peers cost.
#[derive(Debug, Serialize)]
pub struct Report {
    members: usize,
    rooms: usize,
    peers: usize,
    /// From the journal's file to a registry that is ready.
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
    Header { window, length: Length::MINUTE, cap: Some(ListCap::default()) }
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

/// Writes a journal of so many members, reads it back, and opens their window.
pub fn run(members: usize, rooms: usize, peers: usize) -> io::Result<Report> {
    let dir = std::env::temp_dir().join(format!("hit7-grow-{}", std::process::id()));
    let report =
        write_journal(&dir, members, rooms).and_then(|()| measure(&dir, members, rooms, peers));
    let _ = std::fs::remove_dir_all(&dir);
    report
}

fn measure(
    dir: &std::path::Path,
    members: usize,
    rooms: usize,
    peers: usize,
) -> io::Result<Report> {
    let (clock, own) = (Clock::start(), std::process::id());
    let bare = proc::memory(own)?;
    let grown = |memory: u64| memory.saturating_sub(bare) as f64;
    let begun = clock.now().mono;
    let mut registry = replay(dir, peers)?;
    let replay = clock.now().mono - begun;
    let full = grown(proc::memory(own)?);
    let begun = clock.now().mono;
    let window = open(&mut registry);
    let freeze = clock.now().mono - begun;
    let frozen = grown(proc::memory(own)?);
    let begun = clock.now().mono;
    let (told, datagrams) = make_windows(window);
    let windows = clock.now().mono - begun;
    let us = |span: Duration, of: usize| span.as_secs_f64() * 1e6 / of as f64;
    Ok(Report {
        members,
        rooms,
        peers,
        replay_ms: replay.as_secs_f64() * 1e3,
        replay_us_per_member: us(replay, members),
        memory_mb: full / 1e6,
        memory_bytes_per_member: full / members as f64,
        freeze_ms: freeze.as_secs_f64() * 1e3,
        freeze_us_per_member: us(freeze, members),
        frozen_mb: frozen / 1e6,
        window_us_per_member: us(windows, told),
        window_us_per_datagram: us(windows, datagrams),
    })
}

/// The time at which the window opens.
fn opening() -> Now {
    Now { wall: header().window.opens(), mono: Duration::ZERO }
}

/// A registry with all that is in the journal.
fn replay(dir: &std::path::Path, peers: usize) -> io::Result<Registry> {
    let caps = Caps { per_ip: 0, room: 0, window: 0, rooms: 0 };
    let config = Config { length: Length::MINUTE, cap: ListCap::new(peers), caps };
    let mut registry = Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), opening());
    let mut fold = |replayed| match replayed {
        Replayed::Begin(header) => registry.begin(header),
        Replayed::Record(record) => {
            drop(registry.commit(opening(), Entry { ticket: None, record }));
        }
    };
    let (dir, Config { length, cap, .. }) = (dir.to_owned(), config);
    let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
    FileJournal::open(options, &mut fold).map_err(io::Error::other)?;
    registry.resume(opening()).map_err(io::Error::other)?;
    Ok(registry)
}

/// Closes the next window, which becomes the current one.
fn open(registry: &mut Registry) -> Arc<FinalizedWindow> {
    registry.handle_timeout(opening());
    for entry in registry.take_proposals() {
        registry.commit(opening(), entry);
    }
    let window = std::iter::from_fn(|| registry.poll_event()).find_map(|event| match event {
        Event::Opened(window) => Some(window),
        Event::Missed(_) | Event::Replayed(_) => None,
    });
    window.expect("it opened")
}

/// Makes the WINDOWs of a sample of the members; of how many members, and how many datagrams.
fn make_windows(window: Arc<FinalizedWindow>) -> (usize, usize) {
    let mut fanout = Fanout::new(window, opening());
    let later = Now { mono: Duration::from_secs(60), ..opening() };
    let (mut told, mut datagrams) = (BTreeSet::new(), 0);
    while let Some(push) = fanout.poll_transmit(later) {
        let train = push.train;
        told.insert(train.path.peer);
        datagrams += train.datagrams().len();
        if told.len() > SAMPLE {
            break;
        }
    }
    (told.len(), datagrams)
}

fn write_journal(dir: &std::path::Path, members: usize, rooms: usize) -> io::Result<()> {
    let day = dir.join("2026-11-23");
    std::fs::create_dir_all(&day)?;
    let mut log = Vec::new();
    header().write_line(&mut log);
    (0..members).for_each(|member| registration(member, rooms).write_line(&mut log, 0));
    std::fs::write(day.join("11-29.jsonl"), log)
}
