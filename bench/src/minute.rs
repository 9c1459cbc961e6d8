//! The opening of a window, as its members see it.
//!
//! ```text
//!   register all ─▶ wait ─▶ │ boundary ─▶ WINDOW … WINDOW ─▶ ACK      when each came, by the kernel
//!                           │ REGISTER now and then                  how long each answer took
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hit7::clock::Clock;
use hit7::proto::{Ack, Auth, Datagram, Id, Profile, Request};
use hit7::window::Window;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use serde::Serialize;

use crate::proc;
use crate::wire::{Buffers, connect, open, send_from, take_trains};

/// Sockets, each with a port of its own; a member is at one of them and one of many addresses.
const PORTS: usize = 512;
/// Members that are registered at once.
const AT_ONCE: usize = 200;
/// After so long without one, no more WINDOWs are waited for.
const SILENCE: Duration = Duration::from_millis(400);
/// How long before the boundary nothing is sent any more but the probes.
const BEFORE: Duration = Duration::from_millis(300);

/// Which registry's opening is followed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The address of the registry.
    pub server: SocketAddr,
    /// The process of the registry.
    pub pid: u32,
    /// Members of one room.
    pub members: usize,
    /// REGISTERs a second of somebody else meanwhile.
    pub probes: u64,
    /// Whether members take trains whole, as hosts of their own would.
    pub trains: bool,
}

/// What the members saw, and what it cost the registry.
#[derive(Debug, Serialize)]
pub struct Report {
    members: usize,
    /// WINDOWs that were due, each part once.
    datagrams: usize,
    lost: usize,
    /// From the boundary to the first WINDOW.
    first_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    last_ms: f64,
    /// The server's CPU time from the boundary until the last came.
    cpu_ms: f64,
    cpu_us_per_datagram: f64,
    register_p50_us: u64,
    register_p99_us: u64,
    register_max_us: u64,
    registers: u64,
    memory_mb: f64,
    /// When the first, a twentieth, two twentieths … of the WINDOWs had come.
    delays_ms: Vec<f64>,
}

/// Clients that are members of one room.
struct Members {
    clock: Clock,
    buffers: Buffers,
    epoll: Epoll,
    server: SocketAddrV4,
    sockets: Vec<UdpSocket>,
    /// Which parts each member has received, as bits, and of how many.
    parts: Vec<(u64, u32)>,
    /// When each part came, since the Unix epoch.
    came: Vec<Duration>,
}

/// Registers `members` and follows the opening of their window; `probes` REGISTERs a second go on.
pub fn run(plan: Plan) -> io::Result<Report> {
    let Plan { server, pid, members, probes, trains } = plan;
    let mut room = Members::new(server, members, trains)?;
    room.await_time_enough()?;
    let window = room.register()?;
    let opens = Duration::from_millis(window.opens().millis() as u64);
    let (over, clock) = (AtomicBool::new(false), room.clock);
    thread::scope(|scope| {
        let prober = scope.spawn(|| probe(server, probes, opens - BEFORE, clock, &over));
        room.wait_until(opens - Duration::from_millis(20));
        let before = proc::cpu(pid)?;
        let spent = room.follow(pid, window)?.saturating_sub(before);
        over.store(true, Relaxed);
        let latency = prober.join().expect("the prober does not panic")?;
        Ok(room.report(opens, spent, &latency, proc::memory(pid)?))
    })
}

