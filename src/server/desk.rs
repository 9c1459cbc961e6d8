//! The one owner of the registry: takes what comes, in the log's order, and says what became of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{Alarm, Clock, Now};
use crate::cookie::Key;
use crate::datadir::DataDir;
use crate::events::EventSender;
use crate::gate::Gate;
use crate::journal::{FileJournal, Journal, Outcome};
use crate::path::Transmit;
use crate::proto::Request;
use crate::registry::{self, Handled, Registry};
use crate::roster::FinalizedWindow;
use crate::snapshot::{Past, Snapshot};
use crate::tally::{RejectReason, Tally};
use crate::udp::{Inbox, Sockets};
use crate::window::{Wall, Window};

use super::announce::Announcement;
use super::archivist::{Archivist, Kept};
use super::door::{Asked, Doors, Seen};
use super::{Event, RunError, Server};

/// Answers that are made before they are sent: after a stall of the disk thousands may be due, and what
/// memory they take at once is kept.
const AT_ONCE: usize = 256;

/// How long a stop waits for the log and the documents.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// How often watchers are shown how it stands, at most.
const SHOW: Duration = Duration::from_millis(250);

/// How often it is told what was rejected away, at most.
const REPORT_REJECTED: Duration = Duration::from_secs(10);

/// The one owner of the registry.
pub(super) struct Desk {
    clock: Clock,
    /// Its lock is held as long as the registry runs.
    _data: DataDir,
    registry: Registry,
    journal: FileJournal,
    sockets: Arc<Sockets>,
    /// The first door, which is this thread's, and the others.
    gate: Gate,
    seen: Seen,
    doors: Doors,
    events: EventSender<Event>,
    archivist: Archivist,
    /// Records that the journal has and has not spoken of.
    under_way: usize,
    log_refuses: bool,
    announcement: Option<Announcement>,
    /// Windows that have a file in the log.
    logged: BTreeSet<Window>,
    /// Windows with members whose document is not durable yet: their log stays.
    undocumented: BTreeSet<Window>,
    answers: Vec<Transmit>,
    /// What watchers are shown, and when they are shown it again.
    snapshot: Snapshot,
    shown: watch::Sender<Arc<Snapshot>>,
    show_at: Duration,
    /// What was rejected away, and what of it has been told.
    rejected: Tally,
    told: Tally,
    tell_at: Duration,
}

impl Desk {
    /// The desk of a server that has read its log.
    pub(super) fn new(
        server: Server,
        sockets: Sockets,
        doors: Doors,
        archivist: Archivist,
        events: mpsc::Sender<Event>,
    ) -> Desk {
        let Server { clock, data, gate, registry, journal, shown, logged, .. } = server;
        let snapshot = shown.borrow().as_ref().clone();
        Desk {
            clock,
            _data: data,
            registry,
            journal,
            sockets: Arc::new(sockets),
            gate,
            seen: Seen::default(),
            doors,
            events: EventSender::new(events, Event::NotShown),
            archivist,
            under_way: 0,
            log_refuses: false,
            announcement: None,
            logged,
            undocumented: BTreeSet::new(),
            answers: Vec::new(),
            snapshot,
            shown,
            show_at: Duration::ZERO,
            rejected: Tally::default(),
            told: Tally::default(),
            tell_at: Duration::ZERO,
        }
    }

    /// Serves until `shutdown`.
    pub(super) async fn run(
        mut self,
        mut kept: mpsc::UnboundedReceiver<Kept>,
        mut rekeyed: watch::Receiver<Vec<Key>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (mut shutdown, mut inbox) = (pin!(shutdown), Inbox::new());
        self.follow_replay();
        self.registry.handle_timeout(self.clock.now());
        loop {
            // In every turn: under a flood the timer's branch may never get to fire.
            self.registry.handle_timeout(self.clock.now());
            self.follow_events();
            self.propose();
            self.send_answers().await;
            self.tell_turned();
            self.show();
            let alarm = self.alarm();
            tokio::select! {
                () = &mut shutdown => break,
                outcome = self.journal.next() => self.settle(outcome).await?,
                received = self.sockets.recv(&mut inbox) => {
                    received?;
                    self.receive(&inbox);
                }
                asked = self.doors.next() => {
                    let now = self.clock.now();
                    asked?.into_iter().for_each(|asked| self.take(now, asked));
                }
                Some(kept) = kept.recv() => self.note_kept(kept),
                Ok(()) = rekeyed.changed() => {
                    let keys = rekeyed.borrow_and_update().clone();
                    self.doors.set_keys(keys.clone());
                    self.gate.set_keys(keys);
                }
                () = self.clock.sleep(alarm) => self.registry.handle_timeout(self.clock.now()),
            }
        }
        self.stop().await
    }

