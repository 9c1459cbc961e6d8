//! A registry that is started again and again, with other flags and limits each time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hit7::window::Window;
use hit7_support::{DEADLINE, Home, listening};
use nix::fcntl::{FcntlArg, fcntl};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::world::World;
use crate::refused::{SYSTEMS, filter, refusing};

/// What the day writes down: each fault, and each line of the registry.
pub(super) struct Diary {
    begun: Instant,
    file: Mutex<File>,
}

impl Diary {
    pub(super) fn new(path: &Path) -> Diary {
        Diary { begun: Instant::now(), file: Mutex::new(File::create(path).unwrap()) }
    }

    pub(super) fn since(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn note(&self, line: &str) {
        let _ = writeln!(self.file.lock().unwrap(), "{:9.3} {line}", self.since().as_secs_f64());
    }
}

/// What the registry's lines told.
#[derive(Default)]
pub(super) struct Told {
    /// The first and the last window that each process told as opened, by order of their starts.
    /// What a process printed while nobody read it is read after it has ended.
    spans: Vec<Option<(Window, Window)>>,
    pub(super) opened: u64,
    pub(super) missed: u64,
    pub(super) violations: Vec<String>,
}

impl Told {
    /// Notes that a process was started, and returns its number.
    fn begin(&mut self) -> usize {
        self.spans.push(None);
        self.spans.len() - 1
    }

    fn read(&mut self, process: usize, line: &str) {
        if line.contains("panicked") || line.contains("bug in hit7") {
            self.violations.push(line.to_owned());
        }
        let window = line.split(' ').next().and_then(|word| word.parse::<Window>().ok());
        let Some(window) = window else { return };
        if line.contains("  missed: ") {
            self.missed += 1;
        }
        if line.contains("  opened ") {
            self.opened += 1;
            let (before, after) = self.spans.split_at(process);
            let is_later = before.iter().flatten().all(|(_, last)| *last < window);
            let own = after[0].map_or(window, |(first, _)| first);
            if !is_later
                || after[0].is_some_and(|(_, last)| last >= window)
                || after[1..].iter().flatten().any(|(first, _)| *first <= window)
            {
                self.violations.push(format!("opened again, or back: {line}"));
            }
            self.spans[process] = Some((own, window));
        }
    }
}

/// One process, and the lines of its stdout.
struct Process {
    child: Child,
    out: Receiver<String>,
    err: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The registry of the day.
pub(super) struct Running {
    process: Mutex<Process>,
    pub(super) world: World,
    home: Home,
    pub(super) diary: Arc<Diary>,
    pub(super) told: Arc<Mutex<Told>>,
    /// Held while nobody reads what the registry prints.
    pub(super) unread: Arc<Mutex<()>>,
    pub(super) http: Mutex<SocketAddr>,
    pub(super) addr: SocketAddr,
    /// Held by who kills and starts the registry, or does what a start must not happen in.
    pub(super) life: Mutex<()>,
    pub(super) starts: Mutex<BTreeMap<String, u32>>,
}

/// The flags of one start.
#[derive(Clone, Default)]
pub(super) struct Flags {
    args: Vec<String>,
    files: Option<u32>,
    refused: Option<usize>,
}

impl Flags {
    /// Picks the flags of a start: most are as the day began.
    pub(super) fn pick(rng: &mut ChaCha8Rng) -> Flags {
        let mut pick = |usual: &str, others: &[&str]| match rng.random_bool(0.7) {
            true => usual.to_owned(),
            false => others[rng.random_range(0..others.len())].to_owned(),
        };
        let args = [
            ("--window", pick("2s", &["2s", "3s", "4s"])),
            ("--peers", pick("200", &["20", "60", "500"])),
            ("--max-room", pick("100000", &["50", "1000"])),
            ("--max-per-ip", pick("256", &["10", "40"])),
            ("--workers", pick("2", &["1", "3"])),
            ("--keep", pick("30d", &["forever", "2d"])),
            ("--log-level", pick("info", &["warn", "debug"])),
        ];
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let files = rng.random_bool(0.3).then(|| [70, 100, 300][rng.random_range(0..3)]);
        let refused = rng.random_bool(0.2).then(|| rng.random_range(0..SYSTEMS.len()));
        Flags { args, files, refused }
    }
}

/// How a start ended.
enum Started {
    Serves(Process, SocketAddr, SocketAddr),
    Refused(String),
}

impl Running {
    /// Starts the registry for the first time.
    pub(super) fn start(home: Home, world: World, diary: Diary) -> Running {
        let (diary, told) = (Arc::new(diary), Arc::<Mutex<Told>>::default());
        let unread = Arc::<Mutex<()>>::default();
        let usual = ["--window", "2s", "--workers", "2"].map(str::to_owned).to_vec();
        let flags = Flags { args: usual, ..Flags::default() };
        let command = command(&home, &world, 0, &flags);
        let started = spawn(command, &flags, (&diary, &told, &unread));
        let Started::Serves(process, addr, http) = started else { panic!("it does not start") };
        Running {
            home,
            diary,
            told,
            unread,
            world,
            process: Mutex::new(process),
            http: Mutex::new(http),
            addr,
            life: Mutex::default(),
            starts: Mutex::default(),
        }
    }

