//! A gate on sockets: the desk's own, and one more on each further core.
//!
//! ```text
//!  sockets ──▶ gate ──▶ desk ──▶ sockets        the first, on the desk's thread
//!  sockets ──▶ gate ──▶  "   ──▶ sockets        the others, each on a thread of its own
//! ```
//!
//! All are bound to the same port, and the system spreads clients over them. Strangers are answered
//! at the door; the desk, which has one thread, is left with what passed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Now};
use crate::cookie::Key;
use crate::gate::{Admit, Gate};
use crate::path::{Path, Transmit};
use crate::proto::{Ack, Request};
use crate::tally::Tally;
use crate::udp::{Inbox, Sockets};

/// Batches of requests that may wait for the desk: what is behind them waits in the kernel's
/// buffer, and is dropped there.
const WAITING: usize = 16;

/// A request that passed the gate.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: Path,
    pub(super) what: What,
    pub(super) trusted: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Request(Request),
    Ack(Ack),
}

/// What came to a door, and what it dealt with by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) received: u64,
    pub(super) challenged: u64,
    pub(super) rejected: Tally,
}

impl Seen {
    /// Adds what another door saw.
    pub(super) fn add(&mut self, other: &Seen) {
        self.received += other.received;
        self.challenged += other.challenged;
        self.rejected.add(&other.rejected);
    }

    /// Decides about what has come: what is answered here goes to `answers`, what passes to `pass`.
    pub(super) fn sort(
        &mut self,
        gate: &mut Gate,
        now: Now,
        inbox: &Inbox,
        answers: &mut Vec<Transmit>,
        mut pass: impl FnMut(Asked),
    ) {
        for (path, datagram) in inbox.datagrams() {
            self.received += 1;
            match gate.admit(now, path, datagram) {
                Admit::Pass { request, trusted } => {
                    pass(Asked { path, what: What::Request(request), trusted });
                }
                Admit::Ack(ack) => pass(Asked { path, what: What::Ack(ack), trusted: false }),
                Admit::Answer(transmit) => {
                    self.challenged += 1;
                    answers.push(transmit);
                }
                Admit::Refuse(transmit, why) => {
                    self.rejected.count(why);
                    answers.push(transmit);
                }
                Admit::Drop(why) => self.rejected.count(why),
            }
        }
    }
}

/// The doors beyond the first.
pub(super) struct Doors {
    asked: mpsc::Receiver<io::Result<Vec<Asked>>>,
    keys: watch::Sender<Vec<Key>>,
    doors: Vec<Door>,
}

/// One of them, as the desk sees it.
struct Door {
    answers: mpsc::UnboundedSender<Vec<Transmit>>,
    seen: Arc<Mutex<Seen>>,
    sockets: Arc<Sockets>,
    thread: JoinHandle<()>,
}

impl Doors {
    /// Opens `count` doors beside the first, which has `sockets` and `gate`.
    pub(super) fn open(
        count: usize,
        sockets: &Sockets,
        gate: &Gate,
        keys: Vec<Key>,
        clock: Clock,
    ) -> io::Result<Doors> {
        let (passed, asked) = mpsc::channel(WAITING);
        let (keys, rekeyed) = watch::channel(keys);
        let open = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let siblings = {
                let _registered_there = runtime.enter();
                Arc::new(sockets.siblings()?)
            };
            let (passed, rekeyed) = (passed.clone(), rekeyed.clone());
            Door::open(runtime, siblings, |answers, sockets, seen| Porter {
                gate: gate.clone(),
                clock,
                sockets,
                passed,
                answers,
                rekeyed,
                seen,
            })
        };
        Ok(Doors { asked, keys, doors: (0..count).map(open).collect::<io::Result<_>>()? })
    }

    /// Waits for requests that passed one of them; for ever, if there are none. A door that cannot
    /// receive any more is an error: the system would go on giving it clients.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Asked>> {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }

    /// Gives all of them new keys.
    pub(super) fn set_keys(&self, keys: Vec<Key>) {
        self.keys.send_replace(keys);
    }

    /// Adds what they have seen to `seen`.
    pub(super) fn count(&self, seen: &mut Seen) {
        for door in &self.doors {
            seen.add(&door.seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Datagrams that they could not send.
    pub(super) fn failures(&self) -> u64 {
        self.doors.iter().map(|door| door.sockets.failures()).sum()
    }

    /// Takes away from `answers` the shares that these doors send: they are the same for all.
    pub(super) fn send(&self, answers: &mut Vec<Transmit>) {
        let share = answers.len() / (self.doors.len() + 1);
        for door in self.doors.iter().filter(|_| share > 0) {
            let own = answers.split_off(answers.len() - share);
            if let Err(gone) = door.answers.send(own) {
                answers.extend(gone.0);
            }
        }
    }

    /// Closes them, and waits until what they were given is sent.
    pub(super) fn close(&mut self) {
        self.asked.close();
        for Door { answers, thread, .. } in self.doors.drain(..) {
            drop(answers);
            let _ = thread.join();
        }
    }
}

impl Door {
    fn open(
        runtime: Runtime,
        sockets: Arc<Sockets>,
        porter: impl FnOnce(
            mpsc::UnboundedReceiver<Vec<Transmit>>,
            Arc<Sockets>,
            Arc<Mutex<Seen>>,
        ) -> Porter,
    ) -> io::Result<Door> {
        let (answers, to_send) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let porter = porter(to_send, sockets.clone(), seen.clone());
        let thread = thread::Builder::new().name("door".into());
        let thread = thread.spawn(move || runtime.block_on(porter.run()))?;
        Ok(Door { answers, seen, sockets, thread })
    }
}

/// Who minds a door on a thread of its own.
struct Porter {
    gate: Gate,
    clock: Clock,
    sockets: Arc<Sockets>,
    passed: mpsc::Sender<io::Result<Vec<Asked>>>,
    answers: mpsc::UnboundedReceiver<Vec<Transmit>>,
    rekeyed: watch::Receiver<Vec<Key>>,
    seen: Arc<Mutex<Seen>>,
}

impl Porter {
    /// Until the desk is closed.
    async fn run(mut self) {
        let mut inbox = Inbox::new();
        loop {
            tokio::select! {
                answers = self.answers.recv() => match answers {
                    Some(answers) => drop(self.sockets.send(&answers).await),
                    None => return,
                },
                received = self.sockets.recv(&mut inbox) => match received {
                    Ok(()) => self.take(&inbox).await,
                    Err(error) => return drop(self.passed.send(Err(error)).await),
                },
                Ok(()) = self.rekeyed.changed() => {
                    let keys = self.rekeyed.borrow_and_update().clone();
                    self.gate.set_keys(keys);
                }
            }
        }
    }

    async fn take(&mut self, inbox: &Inbox) {
        let (mut answers, mut passed) = (Vec::new(), Vec::new());
        let now = self.clock.now();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.sort(&mut self.gate, now, inbox, &mut answers, |asked| passed.push(asked));
        }
        if !answers.is_empty() {
            self.sockets.send(&answers).await;
        }
        if !passed.is_empty() {
            // A desk that is closed wants none.
            let _ = self.passed.send(Ok(passed)).await;
        }
    }
}
