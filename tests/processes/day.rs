//! A day in an hour: a registry with windows of two seconds and two hundred members that come and
//! go, to which everything happens that a registry may meet, at random and several at once. Nobody
//! who was acked is lost, every window has its document in the end, and memory, threads and files
//! stay what they were.
//!
//! `HIT7_DAY=60` is its length in minutes; without, it is skipped. `HIT7_SEED` plans the same faults
//! again; what happened in which order stands in the diary, whose path is printed.

mod faults;
mod ledger;
mod members;
mod running;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use hit7::archive::Archive;
use hit7::clock::Clock;
use hit7::store::Disk;
use hit7::window::Window;
use hit7_support::{DEADLINE, Home, Program, announce, http};
use serde_json::Value;

use crate::HIT7;
use faults::{Planned, Target};
use members::Shared;
use running::{Diary, Running};
use world::World;

/// How often the registry is measured, and new documents are checked.
const TICK: Duration = Duration::from_secs(10);

/// One measurement of the registry.
struct Measured {
    kib: u64,
    threads: u64,
    files: u64,
    journals: u64,
    documents: u64,
}

/// What a day is made of.
struct Day {
    registry: Running,
    shared: Arc<Shared>,
    joined: Vec<(String, Program, usize)>,
    measured: Vec<Measured>,
    checked: BTreeMap<Window, bool>,
    printed: usize,
}

impl Day {
    fn start(seed: u64, diary: &Path) -> Day {
        let home = Home::on_disk(HIT7);
        let world = World::new(home.path());
        world.set_syncs("");
        let registry = Running::start(home, world, Diary::new(diary));
        let shared = Arc::new(Shared::new(registry.addr, seed));
        let join = |name: &str| {
            let (name, port) = (name.to_owned(), registry.addr.port().to_string());
            let args = ["join", "127.0.0.1", &port, "--json", "--name", &name, "--room", "plaza"];
            let program = HIT7.start(&args);
            (name, program, 0)
        };
        let joined = ["ana", "bo", "eva"].map(join).into();
        Day { registry, shared, joined, measured: Vec::new(), checked: BTreeMap::new(), printed: 0 }
    }

    /// Lives through the plan, with a look at everything each ten seconds.
    fn live(&mut self, plan: &[Planned], day: Duration) {
        let members = self.shared.clone();
        let members = thread::spawn(move || members::run(&members));
        let begun = Instant::now();
        let (registry, shared) = (&self.registry, self.shared.clone());
        let (joined, measured) = (&mut self.joined, &mut self.measured);
        let (checked, printed) = (&mut self.checked, &mut self.printed);
        thread::scope(|scope| {
            scope.spawn(|| suffer(registry, &shared, plan, begun));
            let mut next = TICK;
            while begun.elapsed() < day {
                thread::sleep(Duration::from_millis(100));
                if begun.elapsed() >= next {
                    next += TICK;
                    look(registry, &shared, joined, measured, checked, printed);
                }
            }
        });
        // Everything is well again: what is owed comes.
        self.rest();
        self.shared.is_over.store(true, Relaxed);
        members.join().unwrap();
    }

    fn look(&mut self) {
        let Day { registry, shared, joined, measured, checked, printed } = self;
        look(registry, shared, joined, measured, checked, printed);
    }

    /// Waits until the registry is ready, acks again, and owes no document.
    fn rest(&mut self) {
        self.registry.diary.note("all faults are over");
        let begun = Instant::now();
        let is_late = |begun: Instant| begun.elapsed() > 2 * DEADLINE;
        let ready = |day: &Day| {
            let page = *day.registry.http.lock().unwrap();
            http::get(page, "/readyz").status == 200
        };
        while !ready(self) && !is_late(begun) {
            thread::sleep(Duration::from_millis(200));
        }
        let acks = self.shared.ledger.lock().unwrap().acks;
        while self.shared.ledger.lock().unwrap().acks < acks + 200 && !is_late(begun) {
            thread::sleep(Duration::from_millis(200));
        }
        if is_late(begun) {
            let what = "it does not serve again after the faults".to_owned();
            self.registry.told.lock().unwrap().violations.push(what);
        }
    }

