//! A disk fills up under load and gets room again: while it is full, clients get an ERROR; every
//! registration acked before, meanwhile and after is in a document, also after a restart.
//!
//! `HIT7_LONG=1` keeps it full for 9 s. Mounting a file system needs root.
//!
//! A limit of the size of files (`ulimit -f`) is like a full disk.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hit7::clock::{Clock, Now};
use hit7::proto::{Code, Datagram};
use hit7::window::Window;
use hit7_support::{Home, is_long_run, receive, skip, udp_socket, until};

use crate::{HIT7, address_of, documents, register};

const FLAGS: [&str; 2] = ["--window", "4s"];
const WINDOW: Duration = Duration::from_secs(4);
const CLIENTS: u8 = 4;

/// How long lines may still fit into the last allocated page of the journal, on a busy machine; or
/// into a page of the journal that an opening let go.
const LAST_PAGE_TIME: Duration = Duration::from_millis(1500);

/// A file system of 1 MB, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a small file system at `dir`; `None` if this process may not mount.
    fn mount(dir: &Path) -> Option<SmallDisk> {
        let args = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let mounted = Command::new("mount").args(args).arg(dir).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| SmallDisk(dir.to_owned()))
    }

    /// Fills the disk for `span`, also space that gets free meanwhile, and then frees it again.
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

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The time during which the disk was full.
struct Full {
    from: Duration,
    to: Duration,
}

/// The answers that clients got.
#[derive(Default)]
struct Answers {
    acked: Vec<Acked>,
    /// The names of the clients that were refused.
    refused: Vec<String>,
}

/// A registration that was acked.
struct Acked {
    at: Now,
    window: Window,
    name: String,
    addr: SocketAddr,
}