    fn receive(&mut self, inbox: &Inbox) {
        let now = self.clock.now();
        let mut passed = Vec::new();
        let pass = |asked| passed.push(asked);
        self.seen.sort(&mut self.gate, now, inbox, &mut self.answers, pass);
        passed.into_iter().for_each(|asked| self.take(now, asked));
    }

    fn take(&mut self, now: Now, Asked { path, request, trusted }: Asked) {
        if let Request::Ack(ack) = request {
            let announcement = self.announcement.as_ref().ok_or(RejectReason::NoMember);
            return match announcement.and_then(|it| it.acked(path, ack)) {
                Ok(()) => {}
                Err(why) => self.rejected.count(why),
            };
        }
        match self.registry.handle(now, path, request, trusted) {
            Handled::Answer(transmit) => {
                self.snapshot.totals.answered += 1;
                self.answers.push(transmit);
            }
            Handled::Refused(transmit, why) => self.refuse(transmit, why),
            Handled::Proposed => {}
            Handled::Nothing(why) => self.rejected.count(why),
        }
    }

    fn refuse(&mut self, transmit: Transmit, why: RejectReason) {
        self.rejected.count(why);
        self.answers.push(transmit);
    }

    /// Hands the log what is proposed, one batch at a time: what comes meanwhile waits, and shares
    /// the next sync. An opening waits for nothing.
    fn propose(&mut self) {
        if self.under_way > 0 && !self.registry.is_opening() {
            return;
        }
        let batch = self.registry.poll_proposals();
        if !batch.is_empty() {
            self.under_way += batch.len();
            self.logged.extend(batch.iter().map(|(_, record)| record.window()));
            self.journal.propose(batch);
        }
    }