    /// Ends everything, and checks what is on the disk in the end.
    fn end(&mut self) {
        for (name, program, _) in &mut self.joined {
            if !program.is_running() {
                let what = format!("hit7 join {name} ended: {:?}", program.error_lines().last());
                self.registry.told.lock().unwrap().violations.push(what);
            } else {
                program.signal("TERM");
            }
        }
        let begun = Instant::now();
        loop {
            self.look();
            let owed = self.shared.ledger.lock().unwrap().owed();
            let journals = self.registry.home().journals().len();
            if owed.is_empty() && journals <= 3 || begun.elapsed() > 2 * DEADLINE {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        let journals = self.registry.home().journals().len();
        if journals > 3 {
            let what = format!("{journals} journals are kept");
            self.registry.told.lock().unwrap().violations.push(what);
        }
        self.registry.stop("TERM");
        self.look();
        self.shared.ledger.lock().unwrap().check_missing();
    }
}

/// Does the faults of the plan, each at its time.
fn suffer(registry: &Running, shared: &Shared, plan: &[Planned], begun: Instant) {
    let target = Target { registry, shared, clock: Clock::start() };
    thread::scope(|scope| {
        for &planned in plan {
            thread::sleep(planned.at.saturating_sub(begun.elapsed()));
            let target = &target;
            scope.spawn(move || target.suffer(planned));
        }
    });
}

/// Measures the registry, and checks the documents that are new.
fn look(
    registry: &Running,
    shared: &Shared,
    joined: &mut [(String, Program, usize)],
    measured: &mut Vec<Measured>,
    checked: &mut BTreeMap<Window, bool>,
    printed: &mut usize,
) {
    for (name, program, seen) in joined {
        let lines = program.lines();
        for line in &lines[*seen..] {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            let mut ledger = shared.ledger.lock().unwrap();
            match (event["event"].as_str(), event["window"].as_str()) {
                (Some("registered"), Some(window)) => ledger.joined(window.parse().unwrap(), name),
                (Some("left"), _) => ledger.left_again(name),
                _ => {}
            }
        }
        *seen = lines.len();
    }
    let archive = Archive::new(Disk, registry.data().join("windows"));
    let listed = archive.windows().unwrap_or_default();
    for window in listed.iter().map(|it| it.window) {
        let is_new = !checked.contains_key(&window);
        if (is_new || shared.ledger.lock().unwrap().is_about(window))
            && let Ok(document) = archive.read(window)
        {
            shared.ledger.lock().unwrap().check(window, &document);
            checked.insert(window, document.opened.is_some());
        }
    }
    if let Some([kib, threads, files]) = registry.measure() {
        let (journals, documents) = (registry.home().journals().len(), listed.len());
        let (journals, documents) = (journals as u64, documents as u64);
        measured.push(Measured { kib, threads, files, journals, documents });
        tell(registry, shared, measured.last().unwrap());
    }
    let ledger = shared.ledger.lock().unwrap();
    let told = registry.told.lock().unwrap();
    for violation in told.violations.iter().chain(&ledger.violations).skip(*printed) {
        println!("VIOLATION {violation}");
        registry.diary.note(&format!("VIOLATION {violation}"));
    }
    *printed = told.violations.len() + ledger.violations.len();
}

fn tell(registry: &Running, shared: &Shared, measured: &Measured) {
    let ledger = shared.ledger.lock().unwrap();
    let Measured { kib, threads, files, journals, documents } = measured;
    let line = format!(
        "{:5.0} s: {} acked, {} left, {} lists, {} missed; {kib} KiB, {threads} threads, {files} \
         files, {journals} journals, {documents} documents, {} owed",
        registry.diary.since().as_secs_f64(),
        ledger.acks,
        ledger.left,
        ledger.lists,
        ledger.missed,
        ledger.owed().len(),
    );
    println!("{line}");
    registry.diary.note(&line);
}

/// Prints the median and the most of each measurement, in the first third of the day and in the last.
fn table(measured: &[Measured]) {
    let third = measured.len() / 3;
    let [first, last] = [&measured[..third], &measured[measured.len() - third..]];
    println!("| measured | first third: median, most | last third: median, most |");
    println!("| --- | --- | --- |");
    type Value = fn(&Measured) -> u64;
    let rows: [(&str, Value); 4] = [
        ("memory, KiB", |it| it.kib),
        ("threads", |it| it.threads),
        ("open files", |it| it.files),
        ("files in journal/", |it| it.journals),
    ];
    for (name, value) in rows {
        let of = |part: &[Measured]| {
            let mut values: Vec<u64> = part.iter().map(value).collect();
            values.sort_unstable();
            let most = values.last().copied().unwrap_or(0);
            format!("{}, {most}", values.get(values.len() / 2).copied().unwrap_or(0))
        };
        println!("| {name} | {} | {} |", of(first), of(last));
    }
}

/// Returns the seed that is asked for, or a new one.
fn seed() -> u64 {
    let asked = std::env::var("HIT7_SEED").ok();
    let now = Clock::start().now().wall.millis() as u64;
    asked.map_or(now % 1_000_000, |seed| seed.parse().unwrap())
}

#[test]
fn a_day_in_an_hour_loses_nobody() {
    let Ok(minutes) = std::env::var("HIT7_DAY") else {
        return announce("it takes long; HIT7_DAY=60 runs it for 60 minutes");
    };
    let length = Duration::from_secs_f64(60.0 * minutes.parse::<f64>().unwrap());
    let seed = seed();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("day-{seed}"));
    fs::create_dir_all(&folder).unwrap();
    let plan = faults::plan(seed, length);
    println!("HIT7_SEED={seed}: {} faults; the diary is in {}", plan.len(), folder.display());
    let mut day = Day::start(seed, &folder.join("diary"));
    day.live(&plan, length);
    day.end();
    table(&day.measured);
    let mut faults = BTreeMap::<_, u32>::new();
    plan.iter().for_each(|it| *faults.entry(it.fault).or_default() += 1);
    println!("{faults:?}");
    println!("starts: {:#?}", day.registry.starts.lock().unwrap());
    let ledger = day.shared.ledger.lock().unwrap();
    let told = day.registry.told.lock().unwrap();
    let opened = day.checked.values().filter(|opened| **opened).count();
    println!(
        "{} acked, {} lists told; {} documents, {opened} of windows that opened, {} of such that \
         were missed; {} violations",
        ledger.acks,
        ledger.lists,
        day.checked.len(),
        day.checked.len() - opened,
        told.violations.len() + ledger.violations.len(),
    );
    let violations: Vec<_> = told.violations.iter().chain(&ledger.violations).collect();
    if !violations.is_empty() {
        let _ = std::process::Command::new("cp")
            .arg("-r")
            .arg(day.registry.data())
            .arg(&folder)
            .status();
    }
    assert!(violations.is_empty(), "{violations:#?}");
}
