//! Sends one window's fan-out, beside the registry, so that requests are served meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::{Alarm, Clock, Now};
use crate::fanout::{Fanout, acked_by};
use crate::path::Path;
use crate::proto::Ack;
use crate::roster::FinalizedWindow;
use crate::tally::DropReason;
use crate::udp::Sockets;

use super::archivist::Archivist;

/// Datagrams that leave before others get their turn.
const BATCH: usize = 64;

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
        sockets: Arc<Sockets>,
        archivist: Archivist,
    ) -> Announcement {
        let (acks, acked) = mpsc::channel(WAITING_ACKS);
        let fanout = Fanout::new(window.clone(), clock.now());
        let unkept = Some(window.clone());
        let herald = Herald { fanout, clock, sockets, acked, unkept, archivist };
        Announcement { window, acks, task: tokio::spawn(herald.run()) }
    }

    /// Passes an ACK on, if it is a member's: others must not take their place in the queue.
    pub(super) fn acked(&self, path: Path, ack: Ack) -> Result<(), DropReason> {
        acked_by(&self.window, path, &ack).ok_or(DropReason::NoMember)?;
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
    sockets: Arc<Sockets>,
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
            if self.tell(now).await {
                tokio::task::yield_now().await;
                continue;
            }
            if self.fanout.has_told_all() {
                self.keep();
            }
            let Some(due) = self.fanout.poll_timeout(now) else { return };
            tokio::select! {
                () = self.clock.sleep(Alarm::mono(Some(due))) => {}
                Some((path, ack)) = self.acked.recv() => self.fanout.handle_ack(path, &ack),
            }
        }
    }

    /// Tells some of those whose turn it is, if there are any.
    async fn tell(&mut self, now: Now) -> bool {
        let mut sent = 0;
        while sent < BATCH
            && let Some(train) = self.fanout.poll_transmit(now)
        {
            self.sockets.send_train(&train).await;
            sent += train.datagrams().len();
        }
        sent > 0
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
