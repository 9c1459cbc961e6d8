//! The registry's host: the pure rooms in the order in which the program runs them, on a log that
//! fails and a clock that steps, killed and started again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hit7::archive::Document;
use hit7::clock::{Alarm, Now};
use hit7::cookie::Secret;
use hit7::fanout::Fanout;
use hit7::gate::{Admit, Gate};
use hit7::limit::Rate;
use hit7::mesh::ListCap;
use hit7::path::{Path, Transmit};
use hit7::proto::{Ack, Kind, MAX_DATAGRAM, Request, RequestKind, Room};
use hit7::record::{Record, Ticket};
use hit7::registry::{Caps, Config, Event, Handled, Registry};
use hit7::roster::FinalizedWindow;
use hit7::window::{Length, Wall, Window};

use crate::clock::HostClock;
use crate::faults::Fault;
use crate::log::{Log, Step};
use crate::mutations::Mutation;
use crate::network::Packet;
use crate::rules::Asked;
use crate::world::{Agenda, REGISTRY, TRUSTED, World, addr};

/// The registry's wall clock is looked at again at least this often.
const LOOK: Duration = Duration::from_secs(1);

/// Rates are tested elsewhere.
const NO_LIMIT: Rate = Rate { per_second: 0, burst: 0 };

/// What survives the process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) clock: HostClock,
    pub(crate) length: Length,
    pub(crate) cap: ListCap,
    pub(crate) log: Log,
    /// The documents, as they stand in their files.
    pub(crate) documents: BTreeMap<Window, String>,
    pub(crate) secret: u8,
    pub(crate) up: Option<Process>,
    /// Nothing was wrong with it since then.
    pub(crate) steady_since: Duration,
}

/// What a kill -9 takes away.
#[derive(Debug)]
pub(crate) struct Process {
    born: Duration,
    gate: Gate,
    pub(crate) registry: Registry,
    fanout: Option<Fanout>,
    /// The announced window, until its document is under way.
    unkept: Option<Arc<FinalizedWindow>>,
    papers: VecDeque<(Duration, Arc<FinalizedWindow>)>,
    pub(crate) under_way: usize,
    /// What was asked and is not with the log yet.
    asked: VecDeque<Asked>,
    logged: BTreeSet<Window>,
    done: BTreeSet<Window>,
}

impl Host {
    pub(crate) fn new(clock: HostClock, length: Length, cap: usize, log: Log) -> Host {
        Host {
            clock,
            length,
            cap: ListCap::new(cap),
            log,
            documents: BTreeMap::new(),
            secret: 7,
            up: None,
            steady_since: Duration::ZERO,
        }
    }

    fn now(&self, t: Duration, born: Duration) -> Now {
        let mono = self.clock.mono(t).saturating_sub(born);
        Now { wall: self.clock.wall(t), mono }
    }

    /// When the world has to wake it.
    pub(crate) fn next(&self, t: Duration) -> Option<Duration> {
        let process = self.up.as_ref()?;
        let now = self.now(t, process.born);
        let Alarm { wall, mono } = process.registry.poll_timeout(now);
        let fanout = process.fanout.as_ref().and_then(|fanout| fanout.poll_timeout(now));
        let when = |mono: Duration| self.clock.when(mono + process.born);
        let paper = process.papers.front().map(|(at, _)| *at);
        let wall = wall.map(|wall| self.clock.when_wall(wall));
        let moments = [mono.map(when), fanout.map(when), wall, paper, self.log.next()];
        // Told to wait for what is past, it is looked at again a little later, as a task would be.
        let soon = t + Duration::from_micros(20);
        let next = moments.into_iter().flatten().min().unwrap_or(t + LOOK);
        Some(next.max(soon).min(t + LOOK))
    }
}

