//! The server by itself, with snapshots that are made up: what is rare in a real registry.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hit7::archive::{Archive, Document};
use hit7::clock::Clock;
use hit7::cookie::Secret;
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::proto::Profile;
use hit7::roster::{FinalizedWindow, Member, NextWindow};
use hit7::snapshot::{Done, Past, Snapshot};
use hit7::status::Status;
use hit7::store::Disk;
use hit7::tally::Tally;
use hit7::window::{Length, Window};
use hit7_support::http::{get, open, read_to};
use hit7_support::{DEADLINE, until};
use tokio::sync::watch;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn frozen(rooms: usize, members: usize, opened: bool) -> FinalizedWindow {
    let window = window("2026-11-23T11:29:00Z");
    let mut filling = NextWindow::new(window, Length::MINUTE);
    for room in 0..rooms {
        for member in 0..members {
            let number = (room * members + member) as u32;
            let addr = SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + number), 4000));
            let room = format!("room-{room}").parse().unwrap();
            let registered = window.opens();
            let path = Path::new(addr, addr.ip());
            let profile = Profile { room, ..Profile::default() };
            filling.register(Member { path, id: None, profile, registered, heard: 0 }, None);
        }
    }
    let opened = opened.then(|| window.opens().plus(Duration::from_millis(3)));
    filling.finalize(opened, &Secret::from_bytes([7; 32]), ListCap::default())
}

fn snapshot(current: FinalizedWindow) -> Snapshot {
    Snapshot {
        at: current.window().opens(),
        length: Length::MINUTE,
        next: window("2026-11-23T11:30:00Z"),
        current: Arc::new(current),
        waiting: 0,
        past: VecDeque::new(),
        done: Done::default(),
        rejected: Tally::default(),
        log_works: true,
    }
}

struct Shown {
    status: Status,
    show: watch::Sender<Arc<Snapshot>>,
    data: tempfile::TempDir,
}

impl Shown {
    fn start(snapshot: Snapshot) -> Shown {
        let data = tempfile::tempdir().unwrap();
        let (show, shown) = watch::channel(Arc::new(snapshot));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let windows = data.path().join("windows");
        let status = Status::start(listener, shown, windows, Clock::start()).unwrap();
        Shown { status, show, data }
    }

    fn archive(&self) -> Archive {
        Archive::new(Disk, self.data.path().join("windows"))
    }
}

