//! REGISTERs beside a window of very many members: while these get WINDOW, and while their document
//! is written.
//!
//! ```text
//!   journal of a million ─▶ registry ─▶ │ boundary ─▶ WINDOW … ─▶ document    (members never answer)
//!                                       │ REGISTER now and then               how long answers took
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use hit7::clock::Clock;
use hit7::mesh::ListCap;
use hit7::proto::{Auth, Datagram, Profile, Request};
use hit7::record::Header;
use hit7::window::Length;
use serde::Serialize;

use crate::registry::{Process, file_of, write_journal};
use crate::wire::{Buffers, connect};

/// Sockets that members are at, and that nobody reads.
const SINKS: usize = 64;
/// The time that it takes to write the journal and to read it back.
const AHEAD: Duration = Duration::from_secs(20);
/// How many REGISTERs are sent a second.
const RATE: u64 = 500;
/// A REGISTER that is not answered in this time was lost.
const LOST: Duration = Duration::from_secs(5);

/// How long answers took in each phase of the opening.
#[derive(Debug, Serialize)]
pub struct Report {
    members: usize,
    /// From the boundary until the document is begun.
    telling: Phase,
    /// From there until the document is written.
    writing: Phase,
    document_mb: f64,
}

/// A span of time, and how long REGISTERs took to be answered in it.
#[derive(Debug, Serialize)]
struct Phase {
    seconds: f64,
    registers: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

/// Starts the registry `hit7` on `core` with a journal of `members` in `data`, and follows the opening.
pub fn run(hit7: &Path, core: usize, data: &Path, members: usize) -> io::Result<Report> {
    let clock = Clock::start();
    let sinks: Vec<UdpSocket> = (0..SINKS)
        .map(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .collect::<io::Result<_>>()?;
    let window = Length::MINUTE.first_from(clock.now().wall.plus(AHEAD));
    let ports =
        sinks.iter().map(|it| Ok(it.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
    let header = Header { window, length: Length::MINUTE, cap: Some(ListCap::default()) };
    write_journal(data, header, members, &ports)?;
    let registry = Process::start(hit7, core, data, &[])?;
    let document = data.join("windows").join(file_of(window)).with_extension("json");
    let mut probe = Probe::new(registry.addr, clock)?;
    while clock.now().wall < window.opens() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let day = document.parent().expect("a document is in the folder of its day");
    let telling = probe.ask_until(|| fs::read_dir(day).is_ok_and(|mut it| it.next().is_some()))?;
    let writing = probe.ask_until(|| document.exists())?;
    Ok(Report {
        members,
        telling,
        writing,
        document_mb: fs::metadata(&document)?.len() as f64 / 1e6,
    })
}

/// A client that registers at a rate.
struct Probe {
    socket: UdpSocket,
    buffers: Buffers,
    clock: Clock,
    /// When each request that is not answered was sent, by the monotonic clock.
    sent: BTreeMap<u64, Duration>,
    seq: u64,
}

impl Probe {
    fn new(server: SocketAddr, clock: Clock) -> io::Result<Probe> {
        let socket = connect(60_000, server)?;
        Ok(Probe { socket, buffers: Buffers::new(), clock, sent: BTreeMap::new(), seq: 0 })
    }

    /// Registers at the rate until `is_over`; how long the answers took.
    fn ask_until(&mut self, is_over: impl Fn() -> bool) -> io::Result<Phase> {
        let mut latency =
            Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        let (begun, first) = (self.clock.now().mono, self.seq);
        while !is_over() {
            let now = self.clock.now().mono;
            if ((now - begun).as_micros() as u64) * RATE / 1_000_000 > self.seq - first {
                self.register(now)?;
            }
            self.take_answers(&mut latency)?;
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

    fn register(&mut self, now: Duration) -> io::Result<()> {
        self.seq += 1;
        let name = format!("probe-{}", self.seq % 7).parse().ok();
        let (id, seq) = ("probe".parse().ok(), Some(self.seq));
        self.sent.insert(self.seq, now);
        let profile = Profile { name, ..Profile::default() };
        let request = Request::register(id, seq, profile).encode(&Auth::NONE);
        self.buffers.send(&self.socket, &[request]).map(drop)
    }

    fn take_answers(&mut self, latency: &mut Histogram<u64>) -> io::Result<()> {
        for place in 0..self.buffers.receive(&self.socket)? {
            if let Ok(Datagram::Registered(it)) = Datagram::decode(self.buffers.datagram(place))
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
