//! Checks the rules from outside, by the datagrams, the journal and the documents. No check asks
//! the code under test whether it is right.
//!
//! Each rule has a struct with its own state; [`Rules`] passes events of the world to them, and
//! keeps the first violation.

pub(crate) mod acked_means_in;
mod bounded;
pub(crate) mod everyone_meets;
mod frozen;
mod history;
mod never_half_dead;
mod never_held_up;
mod next_minute;
mod no_amplifier;
mod no_peeking;
mod remarks;
#[cfg(test)]
mod tests;
mod time_never_runs_back;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::path::{Path, Transmit};
use hit7::peer::Event;
use hit7::proto::{Ack, Datagram, Greeted, Id, Pass, Registered, Request, RequestKind, Room};
use hit7::record::{Entry, Opening, Record};
use hit7::registry::Handled;
use hit7::roster::FinalizedWindow;
use hit7::window::{Wall, Window};
use serde_json::{Value, json};

use crate::faults::Counts;
use crate::host::Flags;
use crate::journal::{JournalFile, JournalFiles, SimulatedJournal};
use crate::model::{
    Broken, Check, Filling, IdState, List, Members, Model, Rule, Settings, Verdict, members_of,
};
use crate::network::Packet;

pub(crate) use acked_means_in::Asked;
use acked_means_in::{AckedMeansIn, check_faithful};
use bounded::Bounded;
use everyone_meets::EveryoneMeets;
use frozen::Frozen;
use history::History;
use never_half_dead::NeverHalfDead;
use never_held_up::NeverHeldUp;
use no_amplifier::{NoAmplifier, is_trusted};
use time_never_runs_back::TimeNeverRunsBack;

/// The time in which a registry without faults must catch up: a sync may be slow, and so may the
/// next.
const PATIENCE: Duration = Duration::from_secs(12);

/// A broken rule, with what happened and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
    pub(crate) at: Duration,
}

/// All rules with their states. A parameter `steady` is how long the registry has been free of
/// faults.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The present time of the world.
    pub(crate) t: Duration,
    pub(crate) broken: Option<Violation>,
    /// How often each remarkable event was seen.
    pub(crate) seen: Counts,
    history: History,
    acked_means_in: AckedMeansIn,
    frozen: Frozen,
    time_never_runs_back: TimeNeverRunsBack,
    pub(crate) everyone_meets: EveryoneMeets,
    no_amplifier: NoAmplifier,
    bounded: Bounded,
    never_held_up: NeverHeldUp,
    never_half_dead: NeverHalfDead,
}

impl Rules {
    pub(crate) fn new(flags: Flags, every_pair: bool) -> Rules {
        let history = History::new(flags.settings());
        let found = history.model.next.clone();
        Rules {
            t: Duration::ZERO,
            broken: None,
            seen: Counts::default(),
            history,
            acked_means_in: AckedMeansIn::default(),
            frozen: Frozen::default(),
            time_never_runs_back: TimeNeverRunsBack::default(),
            everyone_meets: EveryoneMeets::new(every_pair),
            no_amplifier: NoAmplifier::default(),
            bounded: Bounded::new(flags.caps, flags.rate, found),
            never_held_up: NeverHeldUp::default(),
            never_half_dead: NeverHalfDead::default(),
        }
    }

    /// Keeps the error of a check if it is the first one.
    fn judge(&mut self, check: Check) {
        if let Err(Broken { rule, what }) = check {
            let at = self.t;
            self.broken.get_or_insert(Violation { rule, what, at });
        }
    }

    /// Returns a member of the next window that is not in the current one.
    pub(crate) fn someone_of_the_next(&self, but: SocketAddr) -> Option<SocketAddr> {
        let model = &self.history.model;
        let is_it = |addr: &&SocketAddr| **addr != but && !model.current.members.contains_key(addr);
        model.next.members.keys().find(is_it).copied()
    }

    // Events of the journal.

