//! The registry's simulated host: runs the program's own node on a journal that fails, sockets that
//! are full and a clock that steps, and kills and restarts it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hit7::archive::Document;
use hit7::clock::{Alarm, Now};
use hit7::cookie::Secret;
use hit7::fanout::Push;
use hit7::gate::{Admit, Gate};
use hit7::journal::{Epoch, Outcome};
use hit7::limit::Rate;
use hit7::mesh::ListCap;
use hit7::node::{DocumentSource, Event, Inbound, Input, Node, Output};
use hit7::path::{Path, Transmit};
use hit7::proto::{Kind, MAX_DATAGRAM, Request, RequestKind, Room};
use hit7::record::{Entry, Record};
use hit7::registry::{Caps, Config, Handled, Registry};
use hit7::roster::{Ended, FinalizedWindow};
use hit7::tally::{Code, DropReason, RejectReason};
use hit7::window::{Length, Wall, Window};

use crate::clock::HostClock;
use crate::faults::Fault;
use crate::journal::{SimulatedJournal, Step};
use crate::model::Settings;
use crate::mutations::Mutation;
use crate::network::Packet;
use crate::rules::Asked;
use crate::world::{Agenda, REGISTRY, TRUSTED, World, addr};

/// The longest time until the registry's wall clock is read again.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a jump of the wall clock has stood when it may be believed, and when it must be.
const JUMP_PROBATION: [Duration; 2] = [Duration::from_secs(119), Duration::from_secs(123)];

/// No limit on the rate of requests, which other tests cover.
const NO_LIMIT: Rate = Rate { per_second: 0, burst: 0 };

/// The number of sockets among which the fan-out's destinations are divided.
const FANOUT_SOCKETS: u8 = 4;

/// The flags that the registry is started with, and that a restart may change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) length: Length,
    pub(crate) cap: ListCap,
    pub(crate) caps: Caps,
    pub(crate) rate: Rate,
}

impl Flags {
    pub(crate) fn new(length: Length, cap: usize) -> Flags {
        Flags { length, cap: ListCap::new(cap), caps: Caps::default(), rate: NO_LIMIT }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { length: self.length, cap: self.cap.peers() }
    }
}

/// The part of the registry's host that survives a crash of the process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) clock: HostClock,
    pub(crate) flags: Flags,
    pub(crate) journal: SimulatedJournal,
    /// The text of each document file.
    pub(crate) documents: BTreeMap<Window, String>,
    /// The window whose document cannot be written, or all, and until when.
    pub(crate) documents_fail: Option<(Option<Window>, Duration)>,
    pub(crate) secret: u8,
    pub(crate) up: Option<Process>,
    /// A jump of the wall clock, which has not been taken back: when it came, and by how many
    /// milliseconds.
    pub(crate) jump: Option<(Duration, i64)>,
    /// Since when the registry has been free of faults.
    pub(crate) steady_since: Duration,
    /// Sockets that are full, and until when.
    full: BTreeMap<Socket, Duration>,
}

/// The state that is lost when the process is killed.
#[derive(Debug)]
pub(crate) struct Process {
    born: Duration,
    gate: Gate,
    pub(crate) node: Node,
    /// Requests whose record has not been submitted to the journal yet.
    asked: VecDeque<Asked>,
    epoch: Epoch,
    /// The window whose document is being written, and when that is done; `None` once the archive's
    /// thread has died.
    archive: Option<Option<(Duration, DocumentSource)>>,
    /// The windows whose document was written by this process, or that had no members.
    archived: BTreeSet<Window>,
    /// The windows that have opened or were missed.
    windows: Vec<Weak<FinalizedWindow>>,
    /// Windows whose document could not be written.
    failed: BTreeSet<Window>,
    /// What a mutation keeps of them.
    kept: Vec<DocumentSource>,
    /// Until when the process waits for a full socket, as a mutation makes it do.
    waits_until: Duration,
}

/// A socket of the registry, by what is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Socket {
    Answers,
    Challenges,
    Fanout(u8),
}