/// Registers again and again, each time as a new client at another address.
fn register_repeatedly(
    client: u8,
    registry: SocketAddr,
    clock: Clock,
    is_over: &AtomicBool,
    count: &AtomicUsize,
) -> Answers {
    let mut answers = Answers::default();
    for round in 0u16.. {
        let [high, low] = round.to_be_bytes();
        let ip = Ipv4Addr::new(127, 1 + client, high, low);
        let socket = udp_socket(ip, Duration::from_millis(500));
        let name = format!("client-{client}-{round}");
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        socket.send_to(&register(&format!("id-{client}-{round}"), &name), registry).unwrap();
        // At a boundary, WINDOW may overtake the answer.
        let is_window = |it: &[u8]| matches!(Datagram::decode(it), Ok(Datagram::Window(_)));
        let mut received = std::iter::from_fn(|| receive(&socket));
        // A registration without an answer may be lost.
        let Some(answer) = received.find(|it| !is_window(it)) else { continue };
        let at = clock.now();
        match Datagram::decode(&answer).unwrap() {
            Datagram::Registered(answer) => {
                let (window, addr) = (answer.window, socket.local_addr().unwrap());
                answers.acked.push(Acked { at, window, name, addr });
                count.fetch_add(1, Ordering::Relaxed);
            }
            Datagram::Error(refusal) => {
                assert_eq!(refusal.code, Code::Unavailable, "{}", refusal.reason);
                assert!(refusal.retry_in_ms.is_some_and(|wait| wait > 0));
                answers.refused.push(name);
            }
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
    answers
}

/// Returns the time since the last opening.
fn since_opening(now: Now) -> Duration {
    Duration::from_millis(now.wall.millis() as u64 % WINDOW.as_millis() as u64)
}

/// Waits until a window has opened and the journal of the closed one is removed: while the disk is
/// full, no space may be freed.
fn settle(home: &Home, clock: Clock) {
    let is_early = || (300..1000).contains(&since_opening(clock.now()).as_millis());
    while !is_early() || home.journals().len() > 2 {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Registers clients all the time, and fills the disk in between.
fn fill_under_load(home: &Home, disk: &SmallDisk, registry: SocketAddr) -> (Full, Answers) {
    let span = Duration::from_secs(if is_long_run() { 9 } else { 4 });
    let (clock, is_over, acked) = (Clock::start(), AtomicBool::new(false), AtomicUsize::new(0));
    let wait_for_more = || {
        let enough = acked.load(Ordering::Relaxed) + 100;
        until("more acks", || (acked.load(Ordering::Relaxed) > enough).then_some(()));
    };
    thread::scope(|scope| {
        let (is_over, acked) = (&is_over, &acked);
        let client = |client| {
            scope.spawn(move || register_repeatedly(client, registry, clock, is_over, acked))
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        wait_for_more();
        settle(home, clock);
        let full = disk.fill(span, clock);
        wait_for_more();
        is_over.store(true, Ordering::Relaxed);
        let mut answers = Answers::default();
        for client in clients {
            let of_client = client.join().unwrap();
            answers.acked.extend(of_client.acked);
            answers.refused.extend(of_client.refused);
        }
        (full, answers)
    })
}

fn check_times(full: &Full, answers: &Answers) {
    let count = |counts: &dyn Fn(Now) -> bool| {
        answers.acked.iter().filter(|acked| counts(acked.at)).count()
    };
    let is_full = |at: Now| (full.from..full.to).contains(&at.mono);
    let has_no_page =
        |at: Now| at.mono >= full.from + LAST_PAGE_TIME && since_opening(at) >= LAST_PAGE_TIME;
    let (before, after) = (count(&|at| at.mono < full.from), count(&|at| at.mono >= full.to));
    let last_page = count(&|at| is_full(at) && !has_no_page(at));
    let while_full = count(&|at| is_full(at) && has_no_page(at));
    println!(
        "full for {:?}: acked {before} before, {last_page} into a last page, {while_full} while \
         full, {after} after; {} told unavailable",
        full.to - full.from,
        answers.refused.len()
    );
    assert_eq!(while_full, 0, "acked while nothing could be stored");
    assert!(before > 50 && after > 50 && answers.refused.len() > 50);
}

fn check_documents(home: &Home, answers: &Answers) {
    let documents = documents(home);
    for Acked { window, name, addr, .. } in &answers.acked {
        let member = documents.get(window).and_then(|document| address_of(document, name));
        assert_eq!(member, Some(*addr), "{name} was told {window}");
    }
    for name in &answers.refused {
        let is_in = documents.values().any(|document| address_of(document, name).is_some());
        assert!(!is_in, "{name} is in");
    }
}

#[test]
fn a_full_disk_promises_nothing_and_loses_nothing() {
    let home = Home::on_disk(HIT7);
    let Some(disk) = SmallDisk::mount(home.path()) else {
        return skip("mounting a tmpfs needs root");
    };
    let mut registry = home.serve(&FLAGS);
    let (full, answers) = fill_under_load(&home, &disk, registry.addr);
    // The registry is killed while its last window waits, and started again.
    registry.program.kill();
    let registry = home.serve_at(registry.addr.port(), &FLAGS);
    let are_written = || {
        let documents = documents(&home);
        answers.acked.iter().all(|acked| documents.contains_key(&acked.window))
    };
    until("the documents of all windows", || are_written().then_some(()));
    registry.close();
    check_times(&full, &answers);
    check_documents(&home, &answers);
}

/// Within the limit a write is short; from there on, it is a signal too.
#[test]
fn at_the_limit_of_file_sizes_nothing_is_promised_and_the_registry_goes_on() {
    let home = HIT7.home();
    home.serve(&["--window", "1day"]).close();
    for (limit, told) in [("8", "bytes: is the disk full"), ("0", "File too large")] {
        let (serve, mut limited) = (home.command(&["--window", "1day"]), Command::new("sh"));
        limited.args(["-c", &format!("ulimit -f {limit}; exec \"$0\" \"$@\"")]);
        limited.arg(serve.get_program()).args(serve.get_args());
        let mut registry = home.start(limited);
        let refusal = (0..1000).find_map(|_| {
            let answer = registry.client().ask(r#"{"type":"REGISTER"}"#);
            (answer["type"] == "ERROR").then_some(answer)
        });
        assert_eq!(refusal.expect("a limit")["code"], "unavailable");
        let why = registry.program.error_line();
        assert!(why.contains(told) && why.contains("(ulimit -f)"), "{why}");
        registry.serves();
        registry.close();
    }
}
