//! A gate on sockets of its own for each further core.
//!
//! ```text
//!  sockets ──▶ gate ──▶ node ──▶ outbox ──▶ sockets     the first, on the thread of the node
//!  sockets ──▶ gate ──▶  "   ──▶ outbox ──▶ sockets     the workers, each on a thread of its own
//! ```
//!
//! All are bound to the same port, and the system spreads clients over them. A worker answers
//! strangers by itself; the node, which has one thread, is left with what passed.

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

/// Batches of requests that may wait for the node. When so many do, a worker receives nothing more:
/// what comes waits in the kernel's buffer, and is dropped there.
const MOST_WAITING: usize = 16;

/// Batches of answers that may wait for a worker. What does not fit, the node's thread sends.
const MOST_ANSWERS: usize = 64;

/// What came to the gates, and what they dealt with by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GateCounts {
    /// How many datagrams have been received.
    pub(super) received: u64,
    /// Strangers that were sent a cookie.
    pub(super) challenged: u64,
    /// Datagrams that were dropped or refused.
    pub(super) rejected: Tally,
}

impl GateCounts {
    /// Adds what came to another gate.
    fn add(&mut self, other: &GateCounts) {
        self.received += other.received;
        self.challenged += other.challenged;
        self.rejected.add(&other.rejected);
    }
}

/// A gate, and what has come to it.
#[derive(Debug)]
pub(super) struct Entrance {
    gate: Gate,
    counts: GateCounts,
    outbox: Outbox,
}

impl Entrance {
    pub(super) fn new(gate: Gate, sockets: Arc<Sockets>) -> Entrance {
        Entrance { gate, counts: GateCounts::default(), outbox: Outbox::new(sockets) }
    }

    /// Decides about what has come: strangers are answered here, and what passes goes to `pass`.
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

    /// Sends answers of the node, which are to proven or trusted sources.
    pub(super) fn send(&mut self, answers: impl IntoIterator<Item = Transmit>) {
        answers.into_iter().for_each(|answer| self.outbox.offer(Class::Answer, answer));
        self.outbox.flush();
    }

    /// Sends a member's WINDOW, or gives it back if the socket is full.
    pub(super) fn send_push(&mut self, push: Push) -> Result<(), Push> {
        push.send(|train| self.outbox.offer_train(train))
    }

    /// What has come to the gate, and what could not be sent.
    pub(super) fn counts(&self) -> GateCounts {
        let (mut counts, unsent) = (self.counts, self.outbox.unsent());
        counts.rejected.set(DropReason::UnsentAnswer, unsent.answers);
        counts.rejected.set(DropReason::UnsentChallenge, unsent.challenges);
        counts.rejected.set(DropReason::UnsentWindow, unsent.windows);
        counts
    }
}

/// The workers beyond the node's own thread.
#[derive(Debug)]
pub(super) struct Workers {
    passed: mpsc::Receiver<io::Result<Vec<Input>>>,
    workers: Vec<Handle>,
}

/// A worker, as the node's thread sees it.
#[derive(Debug)]
struct Handle {
    answers: mpsc::Sender<Vec<Transmit>>,
    counts: Arc<Mutex<GateCounts>>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `count` workers beside the node's own thread, which has `sockets` and `gate`.
    pub(super) fn start(
        count: usize,
        sockets: &Sockets,
        gate: &Gate,
        keys: watch::Receiver<Vec<Key>>,
        clock: Clock,
    ) -> io::Result<Workers> {
        let (passing, passed) = mpsc::channel(MOST_WAITING);
        let start = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let siblings = {
                let _registered_there = runtime.enter();
                Arc::new(sockets.siblings()?)
            };
            let entrance = Entrance::new(gate.clone(), siblings.clone());
            let (answers, to_send) = mpsc::channel(MOST_ANSWERS);
            let counts = Arc::default();
            let worker = Worker {
                entrance,
                sockets: siblings,
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

    /// Waits for what passed one of their gates; for ever, if there are none. A worker that cannot
    /// receive any more is an error: the system would go on giving it clients.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Input>> {
        match self.passed.recv().await {
            Some(passed) => passed,
            None => std::future::pending().await,
        }
    }

    /// What has come to all of them, added to `counts`.
    pub(super) fn add_counts(&self, counts: &mut GateCounts) {
        for worker in &self.workers {
            counts.add(&lock(&worker.counts));
        }
    }

    /// Takes away from `answers` the shares that the workers send: the same for each.
    pub(super) fn share(&self, answers: &mut Vec<Transmit>) {
        let share = answers.len() / (self.workers.len() + 1);
        for worker in self.workers.iter().filter(|_| share > 0) {
            let own = answers.split_off(answers.len() - share);
            if let Err(unsent) = worker.answers.try_send(own) {
                answers.extend(unsent.into_inner());
            }
        }
    }

    /// Ends them, and waits until what they were given is sent.
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

/// What runs on a worker's thread.
struct Worker {
    entrance: Entrance,
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

    /// Works until the node's thread wants nothing more sent. While that thread has enough to do,
    /// this goes on sending, and receives nothing.
    async fn run(self) {
        let Worker { mut entrance, sockets, clock, passing, mut to_send, mut keys, counts } = self;
        let (mut inbox, mut passed) = (Inbox::new(), Vec::new());
        loop {
            tokio::select! {
                answers = to_send.recv() => match answers {
                    Some(answers) => entrance.send(answers),
                    None => return,
                },
                permit = passing.reserve(), if !passed.is_empty() => match permit {
                    Ok(permit) => permit.send(Ok(std::mem::take(&mut passed))),
                    Err(_closed) => passed.clear(),
                },
                received = sockets.recv(&mut inbox), if passed.is_empty() => match received {
                    Ok(()) => entrance.admit(clock.now(), &inbox, |input| passed.push(input)),
                    Err(error) => return drop(passing.send(Err(error)).await),
                },
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update().clone();
                    entrance.set_keys(keys);
                }
            }
            *lock(&counts) = entrance.counts();
        }
    }
}