    async fn settle(&mut self, outcome: Outcome) -> Result<(), RunError> {
        let now = self.clock.now();
        match outcome {
            Outcome::Durable(batch) => {
                self.under_way -= batch.len();
                self.snapshot.totals.recorded += batch.len() as u64;
                for (ticket, record) in batch {
                    let answer = self.registry.commit(now, Some(ticket), record);
                    self.snapshot.totals.answered += u64::from(answer.is_some());
                    self.answers.extend(answer);
                    if self.answers.len() >= AT_ONCE {
                        self.send_answers().await;
                    }
                }
                self.log_is_back();
            }
            Outcome::Refused { batch, why } => {
                self.under_way -= batch.len();
                for transmit in self.registry.refuse(now, batch) {
                    self.refuse(transmit, RejectReason::Unavailable);
                }
                self.log_is_out(why);
            }
            Outcome::Down(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn log_is_back(&mut self) {
        if std::mem::take(&mut self.log_refuses) {
            self.tell(Event::LogRecovered);
        }
    }

    fn log_is_out(&mut self, why: String) {
        if !std::mem::replace(&mut self.log_refuses, true) {
            self.tell(Event::LogRefuses(why));
        }
    }

    async fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.doors.send(&mut self.answers);
            self.sockets.send(&self.answers).await;
            self.answers.clear();
        }
    }

    fn follow_events(&mut self) {
        while let Some(event) = self.registry.poll_event() {
            match event {
                registry::Event::Opened(_) => self.snapshot.totals.opened += 1,
                registry::Event::Missed(_) => self.snapshot.totals.missed += 1,
            }
            // Not what the log says: its disk may have made it later than that.
            let now = self.clock.now().wall;
            let past = self.follow_event(event, |_| now);
            self.tell(Event::Window(past));
        }
    }

    /// What was replayed has been told and counted before, and opened when the log says.
    fn follow_replay(&mut self) {
        while let Some(event) = self.registry.poll_event() {
            self.follow_event(event, |window| window.opened().unwrap_or(window.closes()));
        }
    }

    fn follow_event(
        &mut self,
        event: registry::Event,
        opened: impl FnOnce(&FinalizedWindow) -> Wall,
    ) -> Past {
        let (window, late) = match event {
            registry::Event::Opened(window) => {
                let late = window.window().opens().until(opened(&window));
                self.announce(window.clone());
                (window, Some(late))
            }
            registry::Event::Missed(window) => {
                self.undocumented.insert(window.window());
                self.archivist.keep(window.clone());
                (window, None)
            }
        };
        let (members, rooms) = (window.len(), window.rosters().len());
        let past = Past { window: window.window(), members, rooms, late };
        self.snapshot.remember(past);
        self.show_at = Duration::ZERO;
        past
    }

    /// Tells the members of a window, unless its time is over already: it was replayed.
    fn announce(&mut self, window: Arc<FinalizedWindow>) {
        self.forget_closed(window.window());
        let now = self.clock.now();
        self.announcement = None;
        if !window.is_empty() {
            self.undocumented.insert(window.window());
        }
        if window.is_empty() {
            // Nobody to tell, and nothing to write.
        } else if now.wall < window.closes() {
            let (sockets, archivist) = (self.sockets.clone(), self.archivist.clone());
            self.announcement =
                Some(Announcement::begin(window.clone(), self.clock, sockets, archivist));
        } else {
            self.archivist.keep(window.clone());
        }
    }

    /// When there is something to do although nothing comes.
    fn alarm(&self) -> Alarm {
        let registry = self.registry.poll_timeout(self.clock.now());
        let show = (!self.shown.is_closed()).then_some(self.show_at);
        Alarm { mono: registry.mono.into_iter().chain(show).min(), ..registry }
    }

    /// Shows watchers how it stands: at once if a window has opened, else a few times a second.
    fn show(&mut self) {
        let now = self.clock.now();
        if now.mono < self.show_at || self.shown.is_closed() {
            return;
        }
        self.show_at = now.mono + SHOW;
        (self.snapshot.next, self.snapshot.waiting) = self.registry.next();
        self.snapshot.at = now.wall;
        self.snapshot.current = self.registry.current().clone();
        let seen = self.count();
        self.snapshot.totals.received = seen.received;
        self.snapshot.totals.challenged = seen.challenged;
        self.snapshot.rejected = seen.rejected;
        self.snapshot.log_works = !self.log_refuses;
        self.shown.send_replace(Arc::new(self.snapshot.clone()));
    }

    fn note_kept(&mut self, kept: Kept) {
        match kept {
            Kept::Durable(window) => {
                self.undocumented.remove(&window);
                self.tell(Event::DocumentWritten(window));
                self.forget_closed(self.registry.current().window());
            }
            Kept::Failed(why) => self.tell(Event::DocumentFails(why)),
        }
    }

    /// Lets go of the log of windows that have closed and whose document is durable.
    fn forget_closed(&mut self, current: Window) {
        let closed: Vec<Window> = self.logged.range(..current).copied().collect();
        for window in closed {
            if !self.undocumented.contains(&window) {
                self.logged.remove(&window);
                self.journal.discard(window);
            }
        }
    }

    /// What has been seen at all doors and rejected away here.
    fn count(&self) -> Seen {
        let mut seen = self.seen;
        self.doors.count(&mut seen);
        seen.rejected.add(&self.rejected);
        seen.rejected.set(RejectReason::Unsent, self.sockets.failures() + self.doors.failures());
        seen
    }

    /// Never a line a datagram: whoever sends them would fill the log.
    fn tell_turned(&mut self) {
        let now = self.clock.now().mono;
        if now < self.tell_at {
            return;
        }
        let rejected = self.count().rejected;
        if rejected != self.told {
            self.tell(Event::Rejected(rejected.since(&self.told)));
            (self.told, self.tell_at) = (rejected, now + REPORT_REJECTED);
        }
    }

    fn tell(&mut self, event: Event) {
        // The receiver may be gone: events are optional.
        self.events.send(event);
    }

    /// What was proposed is still answered, and the documents under way are finished.
    async fn stop(mut self) -> Result<(), RunError> {
        let finish = async {
            while self.under_way > 0 {
                let outcome = self.journal.next().await;
                self.settle(outcome).await?;
            }
            self.send_answers().await;
            self.doors.close();
            self.follow_events();
            drop(self.announcement.take());
            self.archivist.finish().await;
            Ok(())
        };
        tokio::time::timeout(SHUTDOWN_TIMEOUT, finish).await.unwrap_or(Ok(()))
    }
}