impl Socket {
    fn of_member(addr: SocketAddr) -> Socket {
        let last = match addr.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(ip) => ip.octets()[15],
        };
        Socket::Fanout(last % FANOUT_SOCKETS)
    }
}

impl Host {
    pub(crate) fn new(clock: HostClock, flags: Flags, journal: SimulatedJournal) -> Host {
        Host {
            clock,
            flags,
            journal,
            documents: BTreeMap::new(),
            documents_fail: None,
            secret: 7,
            up: None,
            jump: None,
            steady_since: Duration::ZERO,
            full: BTreeMap::new(),
        }
    }

    fn now(&self, t: Duration, born: Duration) -> Now {
        let mono = self.clock.mono(t).saturating_sub(born);
        Now { wall: self.clock.wall(t), mono }
    }

    /// Returns when the host has something to do next.
    pub(crate) fn next(&self, t: Duration) -> Option<Duration> {
        let process = self.up.as_ref()?;
        let now = self.now(t, process.born);
        let Alarm { wall, mono } = process.node.poll_timeout(now);
        let mono = mono.map(|mono| self.clock.when(mono + process.born));
        let wall = wall.map(|wall| self.clock.when_wall(wall));
        let paper = process.archive.as_ref().and_then(|writing| writing.as_ref());
        let moments = [mono, wall, paper.map(|(at, _)| *at), self.journal.next()];
        // Told to wait for what is past, it is looked at again a little later, as a task would be.
        let soon = t + Duration::from_micros(20);
        let next = moments.into_iter().flatten().min().unwrap_or(t + CLOCK_CHECK_INTERVAL);
        Some(next.max(soon).min(t + CLOCK_CHECK_INTERVAL))
    }

    /// Returns the times that the registry may go by: the wall clock without a jump that may not be
    /// believed yet, and without one that need not be.
    fn trusted_walls(&self, t: Duration) -> [Wall; 2] {
        JUMP_PROBATION.map(|span| {
            let young = self.jump.filter(|(since, _)| t < *since + span);
            Wall::from_millis(self.clock.reading(t).millis() - young.map_or(0, |(_, by)| by))
        })
    }

    fn is_full(&self, socket: Socket, t: Duration) -> bool {
        self.full.get(&socket).is_some_and(|until| t < *until)
    }
}

impl World {
    /// Starts the registry; returns whether it started.
    pub(crate) fn boot(&mut self) -> bool {
        let t = self.t;
        if !self.find_journal() {
            return false;
        }
        self.change_flags();
        if self.setup.mutation == Some(Mutation::NewSecret) {
            self.host.secret += 1;
        }
        self.host.clock.believe(t);
        self.host.jump = None;
        let born = self.host.clock.mono(t);
        let now = self.host.now(t, born);
        let secret = Arc::new(Secret::from_bytes([self.host.secret; 32]));
        let Flags { length, cap, mut caps, mut rate } = self.host.flags;
        (self.host.journal.length, self.host.journal.cap) = (length, cap);
        match self.setup.mutation {
            Some(Mutation::CapsForgotten) => caps = Caps::default(),
            Some(Mutation::RateForgotten) => rate = NO_LIMIT,
            _ => {}
        }
        let gate = Gate::new(secret.cookie_issuer(), vec![TRUSTED.parse().unwrap()], rate);
        let config = Config { length, cap, caps };
        let mut registry = Registry::new(config, secret, now);
        self.host.journal.replay(|header, record| match record {
            None => registry.begin(header),
            Some(record) => drop(registry.commit(now, Entry { ticket: None, record })),
        });
        let resumed = registry.resume(now);
        self.trace(|| format!("the registry starts: {resumed:?}"));
        let goes_on = resumed.is_ok() || self.setup.mutation == Some(Mutation::ResumeUnchecked);
        self.rules.on_start(now.wall, goes_on, self.host.journal.files(), self.host.flags);
        if !goes_on {
            self.seen.note("a start was refused: the clock is far behind");
            self.agenda(self.t + Duration::from_secs(5), Agenda::SetClockRight);
            return false;
        }
        self.host.up = Some(Process {
            born,
            gate,
            node: Node::new(registry, self.host.journal.windows(), now),
            asked: VecDeque::new(),
            epoch: Epoch::default(),
            archive: Some(None),
            archived: BTreeSet::new(),
            windows: Vec::new(),
            failed: BTreeSet::new(),
            kept: Vec::new(),
            waits_until: Duration::ZERO,
        });
        self.wake_registry();
        true
    }

