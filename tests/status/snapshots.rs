//! Tests the HTTP server alone, with snapshots of states that are rare in a real registry.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use hit7::archive::{Archive, Document};
use hit7::clock::Clock;
use hit7::cookie::Secret;
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::proto::Profile;
use hit7::roster::{FinalizedWindow, Member, NextWindow};
use hit7::snapshot::{Past, Snapshot, Totals, Trouble};
use hit7::status::{Config, Status};
use hit7::store::Disk;
use hit7::tally::Tally;
use hit7::window::{Length, Window};
use hit7_support::http::{get, open, read_to};
use hit7_support::{DEADLINE, until};
use nix::sys::stat::Mode;
use tokio::sync::watch;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn finalized(rooms: usize, members: usize, opened: bool) -> FinalizedWindow {
    let window = window("2026-11-23T11:29:00Z");
    let mut filling = NextWindow::new(window, Length::MINUTE, ListCap::default());
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
    filling.finalize(opened, &Secret::from_bytes([7; 32]))
}

fn snapshot(current: FinalizedWindow) -> Snapshot {
    Snapshot {
        at: current.window().opens(),
        length: Length::MINUTE,
        next: window("2026-11-23T11:30:00Z"),
        current: Arc::new(current),
        waiting: 0,
        past: VecDeque::new(),
        totals: Totals::default(),
        rejected: Tally::default(),
        journal_works: true,
        troubles: Vec::new(),
    }
}

/// The HTTP server, and the channel for its snapshots.
struct Fixture {
    status: Status,
    snapshots: watch::Sender<Arc<Snapshot>>,
    data: tempfile::TempDir,
}

impl Fixture {
    fn start(snapshot: Snapshot) -> Fixture {
        let data = tempfile::tempdir().unwrap();
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (windows, trust) = (data.path().join("windows"), vec!["127.0.0.0/8".parse().unwrap()]);
        let config = Config { windows, hosts: Vec::new(), connections: 512, trust };
        let status = Status::start(listener, receiver, config, Clock::start()).unwrap();
        Fixture { status, snapshots, data }
    }

    fn archive(&self) -> Archive {
        Archive::new(Disk, self.data.path().join("windows"))
    }
}

#[test]
fn it_is_not_ready_while_the_log_cannot_be_written() {
    let fixture = Fixture::start(snapshot(finalized(1, 2, true)));
    let addr = fixture.status.addr();
    assert_eq!(get(addr, "/readyz").status, 200);
    fixture.snapshots.send_replace(Arc::new(Snapshot {
        journal_works: false,
        ..snapshot(finalized(1, 2, true))
    }));
    let refused = get(addr, "/readyz");
    assert_eq!((refused.status, &refused.json()["error"]), (503, &"log_not_writable".into()));
    assert_eq!(get(addr, "/livez").status, 200);
    assert!(get(addr, "/metrics").body.contains("\nhit7_log_writable 0\n"));
    read_to(addr, "/api/v1/events", r#""log_writable":false"#);
}

#[test]
fn a_missed_window_is_counted_but_its_members_are_not_named() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let (addr, archive) = (fixture.status.addr(), fixture.archive());
    archive.write(&Document::from(&finalized(2, 3, false)), Length::MINUTE).unwrap();
    let answer = get(addr, "/api/v1/windows/2026-11-23T11:29:00Z");
    let body = answer.json();
    assert_eq!((answer.status, &body["missed"], &body["members"]), (200, &true.into(), &6.into()));
    assert!(!answer.body.contains("10.0.0") && !answer.body.contains("room-0"), "{answer:?}");
    let listed = get(addr, "/api/v1/windows").json();
    assert_eq!(listed["windows"][0]["missed"], true);
    assert_eq!(listed["windows"][0]["late_ms"], serde_json::Value::Null);
}

#[test]
fn the_document_of_a_window_that_is_not_open_is_not_shown() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let mut document = Document::from(&finalized(1, 1, true));
    document.window = window("2026-11-23T11:30:00Z");
    fixture.archive().write(&document, Length::MINUTE).unwrap();
    let body = get(fixture.status.addr(), "/api/v1/windows/2026-11-23T11:30:00Z").json();
    assert_eq!(body["error"], "not_open");
    let listed = get(fixture.status.addr(), "/api/v1/windows").json();
    assert_eq!(listed["windows"], serde_json::json!([]));
}