#[test]
fn it_is_not_ready_while_the_log_cannot_be_written() {
    let shown = Shown::start(snapshot(frozen(1, 2, true)));
    let addr = shown.status.addr();
    assert_eq!(get(addr, "/readyz").status, 200);
    shown
        .show
        .send_replace(Arc::new(Snapshot { log_works: false, ..snapshot(frozen(1, 2, true)) }));
    let refused = get(addr, "/readyz");
    assert_eq!((refused.status, &refused.json()["error"]), (503, &"log_not_writable".into()));
    assert_eq!(get(addr, "/livez").status, 200);
    assert!(get(addr, "/metrics").body.contains("\nhit7_log_writable 0\n"));
    read_to(addr, "/api/v1/events", r#""log_writable":false"#);
}

#[test]
fn of_a_missed_window_the_count_alone_is_told() {
    let shown = Shown::start(snapshot(frozen(0, 0, true)));
    let (addr, archive) = (shown.status.addr(), shown.archive());
    archive.write(&Document::from(&frozen(2, 3, false)), Length::MINUTE).unwrap();
    let answer = get(addr, "/api/v1/windows/2026-11-23T11:29:00Z");
    let told = answer.json();
    assert_eq!((answer.status, &told["missed"], &told["members"]), (200, &true.into(), &6.into()));
    assert!(!answer.body.contains("10.0.0") && !answer.body.contains("room-0"), "{answer:?}");
    let listed = get(addr, "/api/v1/windows").json();
    assert_eq!(listed["windows"][0]["missed"], true);
    assert_eq!(listed["windows"][0]["late_ms"], serde_json::Value::Null);
}

#[test]
fn a_document_of_what_is_not_open_is_not_shown_though_it_is_there() {
    let shown = Shown::start(snapshot(frozen(0, 0, true)));
    let mut document = Document::from(&frozen(1, 1, true));
    document.window = window("2026-11-23T11:30:00Z");
    shown.archive().write(&document, Length::MINUTE).unwrap();
    let told = get(shown.status.addr(), "/api/v1/windows/2026-11-23T11:30:00Z").json();
    assert_eq!(told["error"], "not_open");
    let listed = get(shown.status.addr(), "/api/v1/windows").json();
    assert_eq!(listed["windows"], serde_json::json!([]));
}

#[test]
fn a_large_document_is_sent_whole_and_a_damaged_one_is_an_error() {
    let shown = Shown::start(snapshot(frozen(0, 0, true)));
    let (addr, archive) = (shown.status.addr(), shown.archive());
    let document = Document::from(&frozen(2, 20_000, true));
    archive.write(&document, Length::MINUTE).unwrap();
    let answer = get(addr, "/api/v1/windows/2026-11-23T11:29:00Z");
    assert!(answer.body.len() > 1 << 21, "more than fits a buffer");
    assert_eq!(serde_json::from_str::<Document>(&answer.body).unwrap(), document);
    let path = shown.data.path().join("windows/2026-11-23/11-28.json");
    fs::write(path, "{").unwrap();
    let damaged = get(addr, "/api/v1/windows/2026-11-23T11:28:00Z");
    assert_eq!((damaged.status, &damaged.json()["error"]), (500, &"failed".into()));
    assert!(!damaged.body.contains("tmp"), "it names no folder: {damaged:?}");
}

#[test]
fn a_large_window_is_shown_in_part_and_counted_whole() {
    let shown = Shown::start(snapshot(frozen(1100, 30, true)));
    let told = get(shown.status.addr(), "/api/v1/window").json();
    assert_eq!((&told["members"], &told["room_count"]), (&33_000.into(), &1100.into()));
    let rooms = told["rooms"].as_array().unwrap();
    let peers: usize = rooms.iter().map(|room| room["peers"].as_array().unwrap().len()).sum();
    assert_eq!((rooms.len(), peers), (1000, 10_000));
    assert!(rooms.iter().all(|room| room["members"] == 30));
    let one = get(shown.status.addr(), "/api/v1/window?room=room-1099&limit=7").json();
    assert_eq!(one["rooms"][0]["peers"].as_array().unwrap().len(), 7);
}

#[test]
fn each_opening_counts_once_and_a_first_start_is_not_late() {
    let shown = Shown::start(snapshot(frozen(1, 2, true)));
    let past = |text, members, late| Past {
        window: window(text),
        members,
        rooms: 1,
        late: Some(Duration::from_millis(late)),
    };
    let mut next = snapshot(frozen(1, 2, true));
    next.remember(past("2026-11-23T11:26:00Z", 5, 70));
    next.remember(past("2026-11-23T11:27:00Z", 0, 8000));
    next.remember(past("2026-11-23T11:28:00Z", 2, 3));
    // The oldest was opened before this run, and was counted then.
    next.done.opened = 2;
    for _ in 0..2 {
        shown.show.send_replace(Arc::new(next.clone()));
        let metrics = until("the openings are counted", || {
            let metrics = get(shown.status.addr(), "/metrics").body;
            metrics.contains("hit7_window_open_lateness_seconds_count 1\n").then_some(metrics)
        });
        assert!(metrics.contains("hit7_window_last_open_lateness_seconds 0.003\n"), "{metrics}");
    }
}

#[test]
fn a_stop_ends_streams_and_waits_for_nobody() {
    let shown = Shown::start(snapshot(frozen(1, 2, true)));
    let addr = shown.status.addr();
    let mut stream = open(addr, "GET", "/api/v1/events", "");
    stream.read_exact(&mut [0]).unwrap();
    let mut silent = std::net::TcpStream::connect(addr).unwrap();
    drop(shown.status);
    for ended in [&mut stream, &mut silent] {
        ended.set_read_timeout(Some(DEADLINE)).unwrap();
        // An end or a reset, but no waiting for one.
        let end = ended.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|why| why.kind() == ErrorKind::WouldBlock), "it was not ended");
    }
}