    /// Called when the registry has read its journal with these flags; `resumed` is whether it
    /// accepted it.
    pub(crate) fn on_start(
        &mut self,
        wall: Wall,
        resumed: bool,
        journal: &JournalFiles,
        flags: Flags,
    ) {
        let before = self.history.model.next.clone();
        let read = self.history.reread(journal, flags.settings());
        self.judge(read);
        let next = &self.history.model.next;
        if next.window == before.window && next.settings.length != before.settings.length {
            self.seen.note("a window without a record got another length");
        }
        self.acked_means_in.on_start();
        let found = self.history.model.next.clone();
        self.bounded = Bounded::new(flags.caps, flags.rate, found);
        self.never_held_up.on_start();
        self.never_half_dead.on_journals(journal.keys().copied());
        self.judge(self.time_never_runs_back.on_start(&self.history, wall, resumed));
        self.history.see(wall);
    }

    /// Called after a crash with the records that survived without having been reported.
    pub(crate) fn on_crash(&mut self, survived: &[Record]) {
        self.on_synced(survived);
    }

    /// Called when the registry's wall clock was stepped.
    pub(crate) fn on_step(&mut self, from: Wall, to: Wall) {
        self.history.stepped = true;
        self.history.see(from);
        self.history.see(to);
    }

    /// Called when a record goes to the journal, with the request that it answers.
    pub(crate) fn on_proposed(&mut self, record: &Record, asked: Option<Asked>, wall: Wall) {
        self.history.see(wall);
        self.acked_means_in.on_proposed(record);
        self.time_never_runs_back.on_proposed(record, self.t);
        self.judge(match (record, &asked) {
            (Record::Open(it), None) => no_peeking::check_opening(&self.history, it, wall),
            (Record::Missed(_), None) => Ok(()),
            _ => check_faithful(record, asked),
        });
    }

    /// Called with the time by which the registry accepts a request or opens a window, and the times
    /// that it may go by.
    pub(crate) fn on_time(&mut self, wall: Wall, trusted: [Wall; 2]) {
        self.judge(time_never_runs_back::check_time(wall, trusted));
    }

    /// Called when records have become durable.
    pub(crate) fn on_synced(&mut self, records: &[Record]) {
        self.judge(self.no_amplifier.on_synced(records));
        self.time_never_runs_back.on_synced(records);
        let synced = self.acked_means_in.on_synced(records);
        self.judge(synced);
        self.never_half_dead.on_journals(records.iter().map(Record::window));
    }

    /// Called when the document of a window, or of all, cannot be written until then.
    pub(crate) fn on_documents_fail(&mut self, window: Option<Window>, until: Duration) {
        self.never_half_dead.on_documents_fail(window, until);
    }

    /// Called when a document could not be written.
    pub(crate) fn on_document_failed(&mut self, window: Window) {
        self.never_half_dead.on_document_failed(window, self.t);
    }

    /// Called while the journal is gone, with nothing under way, and whether the registry says that it
    /// works.
    pub(crate) fn on_loss(&mut self, gone: Duration, said_to_work: bool) {
        self.judge(self.never_half_dead.on_loss(gone, said_to_work));
    }

    /// Called with the number of windows in memory besides the current one and the one whose document
    /// is being written.
    pub(crate) fn on_held(&mut self, held: usize) {
        self.judge(self.bounded.on_held(held));
    }

    /// Called when a batch was refused: its records must never be in the journal again.
    pub(crate) fn on_refused(&mut self, batch: &[Entry]) {
        self.acked_means_in.on_refused(batch);
    }

    /// Called when a member's WINDOW finds a full socket, and is given back.
    pub(crate) fn on_full(&mut self, member: SocketAddr) {
        self.never_held_up.on_full(member);
    }

    /// Called when a record takes effect.
    pub(crate) fn on_commit(&mut self, record: &Record, wall: Wall) {
        self.acked_means_in.on_commit();
        self.judge(self.time_never_runs_back.on_commit(record, self.t));
        self.history.see(wall);
        if let Some(remark) = remarks::of_record(&self.history.model, record) {
            self.seen.note(remark);
        }
        let applied = self.history.apply(record);
        self.judge(applied);
        self.judge(next_minute::check_record(&self.history, record));
        if let Record::Register(it) = record {
            self.judge(self.bounded.on_entered(&self.history.model.next, it.path.peer));
        }
    }

    // Events of windows.

