//! A disk that fills up under load, and has room again: while it is full nothing is promised, and
//! clients are told so; whatever was acked before, meanwhile and after is in a document, also after
//! a restart.
//!
//! `HIT7_LONG=1` keeps it full for 5 s. Mounting a file system needs root.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hit7::clock::Clock;
use hit7::proto::{Auth, Code, Datagram, Id, Name, Profile, Request};
use hit7::window::Window;

use crate::registry::{Registry, documents, logs};
use crate::skip::skip;

const CLIENTS: u8 = 4;

/// Some lines of the log still fit into the last page of its file, which it has already: so long
/// until none does, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

/// A file system of 1 MB; dropped, it is unmounted.
struct Small(PathBuf);

impl Small {
    /// `None` if this may not be mounted here.
    fn mount(dir: &Path) -> Option<Small> {
        let words = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let mounted = Command::new("mount").args(words).arg(dir).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Small(dir.to_owned()))
    }

    /// Takes all that is free, and whatever gets free meanwhile; then gives it back.
    fn fill(&self, span: Duration, clock: Clock) -> Full {
        let path = self.0.join("ballast");
        let mut ballast = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        while ballast.write(&[7; 4096]).is_ok() {}
        let from = clock.now().mono;
        while clock.now().mono < from + span {
            while ballast.write(&[7; 4096]).is_ok() {}
            thread::sleep(Duration::from_millis(1));
        }
        let to = clock.now().mono;
        fs::remove_file(&path).unwrap();
        Full { from, to }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// When it was full.
struct Full {
    from: Duration,
    to: Duration,
}

/// What clients were told, and when.
#[derive(Default)]
struct Told {
    acked: Vec<(Duration, Window, Name, SocketAddr)>,
    refused: Vec<(Duration, Name)>,
}

/// Registers again and again, each time as somebody else from elsewhere.
fn register_all_the_while(
    client: u8,
    registry: SocketAddr,
    clock: Clock,
    over: &AtomicBool,
) -> Told {
    let mut told = Told::default();
    let mut buffer = [0; 2048];
    for round in 0u16.. {
        let [high, low] = round.to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 1 + client, high, low), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let id: Id = format!("id-{client}-{round}").parse().unwrap();
        let name: Name = format!("client-{client}-{round}").parse().unwrap();
        let (id, seq) = (Some(id), Some(1));
        let profile = Profile { name: Some(name.clone()), ..Profile::default() };
        let register = Request::register(id, seq, profile).encode(&Auth::NONE);
        if over.load(Ordering::Relaxed) {
            break;
        }
        socket.send_to(&register, registry).unwrap();
        // Without an answer nothing is promised.
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        let now = clock.now().mono;
        match Datagram::decode(&buffer[..len]).unwrap() {
            Datagram::Registered(answer) => {
                told.acked.push((now, answer.window, name, socket.local_addr().unwrap()));
            }
            Datagram::Error(refusal) => {
                assert_eq!(refusal.code, Code::Unavailable, "{}", refusal.reason);
                assert!(refusal.retry_in_ms.is_some_and(|wait| wait > 0));
                told.refused.push((now, name));
            }
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    told
}

/// Waits until the minute has rejected and the log of the closed window is gone: what is freed while
/// the disk is full may well be written to before the ballast takes it.
fn settle(data: &Path, clock: Clock) {
    let is_early = || (300..1000).contains(&(clock.now().wall.millis() % 2000));
    while !is_early() || logs(data) > 2 {
        thread::sleep(Duration::from_millis(10));
    }
}

fn check_documents(data: &Path, told: &Told) {
    let documents = documents(data);
    let member = |window: &Window, name: &Name| {
        let members = documents.get(window).into_iter().flat_map(|it| it.rooms.values().flatten());
        members.filter(|it| it.name.as_ref() == Some(name)).map(|it| it.addr).next()
    };
    for (_, window, name, addr) in &told.acked {
        assert_eq!(member(window, name), Some(*addr), "{name} was told {window}");
    }
    for (_, name) in &told.refused {
        assert!(!documents.keys().any(|window| member(window, name).is_some()), "{name} is in");
    }
}

#[test]
fn a_full_disk_promises_nothing_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(home.path()) else {
        return skip("mounting a tmpfs needs root");
    };
    let span = Duration::from_secs(if std::env::var_os("HIT7_LONG").is_some() { 5 } else { 3 });
    let data = home.path().join("data");
    let registry = Registry::start(0, "2s", &data);
    let (addr, clock, over) = (registry.addr, Clock::start(), AtomicBool::new(false));
    let (full, told) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let over = &over;
                scope.spawn(move || register_all_the_while(client, addr, clock, over))
            })
            .collect();
        thread::sleep(Duration::from_millis(2500));
        settle(&data, clock);
        let full = disk.fill(span, clock);
        thread::sleep(Duration::from_millis(2500));
        over.store(true, Ordering::Relaxed);
        let mut told = Told::default();
        for client in clients {
            let of = client.join().unwrap();
            told.acked.extend(of.acked);
            told.refused.extend(of.refused);
        }
        (full, told)
    });
    // Killed while its last window waits, and started again.
    registry.kill();
    let registry = Registry::start(addr.port(), "2s", &data);
    thread::sleep(Duration::from_millis(4500));
    registry.stop();

    let when = |from: Duration, to: Duration| {
        told.acked.iter().filter(|(at, ..)| (from..to).contains(at)).count()
    };
    let (before, slack) = (when(Duration::ZERO, full.from), when(full.from, full.from + SLACK));
    let (while_full, after) = (when(full.from + SLACK, full.to), when(full.to, Duration::MAX));
    println!(
        "full for {span:?}: acked {before} before, {slack} into the last page, {while_full} while \
         full, {after} after; {} told unavailable",
        told.refused.len()
    );
    assert_eq!(while_full, 0, "acked while nothing could be stored");
    assert!(before > 50 && after > 50 && told.refused.len() > 50);
    check_documents(&data, &told);
}
