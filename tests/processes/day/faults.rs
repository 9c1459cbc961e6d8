//! The faults of the day, and the plan of them that a seed makes.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use hit7::clock::Clock;
use hit7::cookie::NO_COOKIE;
use hit7::proto::{Auth, Profile, Request, Room};
use hit7::window::Length;
use hit7_support::udp_socket;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::members::{MEMBERS, Shared, address};
use super::running::{Flags, Running};
use crate::spoofer::Spoofer;

use Fault::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fault {
    Kill,
    Stop,
    Pause,
    Signals,
    Unread,
    SlowReaders,
    HangUps,
    Viewers,
    FewFiles,
    NoThreads,
    DocumentsTaken,
    WindowsGone,
    JournalGone,
    JournalFileGone,
    FullDisk,
    SyncsHang,
    SyncsFail,
    SyncsSlow,
    ClockSteps,
    ClockJumps,
    Forged,
    Malformed,
    Acks,
    Leaves,
    AllLeave,
}

/// Each fault, how often it comes, the longest that it lasts in milliseconds, and what it needs for
/// itself.
const ALL: [(Fault, u32, u64, u32); 25] = [
    (Kill, 6, 3000, ALIVE),
    (Stop, 3, 3000, ALIVE),
    (Pause, 4, 8000, 0),
    (Signals, 2, 2000, 0),
    (Unread, 3, 20_000, 0),
    (SlowReaders, 3, 15_000, 0),
    (HangUps, 2, 10_000, 0),
    (Viewers, 3, 20_000, 0),
    (FewFiles, 3, 10_000, FILES),
    (NoThreads, 2, 15_000, 0),
    (DocumentsTaken, 3, 20_000, WINDOWS),
    (WindowsGone, 2, 15_000, WINDOWS),
    (JournalGone, 2, 8000, ALIVE | JOURNAL),
    (JournalFileGone, 2, 6000, ALIVE | JOURNAL),
    (FullDisk, 3, 10_000, 0),
    (SyncsHang, 2, 6000, SYNCS),
    (SyncsFail, 3, 6000, SYNCS),
    (SyncsSlow, 3, 20_000, SYNCS),
    (ClockSteps, 3, 10_000, CLOCK),
    (ClockJumps, 2, 60_000, CLOCK | ALIVE),
    (Forged, 2, 4000, NET),
    (Malformed, 2, 4000, NET),
    (Acks, 2, 4000, NET),
    (Leaves, 2, 4000, NET),
    (AllLeave, 2, 1, 0),
];

const ALIVE: u32 = 1;
const FILES: u32 = 2;
const WINDOWS: u32 = 4;
const JOURNAL: u32 = 8;
const SYNCS: u32 = 16;
const CLOCK: u32 = 32;
const NET: u32 = 64;

/// One fault of a plan, from `at` for `span`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) span: Duration,
    pub(super) fault: Fault,
    needs: u32,
    dice: u64,
}

/// Makes the plan of a day: several faults at once, but none that undo one another's.
pub(super) fn plan(seed: u64, day: Duration) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights: u32 = ALL.iter().map(|it| it.1).sum();
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = Duration::from_secs(8);
    while at < day {
        let mut pick = rng.random_range(0..weights);
        let (fault, _, most, needs) = *ALL
            .iter()
            .find(|it| {
                let is_it = pick < it.1;
                pick = pick.saturating_sub(it.1);
                is_it
            })
            .unwrap();
        let span = Duration::from_millis(rng.random_range(most.min(100)..=most));
        let dice = rng.random();
        let is_free =
            |it: &Planned| it.at + it.span < at || (it.needs & needs == 0 && it.fault != fault);
        if at + span < day && plan.iter().rev().take(60).all(is_free) {
            plan.push(Planned { at, span, fault, needs, dice });
        }
        // Often the next comes while this lasts.
        at += Duration::from_millis(rng.random_range(0..3000));
    }
    plan
}

/// What the faults are done to.
pub(super) struct Target<'a> {
    pub(super) registry: &'a Running,
    pub(super) shared: &'a Shared,
    pub(super) clock: Clock,
}