    pub(crate) fn on_opened(&mut self, frozen: &FinalizedWindow) {
        let (new, own) = (self.history.model.settings, self.history.settings(frozen.window()));
        let is_large = |cap: usize| frozen.rosters().iter().any(|it| it.len() > cap + 1);
        if is_large(own.cap) {
            self.seen.note("a room larger than the list cap");
        }
        if own.length != new.length {
            self.seen.note("a window kept the length with which it began");
        }
        if is_large(own.cap.min(new.cap)) && own.cap != new.cap {
            self.seen.note("a large room kept the list cap with which it began");
        }
        let members = members_of(frozen).into_keys();
        self.never_held_up.on_opened((frozen.window(), frozen.closes()), members, self.t);
        self.on_ended(frozen);
    }

    /// Called when a window was missed.
    pub(crate) fn on_missed(&mut self, window: Window, steady: Duration) {
        self.judge(time_never_runs_back::check_missed(&self.history, window, steady));
    }

    /// Called with the rosters of a window that was opened or missed.
    pub(crate) fn on_ended(&mut self, frozen: &FinalizedWindow) {
        let kept = self.acked_means_in.on_ended(&self.history, frozen);
        self.judge(kept);
    }

    pub(crate) fn on_document(&mut self, window: Window, document: &str) {
        let same = self.frozen.on_document(window, document);
        self.judge(same);
        self.judge(no_peeking::check_document(&self.history, window));
        self.judge(self.acked_means_in.on_document(&self.history, window, document));
        self.never_half_dead.on_document(window);
    }

    /// Called after journals were discarded, with the number of those still `needed`.
    pub(crate) fn on_discards(&mut self, journal: &SimulatedJournal, needed: usize) {
        let left = journal.windows();
        let held = left.len();
        self.judge(Rule::Bounded.require(held <= needed, || {
            format!("there are journals of {held} windows, of which {needed} are needed")
        }));
        self.never_half_dead.on_discards(left);
    }

    /// Called after every step: checks that the registry agrees with the journal, and is not late.
    pub(crate) fn on_rest(
        &mut self,
        current: &FinalizedWindow,
        next: (Window, usize),
        wall: Wall,
        steady: Duration,
    ) {
        self.judge(time_never_runs_back::check_current(&self.history, current, wall, steady));
        self.judge(self.acked_means_in.on_rest(&self.history, next));
        self.judge(self.never_half_dead.on_rest(&self.history, self.t, wall, steady));
        let told = self.never_held_up.on_rest(self.t, wall);
        self.judge(told);
    }

    /// Called while the journal is down, with the number of requests that wait and have not been
    /// submitted to it.
    pub(crate) fn on_outage(&mut self, held_up: usize) {
        self.judge(Rule::NeverHeldUp.require(held_up == 0, || {
            format!("{held_up} requests wait for a journal that is down")
        }));
    }

    pub(crate) fn on_end(&mut self, steady: Duration) {
        self.judge(self.never_half_dead.on_end(&self.history, self.t, steady));
        self.judge(self.frozen.on_end(&self.history));
    }

    // Datagrams to and from the registry.

    /// Called when one of hit7's own clients sends a request.
    pub(crate) fn on_peer_asks(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.no_amplifier.on_peer_asks(from, bytes);
    }