impl World {
    /// Starts the registry; whether it did.
    pub(crate) fn boot(&mut self) -> bool {
        let t = self.t;
        if self.setup.mutation == Some(Mutation::NewSecret) {
            self.host.secret += 1;
        }
        let born = self.host.clock.mono(t);
        let now = self.host.now(t, born);
        let secret = Arc::new(Secret::from_bytes([self.host.secret; 32]));
        let gate = Gate::new(secret.cookie_issuer(), vec![TRUSTED.parse().unwrap()], NO_LIMIT);
        let config = Config { length: self.host.length, cap: self.host.cap, caps: Caps::default() };
        let mut registry = Registry::new(config, secret, now);
        self.host.log.replay(|header, record| match record {
            None => registry.begin(header.window, header.length),
            Some(record) => {
                registry.commit(now, None, record);
            }
        });
        let resumed = registry.resume(now);
        self.trace(|| format!("the registry starts: {resumed:?}"));
        let goes_on = resumed.is_ok() || self.setup.mutation == Some(Mutation::ResumeUnchecked);
        self.rules.on_start(now.wall, goes_on, self.host.log.records());
        if !goes_on {
            self.seen.note("a start was refused: the clock is far behind");
            self.agenda(self.t + Duration::from_secs(5), Agenda::SetClockRight);
            return false;
        }
        let logged = self.host.log.windows().into_iter().collect();
        self.host.up = Some(Process {
            born,
            gate,
            registry,
            fanout: None,
            unkept: None,
            papers: VecDeque::new(),
            under_way: 0,
            asked: VecDeque::new(),
            logged,
            done: BTreeSet::new(),
        });
        self.wake_registry();
        true
    }

    /// kill -9, or the power fails.
    pub(crate) fn crash(&mut self) {
        let Some(process) = self.host.up.take() else { return };
        self.trace(|| "the registry is killed".to_owned());
        if process.unkept.is_some() || !process.papers.is_empty() {
            self.seen.note("a crash before a document was durable");
        }
        self.seen.note("the registry was killed");
        let survived = self.host.log.crash(&mut self.dice, &mut self.seen);
        self.rules.on_crash(&survived);
        // After all else that happens at this moment, an opening perhaps.
        self.host.steady_since = self.host.steady_since.max(self.t + Duration::from_nanos(1));
        let down = match self.dice.roll(Fault::Down, 0.3) {
            true => {
                self.seen.note("down for a window or more");
                let length = self.host.length.millis();
                self.dice.millis(Fault::Down, length, length * 5 / 2)
            }
            false => self.dice.millis(Fault::Crash, 5, 3_000),
        };
        self.agenda(self.t + down, Agenda::Boot);
    }

    pub(crate) fn disturb_registry(&mut self) {
        // It may be cut off until later.
        self.host.steady_since = self.host.steady_since.max(self.t);
    }

    fn now(&self) -> Option<Now> {
        let process = self.host.up.as_ref()?;
        let mut now = self.host.now(self.t, process.born);
        if self.setup.mutation == Some(Mutation::OpensLate) {
            now.wall = Wall::from_millis(now.wall.millis() - 20_000);
        }
        Some(now)
    }

    pub(crate) fn registry_hears(&mut self, packet: Packet) {
        let Some(now) = self.now() else { return self.seen.note("nobody was there to hear") };
        let local = addr(REGISTRY).ip();
        let path = Path::new(packet.from, local);
        self.rules.on_hear(packet.from, &packet.bytes);
        let process = self.host.up.as_mut().unwrap();
        let admitted = process.gate.admit(now, path, &packet.bytes);
        let admitted = match self.setup.mutation {
            Some(Mutation::NoProof) => without_proof(admitted, &packet.bytes),
            _ => admitted,
        };
        let answers = match admitted {
            Admit::Ack(ack) => {
                self.seen.note("an ACK came");
                self.rules.on_ack(path.peer, &ack);
                self.take_ack(path, &ack);
                Vec::new()
            }
            Admit::Pass { request, trusted } => {
                self.rules.on_passed(path.peer);
                self.take(now, path, request, trusted)
            }
            Admit::Refuse(transmit, why) => {
                self.seen.note(why.name());
                vec![transmit]
            }
            Admit::Answer(mut transmit) => {
                if self.setup.mutation == Some(Mutation::PaddedChallenge) {
                    transmit.payload.resize(MAX_DATAGRAM, b' ');
                }
                vec![transmit]
            }
            Admit::Drop(why) => {
                self.seen.note(why.name());
                Vec::new()
            }
        };
        self.rules.on_answered(&packet, &answers);
        let answers = self.checked(answers, true);
        answers.into_iter().for_each(|answer| self.say(answer));
        self.registry_turn();
    }