impl Target<'_> {
    /// Does a fault, and undoes it after its time.
    pub(super) fn suffer(&self, planned: Planned) {
        let Planned { span, fault, needs, dice, .. } = planned;
        let _life = (needs & ALIVE != 0).then(|| self.registry.life.lock().unwrap());
        self.registry.diary.note(&format!("+ {fault:?} for {span:?}"));
        let mut rng = ChaCha8Rng::seed_from_u64(dice);
        match fault {
            Forged => self.forge(span, &mut rng),
            Malformed => {
                let junk = [&b"not json"[..], b"{\"type\":\"REGISTER\"", &[0xff; 900], b"{}", b""];
                self.flood(span, |n| junk[n % junk.len()].to_vec());
            }
            Acks => self.flood(span, |_| ACK.to_vec()),
            Leaves => self.flood(span, leave),
            AllLeave => drop(self.shared.exodus.fetch_add(1, Relaxed)),
            Kill | Stop | Pause | Signals | Unread => self.trouble_process(fault, span, &mut rng),
            SlowReaders | HangUps | Viewers => self.trouble_page(fault, span),
            _ => self.trouble_world(fault, span, &mut rng),
        }
        self.registry.diary.note(&format!("- {fault:?}"));
    }

    fn trouble_process(&self, fault: Fault, span: Duration, rng: &mut ChaCha8Rng) {
        match fault {
            Kill => self.restart(None, span, rng),
            Stop => {
                let signal = ["TERM", "INT", "QUIT"][rng.random_range(0..3)];
                self.restart(Some(signal), span, rng);
            }
            Pause => {
                self.registry.signal("STOP");
                thread::sleep(span);
                self.registry.signal("CONT");
            }
            Signals => self.repeat(span, 50, || {
                self.registry.signal(["HUP", "USR1", "USR2"][rng.random_range(0..3)]);
            }),
            _ => {
                let _unread = self.registry.unread.lock().unwrap();
                self.repeat(span, 20, || self.registry.signal("USR1"));
            }
        }
    }

    fn trouble_page(&self, fault: Fault, span: Duration) {
        let connect = |many, path| (0..many).filter_map(|_| self.ask(path)).collect::<Vec<_>>();
        match fault {
            SlowReaders => {
                let mut readers = connect(40, "/api/v1/windows");
                self.repeat(span, 100, || {
                    readers.iter_mut().for_each(|it| drop(it.read(&mut [0])));
                });
            }
            HangUps => self.repeat(span, 5, || drop(self.ask("/api/v1/windows"))),
            _ => {
                let viewers = connect(200, "/api/v1/events");
                thread::sleep(span);
                drop(viewers);
            }
        }
    }

    fn trouble_world(&self, fault: Fault, span: Duration, rng: &mut ChaCha8Rng) {
        let world = &self.registry.world;
        match fault {
            FewFiles => self.few_files(span, rng.random_range(0..6)),
            NoThreads => {
                let Some(threads) = &world.threads else { return };
                threads.limit(self.registry.pid(), rng.random_range(0..2));
                thread::sleep(span);
                threads.free();
            }
            DocumentsTaken => self.take_documents(span),
            WindowsGone => self.move_away("windows", span, true),
            JournalGone => self.move_away("journal", span, false),
            JournalFileGone => self.move_file_away(span),
            FullDisk => {
                let ballast = world.fill();
                thread::sleep(span);
                // Two that fill the disk at once share what they write.
                ballast.into_iter().for_each(|path| drop(fs::remove_file(path)));
            }
            SyncsHang => self.syncs("h", span),
            SyncsFail => self.syncs("f", span),
            SyncsSlow => self.syncs(["20", "300", "1500"][rng.random_range(0..3)], span),
            ClockSteps => self.set_clock(rng.random_range(-15..30), span),
            _ => {
                let jumps = [40 * 86_400, 365 * 86_400, -86_400, 7200, -7200, 1200];
                self.set_clock(jumps[rng.random_range(0..jumps.len())], span);
            }
        }
    }

    fn restart(&self, signal: Option<&str>, down: Duration, rng: &mut ChaCha8Rng) {
        match signal {
            Some(signal) => self.registry.stop(signal),
            None => self.registry.kill(),
        }
        thread::sleep(down);
        self.registry.start_again(&Flags::pick(rng));
    }

    fn repeat(&self, span: Duration, millis: u64, mut act: impl FnMut()) {
        let begun = Instant::now();
        while begun.elapsed() < span {
            act();
            thread::sleep(Duration::from_millis(millis));
        }
    }

    /// Sends a GET for `path`; `None` if the page takes no connection.
    fn ask(&self, path: &str) -> Option<TcpStream> {
        let page = *self.registry.http.lock().unwrap();
        let mut stream = TcpStream::connect_timeout(&page, Duration::from_secs(2)).ok()?;
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {page}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        Some(stream)
    }

    /// Lets the registry open no more files than `spare` ones.
    fn few_files(&self, span: Duration, spare: u64) {
        let pid = self.registry.pid();
        let Some([_, _, open]) = self.registry.measure() else { return };
        let limit = |soft: &str| {
            let limit = format!("--nofile={soft}:");
            let _ = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).output();
        };
        let hard = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let hard = hard.lines().find(|line| line.starts_with("Max open files"));
        let Some(hard) = hard.and_then(|line| line.split_whitespace().nth(4)) else { return };
        limit(&(open + spare).to_string());
        thread::sleep(span);
        limit(hard);
    }

    /// Puts folders into the places of the documents of the next windows.
    fn take_documents(&self, span: Duration) {
        let now = self.clock.now().wall;
        let place = |millis| {
            let length = Length::new(Duration::from_secs(2)).unwrap();
            let window = length.window_at(now.plus(Duration::from_millis(millis)));
            let day = self.registry.data().join("windows").join(window.day());
            day.join(window.stem(length) + ".json")
        };
        let places: Vec<PathBuf> = [0, 2000, 6000].map(place).into();
        let taken: Vec<_> = places.iter().filter(|it| fs::create_dir_all(it).is_ok()).collect();
        thread::sleep(span);
        taken.into_iter().for_each(|it| drop(fs::remove_dir(it)));
    }

    fn move_away(&self, name: &str, span: Duration, leave_a_file: bool) {
        let (here, away) =
            (self.registry.data().join(name), self.registry.home().path().join(name));
        if fs::rename(&here, &away).is_err() {
            return;
        }
        if leave_a_file {
            let _ = fs::write(&here, "");
        }
        thread::sleep(span);
        let _ = fs::remove_file(&here);
        if let Err(why) = fs::rename(&away, &here) {
            let what = format!("{name} cannot be put back: {why}");
            self.registry.told.lock().unwrap().violations.push(what);
        }
    }

    fn move_file_away(&self, span: Duration) {
        let Some(here) = self.registry.home().journals().pop() else { return };
        let away = self.registry.home().path().join("journal-file");
        if fs::rename(&here, &away).is_ok() {
            thread::sleep(span);
            // Meanwhile it may have been discarded, and the day's folder with it.
            let _ = fs::create_dir_all(here.parent().unwrap());
            if here.exists() || fs::rename(&away, &here).is_err() {
                let what = format!("{} cannot be put back", here.display());
                self.registry.told.lock().unwrap().violations.push(what);
            }
        }
    }

    fn syncs(&self, says: &str, span: Duration) {
        self.registry.world.set_syncs(says);
        thread::sleep(span);
        self.registry.world.set_syncs("");
    }

    fn set_clock(&self, seconds: i32, span: Duration) {
        let Some(clock) = &self.registry.world.clock else { return };
        self.registry.diary.note(&format!("the clock is set by {seconds} s"));
        clock.set(seconds.into());
        thread::sleep(span);
        clock.set(0);
    }

    /// Sends requests from addresses that nobody has, and from those of members, without a cookie
    /// that is good.
    fn forge(&self, span: Duration, rng: &mut ChaCha8Rng) {
        let Some(spoofer) = Spoofer::new() else { return };
        let auth = Auth::with_cookie(NO_COOKIE);
        let id = |n: u64| format!("member-{}-0", n % MEMBERS as u64).parse().ok();
        self.repeat(span, 10, || {
            for n in 0..50 {
                let request = match n % 4 {
                    0 => Request::leave(id(rng.random()), Some(1 << 40)),
                    1 => Request::query(None, None, Room::default(), 0),
                    _ => Request::register(id(rng.random()), Some(1 << 40), Profile::default()),
                };
                let from = match n % 2 {
                    0 => Ipv4Addr::from(0x7f80_0000 | rng.random::<u32>() >> 9),
                    _ => address(rng.random_range(0..MEMBERS)),
                };
                let from = SocketAddr::from((from, rng.random_range(1500..60_000)));
                spoofer.send(from, self.registry.addr, &request.encode(&auth));
            }
        });
    }

    fn flood(&self, span: Duration, datagram: impl Fn(usize) -> Vec<u8>) {
        let open = |n| udp_socket(Ipv4Addr::new(127, 200, 0, n), Duration::from_millis(1));
        let sockets: Vec<UdpSocket> = (1..40).map(open).collect();
        let mut sent = 0;
        self.repeat(span, 5, || {
            for _ in 0..100 {
                sent += 1;
                let _ = sockets[sent % sockets.len()].send_to(&datagram(sent), self.registry.addr);
            }
        });
    }
}

const ACK: &[u8] = br#"{"type":"ACK","id":"x","window":"2026-11-23T11:29:00Z","pass":"x"}"#;

fn leave(n: usize) -> Vec<u8> {
    let request = Request::leave(format!("nobody-{n}").parse().ok(), Some(1));
    request.encode(&Auth::with_cookie(NO_COOKIE))
}