#[test]
fn a_large_document_is_sent_whole_and_a_damaged_one_is_an_error() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let (addr, archive) = (fixture.status.addr(), fixture.archive());
    let document = Document::from(&finalized(2, 20_000, true));
    archive.write(&document, Length::MINUTE).unwrap();
    let answer = get(addr, "/api/v1/windows/2026-11-23T11:29:00Z");
    assert!(answer.body.len() > 1 << 21, "more than fits a buffer");
    assert_eq!(serde_json::from_str::<Document>(&answer.body).unwrap(), document);
    let path = fixture.data.path().join("windows/2026-11-23/11-28.json");
    fs::write(path, "{").unwrap();
    let damaged = get(addr, "/api/v1/windows/2026-11-23T11:28:00Z");
    assert_eq!((damaged.status, &damaged.json()["error"]), (500, &"failed".into()));
    assert!(!damaged.body.contains("tmp"), "it names no folder: {damaged:?}");
}

#[test]
fn a_large_missed_window_is_not_counted_when_it_is_asked_for() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let document = Document::from(&finalized(1, 20_000, false));
    fixture.archive().write(&document, Length::MINUTE).unwrap();
    let answer = get(fixture.status.addr(), "/api/v1/windows/2026-11-23T11:29:00Z");
    let body = answer.json();
    assert_eq!((&body["missed"], &body["members"]), (&true.into(), &serde_json::Value::Null));
    assert!(!answer.body.contains("10.0.0"), "{answer:?}");
}