    fn take(&mut self, now: Now, path: Path, mut request: Request, trusted: bool) -> Vec<Transmit> {
        let quiet = self.is_quiet();
        let process = self.host.up.as_mut().unwrap();
        let mut handled = process.registry.handle(now, path, request.clone(), trusted);
        let mut asked = request.clone();
        if self.setup.mutation == Some(Mutation::OldTakenForNew)
            && handled == Handled::Nothing(hit7::tally::DropReason::Old)
            && matches!(request.kind, RequestKind::Register(_))
        {
            let seq = request.seq.take();
            handled = process.registry.handle(now, path, request.clone(), trusted);
            asked = request.clone();
            request.seq = seq;
        }
        if quiet {
            self.rules.on_handled(now.wall, path, &request, &handled);
        }
        match handled {
            Handled::Answer(transmit) | Handled::Refused(transmit, _) => vec![transmit],
            Handled::Proposed => {
                if self.host.log.is_opening() {
                    self.seen.note("a registration while an opening was stored");
                }
                self.seen.note("a request went into the log");
                let process = self.host.up.as_mut().unwrap();
                process.asked.push_back((path.peer, now.wall, asked));
                Vec::new()
            }
            Handled::Nothing(why) => {
                self.seen.note(why.name());
                Vec::new()
            }
        }
    }

    /// Whether nothing is under way: then what becomes of a request can be told from the log.
    fn is_quiet(&self) -> bool {
        self.host.up.as_ref().is_some_and(|process| process.under_way == 0)
            && self.host.log.next().is_none()
    }

    fn take_ack(&mut self, path: Path, ack: &Ack) {
        if self.setup.mutation == Some(Mutation::DeafToAcks) {
            return;
        }
        if let Some(fanout) = self.host.up.as_mut().and_then(|process| process.fanout.as_mut()) {
            fanout.handle_ack(path, ack);
        }
    }

    /// The registry's timers and its log's news.
    pub(crate) fn wake_registry(&mut self) {
        let Some(mut now) = self.now() else { return };
        if self.setup.mutation == Some(Mutation::OpensEarly) {
            now.wall = now.wall.plus(Duration::from_millis(700));
        }
        self.host.up.as_mut().unwrap().registry.handle_timeout(now);
        while let Some(step) = self.host.log.advance(self.t, &mut self.dice, &mut self.seen) {
            self.settle(step);
            if self.host.up.is_none() {
                return;
            }
        }
        self.write_documents();
        self.registry_turn();
    }

    fn settle(&mut self, step: Step) {
        let now = self.now().unwrap();
        let mut answers = Vec::new();
        match step {
            Step::Synced(records) => {
                self.rules.on_synced(&records);
                if self.dice.roll(Fault::Crash, 0.004) {
                    self.crash();
                }
                return;
            }
            Step::Durable(batch) => {
                self.host.up.as_mut().unwrap().under_way -= batch.len();
                for (ticket, record) in batch {
                    self.trace(|| format!("commits {record:?}"));
                    self.rules.on_commit(&record, now.wall);
                    let process = self.host.up.as_mut().unwrap();
                    let answer = process.registry.commit(now, Some(ticket), record);
                    answers.extend(self.checked(answer.into_iter().collect(), true));
                }
                if self.dice.roll(Fault::Crash, 0.004) {
                    self.seen.note("a crash between commit and answer");
                    return self.crash();
                }
            }
            Step::Refused(batch) => {
                self.disturb_registry();
                self.seen.note("the log refused a batch");
                let process = self.host.up.as_mut().unwrap();
                process.under_way -= batch.len();
                process.asked.clear();
                let refused = process.registry.refuse(now, batch);
                answers = self.checked(refused, false);
            }
        }
        answers.into_iter().for_each(|answer| self.say(answer));
    }

