//! Sends one window's fan-out, beside the registry, so that requests are served meanwhile.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::{Alarm, Clock, Now};
use crate::fanout::{Fanout, acked_by};
use crate::path::{Path, Train};
use crate::proto::Ack;
use crate::roster::FinalizedWindow;
use crate::tally::RejectReason;
use crate::udp::Outbox;

use super::archivist::Archivist;

/// Datagrams that leave before others get their turn.
const BATCH: usize = 64;

/// How long a train that there is no room for is held.
const HOLD: Duration = Duration::from_millis(10);

/// ACKs that may wait: more are dropped, and cost a repeat each.
const WAITING_ACKS: usize = 4096;

/// A window's announcement under way; dropped, it stops.
pub(super) struct Announcement {
    window: Arc<FinalizedWindow>,
    acks: mpsc::Sender<(Path, Ack)>,
    task: JoinHandle<()>,
}

impl Announcement {
    /// Begins to tell the members; once all have been told, the archivist gets the window.
    pub(super) fn begin(
        window: Arc<FinalizedWindow>,
        clock: Clock,
        outbox: Outbox,
        untold: Arc<AtomicU64>,
        archivist: Archivist,
    ) -> Announcement {
        let (acks, acked) = mpsc::channel(WAITING_ACKS);
        let fanout = Fanout::new(window.clone(), clock.now());
        let unkept = Some(window.clone());
        let held = (Duration::ZERO, Vec::new());
        let herald = Herald { fanout, clock, outbox, held, untold, acked, unkept, archivist };
        Announcement { window, acks, task: tokio::spawn(herald.run()) }
    }

    /// Passes an ACK on, if it is a member's: others must not take their place in the queue.
    pub(super) fn acked(&self, path: Path, ack: Ack) -> Result<(), RejectReason> {
        acked_by(&self.window, path, &ack).ok_or(RejectReason::NoMember)?;
        let _ = self.acks.try_send((path, ack));
        Ok(())
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Herald {
    fanout: Fanout,
    clock: Clock,
    outbox: Outbox,
    /// Trains that there was no room for, and when they are offered again.
    held: (Duration, Vec<Train>),
    untold: Arc<AtomicU64>,
    acked: mpsc::Receiver<(Path, Ack)>,
    /// The window, until the archivist has it; also if this is dropped before.
    unkept: Option<Arc<FinalizedWindow>>,
    archivist: Archivist,
}

impl Herald {
    async fn run(mut self) {
        loop {
            self.take_acks();
            let now = self.clock.now();
            if self.tell(now) {
                tokio::task::yield_now().await;
                continue;
            }
            if self.fanout.has_told_all() {
                self.keep();
            }
            let (again, held) = &self.held;
            let again = (!held.is_empty()).then_some(*again);
            let due = [self.fanout.poll_timeout(now), again].into_iter().flatten().min();
            let Some(due) = due else { return };
            tokio::select! {
                () = self.clock.sleep(Alarm::mono(Some(due))) => {}
                Some((path, ack)) = self.acked.recv() => self.fanout.handle_ack(path, &ack),
            }
        }
    }

    /// Tells some of those whose turn it is, if there are any.
    fn tell(&mut self, now: Now) -> bool {
        let unsent = self.outbox.unsent().windows;
        if self.held.0 <= now.mono {
            mem::take(&mut self.held.1).into_iter().for_each(|train| self.offer(now, train));
        }
        let mut sent = 0;
        while sent < BATCH
            && let Some(train) = self.fanout.poll_transmit(now)
        {
            sent += train.datagrams().len();
            self.offer(now, train);
        }
        self.untold.fetch_add(self.outbox.unsent().windows - unsent, Relaxed);
        sent > 0
    }

    fn offer(&mut self, now: Now, train: Train) {
        if let Err(train) = self.outbox.offer_train(train) {
            if self.held.1.is_empty() {
                self.held.0 = now.mono + HOLD;
            }
            self.held.1.push(train);
        }
    }

    fn take_acks(&mut self) {
        while let Ok((path, ack)) = self.acked.try_recv() {
            self.fanout.handle_ack(path, &ack);
        }
    }

    fn keep(&mut self) {
        if let Some(window) = self.unkept.take() {
            self.archivist.keep(window);
        }
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.keep();
    }
}
