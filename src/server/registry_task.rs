//! The task that owns the node: it hands in what comes, and does what the node wants done. It waits
//! for what comes to it, and never for what it gives away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;

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
use super::workers::{Entrance, GateCounts, Workers};
use super::{Event, RunError};

/// Answers that are made before they are sent: after a stall of the disk thousands may be due, and what
/// memory they take at once is kept.
const ANSWERS_AT_ONCE: usize = 256;

/// Datagrams of an announcement that leave before anything else gets its turn.
const TRAINS_AT_ONCE: usize = 64;

/// How long a stop waits for the journal and the documents.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// The owner of a node, and of all that the node's wishes go to.
pub(super) struct RegistryTask {
    clock: Clock,
    node: Node,
    sockets: Arc<Sockets>,
    entrance: Entrance,
    workers: Workers,
    journal: FileJournal,
    archive: ArchiveThread,
    reporter: Reporter,
    answers: Vec<Transmit>,
}

impl RegistryTask {
    /// A task that is to be run; `gate` is for `sockets`, which are received from here.
    pub(super) fn new(
        clock: Clock,
        node: Node,
        gate: Gate,
        sockets: Sockets,
        (journal, archive): (FileJournal, ArchiveThread),
        workers: Workers,
        reporter: Reporter,
    ) -> RegistryTask {
        let sockets = Arc::new(sockets);
        let (entrance, answers) = (Entrance::new(gate, sockets.clone()), Vec::new());
        RegistryTask {
            clock,
            node,
            sockets,
            entrance,
            workers,
            journal,
            archive,
            reporter,
            answers,
        }
    }

    /// Serves until `shutdown` is done, then writes what lacks and stops.
    pub(super) async fn run(
        mut self,
        mut keys: watch::Receiver<Vec<Key>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (mut shutdown, mut inbox) = (pin!(shutdown), Inbox::new());
        loop {
            // In every turn: under a flood the timer's branch may never get to fire.
            self.input(Input::Timeout);
            let has_more = self.work();
            self.report();
            let alarm = self.alarm();
            tokio::select! {
                () = &mut shutdown => break,
                outcome = self.journal.next() => self.input(Input::Journal(outcome)),
                received = self.sockets.recv(&mut inbox) => {
                    received?;
                    self.receive(&inbox);
                }
                passed = self.workers.next() => {
                    passed?.into_iter().for_each(|input| self.input(input));
                }
                outcome = self.archive.next() => self.note_archived(outcome),
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().clone();
                    self.entrance.set_keys(keys);
                }
                () = self.clock.sleep(alarm), if !has_more => {}
                () = yield_now(), if has_more => {}
            }
        }
        self.stop().await;
        Ok(())
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.clock.now(), input);
    }

    fn receive(&mut self, inbox: &Inbox) {
        let (now, node) = (self.clock.now(), &mut self.node);
        self.entrance.admit(now, inbox, |input| node.handle(now, input));
    }

    fn note_archived(&mut self, outcome: archive_thread::Outcome) {
        match outcome {
            archive_thread::Outcome::Written(window, result) => {
                self.input(Input::Archived(window, result));
            }
            archive_thread::Outcome::PruneFails(why) => {
                self.reporter.tell(Event::DocumentFails(why));
            }
        }
    }

    /// Does what the node wants done; whether it wants more, after others have had their turn.
    fn work(&mut self) -> bool {
        let (mut now, mut trains) = (self.clock.now(), 0);
        while let Some(output) = self.node.poll(now) {
            match output {
                Output::Send(transmit) => self.answers.push(transmit),
                Output::SendTrain(push) => trains += self.push(push),
                Output::Append(epoch, batch) => self.journal.submit(epoch, batch),
                Output::Archive(window) => self.archive.write(window),
                Output::Discard(window) => self.journal.discard(window),
                Output::Event(event) => self.reporter.note(event),
            }
            if self.answers.len() >= ANSWERS_AT_ONCE {
                self.send_answers();
                now = self.clock.now();
            }
            if trains >= TRAINS_AT_ONCE {
                break;
            }
        }
        self.send_answers();
        trains >= TRAINS_AT_ONCE
    }

    fn send_answers(&mut self) {
        self.workers.share(&mut self.answers);
        self.entrance.send(self.answers.drain(..));
    }

    /// Sends what a member is told: how many datagrams that were.
    fn push(&mut self, push: Push) -> usize {
        let datagrams = push.train.datagrams().len();
        if let Err(push) = self.entrance.send_push(push) {
            self.input(Input::Returned(push));
        }
        datagrams
    }

    /// When there is something to do although nothing comes.
    fn alarm(&self) -> Alarm {
        let node = self.node.poll_timeout(self.clock.now());
        Alarm { mono: node.mono.into_iter().chain(self.reporter.poll_timeout()).min(), ..node }
    }

    fn report(&mut self) {
        let RegistryTask { entrance, workers, reporter, .. } = self;
        let counts = || {
            let mut counts: GateCounts = entrance.counts();
            workers.add_counts(&mut counts);
            counts
        };
        reporter.report(self.clock.now(), &self.node, counts);
    }

    /// What was proposed is still answered, and the documents that are due are written.
    async fn stop(mut self) {
        let finish = async {
            loop {
                // A window may open even now.
                self.node.finish_announcement();
                self.work();
                if self.node.is_settled() && self.node.is_archived() {
                    return;
                }
                tokio::select! {
                    outcome = self.journal.next() => self.input(Input::Journal(outcome)),
                    outcome = self.archive.next() => self.note_archived(outcome),
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, finish).await.is_err() {
            tracing::warn!(
                "stopped before all was written; nothing acked is lost, and what lacks is \
                            written at the next start"
            );
        }
        self.workers.stop();
    }
}
