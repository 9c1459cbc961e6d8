//! Clients that send requests, each as soon as the last is answered, or at a given rate.
//!
//! ```text
//!  closed  request ─▶ answer ─▶ request ─▶ answer …    as fast as the server answers
//!  open    request   request   request   request …     at a rate; latency counts from when it was due
//! ```

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use hdrhistogram::Histogram;
use hit7::clock::Clock;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::protocol::{Answer, Protocol};
use crate::wire::{Buffers, open, send_from};

/// Sockets: each is many clients, with one port and an address each.
const PORTS: usize = 32;
/// Requests that can be under way at once.
const SLOTS: usize = 1 << 18;
/// A request that is not answered in this time counts as lost.
const LOST: Duration = Duration::from_millis(250);
/// How often lost requests are looked for.
const SWEEP: Duration = Duration::from_millis(50);

/// Whom to load, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The address of the server.
    pub server: SocketAddr,
    /// Clients, each with an address and port of its own.
    pub clients: usize,
    /// Requests a second of all clients together; without it each client has one under way.
    pub rate: Option<u64>,
    /// How long the load goes on before anything counts.
    pub warm_up: Duration,
    /// How long requests count.
    pub time: Duration,
}

/// What a run measured.
#[derive(Debug)]
pub struct Outcome {
    /// Requests sent while it counted.
    pub asked: u64,
    /// Answers received while it counted.
    pub answered: u64,
    /// From request to answer, in microseconds.
    pub latency: Histogram<u64>,
    /// How long requests counted.
    pub time: Duration,
}

/// A load on a server: sends requests and takes answers.
pub struct Load<'a, T: Protocol> {
    plan: Plan,
    server: SocketAddrV4,
    protocol: &'a mut T,
    clock: Clock,
    buffers: Buffers,
    epoll: Epoll,
    sockets: Vec<UdpSocket>,
    /// The next request's number.
    number: u64,
    /// Requests under way, by their number modulo the table's size.
    under_way: Vec<Slot>,
    /// The number of each client's last request, if it is under way.
    asking: Vec<Option<u64>>,
    outcome: Outcome,
    counts: bool,
    request: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    client: usize,
    due: Duration,
}

impl<'a, T: Protocol> Load<'a, T> {
    /// Opens the sockets of all clients.
    pub fn new(plan: Plan, protocol: &'a mut T) -> io::Result<Load<'a, T>> {
        let SocketAddr::V4(server) = plan.server else {
            return Err(io::Error::other("give an address of IPv4"));
        };
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut sockets = Vec::with_capacity(PORTS);
        for n in 0..PORTS.min(plan.clients) {
            let socket = open()?;
            epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
            sockets.push(socket);
        }
        let latency =
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        Ok(Load {
            plan,
            server,
            protocol,
            clock: Clock::start(),
            buffers: Buffers::new(),
            epoll,
            sockets,
            number: 1,
            under_way: vec![Slot::default(); SLOTS],
            asking: vec![None; plan.clients],
            outcome: Outcome { asked: 0, answered: 0, latency, time: plan.time },
            counts: false,
            request: Vec::new(),
        })
    }

    /// Loads for the plan's time; `begins` and `ends` are called when what counts does.
    pub fn run(mut self, begins: impl FnOnce(), ends: impl FnOnce()) -> io::Result<Outcome> {
        self.run_for(self.plan.warm_up)?;
        self.counts = true;
        begins();
        let from = self.clock.now().mono;
        self.run_for(self.plan.time)?;
        self.outcome.time = self.clock.now().mono - from;
        ends();
        Ok(self.outcome)
    }

    fn run_for(&mut self, time: Duration) -> io::Result<()> {
        let from = self.clock.now().mono;
        let (mut sweep, mut sent) = (from, 0);
        loop {
            let now = self.clock.now().mono;
            if now >= from + time {
                return Ok(());
            }
            match self.plan.rate {
                Some(rate) => self.ask_at_rate(rate, from, now, &mut sent)?,
                None if now >= sweep => {
                    self.sweep(now)?;
                    sweep = now + SWEEP;
                }
                None => {}
            }
            self.take_answers()?;
        }
    }

    /// Asks what is due by now, each client in turn.
    fn ask_at_rate(
        &mut self,
        rate: u64,
        from: Duration,
        now: Duration,
        sent: &mut u64,
    ) -> io::Result<()> {
        let due = ((now - from).as_micros() as u64).saturating_mul(rate) / 1_000_000;
        for _ in 0..due.saturating_sub(*sent).min(64) {
            let since = from + Duration::from_micros(*sent * 1_000_000 / rate);
            self.ask(*sent as usize % self.plan.clients, since)?;
            *sent += 1;
        }
        Ok(())
    }

    /// Begins, and goes on where an answer was lost.
    fn sweep(&mut self, now: Duration) -> io::Result<()> {
        for client in 0..self.plan.clients {
            let waits = self.asking[client].is_some_and(|number| {
                let slot = self.under_way[number as usize % SLOTS];
                slot.number == number && slot.due + LOST > now
            });
            if !waits {
                self.ask(client, now)?;
            }
        }
        Ok(())
    }

    fn take_answers(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); PORTS];
        let wait = if self.plan.rate.is_some() { 0_u8 } else { 1 };
        let ready = self.epoll.wait(&mut events, wait)?;
        for event in &events[..ready] {
            let port = event.data() as usize;
            let count = self.buffers.receive(&self.sockets[port])?;
            let now = self.clock.now().mono;
            for place in 0..count {
                self.take(place, now)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, place: usize, now: Duration) -> io::Result<()> {
        let datagram = self.buffers.datagram(place);
        let Some(number) = self.protocol.request_number(datagram) else {
            if let Some((client, reply)) = self.protocol.reply(datagram) {
                self.send(client, &reply)?;
            }
            return Ok(());
        };
        let slot = &mut self.under_way[number as usize % SLOTS];
        if slot.number != number {
            return Ok(());
        }
        let Slot { client, due, .. } = std::mem::take(slot);
        if self.protocol.take_answer(client, datagram) == Answer::Served && self.counts {
            self.outcome.answered += 1;
            self.outcome.latency.saturating_record(now.saturating_sub(due).as_micros() as u64);
        }
        match self.plan.rate {
            None => self.ask(client, now),
            Some(_) => Ok(()),
        }
    }

    fn ask(&mut self, client: usize, due: Duration) -> io::Result<()> {
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        self.protocol.write_request(client, self.number, &mut request);
        self.under_way[self.number as usize % SLOTS] = Slot { number: self.number, client, due };
        self.asking[client] = Some(self.number);
        self.number += 1;
        self.outcome.asked += u64::from(self.counts);
        let sent = self.send(client, &request);
        self.request = request;
        sent
    }

    fn send(&self, client: usize, datagram: &[u8]) -> io::Result<()> {
        let (port, address) = (client % self.sockets.len(), client / self.sockets.len());
        send_from(&self.sockets[port], address, self.server, datagram)
    }
}
