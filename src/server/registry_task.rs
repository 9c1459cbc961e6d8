//! The task that owns the node: passes inputs to the node and carries out its outputs. The task
//! waits for inputs only, never until an output is taken.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::clock::{Alarm, Clock};
use crate::cookie::Key;
use crate::fanout::Push;
use crate::gate::Gate;
use crate::journal::{FileJournal, Journal};
use crate::node::{Input, Node, Output};
use crate::path::Transmit;
use crate::udp::{Inbox, Sockets};

use super::archive_thread::{self, ArchiveThread};
use super::reporter::Reporter;
use super::workers::{GateCounts, GateRunner, Workers};
use super::{Event, RunError};

/// The most answers that are made before they are sent, which bounds their memory: after a stall of
/// the disk, thousands may be due.
const MAX_BATCHED_ANSWERS: usize = 256;

/// The WINDOW datagrams of an announcement that are sent before other work gets its turn.
const MAX_PUSHED_PER_TURN: usize = 64;

/// How long shutdown waits until the journal and the documents are written.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long shutdown then waits for the threads of the journal and the workers to end.
const END_TIMEOUT: Duration = Duration::from_millis(100);

/// The owner of the node and of all that its outputs go to: sockets, workers, journal, archive and
/// reporter.
pub(super) struct RegistryTask {
    clock: Clock,
    node: Node,
    sockets: Arc<Sockets>,
    gate: GateRunner,
    workers: Workers,
    journal: FileJournal,
    archive: ArchiveThread,
    reporter: Reporter,
    answers: Vec<Transmit>,
}

impl RegistryTask {
    /// Creates the task; `gate` checks the datagrams that the task receives from `sockets`.
    pub(super) fn new(
        clock: Clock,
        node: Node,
        gate: Gate,
        sockets: Arc<Sockets>,
        (journal, archive): (FileJournal, ArchiveThread),
        workers: Workers,
        reporter: Reporter,
    ) -> RegistryTask {
        let (gate, answers) = (GateRunner::new(gate, sockets.clone()), Vec::new());
        RegistryTask { clock, node, sockets, gate, workers, journal, archive, reporter, answers }
    }

    /// Serves until `shutdown` resolves, then writes what is pending and stops.
    pub(super) async fn run(
        mut self,
        keys: watch::Receiver<Vec<Key>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let served = self.serve(keys, shutdown).await;
        let stopped = self.stop().await;
        served.and(stopped)
    }

    async fn serve(
        &mut self,
        mut keys: watch::Receiver<Vec<Key>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (mut shutdown, mut inbox) = (pin!(shutdown), Inbox::new());
        loop {
            // In every turn: under a flood of datagrams, the timer's branch below may never run.
            self.handle_input(Input::Timeout);
            let has_more = self.process_outputs();
            self.report();
            let alarm = self.alarm();
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                outcome = self.journal.next() => self.handle_input(Input::Journal(outcome)),
                received = self.sockets.recv(&mut inbox) => {
                    received?;
                    self.receive(&inbox);
                }
                passed = self.workers.next() => {
                    passed?.into_iter().for_each(|input| self.handle_input(input));
                }
                outcome = self.archive.next() => self.note_archived(outcome),
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().clone();
                    self.gate.set_keys(keys);
                }
                () = self.clock.sleep(alarm), if !has_more => {}
                () = yield_now(), if has_more => {}
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input);
    }

    fn receive(&mut self, inbox: &Inbox) {
        let (now, node) = (self.clock.now(), &mut self.node);
        self.gate.admit(now, inbox, true, |input| node.handle(now, input));
    }

    fn note_archived(&mut self, outcome: archive_thread::Outcome) {
        match outcome {
            archive_thread::Outcome::Written(window, result) => {
                self.handle_input(Input::Archived(window, result));
            }
            archive_thread::Outcome::PruneFails(why) => {
                self.reporter.tell(Event::DocumentFails(why));
            }
        }
    }

    /// Carries out the node's outputs; returns whether some are left for the next turn.
    fn process_outputs(&mut self) -> bool {
        let (mut now, mut pushed) = (self.clock.now(), 0);
        while let Some(output) = self.node.poll(now) {
            match output {
                Output::Send(transmit) => self.answers.push(transmit),
                Output::SendTrain(push) => pushed += self.push(push),
                Output::Append(epoch, batch) => self.journal.submit(epoch, batch),
                Output::Archive(window) => self.archive.write(window),
                Output::Discard(window) => self.journal.discard(window),
                Output::Event(event) => self.reporter.note(event),
            }
            if self.answers.len() >= MAX_BATCHED_ANSWERS {
                self.send_answers();
                now = self.clock.now();
            }
            if pushed >= MAX_PUSHED_PER_TURN {
                break;
            }
        }
        self.send_answers();
        pushed >= MAX_PUSHED_PER_TURN
    }

    fn send_answers(&mut self) {
        self.workers.share(&mut self.answers);
        self.gate.send_answers(self.answers.drain(..));
    }

    /// Sends a member's WINDOW, or returns it to the node if the socket is full; returns the number
    /// of its datagrams.
    fn push(&mut self, push: Push) -> usize {
        let datagrams = push.train.datagrams().len();
        if let Err(push) = self.gate.send_push(push) {
            self.handle_input(Input::Returned(push));
        }
        datagrams
    }

    /// Returns when the task must wake up if no input comes.
    fn alarm(&self) -> Alarm {
        let node = self.node.poll_timeout(self.clock.now());
        Alarm { mono: node.mono.into_iter().chain(self.reporter.poll_timeout()).min(), ..node }
    }

    fn report(&mut self) {
        let RegistryTask { gate, workers, reporter, .. } = self;
        let counts = || {
            let mut counts: GateCounts = gate.counts();
            workers.add_counts(&mut counts);
            counts
        };
        reporter.report(self.clock.now(), &self.node, self.clock.doubted_step(), counts);
    }

    /// Shuts down: waits until what was given to the journal is answered, the documents that are due
    /// are written, and the threads of the journal and the workers have ended; fails if that takes
    /// longer than `WRITE_TIMEOUT` and `END_TIMEOUT`.
    async fn stop(mut self) -> Result<(), RunError> {
        let written = timeout(WRITE_TIMEOUT, self.write_pending()).await;
        let ended = timeout(END_TIMEOUT, async {
            self.journal.close().await;
            self.workers.stop().await;
        });
        match (written, ended.await) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(_), _) if self.node.is_settled() => Err(RunError::UnwrittenDocument),
            (Err(_), _) => Err(RunError::UnwrittenJournal),
            (Ok(()), Err(_)) => Err(RunError::RunningThreads),
        }
    }

    /// Waits until what was given to the journal is answered and the documents that are due are written.
    pub(super) async fn write_pending(&mut self) {
        loop {
            // A window may open even during shutdown.
            self.node.finish_announcement();
            self.process_outputs();
            if self.node.is_settled() && self.node.is_archived() {
                return;
            }
            tokio::select! {
                outcome = self.journal.next() => self.handle_input(Input::Journal(outcome)),
                outcome = self.archive.next() => self.note_archived(outcome),
            }
        }
    }
}
