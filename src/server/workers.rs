//! Worker threads: for each core beyond the first, a gate on sockets of its own.
//!
//! ```text
//!  sockets ──▶ gate ──▶ node ──▶ outbox ──▶ sockets     the first, on the thread of the node
//!  sockets ──▶ gate ──▶  "   ──▶ outbox ──▶ sockets     the workers, each on a thread of its own
//! ```
//!
//! All sockets are bound to the same port, and the kernel spreads clients over them. A worker
//! challenges unproven sources itself; the node, which has one thread, gets only what passed a
//! gate.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Now};
use crate::cookie::Key;
use crate::fanout::Push;
use crate::gate::{Admit, Gate};
use crate::node::{Inbound, Input};
use crate::path::Transmit;
use crate::tally::{DropReason, Tally};
use crate::udp::{Class, Inbox, Outbox, Sockets};

/// The capacity, in batches, of the queue of requests for the node. While it is full, workers
/// receive nothing: datagrams wait in the kernel's buffer, and are dropped there.
const MAX_QUEUED_REQUEST_BATCHES: usize = 16;

/// The capacity, in batches, of a worker's queue of answers; the node's thread sends the rest.
const MAX_QUEUED_ANSWER_BATCHES: usize = 64;

/// Counts of the datagrams that came to a gate, and of those that it answered or dropped itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GateCounts {
    /// How many datagrams the gate has received.
    pub(super) received: u64,
    /// Datagrams that were answered with a CHALLENGE: their source was unproven.
    pub(super) challenged: u64,
    /// Datagrams that were dropped or refused, by reason.
    pub(super) rejected: Tally,
}

impl GateCounts {
    /// Adds the counts of another gate.
    fn add(&mut self, other: &GateCounts) {
        self.received += other.received;
        self.challenged += other.challenged;
        self.rejected.add(&other.rejected);
    }
}

/// Runs a gate: passes datagrams through it, sends its answers, and counts both.
#[derive(Debug)]
pub(super) struct GateRunner {
    gate: Gate,
    counts: GateCounts,
    outbox: Outbox,
}

impl GateRunner {
    pub(super) fn new(gate: Gate, sockets: Arc<Sockets>) -> GateRunner {
        GateRunner { gate, counts: GateCounts::default(), outbox: Outbox::new(sockets) }
    }

    /// Passes received datagrams through the gate: sends challenges and refusals, and gives
    /// admitted requests and ACKs to `pass`.
    pub(super) fn admit(&mut self, now: Now, inbox: &Inbox, mut pass: impl FnMut(Input)) {
        for (path, datagram) in inbox.datagrams() {
            self.counts.received += 1;
            match self.gate.admit(now, path, datagram) {
                Admit::Ack(ack) => pass(Input::Ack(path, ack)),
                Admit::Pass { request, trusted } => {
                    pass(Input::Request(Inbound { path, request, trusted }));
                }
                Admit::Answer(transmit) => {
                    self.counts.challenged += 1;
                    self.outbox.offer(Class::Challenge, transmit);
                }
                Admit::Refuse(transmit, reason) => {
                    self.counts.rejected.count(reason);
                    self.outbox.offer(Class::Answer, transmit);
                }
                Admit::Drop(reason) => self.counts.rejected.count(reason),
            }
        }
        self.outbox.flush();
    }

    pub(super) fn set_keys(&mut self, keys: Vec<Key>) {
        self.gate.set_keys(keys);
    }

    /// Sends answers of the node, all of which go to proven or trusted sources.
    pub(super) fn send_answers(&mut self, answers: impl IntoIterator<Item = Transmit>) {
        answers.into_iter().for_each(|answer| self.outbox.offer(Class::Answer, answer));
        self.outbox.flush();
    }

    /// Sends a member's WINDOW, or returns it as an error if the socket is full.
    pub(super) fn send_push(&mut self, push: Push) -> Result<(), Push> {
        push.send(|train| self.outbox.offer_train(train))
    }

    /// Returns the gate's counts; answers that could not be sent are among the rejected datagrams.
    pub(super) fn counts(&self) -> GateCounts {
        let (mut counts, unsent) = (self.counts, self.outbox.unsent());
        counts.rejected.set(DropReason::UnsentAnswer, unsent.answers);
        counts.rejected.set(DropReason::UnsentChallenge, unsent.challenges);
        counts.rejected.set(DropReason::UnsentWindow, unsent.windows);
        counts
    }
}