#[test]
fn what_is_no_document_in_its_folder_is_neither_followed_nor_waited_for() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let addr = fixture.status.addr();
    let document = Document::from(&finalized(1, 1, true));
    fixture.archive().write(&document, Length::MINUTE).unwrap();
    let windows = fixture.data.path().join("windows");
    let day = windows.join("2026-11-23");
    let pipe = Mode::S_IRUSR | Mode::S_IWUSR;
    nix::unistd::mkfifo(&day.join("11-28.json"), pipe).unwrap();
    symlink(day.join("11-29.json"), day.join("11-27.json")).unwrap();
    symlink(&day, windows.join("2026-11-22")).unwrap();
    for window in ["2026-11-23T11:28:00Z", "2026-11-23T11:27:00Z", "2026-11-22T11:29:00Z"] {
        let refused = get(addr, &format!("/api/v1/windows/{window}"));
        assert_eq!((refused.status, &refused.json()["error"]), (500, &"failed".into()), "{window}");
    }
    assert_eq!(get(addr, "/api/v1/windows/2026-11-23T11:29:00Z").status, 200);
    let listed = get(addr, "/api/v1/windows").json();
    assert_eq!(listed["windows"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn a_document_that_is_replaced_while_it_is_sent_ends_before_its_length() {
    let fixture = Fixture::start(snapshot(finalized(0, 0, true)));
    let document = Document::from(&finalized(2, 20_000, true));
    fixture.archive().write(&document, Length::MINUTE).unwrap();
    let path = "/api/v1/windows/2026-11-23T11:29:00Z";
    let mut stream = open(fixture.status.addr(), "GET", path, "");
    stream.read_exact(&mut [0]).unwrap();
    let file = fixture.data.path().join("windows/2026-11-23/11-29.json");
    let length = fs::metadata(&file).unwrap().len();
    let shorter = Document::from(&finalized(1, 20_000, true));
    fixture.archive().write(&shorter, Length::MINUTE).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!((rest.len() as u64) < length, "{} of {length}", rest.len());
    let rest = String::from_utf8(rest).unwrap();
    let shorter = fs::read_to_string(&file).unwrap();
    assert!(!shorter.ends_with(&rest[rest.len() - 100..]), "nothing of the other is sent");
}

#[test]
fn of_a_large_window_a_part_is_shown_and_all_is_counted() {
    let fixture = Fixture::start(snapshot(finalized(1100, 30, true)));
    let body = get(fixture.status.addr(), "/api/v1/window").json();
    assert_eq!((&body["members"], &body["room_count"]), (&33_000.into(), &1100.into()));
    let rooms = body["rooms"].as_array().unwrap();
    let peers: usize = rooms.iter().map(|room| room["peers"].as_array().unwrap().len()).sum();
    assert_eq!((rooms.len(), peers), (1000, 10_000));
    assert!(rooms.iter().all(|room| room["members"] == 30));
    let one = get(fixture.status.addr(), "/api/v1/window?room=room-1099&limit=7").json();
    assert_eq!(one["rooms"][0]["peers"].as_array().unwrap().len(), 7);
}

#[test]
fn each_trouble_is_a_metric() {
    let mut troubled = snapshot(finalized(0, 0, true));
    troubled.troubles = vec![Trouble::Documents(2), Trouble::ClockInDoubt(5)];
    let metrics = get(Fixture::start(troubled).status.addr(), "/metrics").body;
    for (code, is_so) in [("documents_not_writable", 1), ("clock_in_doubt", 1), ("clock_behind", 0)]
    {
        let line = format!("\nhit7_trouble{{code=\"{code}\"}} {is_so}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[test]
fn slow_readers_of_the_window_share_its_text_and_those_of_other_limits_are_few() {
    let fixture = Fixture::start(snapshot(finalized(50, 200, true)));
    let addr = fixture.status.addr();
    // Answers of a megabyte: none fits the buffers of its connection.
    let ask = |path: &str| {
        let mut reader = open(addr, "GET", path, "");
        let mut status = [0; 12];
        reader.read_exact(&mut status).unwrap();
        (status.ends_with(b"200"), reader)
    };
    let usual: Vec<_> = (0..20).map(|_| ask("/api/v1/window")).collect();
    assert!(usual.iter().all(|(is_answered, _)| *is_answered));
    let other: Vec<_> = (201..221).map(|it| ask(&format!("/api/v1/window?limit={it}"))).collect();
    assert_eq!(other.iter().filter(|(is_answered, _)| *is_answered).count(), 16);
    let refused = get(addr, "/api/v1/window?limit=300");
    assert_eq!((refused.status, &refused.json()["error"]), (503, &"too_many_large_answers".into()));
    assert_eq!(get(addr, "/api/v1/window").status, 200);
    assert_eq!(get(addr, "/api/v1/window?room=room-7").status, 200, "it is small");
    drop(other);
    until("there is room again", || {
        (get(addr, "/api/v1/window?limit=300").status == 200).then_some(())
    });
}

#[test]
fn each_opening_counts_once_and_the_first_start_counts_as_none() {
    let fixture = Fixture::start(snapshot(finalized(1, 2, true)));
    let past = |text, members, late| Past {
        window: window(text),
        members,
        rooms: 1,
        late: Some(Duration::from_millis(late)),
    };
    let mut next = snapshot(finalized(1, 2, true));
    next.remember(past("2026-11-23T11:26:00Z", 5, 70));
    next.remember(past("2026-11-23T11:27:00Z", 0, 8000));
    next.remember(past("2026-11-23T11:28:00Z", 2, 3));
    // The oldest window was opened before this run, and is not counted in it.
    next.totals.opened = 2;
    for _ in 0..2 {
        fixture.snapshots.send_replace(Arc::new(next.clone()));
        let metrics = until("the openings are counted", || {
            let metrics = get(fixture.status.addr(), "/metrics").body;
            metrics.contains("hit7_window_open_lateness_seconds_count 1\n").then_some(metrics)
        });
        assert!(metrics.contains("hit7_window_last_open_lateness_seconds 0.003\n"), "{metrics}");
    }
}

#[test]
fn a_stop_ends_streams_and_does_not_wait_for_clients() {
    let fixture = Fixture::start(snapshot(finalized(1, 2, true)));
    let addr = fixture.status.addr();
    let mut stream = open(addr, "GET", "/api/v1/events", "");
    stream.read_exact(&mut [0]).unwrap();
    let mut silent = std::net::TcpStream::connect(addr).unwrap();
    drop(fixture.status);
    for ended in [&mut stream, &mut silent] {
        ended.set_read_timeout(Some(DEADLINE)).unwrap();
        // The stream ends or is reset at once.
        let end = ended.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|why| why.kind() == ErrorKind::WouldBlock), "it was not ended");
    }
}
