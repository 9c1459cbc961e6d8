//! REGISTERs beside a window of very many: while its members are told, and while its document is
//! written.
//!
//! ```text
//!   log of a million ─▶ registry ─▶ │ boundary ─▶ WINDOW … ─▶ document        (members never answer)
//!                                   │ REGISTER now and then                   how long answers took
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use hit7::clock::Clock;
use hit7::path;
use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::record::{Header, Record, Registration};
use hit7::window::{Length, Wall, Window};
use serde::Serialize;

use crate::wire::{Mail, connect, source};

/// Sockets that members are at, and that nobody reads.
const SINKS: usize = 64;
/// What it takes to write the log and to read it back.
const AHEAD: Duration = Duration::from_secs(20);
/// REGISTERs a second.
const RATE: u64 = 500;
/// What was not answered by then was lost.
const LOST: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Told {
    members: usize,
    /// From the boundary until the document is begun, and what answers took meanwhile.
    telling: Phase,
    /// Until it is there.
    writing: Phase,
    document_mb: f64,
}

#[derive(Debug, Serialize)]
struct Phase {
    seconds: f64,
    registers: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

/// Starts the registry `hit7` on `core` with a log of `members` in `data`, and follows the opening.
pub fn run(hit7: &Path, core: usize, data: &Path, members: usize) -> io::Result<Told> {
    let clock = Clock::start();
    let sinks: Vec<UdpSocket> = (0..SINKS)
        .map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .collect::<io::Result<_>>()?;
    let window = Length::MINUTE.first_from(clock.now().wall.plus(AHEAD));
    let stem = window.to_string().replace('T', "/").replace(":00Z", "").replace(':', "-");
    write_log(&data.join("journal").join(&stem).with_extension("jsonl"), window, members, &sinks)?;
    let registry = Registry::start(hit7, core, data)?;
    let document = data.join("windows").join(&stem).with_extension("json");
    let mut probe = Probe::new(registry.addr, clock)?;
    while clock.now().wall < window.opens() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let day = document.parent().expect("a document is in the folder of its day");
    let telling = probe.ask_until(|| fs::read_dir(day).is_ok_and(|mut it| it.next().is_some()))?;
    let writing = probe.ask_until(|| document.exists())?;
    Ok(Told { members, telling, writing, document_mb: fs::metadata(&document)?.len() as f64 / 1e6 })
}

fn write_log(path: &Path, window: Window, members: usize, at: &[UdpSocket]) -> io::Result<()> {
    let day = path.parent().expect("a log is in the folder of its day");
    DirBuilder::new().recursive(true).mode(0o700).create(day)?;
    let ports = at.iter().map(|it| Ok(it.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
    let mut log = Vec::new();
    Header { window, length: Length::MINUTE }.write_line(&mut log);
    for member in 0..members {
        let peer = SocketAddr::from((source(member / SINKS), ports[member % SINKS]));
        let registration = Registration {
            window,
            at: Wall::from_millis(window.opens().millis() - 30_000),
            path: path::Path::new(peer, Ipv4Addr::LOCALHOST.into()),
            id: format!("{member:011x}").parse().ok(),
            seq: Some(1),
            profile: Profile {
                name: format!("member-{member}").parse().ok(),
                ..Profile::default()
            },
        };
        Record::Register(registration).write_line(&mut log);
    }
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&log)?;
    file.flush()
}

struct Registry {
    child: Child,
    addr: SocketAddr,
    /// Kept open: who cannot say anything any more ends.
    _says: BufReader<ChildStdout>,
}

impl Registry {
    fn start(hit7: &Path, core: usize, data: &Path) -> io::Result<Registry> {
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(hit7)
            .args(["serve", "127.0.0.1", "0", "--plain", "--workers", "1"])
            .args(["--max-room", "0", "--max-window", "0", "--data"])
            .arg(PathBuf::from(data))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut first = String::new();
        let mut says = BufReader::new(child.stdout.take().expect("it is piped"));
        says.read_line(&mut first)?;
        let addr = first.trim().strip_prefix("listening on ").and_then(|it| it.parse().ok());
        let addr = addr.ok_or_else(|| io::Error::other(format!("no registry: {first}")))?;
        Ok(Registry { child, addr, _says: says })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Probe {
    socket: UdpSocket,
    mail: Mail,
    clock: Clock,
    /// When each that is not answered was sent, by the monotonic clock.
    sent: BTreeMap<u64, Duration>,
    seq: u64,
}

impl Probe {
    fn new(server: SocketAddr, clock: Clock) -> io::Result<Probe> {
        let socket = connect(60_000, server)?;
        Ok(Probe { socket, mail: Mail::new(), clock, sent: BTreeMap::new(), seq: 0 })
    }

    /// Registers anew at the rate, until then.
    fn ask_until(&mut self, is_over: impl Fn() -> bool) -> io::Result<Phase> {
        let mut latency =
            Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        let (begun, first) = (self.clock.now().mono, self.seq);
        while !is_over() {
            let now = self.clock.now().mono;
            if ((now - begun).as_micros() as u64) * RATE / 1_000_000 > self.seq - first {
                self.ask(now)?;
            }
            self.hear(&mut latency)?;
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(Phase {
            seconds: (self.clock.now().mono - begun).as_secs_f64(),
            registers: latency.len(),
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            max_us: latency.max(),
        })
    }

    fn ask(&mut self, now: Duration) -> io::Result<()> {
        self.seq += 1;
        let name = format!("probe-{}", self.seq % 7).parse().ok();
        let (id, seq) = ("probe".parse().ok(), Some(self.seq));
        self.sent.insert(self.seq, now);
        let profile = Profile { name, ..Profile::default() };
        let request = Request::register(id, seq, profile).encode(&Auth::NONE);
        self.mail.send(&self.socket, &[request]).map(drop)
    }

    fn hear(&mut self, latency: &mut Histogram<u64>) -> io::Result<()> {
        for place in 0..self.mail.receive(&self.socket)? {
            if let Ok(Datagram::Registered(it)) = Datagram::decode(self.mail.datagram(place))
                && let Some(sent) = it.seq.and_then(|seq| self.sent.remove(&seq))
            {
                let took = self.clock.now().mono - sent;
                latency.saturating_record(took.as_micros() as u64);
            }
        }
        let now = self.clock.now().mono;
        while let Some(first) = self.sent.first_entry()
            && now - *first.get() > LOST
        {
            latency.saturating_record(LOST.as_micros() as u64);
            first.remove();
        }
        Ok(())
    }
}