    /// As the program's one task: events, proposals, answers; and the fan-out beside it.
    fn registry_turn(&mut self) {
        self.follow_events();
        let Some(process) = self.host.up.as_mut() else { return };
        if process.under_way == 0 {
            let batch: Vec<_> = std::iter::from_fn(|| process.registry.poll_proposal()).collect();
            if !batch.is_empty() {
                process.under_way = batch.len();
                process.logged.extend(batch.iter().map(|(_, record)| record.window()));
                let batch = self.as_asked(batch);
                self.host.log.propose(self.t, batch, &mut self.dice, &mut self.seen);
                if self.dice.roll(Fault::Crash, 0.004) {
                    return self.crash();
                }
            }
        }
        self.announce();
    }

    /// What is handed to the log is what was asked.
    fn as_asked(&mut self, mut batch: Vec<(Ticket, Record)>) -> Vec<(Ticket, Record)> {
        let wall = self.host.clock.wall(self.t);
        for (_, record) in &mut batch {
            if let Record::Register(it) = record
                && self.setup.mutation == Some(Mutation::RoomForgotten)
            {
                it.profile.room = Room::default();
            }
            let is_open = matches!(record, Record::Open(_));
            let asked = &mut self.host.up.as_mut().unwrap().asked;
            let asked = if is_open { None } else { asked.pop_front() };
            self.rules.on_proposed(record, asked, wall);
        }
        batch
    }

    fn follow_events(&mut self) {
        let now = self.now().unwrap();
        while let Some(event) = self.host.up.as_mut().unwrap().registry.poll_event() {
            match event {
                Event::Missed(window) => {
                    self.seen.note("a window was missed");
                    self.trace(|| format!("missed {}", window.window()));
                    let steady = self.t.saturating_sub(self.host.steady_since);
                    self.rules.on_missed(&window, steady);
                    self.keep(window);
                }
                Event::Opened(window) => self.begin_announcement(window, now),
            }
        }
    }

    fn begin_announcement(&mut self, window: Arc<FinalizedWindow>, now: Now) {
        self.trace(|| format!("opened {} with {}", window.window(), window.len()));
        self.seen.note("a window opened");
        if window.opened().is_some_and(|at| at >= window.window().opens().plus(LOOK)) {
            self.seen.note("a window opened late");
        }
        self.rules.on_opened(&window);
        self.forget_closed(window.window());
        let process = self.host.up.as_mut().unwrap();
        process.fanout = None;
        if let Some(before) = process.unkept.take() {
            self.keep(before);
        }
        let process = self.host.up.as_mut().unwrap();
        if window.is_empty() {
            process.done.insert(window.window());
        } else if now.wall < window.closes() {
            process.fanout = Some(Fanout::new(window.clone(), now));
            process.unkept = Some(window.clone());
            self.expect_meetings(&window);
        } else {
            self.keep(window);
        }
    }

    fn announce(&mut self) {
        let Some(now) = self.now() else { return };
        let mut pushes = Vec::new();
        let process = self.host.up.as_mut().unwrap();
        let Some(fanout) = &mut process.fanout else { return };
        while let Some(train) = fanout.poll_transmit(now) {
            let single = |datagram: &[u8]| Transmit { path: train.path, payload: datagram.into() };
            pushes.extend(train.datagrams().map(single));
        }
        let told = fanout.has_told_all();
        let unkept = process.unkept.take_if(|_| told);
        if let Some(window) = unkept {
            self.keep(window);
        }
        if pushes.is_empty() {
            return;
        }
        let dies = self.dice.roll(Fault::Crash, 0.05);
        if dies {
            self.seen.note("a crash amid the fan-out");
            pushes.truncate(pushes.len() / 2);
        }
        let pushes = self.checked(pushes, false);
        pushes.into_iter().for_each(|push| self.say(push));
        if dies {
            self.crash();
        }
    }

    fn keep(&mut self, window: Arc<FinalizedWindow>) {
        let due = self.t + self.dice.millis(Fault::Chance, 1, 50);
        if let Some(process) = self.host.up.as_mut() {
            process.papers.push_back((due, window));
        }
    }