    /// Ends the process at once, as by kill -9, a power failure or a panic.
    pub(crate) fn crash(&mut self) {
        let Some(process) = self.host.up.take() else { return };
        self.trace(|| "the registry is killed".to_owned());
        if !process.node.is_archived() {
            self.seen.note("a crash before a document was durable");
        }
        self.seen.note("the registry was killed");
        let survived = self.host.journal.crash(&mut self.dice, &mut self.seen);
        self.rules.on_crash(&survived);
        // After all else that happens at this moment, an opening perhaps.
        self.host.steady_since = self.host.steady_since.max(self.t + Duration::from_nanos(1));
        let down = match self.dice.roll(Fault::Down, 0.3) {
            true => {
                self.seen.note("down for a window or more");
                let length = self.host.flags.length.millis();
                self.dice.millis(Fault::Down, length, length * 5 / 2)
            }
            false => self.dice.millis(Fault::Crash, 5, 3_000),
        };
        self.agenda(self.t + down, Agenda::Boot);
    }

    pub(crate) fn disturb_registry(&mut self) {
        // The registry may be cut off from the network until later.
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

    fn process(&mut self) -> &mut Process {
        self.host.up.as_mut().expect("the registry is up")
    }

    pub(crate) fn registry_hears(&mut self, packet: Packet) {
        self.look_at_clock();
        let Some(now) = self.now() else { return self.seen.note("nobody was there to hear") };
        let path = Path::new(packet.from, addr(REGISTRY).ip());
        self.rules.on_hear(packet.from, &packet.bytes);
        let admitted = self.process().gate.admit(now, path, &packet.bytes);
        let admitted = match self.setup.mutation {
            Some(Mutation::NoProof) => without_proof(admitted, &packet.bytes),
            _ => admitted,
        };
        match admitted {
            Admit::Ack(ack) => {
                self.seen.note("an ACK came");
                self.rules.on_ack(path.peer, &ack);
                if self.setup.mutation != Some(Mutation::DeafToAcks) {
                    self.process().node.handle(now, Input::Ack(path, ack));
                }
            }
            Admit::Pass { request, trusted } => {
                self.rules.on_passed(path.peer, &request);
                self.take(now, &packet, Inbound { path, request, trusted });
            }
            Admit::Refuse(transmit, why) => {
                self.seen.note(why.name());
                self.answer(&packet, transmit, Socket::Answers);
            }
            Admit::Answer(mut transmit) => {
                if self.setup.mutation == Some(Mutation::PaddedChallenge) {
                    transmit.payload.resize(MAX_DATAGRAM, b' ');
                }
                self.answer(&packet, transmit, Socket::Challenges);
            }
            Admit::Drop(why) => self.seen.note(why.name()),
        }
        self.work();
    }

    /// Sends an answer to a datagram at once.
    fn answer(&mut self, packet: &Packet, transmit: Transmit, socket: Socket) {
        self.rules.on_answered(packet, std::slice::from_ref(&transmit));
        self.say(transmit, socket, true);
    }

    /// Hands a request to the node, and checks its immediate answer.
    fn take(&mut self, now: Now, packet: &Packet, inbound: Inbound) {
        let (quiet, path) = (self.is_quiet(), inbound.path);
        let mut handled = self.handle(now, &inbound);
        if self.setup.mutation == Some(Mutation::OldTakenForNew)
            && handled == Handled::Dropped(DropReason::Old)
            && let Some(newer) = without_seq(&inbound.request)
        {
            handled = self.handle(now, &Inbound { request: newer.clone(), ..inbound });
            self.note_proposed(now, path, &newer, &handled);
        } else {
            self.note_proposed(now, path, &inbound.request, &handled);
        }
        if quiet {
            self.rules.on_handled(now.wall, path, &inbound.request, &handled);
        }
        match handled {
            Handled::Answer(transmit) | Handled::Refused(transmit, _) => {
                self.answer(packet, transmit, Socket::Answers);
            }
            Handled::Dropped(why) => self.seen.note(why.name()),
            Handled::Proposed => {}
        }
    }

    /// Returns how the node handled a request, by its counters and outputs.
    fn handle(&mut self, now: Now, inbound: &Inbound) -> Handled {
        let Inbound { path, request, trusted } = inbound;
        let input = Inbound { path: *path, request: request.clone(), trusted: *trusted };
        let node = &mut self.process().node;
        let before = *node.counts();
        node.handle(now, Input::Request(input));
        let counts = *node.counts();
        let reason = counts.rejected.since(&before.rejected).counted().next().map(|(why, _)| why);
        if counts.answered == before.answered && reason.is_none() {
            return Handled::Proposed;
        }
        if let Some(RejectReason::Dropped(reason)) = reason {
            return Handled::Dropped(reason);
        }
        // All outputs before have been handled: the first one now is the answer.
        match (node.poll(now), reason) {
            (Some(Output::Send(transmit)), Some(RejectReason::Refused(code))) => {
                Handled::Refused(transmit, code)
            }
            (Some(Output::Send(transmit)), _) => Handled::Answer(transmit),
            (other, _) => panic!("counted as answered, and {other:?}"),
        }
    }

    fn note_proposed(&mut self, now: Now, path: Path, request: &Request, handled: &Handled) {
        if *handled != Handled::Proposed {
            return;
        }
        if self.host.journal.is_opening() {
            self.seen.note("a registration while an opening was stored");
        }
        self.seen.note("a request went into the journal");
        self.rules.on_time(now.wall, self.host.trusted_walls(self.t));
        self.process().asked.push_back((path.peer, now.wall, request.clone()));
    }

    /// Returns how many requests wait for a journal that is down.
    pub(crate) fn held_up_by_an_outage(&self) -> usize {
        let is_down = self.host.journal.is_down();
        self.host.up.as_ref().filter(|_| is_down).map_or(0, |process| process.asked.len())
    }

    /// Returns whether no record is in flight, so that the journal alone decides about a request.
    fn is_quiet(&self) -> bool {
        let settled = self.host.up.as_ref().is_some_and(|process| process.node.is_settled());
        settled && self.host.journal.next().is_none()
    }

    /// Runs the registry's timers, and hands it the outcomes of the journal and the archive.
    pub(crate) fn wake_registry(&mut self) {
        self.look_at_clock();
        let Some(mut now) = self.now() else { return };
        if self.setup.mutation == Some(Mutation::OpensEarly) {
            now.wall = now.wall.plus(Duration::from_millis(700));
        }
        self.process().node.handle(now, Input::Timeout);
        while !self.waits()
            && let Some(step) = self.host.journal.advance(self.t, &mut self.dice, &mut self.seen)
        {
            self.settle(step);
            if self.host.up.is_none() {
                return;
            }
        }
        self.write_document();
        self.work();
    }

    fn settle(&mut self, step: Step) {
        match step {
            Step::Synced(records) => {
                self.rules.on_synced(&records);
                if self.dice.roll(Fault::Crash, 0.004) {
                    self.crash();
                }
            }
            // One after the other, so that the model is where the node is when its answer leaves.
            Step::Durable(entries) => entries.into_iter().for_each(|entry| self.commit(entry)),
            Step::Refused(epoch, batch) => {
                self.seen.note("the journal refused a batch");
                self.trace(|| format!("{epoch:?}: refuses {} entries", batch.len()));
                self.rules.on_refused(&batch);
                let process = self.process();
                if epoch >= process.epoch {
                    process.epoch = epoch.next();
                    process.asked.clear();
                }
                self.fail(Outcome::Refused { epoch, batch, why: "the disk fails".to_owned() });
            }
            Step::Down if self.setup.mutation == Some(Mutation::SilentOutage) => {}
            Step::Down => self.go_down(),
        }
    }

    fn commit(&mut self, entry: Entry) {
        self.look_at_clock();
        let Some(now) = self.now() else { return };
        self.trace(|| format!("commits {:?}", entry.record));
        self.rules.on_commit(&entry.record, now.wall);
        self.process().node.handle(now, Input::Journal(Outcome::Durable(vec![entry])));
        self.work();
    }

    fn fail(&mut self, outcome: Outcome) {
        self.disturb_registry();
        let now = self.now().expect("the registry is up");
        self.process().node.handle(now, Input::Journal(outcome));
        self.work();
    }

    /// The journal is down: whoever waits for it to take a request is told so.
    fn go_down(&mut self) {
        let refused = |process: &Process| process.node.counts().rejected.of(Code::Unavailable);
        let waiting = std::mem::take(&mut self.process().asked).len();
        let before = refused(self.process());
        self.disturb_registry();
        let now = self.now().expect("the registry is up");
        let outcome = Outcome::Down("the disk fails".to_owned());
        self.process().node.handle(now, Input::Journal(outcome));
        let told = refused(self.process()) - before;
        self.rules.on_outage(waiting.saturating_sub(told as usize));
        self.work();
    }

    /// Carries out the node's outputs, as the program's loop does.
    fn work(&mut self) {
        while let Some(now) = self.now()
            && !self.waits()
            && let Some(output) = self.process().node.poll(now)
        {
            if self.dies_before(&output) {
                return;
            }
            match output {
                Output::Send(transmit) => self.say(transmit, Socket::Answers, true),
                Output::SendTrain(push) => self.push(now, push),
                Output::Append(epoch, batch) => self.append(epoch, batch),
                Output::Archive(window) => self.archive(window),
                Output::Discard(window) => {
                    self.trace(|| format!("discards the journal of {window}"));
                    self.host.journal.discard(window);
                    self.seen.note("the journal of a closed window was let go");
                }
                Output::Event(event) => self.follow(event, now),
            }
        }
        self.check_discards();
    }

    fn waits(&self) -> bool {
        self.host.up.as_ref().is_some_and(|process| self.t < process.waits_until)
    }

    /// Returns whether the process is killed, or ended by a panic, before it carries out `output`.
    fn dies_before(&mut self, output: &Output) -> bool {
        let (what, chance) = match output {
            Output::Send(_) => ("a crash between commit and answer", 0.001),
            Output::SendTrain(_) => ("a crash amid the fan-out", 0.01),
            Output::Append(..) => ("a crash before a batch was submitted", 0.002),
            Output::Archive(_) => ("a crash before a document was written", 0.01),
            Output::Discard(_) => ("a crash before a journal was let go", 0.01),
            Output::Event(_) => return false,
        };
        if self.dice.roll(Fault::Crash, chance) {
            self.seen.note(what);
            self.crash();
            return true;
        }
        if self.dice.roll(Fault::HelperDeath, chance / 2.0) {
            self.seen.note("a helper died, and the program with it");
            self.crash();
            return true;
        }
        false
    }

    fn append(&mut self, epoch: Epoch, batch: Vec<Entry>) {
        let batch = self.as_asked(batch);
        self.host.journal.submit(self.t, epoch, batch, &mut self.dice, &mut self.seen);
    }

    /// Checks that a batch for the journal matches the requests, and returns that batch.
    fn as_asked(&mut self, mut batch: Vec<Entry>) -> Vec<Entry> {
        let wall = self.host.clock.wall(self.t);
        for Entry { record, .. } in &mut batch {
            if let Record::Register(it) = record
                && self.setup.mutation == Some(Mutation::RoomForgotten)
            {
                it.profile.room = Room::default();
            }
            let ends = matches!(record, Record::Open(_) | Record::Missed(_));
            let asked = &mut self.process().asked;
            let asked = if ends { None } else { asked.pop_front() };
            self.rules.on_proposed(record, asked, wall);
        }
        batch
    }

    fn follow(&mut self, event: Event, now: Now) {
        match event {
            Event::Opened(window, _) => {
                self.process().windows.push(Arc::downgrade(&window));
                self.follow_opening(&window, now);
            }
            Event::Missed(window) => {
                self.process().windows.push(Arc::downgrade(&window));
                self.follow_missed(window.window());
                self.rules.on_ended(&window);
            }
            Event::Replayed(ended) => self.follow_replayed(ended, now),
            Event::DocumentFails(..) => self.seen.note("a document had to wait for the disk"),
            Event::JournalRefuses(_) | Event::JournalRecovered | Event::DocumentWritten(_) => {}
        }
    }

    fn follow_replayed(&mut self, ended: Ended, now: Now) {
        let current = self.process().node.current().clone();
        if current.window() == ended.window {
            return self.follow_opening(&current, now);
        }
        match (ended.members, ended.opened) {
            (0, _) => drop(self.process().archived.insert(ended.window)),
            (_, None) => self.follow_missed(ended.window),
            (_, Some(_)) => {}
        }
    }

    fn follow_missed(&mut self, window: Window) {
        self.seen.note("a window was missed");
        self.trace(|| format!("missed {window}"));
        let steady = self.t.saturating_sub(self.host.steady_since);
        self.rules.on_missed(window, steady);
    }

    fn follow_opening(&mut self, window: &FinalizedWindow, now: Now) {
        self.trace(|| format!("opened {} with {}", window.window(), window.len()));
        self.seen.note("a window opened");
        if window
            .opened()
            .is_some_and(|at| at >= window.window().opens().plus(CLOCK_CHECK_INTERVAL))
        {
            self.seen.note("a window opened late");
        }
        self.rules.on_time(now.wall, self.host.trusted_walls(self.t));
        self.rules.on_opened(window);
        if window.is_empty() {
            self.process().archived.insert(window.window());
        } else if now.wall < window.closes() {
            self.expect_meetings(window);
        }
    }

    /// Sends a member's WINDOW; if the socket is full, gives the push back to the node.
    fn push(&mut self, now: Now, push: Push) {
        let socket = Socket::of_member(push.train.path.peer);
        self.fill_some_socket(socket);
        if self.host.is_full(socket, self.t) {
            self.seen.note("a push found a full socket");
            if self.setup.mutation == Some(Mutation::WaitsForSockets) {
                self.process().waits_until = self.host.full[&socket];
                return;
            }
            self.rules.on_full(push.train.path.peer);
            return self.process().node.handle(now, Input::Returned(push));
        }
        let (path, train) = (push.train.path, push.train);
        for datagram in train.datagrams() {
            self.say(Transmit { path, payload: datagram.into() }, socket, false);
        }
    }

    fn fill_some_socket(&mut self, socket: Socket) {
        if self.dice.roll(Fault::FullSocket, 0.02) {
            self.seen.note("a socket was full");
            let until = self.t + self.dice.millis(Fault::FullSocket, 5, 600);
            self.host.full.insert(socket, until);
        }
    }

    fn archive(&mut self, source: DocumentSource) {
        let due = self.t + self.dice.millis(Fault::Chance, 1, 50);
        if let Some(writing) = &mut self.process().archive {
            assert!(writing.is_none(), "one document at a time");
            *writing = Some((due, source));
        }
    }

    fn write_document(&mut self) {
        let t = self.t;
        let Some(Some(writing)) = self.host.up.as_mut().map(|it| &mut it.archive) else { return };
        let Some((_, source)) = writing.take_if(|(due, _)| *due <= t) else { return };
        if self.setup.mutation == Some(Mutation::HelperDiesInSilence) {
            self.process().archive = None;
            return;
        }
        let (window, mut result) = (source.window(), self.write_document_of(&source));
        if result.is_err() {
            self.rules.on_document_failed(window);
            let process = self.process();
            process.failed.insert(window);
            match self.setup.mutation {
                Some(Mutation::OneHoldsUpAll) => {
                    self.process().archive = Some(Some((t + Duration::from_secs(1), source)));
                    return;
                }
                Some(Mutation::HoldsWhatFails) => self.process().kept.push(source),
                Some(Mutation::FailureTakenForDone) => {
                    self.process().archived.insert(window);
                    result = Ok(());
                }
                _ => {}
            }
        } else if self.process().failed.remove(&window) {
            self.seen.note("a document was written after it had failed");
        }
        let now = self.now().expect("the registry is up");
        self.trace(|| format!("the document of {window}: {result:?}"));
        self.process().node.handle(now, Input::Archived(window, result));
    }

    fn write_document_of(&mut self, source: &DocumentSource) -> Result<(), String> {
        if self.t < self.host.journal.full_until {
            return Err("the disk is full".to_owned());
        }
        let window = source.window();
        let fails = |(it, until): &(Option<Window>, Duration)| {
            self.t < *until && it.is_none_or(|it| it == window)
        };
        if self.host.documents_fail.as_ref().is_some_and(fails) {
            self.seen.note("a document could not be written");
            return Err("a folder stands in its place".to_owned());
        }
        let document = match source {
            DocumentSource::Held(window) => Document::from(&**window),
            DocumentSource::Journal(_) if self.host.journal.is_gone() => {
                self.seen.note("a document's journal was gone");
                return Err("it has no journal".to_owned());
            }
            DocumentSource::Journal(window) => {
                self.seen.note("a document was made from its journal");
                self.host.journal.document(*window)
            }
        };
        let document = serde_json::to_string(&document).unwrap();
        self.process().archived.insert(window);
        self.rules.on_document(window, &document);
        self.host.documents.insert(window, document);
        if self.setup.mutation == Some(Mutation::DiscardsEarly) {
            self.host.journal.discard(window);
        }
        Ok(())
    }

    /// Checks how many windows are in memory, and that the registry notices when its journal is gone.
    pub(crate) fn check_process(&mut self) {
        let Some(process) = &self.host.up else { return };
        let writing = process.archive.iter().flatten().map(|(_, source)| source.window()).next();
        let others = [Some(process.node.current().window()), writing];
        let held = process.windows.iter().filter_map(Weak::upgrade);
        let held = held.filter(|window| !others.contains(&Some(window.window()))).count();
        let works = process.node.journal_works();
        self.rules.on_held(held);
        if let Some(gone) = self.host.journal.idle_while_gone(self.t) {
            self.rules.on_loss(gone, works);
        }
    }

    /// Checks that the journal of a closed window is kept until its document is durable, and no
    /// longer.
    fn check_discards(&mut self) {
        let Some(process) = &self.host.up else { return };
        let current = process.node.current().window();
        let is_needed =
            |window: &&Window| **window >= current || !process.archived.contains(window);
        let needed = self.host.journal.windows().iter().filter(is_needed).count();
        self.rules.on_discards(&self.host.journal, needed);
    }

    /// Sends a datagram and checks it, unless the socket is full. `promised` is whether it answers
    /// a request.
    fn say(&mut self, transmit: Transmit, socket: Socket, promised: bool) {
        let Some(now) = self.now() else { return };
        if promised {
            self.fill_some_socket(socket);
            if self.host.is_full(socket, self.t) {
                self.rules.on_unsent(&transmit);
                return self.seen.note("an answer found a full socket");
            }
        }
        let transmits = self.mutate(vec![transmit]);
        self.rules.on_said(1, transmits.len());
        self.rules.on_transmits(&transmits, now.wall);
        for transmit in transmits {
            let Transmit { path, payload } = transmit;
            let from = SocketAddr::new(path.local, addr(REGISTRY).port());
            self.send(Packet { from, to: path.peer, bytes: payload });
        }
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

/// Admits a request without a valid cookie, as a mutation of the gate does.
fn without_proof(admitted: Admit, bytes: &[u8]) -> Admit {
    let request = hit7::proto::Envelope::open(bytes).and_then(|envelope| envelope.request());
    match (admitted, request) {
        (Admit::Answer(_), Ok(request)) => Admit::Pass { request, trusted: false },
        (admitted, _) => admitted,
    }
}

/// Returns a request without its `seq`, which makes it always new.
fn without_seq(request: &Request) -> Option<Request> {
    let is_register = matches!(request.kind, RequestKind::Register(_));
    is_register.then(|| Request { seq: None, ..request.clone() })
}