impl Members {
    fn new(server: SocketAddr, members: usize, trains: bool) -> io::Result<Members> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let SocketAddr::V4(server) = server else {
            return Err(io::Error::other("give an address of IPv4"));
        };
        let mut sockets = Vec::with_capacity(PORTS);
        for n in 0..PORTS.min(members) {
            let socket = open()?;
            if trains {
                take_trains(&socket)?;
            }
            epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
            sockets.push(socket);
        }
        let parts = vec![(0, 0); members];
        let buffers = if trains { Buffers::of_trains() } else { Buffers::new() };
        let clock = Clock::start();
        Ok(Members { clock, buffers, epoll, server, sockets, parts, came: Vec::new() })
    }

    fn send(&self, member: usize, datagram: &[u8]) -> io::Result<()> {
        let (port, address) = (member % self.sockets.len(), member / self.sockets.len());
        send_from(&self.sockets[port], address, self.server, datagram)
    }

    /// Waits for the next window to begin unless there is time enough to register all of them.
    fn await_time_enough(&mut self) -> io::Result<()> {
        let scout = Request::register("scout".parse().ok(), None, Profile::default());
        loop {
            self.send(0, &scout.encode(&Auth::NONE))?;
            for n in self.ready(100)? {
                for place in 0..self.buffers.receive(&self.sockets[n])? {
                    let Ok(Datagram::Registered(it)) =
                        Datagram::decode(self.buffers.datagram(place))
                    else {
                        continue;
                    };
                    if it.opens_in_ms < it.window_ms * 4 / 5 {
                        thread::sleep(Duration::from_millis(it.opens_in_ms + 50));
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Registers all, some at a time; all of them are to be in one window.
    fn register(&mut self) -> io::Result<Window> {
        let mut windows: Vec<Option<Window>> = vec![None; self.parts.len()];
        loop {
            let missing: Vec<usize> =
                (0..windows.len()).filter(|&n| windows[n].is_none()).collect();
            if missing.is_empty() {
                break;
            }
            for some in missing.chunks(AT_ONCE) {
                for &n in some {
                    let id = format!("m{n}").parse().ok();
                    let name = format!("member-{n}").parse().ok();
                    let profile = Profile { name, ..Profile::default() };
                    let request = Request::register(id, Some(1), profile);
                    self.send(n, &request.encode(&Auth::NONE))?;
                }
                self.take_answers(some.len(), &mut windows)?;
            }
        }
        let window = windows.iter().flatten().max().copied().expect("there is a member");
        let early = windows.iter().flatten().filter(|&&it| it != window).count();
        match early {
            0 => Ok(window),
            _ => Err(io::Error::other(format!("{early} are in an earlier window: try again"))),
        }
    }

    fn take_answers(&mut self, count: usize, windows: &mut [Option<Window>]) -> io::Result<()> {
        let (until, mut taken) = (self.clock.now().mono + Duration::from_millis(500), 0);
        while taken < count && self.clock.now().mono < until {
            for n in self.ready(10)? {
                for place in 0..self.buffers.receive(&self.sockets[n])? {
                    if let Ok(Datagram::Registered(it)) =
                        Datagram::decode(self.buffers.datagram(place))
                    {
                        if let Some(member) = member(it.id.as_ref()) {
                            windows[member] = Some(it.window);
                        }
                        taken += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn ready(&self, wait_ms: u8) -> io::Result<Vec<usize>> {
        let mut events = [EpollEvent::empty(); 512];
        let count = self.epoll.wait(&mut events, wait_ms)?;
        Ok(events[..count].iter().map(|event| event.data() as usize).collect())
    }

    fn wait_until(&self, wall: Duration) {
        while let Some(left) = wall.checked_sub(since_epoch()) {
            thread::sleep(left.min(Duration::from_millis(100)).max(Duration::from_micros(100)));
        }
    }

    /// Takes WINDOWs until all have come, or none comes any more; the server's CPU time by then.
    fn follow(&mut self, pid: u32, window: Window) -> io::Result<Duration> {
        let mut quiet_since = self.clock.now().mono + Duration::from_secs(5);
        let mut spent = proc::cpu(pid)?;
        let mut whole = 0;
        while whole < self.parts.len() && self.clock.now().mono < quiet_since {
            // Awake all the while: to be woken is paid by whoever sends, at loopback.
            for n in self.ready(0)? {
                let before = self.came.len();
                whole += self.take_windows(n, window)?;
                if self.came.len() > before {
                    quiet_since = self.clock.now().mono + SILENCE;
                }
            }
            spent = if whole == self.parts.len() { proc::cpu(pid)? } else { spent };
        }
        Ok(if whole == self.parts.len() { spent } else { proc::cpu(pid)? })
    }

    /// Takes what has come to one port; how many members hold their whole list with it.
    fn take_windows(&mut self, port: usize, window: Window) -> io::Result<usize> {
        let mut whole = 0;
        for place in 0..self.buffers.receive(&self.sockets[port])? {
            let Some(it) = Part::read(self.buffers.datagram(place)) else { continue };
            let (received, parts) = &mut self.parts[it.member];
            *parts = it.parts;
            if *received & 1 << it.part != 0 {
                continue;
            }
            *received |= 1 << it.part;
            self.came.push(self.buffers.came(place));
            if received.count_ones() == *parts {
                whole += 1;
                let (id, pass) = (format!("m{}", it.member).parse().ok(), it.pass.parse());
                let pass = pass.map_err(|_| io::Error::other("no pass"))?;
                self.send(it.member, &Ack { id, window, pass }.encode())?;
            }
        }
        Ok(whole)
    }

    fn report(
        &mut self,
        opens: Duration,
        spent: Duration,
        latency: &Histogram<u64>,
        memory: u64,
    ) -> Report {
        self.came.sort_unstable();
        let due = self.parts.iter().map(|(_, parts)| (*parts).max(1) as usize).sum::<usize>();
        let ms = |came: Duration| (came.as_secs_f64() - opens.as_secs_f64()) * 1e3;
        let at = |share: f64| {
            let place = (self.came.len() as f64 * share) as usize;
            self.came
                .get(place.min(self.came.len().saturating_sub(1)))
                .map_or(f64::NAN, |it| ms(*it))
        };
        Report {
            members: self.parts.len(),
            datagrams: due,
            lost: due - self.came.len(),
            first_ms: at(0.0),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            last_ms: at(1.0),
            cpu_ms: spent.as_secs_f64() * 1e3,
            cpu_us_per_datagram: spent.as_secs_f64() * 1e6 / self.came.len().max(1) as f64,
            register_p50_us: latency.value_at_quantile(0.5),
            register_p99_us: latency.value_at_quantile(0.99),
            register_max_us: latency.max(),
            registers: latency.len(),
            memory_mb: memory as f64 / 1e6,
            delays_ms: (0..=20).map(|n| at(f64::from(n) / 20.0)).collect(),
        }
    }
}

/// One WINDOW, as much of it as is needed: to read all of it takes longer than to make it, and who
/// acknowledges late is sent it again.
struct Part<'a> {
    member: usize,
    part: u32,
    parts: u32,
    pass: &'a str,
}

impl Part<'_> {
    fn read(datagram: &[u8]) -> Option<Part<'_>> {
        let head = str::from_utf8(&datagram[..datagram.len().min(240)]).ok()?;
        let rest = head.strip_prefix(r#"{"type":"WINDOW","id":"m"#)?;
        let after = |key: &str| rest.split_once(key)?.1.split([',', '"', '}']).next();
        Some(Part {
            member: rest.split('"').next()?.parse().ok()?,
            part: after(r#""part":"#)?.parse().ok()?,
            parts: after(r#""parts":"#)?.parse().ok()?,
            pass: after(r#""pass":""#)?,
        })
    }
}

/// The number of the member with that id.
fn member(id: Option<&Id>) -> Option<usize> {
    id?.as_str().strip_prefix('m')?.parse().ok()
}

/// hit7's wall clock counts milliseconds, and here it is about microseconds.
#[allow(clippy::disallowed_methods)]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Registers anew from `from` on, so often a second: how long the answers took.
fn probe(
    server: SocketAddr,
    rate: u64,
    from: Duration,
    clock: Clock,
    over: &AtomicBool,
) -> io::Result<Histogram<u64>> {
    let mut latency =
        Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
    let (mut buffers, socket) = (Buffers::new(), connect(60_000, server)?);
    let mut sent: BTreeMap<u64, Duration> = BTreeMap::new();
    while since_epoch() < from {
        thread::sleep(Duration::from_millis(1));
    }
    let start = clock.now().mono;
    let mut seq = 0;
    while !over.load(Relaxed) {
        if ((clock.now().mono - start).as_micros() as u64) * rate / 1_000_000 > seq {
            seq += 1;
            let name = format!("probe-{}", seq % 7).parse().ok();
            let id = "probe".parse().ok();
            let profile = Profile { name, ..Profile::default() };
            let request = Request::register(id, Some(seq), profile).encode(&Auth::NONE);
            sent.insert(seq, since_epoch());
            buffers.send(&socket, &[request])?;
        }
        for place in 0..buffers.receive(&socket)? {
            if let Ok(Datagram::Registered(it)) = Datagram::decode(buffers.datagram(place))
                && let Some(sent) = it.seq.and_then(|seq| sent.remove(&seq))
            {
                latency
                    .saturating_record(buffers.came(place).saturating_sub(sent).as_micros() as u64);
            }
        }
        thread::sleep(Duration::from_micros(200));
    }
    // What was never answered took at least until now.
    let now = since_epoch();
    sent.values().for_each(|sent| latency.saturating_record((now - *sent).as_micros() as u64));
    Ok(latency)
}