/// All worker threads, as the node's thread uses them.
#[derive(Debug)]
pub(super) struct Workers {
    passed: mpsc::Receiver<io::Result<Vec<Input>>>,
    workers: Vec<Handle>,
}

/// The node thread's handle of one worker.
#[derive(Debug)]
struct Handle {
    answers: mpsc::Sender<Vec<Transmit>>,
    counts: Arc<Mutex<GateCounts>>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `count` workers, each with a copy of `gate` and sockets on the port of `sockets`.
    pub(super) fn start(
        count: usize,
        sockets: &Sockets,
        gate: &Gate,
        keys: watch::Receiver<Vec<Key>>,
        clock: Clock,
    ) -> io::Result<Workers> {
        let (passing, passed) = mpsc::channel(MAX_QUEUED_REQUEST_BATCHES);
        let start = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let sockets_here = {
                let _registered_there = runtime.enter();
                Arc::new(sockets.bind_same_ports()?)
            };
            let gate = GateRunner::new(gate.clone(), sockets_here.clone());
            let (answers, to_send) = mpsc::channel(MAX_QUEUED_ANSWER_BATCHES);
            let counts = Arc::default();
            let worker = Worker {
                gate,
                sockets: sockets_here,
                clock,
                passing: passing.clone(),
                to_send,
                keys: keys.clone(),
                counts: Arc::clone(&counts),
            };
            Ok(Handle { answers, counts, thread: worker.start(runtime)? })
        };
        Ok(Workers { passed, workers: (0..count).map(start).collect::<io::Result<_>>()? })
    }

    /// Waits for a batch of requests that passed a worker's gate; forever, if there are no workers.
    /// A worker that cannot receive any more is an error: the kernel would still give it clients.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Input>> {
        match self.passed.recv().await {
            Some(passed) => passed,
            None => std::future::pending().await,
        }
    }

    /// Adds the counts of all workers' gates to `counts`.
    pub(super) fn add_counts(&self, counts: &mut GateCounts) {
        for worker in &self.workers {
            counts.add(&lock(&worker.counts));
        }
    }

    /// Moves an equal share of `answers` to each worker's queue; what does not fit stays.
    pub(super) fn share(&self, answers: &mut Vec<Transmit>) {
        let share = answers.len() / (self.workers.len() + 1);
        for worker in self.workers.iter().filter(|_| share > 0) {
            let own = answers.split_off(answers.len() - share);
            if let Err(unsent) = worker.answers.try_send(own) {
                answers.extend(unsent.into_inner());
            }
        }
    }

    /// Ends the workers' threads, after they have sent the answers in their queues.
    pub(super) fn stop(self) {
        drop(self.passed);
        for Handle { answers, thread, .. } in self.workers {
            drop(answers);
            let _ = thread.join();
        }
    }
}

fn lock(counts: &Mutex<GateCounts>) -> MutexGuard<'_, GateCounts> {
    counts.lock().expect("nobody panics while counting")
}

/// The state of a worker's thread: receives datagrams and sends answers on its own sockets.
struct Worker {
    gate: GateRunner,
    sockets: Arc<Sockets>,
    clock: Clock,
    passing: mpsc::Sender<io::Result<Vec<Input>>>,
    to_send: mpsc::Receiver<Vec<Transmit>>,
    keys: watch::Receiver<Vec<Key>>,
    counts: Arc<Mutex<GateCounts>>,
}

impl Worker {
    fn start(self, runtime: Runtime) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("worker".into());
        thread.spawn(move || runtime.block_on(self.run()))
    }

    /// Runs until the node's thread closes the queue of answers. While the queue of requests is
    /// full, the worker sends answers but receives nothing.
    async fn run(self) {
        let Worker { mut gate, sockets, clock, passing, mut to_send, mut keys, counts } = self;
        let (mut inbox, mut passed) = (Inbox::new(), Vec::new());
        loop {
            tokio::select! {
                answers = to_send.recv() => match answers {
                    Some(answers) => gate.send_answers(answers),
                    None => return,
                },
                permit = passing.reserve(), if !passed.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(std::mem::take(&mut passed))),
                    Err(_closed) => passed.clear(),
                },
                received = sockets.recv(&mut inbox), if passed.is_empty() => match received {
                    Ok(()) => gate.admit(clock.now(), &inbox, |input| passed.push(input)),
                    Err(error) => return drop(passing.send(Err(error)).await),
                },
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().clone();
                    gate.set_keys(keys);
                }
            }
            *lock(&counts) = gate.counts();
        }
    }
}