    fn write_documents(&mut self) {
        let t = self.t;
        let full = t < self.host.log.full_until;
        loop {
            let Some(process) = self.host.up.as_mut() else { return };
            let Some((due, _)) = process.papers.front_mut() else { return };
            if *due > t {
                return;
            }
            if full {
                self.seen.note("a document had to wait for the disk");
                *due = t + LOOK;
                return;
            }
            let (_, window) = process.papers.pop_front().unwrap();
            let document = serde_json::to_string(&Document::from(&*window)).unwrap();
            process.done.insert(window.window());
            let current = process.registry.current().window();
            self.rules.on_document(window.window(), &document);
            self.host.documents.insert(window.window(), document);
            self.forget_closed(current);
        }
    }

    fn forget_closed(&mut self, current: Window) {
        let process = self.host.up.as_mut().unwrap();
        let mut closed: Vec<Window> = process.logged.range(..current).copied().collect();
        if self.setup.mutation == Some(Mutation::DiscardsEarly) {
            closed.push(current);
        }
        for window in closed {
            if process.done.remove(&window) {
                process.logged.remove(&window);
                self.host.log.discard(window);
                self.seen.note("the log of a closed window was let go");
            }
        }
        self.rules.on_discards(&self.host.log, process.logged.len());
    }

    /// What leaves the registry, looked at as it leaves; `promised`: as answers to requests.
    fn checked(&mut self, transmits: Vec<Transmit>, promised: bool) -> Vec<Transmit> {
        let Some(now) = self.now() else { return Vec::new() };
        let meant = transmits.len();
        let transmits = self.mutate(transmits);
        self.rules.on_said(meant, transmits.len());
        self.rules.on_transmits(&transmits, now.wall);
        if promised {
            transmits.iter().for_each(|transmit| self.rules.on_promise(transmit));
        }
        transmits
    }

    fn say(&mut self, Transmit { path, payload }: Transmit) {
        let from = SocketAddr::new(path.local, addr(REGISTRY).port());
        self.send(Packet { from, to: path.peer, bytes: payload });
    }

    fn mutate(&mut self, transmits: Vec<Transmit>) -> Vec<Transmit> {
        let text = |transmit: &Transmit| String::from_utf8_lossy(&transmit.payload).into_owned();
        let is = |transmit: &Transmit, kind: Kind| {
            text(transmit).starts_with(&format!(r#"{{"type":"{}""#, kind.name()))
        };
        match self.setup.mutation {
            Some(Mutation::Chatty) => transmits.iter().flat_map(|it| vec![it.clone(); 3]).collect(),
            Some(Mutation::Mute) => {
                let silent = |it: &Transmit| is(it, Kind::Window) || is(it, Kind::Peers);
                transmits.into_iter().filter(|it| !silent(it)).collect()
            }
            Some(Mutation::LeakNext) => {
                let alter = |mut it: Transmit| {
                    if let Some(leak) = self.rules.someone_of_the_next(it.path.peer)
                        && is(&it, Kind::Registered)
                    {
                        let peers = format!(r#""peers":["{leak}"]}}}}"#);
                        let told = text(&it);
                        let head = told.split(r#""peers":["#).next().unwrap();
                        it.payload = format!("{head}{peers}").into_bytes();
                    }
                    it
                };
                transmits.into_iter().map(alter).collect()
            }
            Some(Mutation::PageChanged) => {
                let alter = |mut it: Transmit| {
                    let told = text(&it);
                    if is(&it, Kind::Peers)
                        && let Some((head, list)) = told.split_once(r#""peers":["#)
                        && let Some((_, rest)) = list.split_once(',')
                    {
                        it.payload = format!(r#"{head}"peers":[{rest}"#).into_bytes();
                    }
                    it
                };
                transmits.into_iter().map(alter).collect()
            }
            _ => transmits,
        }
    }
}

/// A gate that takes any cookie.
fn without_proof(admitted: Admit, bytes: &[u8]) -> Admit {
    let request = hit7::proto::Envelope::open(bytes).and_then(|envelope| envelope.request());
    match (admitted, request) {
        (Admit::Answer(_), Ok(request)) => Admit::Pass { request, trusted: false },
        (admitted, _) => admitted,
    }
}