    /// Starts it again, and again while the start is refused for a fault that goes on.
    pub(super) fn start_again(&self, flags: &Flags) {
        let begun = Instant::now();
        loop {
            let command = command(&self.home, &self.world, self.addr.port(), flags);
            self.diary
                .note(&format!("start: {:?} {:?} {:?}", flags.args, flags.files, flags.refused));
            match spawn(command, flags, (&self.diary, &self.told, &self.unread)) {
                Started::Serves(process, _, http) => {
                    *self.process.lock().unwrap() = process;
                    *self.http.lock().unwrap() = http;
                    *self.starts.lock().unwrap().entry("served".to_owned()).or_default() += 1;
                    return;
                }
                Started::Refused(why) => {
                    self.diary.note(&format!("the start is refused: {why}"));
                    *self.starts.lock().unwrap().entry(why).or_default() += 1;
                }
            }
            assert!(begun.elapsed() < 2 * DEADLINE, "it does not start");
            thread::sleep(Duration::from_millis(300));
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.lock().unwrap().child.id()
    }

    /// Sends a signal, unless the process has ended.
    pub(super) fn signal(&self, signal: &str) {
        let mut process = self.process.lock().unwrap();
        if process.child.try_wait().unwrap().is_none() {
            let kill = format!("kill -{signal} {}", process.child.id());
            let _ = Command::new("sh").args(["-c", &kill]).status();
        }
    }

    pub(super) fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        self.check_alive(&mut process);
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// Fails unless the registry runs: it ends for none of the day's faults.
    fn check_alive(&self, process: &mut Process) {
        if let Some(status) = process.child.try_wait().unwrap() {
            let err = process.err.lock().unwrap().iter().rev().take(5).cloned().collect::<Vec<_>>();
            let what = format!("it ended by itself: {status}; {err:?}");
            self.told.lock().unwrap().violations.push(what);
        }
    }

    /// Sends a signal that stops it, and waits for its end.
    pub(super) fn stop(&self, signal: &str) {
        self.check_alive(&mut self.process.lock().unwrap());
        self.signal(signal);
        let begun = Instant::now();
        let status = loop {
            let status = self.process.lock().unwrap().child.try_wait().unwrap();
            match status {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(10)),
            }
            assert!(begun.elapsed() < DEADLINE, "it does not stop");
        };
        thread::sleep(Duration::from_millis(50));
        let err = self.process.lock().unwrap().err.lock().unwrap().clone();
        let is_told = err.iter().any(|line| line.starts_with("hit7: "));
        // What it says while nobody reads it may be lost.
        let is_told = is_told || self.unread.try_lock().is_err();
        if !(status.code() == Some(0) || status.code() == Some(1) && is_told) {
            let what = format!("it stopped with {status}; {:?}", err.last());
            self.told.lock().unwrap().violations.push(what);
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.data()
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Returns the registry's memory in KiB, its threads, and its open files.
    pub(super) fn measure(&self) -> Option<[u64; 3]> {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let files = fs::read_dir(proc.join("fd")).ok()?.count() as u64;
        Some([field("VmRSS:")?, field("Threads:")?, files])
    }
}

/// Returns the command that starts the registry, under the limits of these flags.
fn command(home: &Home, world: &World, port: u16, flags: &Flags) -> Command {
    let port = port.to_string();
    let fixed =
        ["serve", "127.0.0.1", &port, "--http", "127.0.0.1:0", "--trust", "192.0.2.1", "--plain"];
    let mut serve = home.with_data(&fixed);
    serve.args(&flags.args);
    let mut limited = match flags.files {
        None => return world.applied_to(serve),
        Some(files) => {
            let mut limited = Command::new("prlimit");
            limited.arg(format!("--nofile={files}")).arg(serve.get_program());
            limited
        }
    };
    limited.args(serve.get_args()).stdin(Stdio::null());
    world.applied_to(limited)
}

type Readers<'a> = (&'a Arc<Diary>, &'a Arc<Mutex<Told>>, &'a Arc<Mutex<()>>);

fn spawn(command: Command, flags: &Flags, readers: Readers<'_>) -> Started {
    let refused = flags.refused.and_then(|it| filter(SYSTEMS[it].0, SYSTEMS[it].1));
    let mut command = command;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match refused {
        Some(filter) => refusing(&filter, || command.spawn().unwrap()),
        None => command.spawn().unwrap(),
    };
    let number = readers.1.lock().unwrap().begin();
    let (lines, out) = channel();
    let err = Arc::<Mutex<Vec<String>>>::default();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    small(&stdout);
    small(&stderr);
    read(
        stdout,
        number,
        readers,
        move |line, lines: &Sender<String>| drop(lines.send(line)),
        lines,
    );
    let keep = |line, kept: &Arc<Mutex<Vec<String>>>| {
        let mut kept = kept.lock().unwrap();
        kept.push(line);
        // The last lines are enough.
        let excess = kept.len().saturating_sub(50);
        kept.drain(..excess);
    };
    read(stderr, number, readers, keep, err.clone());
    serving(Process { child, out, err })
}

/// Waits until the process says where it serves, or ends.
fn serving(mut process: Process) -> Started {
    let (mut addr, mut page) = (None, None);
    while let Ok(line) = process.out.recv() {
        if line.starts_with("listening on ") {
            addr = Some(listening(&line));
        }
        if let Some(at) = line.strip_prefix("page on http://") {
            page = at.parse().ok();
        }
        if let (Some(addr), Some(page)) = (addr, page) {
            return Started::Serves(process, addr, page);
        }
    }
    let status = process.child.wait().unwrap();
    thread::sleep(Duration::from_millis(50));
    let err = process.err.lock().unwrap();
    let why = err.iter().find(|line| line.starts_with("hit7: "));
    let why = why.map_or_else(|| format!("without a reason: {status}: {err:?}"), Clone::clone);
    Started::Refused(why)
}

/// Makes a pipe small, so that it is full soon when nobody reads it.
fn small(pipe: &impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(4096));
}

/// Reads lines on a thread, except while `unread` is held.
fn read<T: Send + 'static>(
    stream: impl Read + Send + 'static,
    process: usize,
    (diary, told, unread): Readers<'_>,
    take: impl Fn(String, &T) + Send + 'static,
    to: T,
) {
    let (diary, told, unread) = (diary.clone(), told.clone(), unread.clone());
    thread::spawn(move || {
        for line in BufReader::with_capacity(512, stream).split(b'\n') {
            drop(unread.lock().unwrap());
            let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
            diary.note(&line);
            told.lock().unwrap().read(process, &line);
            take(line, &to);
        }
    });
}