    /// Called when a datagram has come to the registry.
    pub(crate) fn on_hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.no_amplifier.on_hear(from, bytes);
    }

    /// Called when a request has passed the gate.
    pub(crate) fn on_passed(&mut self, from: SocketAddr, request: &Request) {
        self.judge(self.no_amplifier.on_passed(from));
        let within = self.bounded.on_passed(self.t, from, request.kind == RequestKind::Leave);
        self.judge(within);
    }

    /// Called when an ACK has passed the gate.
    pub(crate) fn on_ack(&mut self, from: SocketAddr, ack: &Ack) {
        let current = &self.history.model.current;
        let Some((addr, member)) = current.find(ack.id.as_ref(), from) else { return };
        let pass = self.frozen.pass_of(ack.window, &member.profile.room);
        if current.window == Some(ack.window) && pass == Some(&ack.pass) {
            self.bounded.on_ack(addr, ack.window);
        }
    }

    /// Called with the immediate answers to one datagram.
    pub(crate) fn on_answered(&mut self, packet: &Packet, answers: &[Transmit]) {
        self.judge(self.no_amplifier.on_answered(packet, answers));
    }

    /// Checks that the registry has sent no more datagrams (`said`) than were due (`meant`).
    pub(crate) fn on_said(&mut self, meant: usize, said: usize) {
        self.judge(
            Rule::Bounded
                .require(said <= meant, || format!("{said} datagrams where {meant} were due")),
        );
    }

    /// Called when the registry has handled a request while nothing is in flight.
    pub(crate) fn on_handled(
        &mut self,
        wall: Wall,
        path: Path,
        request: &Request,
        handled: &Handled,
    ) {
        self.history.see(wall);
        let model = &self.history.model;
        let verdict = model.verdict(request, path.peer, wall);
        if let Some(remark) = remarks::of_request(model, request, path.peer, verdict) {
            self.seen.note(remark);
        }
        self.judge(model.check_handled(request, path.peer, wall, handled));
    }

    /// Called when an answer found a full socket and is lost, although the registry has handled the
    /// request.
    pub(crate) fn on_unsent(&mut self, transmit: &Transmit) {
        let Ok(datagram) = Datagram::decode(&transmit.payload) else { return };
        if let Datagram::Registered(it) = &datagram {
            self.acked_means_in.on_granted(transmit.path.peer, it);
        }
        let check = self.history.model.check_answer(transmit.path.peer, &datagram);
        self.judge(check);
    }

    /// Called with the datagrams that the registry sends.
    pub(crate) fn on_transmits(&mut self, transmits: &[Transmit], wall: Wall) {
        self.history.see(wall);
        for transmit in transmits {
            let check = self.on_transmit(transmit, wall);
            self.judge(check);
        }
    }

    fn on_transmit(&mut self, transmit: &Transmit, wall: Wall) -> Check {
        let to = transmit.path.peer;
        self.no_amplifier.on_transmit(transmit)?;
        no_peeking::check_bytes(&self.history.model, transmit)?;
        let datagram = Datagram::decode(&transmit.payload);
        match &datagram {
            Ok(Datagram::Challenge(it)) => self.no_amplifier.on_challenge(to, it.cookie.clone()),
            Ok(Datagram::Window(it)) => {
                time_never_runs_back::check_announced(&self.history, it.window, wall)?;
                Rule::NoPeeking
                    .require(it.you == to, || format!("{to} is told what {} is due", it.you))?;
                self.bounded.on_window(to, it.window, it.page.part)?;
                self.never_held_up.on_told(it.window, to, self.t)?;
            }
            Ok(Datagram::Registered(it)) => self.acked_means_in.on_promise(to, it),
            Ok(Datagram::Left(_) | Datagram::Peers(_) | Datagram::Error(_)) => {}
            other => Rule::Frozen.require(false, || format!("a registry says {other:?}"))?,
        }
        let Ok(datagram) = &datagram else { return Ok(()) };
        self.history.model.check_answer(to, datagram)?;
        List::in_datagram(datagram, to).map_or(Ok(()), |list| self.on_list(&list))
    }

    fn on_list(&mut self, list: &List<'_>) -> Check {
        if list.own.is_none() && list.page.parts > 1 {
            self.seen.note("a roster of more than one part");
        }
        no_peeking::check_told(&self.history, list.window)?;
        self.history.model.check_list(list)?;
        self.frozen.on_list(list)
    }

    // Events of peers.

    /// Checks an event of a peer: the peer must ignore forged datagrams, and hold the right list.
    pub(crate) fn on_peer_event(&mut self, place: usize, id: &Id, room: &Room, event: &Event) {
        let check = match event {
            Event::Registered { window, .. } => self.acked_means_in.on_believed(id, *window),
            Event::Opened { .. } => frozen::check_held(&self.history, id, room, event),
            Event::Met { peer, .. } => self.everyone_meets.on_met(place, id, *peer),
            _ => Ok(()),
        };
        self.judge(check);
    }

    /// Checks the pairs whose window has ended: `steady_since` returns since when a peer and the
    /// registry have been free of faults.
    pub(crate) fn judge_meetings(&mut self, steady_since: impl Fn(usize) -> Duration) {
        let check = self.everyone_meets.on_due(self.t, steady_since);
        self.judge(check);
    }
}
