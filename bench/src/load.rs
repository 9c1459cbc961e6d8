//! Clients that ask, one answer after the other, or at a rate of their own.
//!
//! ```text
//!  closed  ask ─▶ answer ─▶ ask ─▶ answer …     as fast as the server answers
//!  open    ask   ask   ask   ask   ask …        at a rate; late is late from when it was due
//! ```

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hdrhistogram::Histogram;
use hit7::clock::Clock;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::talk::{Heard, Talk};
use crate::wire::{Mail, connect};

/// Requests of one client that may be under way.
const SLOTS: usize = 64;
/// What has not been answered by then is not waited for any more.
const LOST: Duration = Duration::from_millis(250);
/// How often it is looked for what was lost.
const SWEEP: Duration = Duration::from_millis(50);

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub server: SocketAddr,
    /// Clients, each with a socket.
    pub clients: usize,
    /// Requests of each under way (closed), or sent in a row (open).
    pub depth: usize,
    /// Requests a second of all together; none: closed.
    pub rate: Option<u64>,
    /// How long it is gone on before anything counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests sent while it counted.
    pub asked: u64,
    /// Answers meanwhile.
    pub answered: u64,
    /// From asking to the answer, in microseconds.
    pub latency: Histogram<u64>,
    /// How long it counted.
    pub time: Duration,
}

/// Sends requests and takes answers.
pub struct Load<'a, T: Talk> {
    plan: Plan,
    talk: &'a mut T,
    clock: Clock,
    mail: Mail,
    epoll: Epoll,
    clients: Vec<Client>,
    outcome: Outcome,
    counts: bool,
    /// Made and not sent yet, all of one client.
    outbox: Vec<Vec<u8>>,
}

struct Client {
    socket: UdpSocket,
    /// The next request's number.
    number: u64,
    /// When those under way were due, by their numbers; zero: none.
    due: [Duration; SLOTS],
    under_way: usize,
}

impl<'a, T: Talk> Load<'a, T> {
    /// Opens the clients' sockets.
    pub fn new(plan: Plan, talk: &'a mut T) -> io::Result<Load<'a, T>> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut clients = Vec::with_capacity(plan.clients);
        for n in 0..plan.clients {
            let socket = connect(n, plan.server)?;
            epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
            clients.push(Client { socket, number: 1, due: [Duration::ZERO; SLOTS], under_way: 0 });
        }
        let latency =
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        let outcome = Outcome { asked: 0, answered: 0, latency, time: plan.time };
        let (clock, mail) = (Clock::start(), Mail::new());
        Ok(Load {
            plan,
            talk,
            clock,
            mail,
            epoll,
            clients,
            outcome,
            counts: false,
            outbox: Vec::new(),
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
        let (mut sweep, mut sent, mut turn) = (from, 0, 0);
        loop {
            let now = self.clock.now().mono;
            if now >= from + time {
                return Ok(());
            }
            match self.plan.rate {
                Some(rate) => self.ask_at_rate(rate, from, now, (&mut sent, &mut turn))?,
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
        (sent, turn): (&mut u64, &mut usize),
    ) -> io::Result<()> {
        let due = ((now - from).as_micros() as u64).saturating_mul(rate) / 1_000_000;
        // What cannot be kept up with is not made up for in one burst.
        let most = 64_u64.div_ceil(self.plan.depth as u64);
        for _ in 0..(due.saturating_sub(*sent) / self.plan.depth as u64).min(most) {
            let since = from + Duration::from_micros(*sent * 1_000_000 / rate);
            self.ask(*turn % self.clients.len(), self.plan.depth, since)?;
            *sent += self.plan.depth as u64;
            *turn += 1;
        }
        Ok(())
    }

    /// Begins, and goes on where an answer was lost.
    fn sweep(&mut self, now: Duration) -> io::Result<()> {
        for n in 0..self.clients.len() {
            let client = &mut self.clients[n];
            let lost = |due: &&mut Duration| **due > Duration::ZERO && **due + LOST < now;
            let gone = client.due.iter_mut().filter(lost).map(|due| *due = Duration::ZERO).count();
            client.under_way -= gone;
            let lacking = self.plan.depth.saturating_sub(client.under_way);
            self.ask(n, lacking, now)?;
        }
        Ok(())
    }

    fn take_answers(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let wait = if self.plan.rate.is_some() { 0_u8 } else { 1 };
        let ready = self.epoll.wait(&mut events, wait)?;
        for event in &events[..ready] {
            self.take(event.data() as usize)?;
        }
        Ok(())
    }

    fn take(&mut self, n: usize) -> io::Result<()> {
        let count = self.mail.receive(&self.clients[n].socket)?;
        let now = self.clock.now().mono;
        let mut again = 0;
        for place in 0..count {
            let mut reply = Vec::new();
            match self.talk.hear(n, self.mail.datagram(place), &mut reply) {
                Heard::Answer(number) => again += self.settle(n, number, Some(now)),
                Heard::Refused(number) => again += self.settle(n, number, None),
                Heard::Reply => self.outbox.push(reply),
                Heard::Other => {}
            }
        }
        let again = if self.plan.rate.is_some() { 0 } else { again };
        self.ask(n, again, now)
    }

    /// A request has come to its end; how many may follow it.
    fn settle(&mut self, n: usize, number: u64, answered: Option<Duration>) -> usize {
        let client = &mut self.clients[n];
        let due = std::mem::take(&mut client.due[number as usize % SLOTS]);
        if due.is_zero() {
            return 0;
        }
        client.under_way -= 1;
        if let Some(now) = answered.filter(|_| self.counts) {
            self.outcome.answered += 1;
            self.outcome.latency.saturating_record(now.saturating_sub(due).as_micros() as u64);
        }
        1
    }

    /// Asks so often for a client, and sends what it says back.
    fn ask(&mut self, n: usize, times: usize, due: Duration) -> io::Result<()> {
        let client = &mut self.clients[n];
        for _ in 0..times {
            let mut request = Vec::with_capacity(160);
            self.talk.ask(n, client.number, &mut request);
            let slot = &mut client.due[client.number as usize % SLOTS];
            client.under_way += usize::from(slot.is_zero());
            *slot = due.max(Duration::from_nanos(1));
            client.number += 1;
            self.outbox.push(request);
        }
        self.outcome.asked += if self.counts { times as u64 } else { 0 };
        if !self.outbox.is_empty() {
            self.mail.send(&client.socket, &self.outbox)?;
            self.outbox.clear();
        }
        Ok(())
    }
}
