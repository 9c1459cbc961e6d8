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

use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Now};
use crate::cookie::Key;
use crate::fanout::Push;
use crate::gate::{Admit, Gate};
use crate::node::{Inbound, Input};
use crate::path::Transmit;
use crate::tally::{DropReason, Tally};
use crate::thread::{self, Runtime};
use crate::udp::{Class, Inbox, Outbox, Sockets};

/// The capacity, in batches, of the queue of requests for the node. While it is full, workers
/// receive nothing: datagrams wait in the kernel's buffer, and are dropped there.
const MAX_QUEUED_REQUEST_BATCHES: usize = 16;

/// How many places of that queue are kept for requests: ACKs, which anyone can forge, are dropped while
/// no more are free. Their WINDOW is repeated.
const PLACES_WITHOUT_ACKS: usize = 4;

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
    /// admitted requests to `pass`, and ACKs if there is room for them.
    pub(super) fn admit(
        &mut self,
        now: Now,
        inbox: &Inbox,
        has_room_for_acks: bool,
        mut pass: impl FnMut(Input),
    ) {
        for (path, datagram) in inbox.datagrams() {
            self.counts.received += 1;
            match self.gate.admit(now, path, datagram) {
                Admit::Ack(ack) if has_room_for_acks => pass(Input::Ack(path, ack)),
                Admit::Ack(_) => self.counts.rejected.count(DropReason::AckUnqueued),
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

/// A batch of requests that passed a worker's gate, or the error that ended the worker.
type Passed = io::Result<Vec<Input>>;

/// All worker threads, as the node's thread uses them.
#[derive(Debug)]
pub(super) struct Workers {
    passed: mpsc::Receiver<Passed>,
    workers: Vec<Handle>,
}

/// The node thread's handle of one worker.
#[derive(Debug)]
struct Handle {
    answers: mpsc::Sender<Vec<Transmit>>,
    counts: Arc<Mutex<GateCounts>>,
}

impl Workers {
    /// Starts `count` workers, each with a copy of `gate` and sockets on the port of `sockets`; fewer,
    /// or none, if the system has no more threads, or does not let sockets share a port.
    pub(super) fn start(
        count: usize,
        sockets: &Arc<Sockets>,
        gate: &Gate,
        keys: &watch::Receiver<Vec<Key>>,
        clock: Clock,
    ) -> Workers {
        let (passing, passed) = mpsc::channel(MAX_QUEUED_REQUEST_BATCHES);
        let mut workers = Vec::new();
        for _ in 0..count {
            let (gate, keys) = (gate.clone(), keys.clone());
            match Handle::start(Arc::clone(sockets), gate, keys, passing.clone(), clock) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    let workers = workers.len() + 1;
                    tracing::info!(%error, workers, "no more workers can be started");
                    break;
                }
            }
        }
        Workers { passed, workers }
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

    /// Ends the workers' threads, and waits until they have sent the answers in their queues.
    pub(super) async fn stop(&mut self) {
        self.workers.clear();
        // Each holds a sender until it ends; requests that still come are not taken any more.
        while self.passed.recv().await.is_some() {}
    }
}

fn lock(counts: &Mutex<GateCounts>) -> MutexGuard<'_, GateCounts> {
    counts.lock().expect("nobody panics while counting")
}

impl Handle {
    /// Starts a worker, and waits until its sockets are bound. The thread makes its own runtime, as
    /// none may be dropped on a thread that runs another.
    fn start(
        sockets: Arc<Sockets>,
        gate: Gate,
        keys: watch::Receiver<Vec<Key>>,
        passing: mpsc::Sender<Passed>,
        clock: Clock,
    ) -> io::Result<Handle> {
        let (answers, to_send) = mpsc::channel(MAX_QUEUED_ANSWER_BATCHES);
        let (counts, (started, result)) = (Arc::default(), std::sync::mpsc::channel());
        let shared_counts = Arc::clone(&counts);
        let work = move || {
            let bound = bind(&sockets);
            let (runtime, sockets) = match bound {
                Ok(bound) => bound,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let gate = GateRunner::new(gate, sockets.clone());
            let counts = shared_counts;
            let worker = Worker { gate, sockets, clock, passing, to_send, keys, counts };
            runtime.block_on(worker.run());
        };
        thread::start("worker", work).map_err(io::Error::other)?;
        result.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
        Ok(Handle { answers, counts })
    }
}

/// Makes a runtime for this thread, and sockets that belong to the runtime, on the same ports.
fn bind(sockets: &Sockets) -> io::Result<(Runtime, Arc<Sockets>)> {
    let runtime = Runtime::new()?;
    let bound = {
        let _entered = runtime.enter();
        sockets.bind_same_ports()?
    };
    Ok((runtime, Arc::new(bound)))
}

/// The state of a worker's thread: receives datagrams and sends answers on its own sockets.
struct Worker {
    gate: GateRunner,
    sockets: Arc<Sockets>,
    clock: Clock,
    passing: mpsc::Sender<Passed>,
    to_send: mpsc::Receiver<Vec<Transmit>>,
    keys: watch::Receiver<Vec<Key>>,
    counts: Arc<Mutex<GateCounts>>,
}

impl Worker {
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
                    Ok(()) => {
                        let has_room = passing.capacity() > PLACES_WITHOUT_ACKS;
                        gate.admit(clock.now(), &inbox, has_room, |input| passed.push(input));
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::limit::Rate;
    use crate::path::Path;
    use std::time::Duration;

    #[tokio::test]
    async fn acks_are_dropped_and_counted_while_there_is_no_room_for_them() {
        let bind = || Arc::new(Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap());
        let (sockets, client) = (bind(), bind());
        let cookies = Secret::from_bytes([7; 32]).cookie_issuer();
        let trust = vec!["127.0.0.0/8".parse().unwrap()];
        let gate = Gate::new(cookies, trust, Rate { per_second: 0, burst: 0 });
        let mut gate = GateRunner::new(gate, sockets.clone());
        let (path, clock) =
            (Path::new(sockets.local_addrs()[0], client.local_addrs()[0].ip()), Clock::start());
        let ack = br#"{"type":"ACK","window":"2026-11-23T11:29:00Z","pass":"x"}"#;
        for (has_room, passed) in [(true, 2), (false, 1)] {
            let both = [&ack[..], br#"{"type":"QUERY"}"#]
                .map(|it| Transmit { path, payload: it.to_vec() });
            client.send_or_drop(&both);
            let (mut inbox, mut inputs) = (Inbox::new(), Vec::new());
            let until = gate.counts().received + 2;
            while gate.counts().received < until {
                let received =
                    tokio::time::timeout(Duration::from_secs(10), sockets.recv(&mut inbox));
                received.await.expect("it comes").unwrap();
                gate.admit(clock.now(), &inbox, has_room, |input| inputs.push(input));
            }
            assert_eq!(inputs.len(), passed);
            assert!(matches!(inputs.last(), Some(Input::Request(_))));
        }
        assert_eq!(gate.counts().rejected.of(DropReason::AckUnqueued), 1);
    }
    /// Makes workers without threads; returns the queues of their answers, of `places` each.
    fn workers(count: usize, places: usize) -> (Workers, Vec<mpsc::Receiver<Vec<Transmit>>>) {
        let queues = (0..count).map(|_| mpsc::channel(places));
        let (answers, queues): (Vec<_>, Vec<_>) = queues.unzip();
        let handle = |answers| Handle { answers, counts: Arc::default() };
        let workers = answers.into_iter().map(handle).collect();
        (Workers { passed: mpsc::channel(1).1, workers }, queues)
    }

    fn answers(count: u8) -> Vec<Transmit> {
        let path = Path::new("192.0.2.1:9".parse().unwrap(), [192, 0, 2, 2].into());
        (0..count).map(|n| Transmit { path, payload: vec![n] }).collect()
    }

    #[test]
    fn answers_are_shared_equally_and_what_a_full_queue_does_not_take_stays() {
        let (workers, mut queues) = workers(2, 1);
        let mut own = answers(8);
        workers.share(&mut own);
        let mut shared = vec![own];
        shared.extend(queues.iter_mut().map(|queue| queue.try_recv().unwrap()));
        assert_eq!(shared.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2, 2]);
        let mut shared = shared.concat();
        shared.sort_by(|a, b| a.payload.cmp(&b.payload));
        assert_eq!(shared, answers(8), "each goes to one");
        let mut few = answers(2);
        workers.share(&mut few);
        assert_eq!(few, answers(2), "too few to share");
        for left in [2, 6] {
            let mut own = answers(6);
            workers.share(&mut own);
            assert_eq!(own.len(), left);
        }
    }

    #[test]
    fn the_counts_of_all_gates_are_added() {
        let (workers, _queues) = workers(2, 1);
        for (n, worker) in workers.workers.iter().enumerate() {
            let mut counts = lock(&worker.counts);
            (counts.received, counts.challenged) = (10 + n as u64, 20 + n as u64);
            counts.rejected.set(DropReason::AckUnqueued, 30 + n as u64);
        }
        let mut counts = GateCounts { received: 100, challenged: 200, ..GateCounts::default() };
        workers.add_counts(&mut counts);
        assert_eq!((counts.received, counts.challenged), (121, 241));
        assert_eq!(counts.rejected.of(DropReason::AckUnqueued), 61);
    }

    #[tokio::test]
    async fn workers_that_are_stopped_end_once_their_answers_are_taken() {
        let (mut workers, mut queues) = workers(1, 1);
        let (passing, passed) = mpsc::channel(1);
        workers.passed = passed;
        workers.share(&mut answers(2));
        let stop = workers.stop();
        let worker = async {
            assert_eq!(queues[0].recv().await, Some(answers(2).split_off(1)));
            assert_eq!(queues[0].recv().await, None, "the queue is closed");
            drop(passing);
        };
        tokio::join!(stop, worker);
    }
}
