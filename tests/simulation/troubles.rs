//! Draws from a world's seed which faults occur, when, and what they do.

use std::net::SocketAddr;
use std::time::Duration;

use hit7::clock::Now;
use hit7::limit::Rate;
use hit7::mesh::ListCap;
use hit7::registry::Caps;
use hit7::roster::{FinalizedWindow, Member, Roster};
use hit7::window::{Length, Wall};

use crate::faults::{Dice, Fault, Faults};
use crate::mutations::Mutation;
use crate::rules::everyone_meets::Pair;
use crate::world::{Agenda, REGISTRY, Setup, World, addr, secs};

impl Setup {
    /// Returns the setup of a seed: its kinds of fault, their frequency, its peers and minutes.
    pub(crate) fn of(seed: u64) -> Setup {
        let mut dice = Dice::new(seed, Faults::default().with(Fault::Chance));
        let mut faults = Faults::default();
        let share = *dice.pick(Fault::Chance, &[0.2, 0.5, 0.8]);
        for &kind in Fault::ALL {
            let rare = if kind == Fault::Crowd { 0.15 } else { 1.0 };
            if dice.roll(Fault::Chance, share * rare) {
                faults = faults.with(kind);
            }
        }
        let seconds = *dice.pick(Fault::Chance, &[60, 60, 60, 20, 20, 5]);
        let length = Length::new(secs(seconds)).unwrap();
        let into = dice.draw(Fault::Chance, 0, seconds * 1000);
        let is_long = [Fault::Flags, Fault::Documents].iter().any(|&kind| faults.has(kind));
        let span = (seconds * 7 / 2).max(if is_long { 60 } else { 0 });
        let begins: Wall = "2026-11-23T11:28:00Z".parse().unwrap();
        Setup {
            peers: dice.draw(Fault::Chance, 2, 7) as usize,
            loss: dice.draw(Fault::Chance, 1, 31),
            cap: *dice.pick(Fault::Chance, &[200, 200, 4, 8]),
            begins: begins.plus(Duration::from_millis(into)),
            span: secs(span),
            faults,
            length,
            ..Setup::plain(seed, 0)
        }
    }
}

/// The average number of rounds of trouble in a window.
const ROUNDS: u64 = 4;

impl World {
    pub(crate) fn plan_faults(&mut self) {
        for _ in 0..ROUNDS {
            self.plan(Fault::Crash, 0.6, Agenda::Crash);
            self.plan(Fault::Down, 0.15, Agenda::Crash);
            self.plan(Fault::Step, 0.5, Agenda::Step);
            self.plan(Fault::Jump, 0.3, Agenda::Jump);
            self.plan(Fault::Full, 0.4, Agenda::DiskFull);
            self.plan(Fault::Flags, 0.3, Agenda::Crash);
            self.plan(Fault::Gone, 0.3, Agenda::JournalGone);
            self.plan(Fault::Documents, 0.4, Agenda::DocumentsFail);
            self.plan(Fault::Partition, 0.5, Agenda::Partition);
            for place in 0..self.peers.len() {
                self.plan(Fault::NatChange, 0.15, Agenda::NatChange(place));
                self.plan(Fault::PeerStep, 0.15, Agenda::PeerStep(place));
                self.plan(Fault::PeerDeath, 0.15, Agenda::PeerDies(place));
                self.plan(Fault::Leaving, 0.1, Agenda::PeerLeaves(place));
            }
        }
    }

    fn plan(&mut self, kind: Fault, chance: f64, what: Agenda) {
        if self.dice.roll(kind, chance) {
            let at = self.some_time(kind);
            self.agenda(at, what);
        }
    }

    /// Returns a random time, in half of the cases one close to a boundary.
    pub(crate) fn some_time(&mut self, kind: Fault) -> Duration {
        let span = self.setup.span.as_millis() as u64;
        let at = self.dice.millis(kind, 0, span);
        if self.dice.draw(kind, 0, 2) == 0 {
            return at;
        }
        let clock = &self.host.clock;
        let boundary = self.setup.length.first_from(clock.wall(at)).opens();
        let around = self.dice.draw(kind, 0, 600) as i64 - 300;
        clock.when_wall(Wall::from_millis(boundary.millis() + around))
    }

    pub(crate) fn inject(&mut self, fault: Agenda) {
        self.trace(|| format!("now: {fault:?}"));
        match fault {
            Agenda::Crash => self.crash(),
            Agenda::Step => self.step_clock(),
            Agenda::Jump => self.jump_clock(),
            Agenda::JumpBack => self.jump_back(),
            Agenda::SetClockRight => self.set_clock_right(),
            Agenda::DiskFull => {
                self.host.journal.full_until = self.t + self.dice.millis(Fault::Full, 200, 20_000);
                self.host.steady_since = self.host.steady_since.max(self.host.journal.full_until);
            }
            Agenda::DocumentsFail => self.fail_documents(),
            Agenda::JournalGone => self.take_journal(),
            Agenda::JournalBack => self.return_journal(),
            Agenda::Partition => self.cut_network(),
            Agenda::NatChange(place) => self.change_nat(place),
            Agenda::PeerStep(place) => {
                self.seen.note("a peer's clock was set");
                let far = self.dice.draw(Fault::PeerStep, 0, 7_200_000) as i64 - 3_600_000;
                self.peers[place].clock.stepped = far;
            }
            Agenda::PeerDies(place) => self.kill_peer(place),
            Agenda::PeerLeaves(place) => self.withdraw_peer(place),
            Agenda::Boot | Agenda::PeerStarts(_) | Agenda::Client(_) => {}
        }
    }

    /// Draws other flags for a restart, in most cases.
    pub(crate) fn change_flags(&mut self) {
        const KIND: Fault = Fault::Flags;
        if self.t.is_zero() || !self.dice.roll(KIND, 0.7) {
            return;
        }
        let before = self.host.flags;
        let mut flags = before;
        if self.dice.draw(KIND, 0, 3) > 0 {
            let seconds = *self.dice.pick(KIND, &[5, 7, 20, 45, 60]);
            flags.length = Length::new(secs(seconds)).unwrap();
        }
        flags.cap = ListCap::new(*self.dice.pick(KIND, &[200, 8, 4, 2]));
        flags.caps = Caps {
            per_ip: *self.dice.pick(KIND, &[256, 256, 1, 0]),
            room: *self.dice.pick(KIND, &[100_000, 100_000, 3, 0]),
            window: *self.dice.pick(KIND, &[1_000_000, 1_000_000, 5, 0]),
            rooms: *self.dice.pick(KIND, &[10_000, 10_000, 1, 0]),
        };
        let rate = |per_second, burst| Rate { per_second, burst };
        flags.rate = *self.dice.pick(KIND, &[rate(0, 0), rate(50, 500), rate(4, 8)]);
        self.host.flags = flags;
        self.trace(|| format!("the registry is to start with {flags:?}"));
        if flags.length != before.length {
            self.seen.note("a restart had another window length");
        }
        if flags.cap != before.cap {
            self.seen.note("a restart had another list cap");
        }
        if (flags.caps, flags.rate) != (before.caps, before.rate) {
            self.seen.note("a restart had other caps or another rate");
        }
    }

    /// Lets the document of the next window, or all documents, fail for half a minute or longer.
    fn fail_documents(&mut self) {
        const KIND: Fault = Fault::Documents;
        const SHORTEST: Duration = Duration::from_secs(30);
        let until = self.host.documents_fail.map_or(Duration::ZERO, |(_, until)| until + secs(80));
        let Some(process) = &self.host.up else { return };
        if self.t < until || self.setup.span < self.t + SHORTEST + secs(1) {
            return;
        }
        let next = process.node.next().0;
        let one = self.dice.draw(KIND, 0, 2) == 0;
        self.seen.note(match one {
            true => "one document failed for half a minute or longer",
            false => "all documents failed for half a minute or longer",
        });
        let longest = (self.setup.span - self.t).as_millis() as u64;
        let until = self.t + self.dice.millis(KIND, SHORTEST.as_millis() as u64, longest);
        let which = one.then_some(next);
        self.host.documents_fail = Some((which, until));
        self.rules.on_documents_fail(which, until);
    }

    /// Takes the journal's files away, in most cases for a while only.
    fn take_journal(&mut self) {
        const KIND: Fault = Fault::Gone;
        if self.host.journal.is_gone() {
            return;
        }
        let length = self.host.flags.length.millis();
        let until = match self.dice.draw(KIND, 0, 20) {
            0 => Duration::MAX,
            1..10 => self.t + self.dice.millis(KIND, 50, 5_000),
            _ => self.t + self.dice.millis(KIND, 50, length * 2),
        };
        let moved = self.dice.draw(KIND, 0, 2) == 0;
        self.seen.note(match until {
            Duration::MAX => "the journal was deleted",
            _ if moved => "the journal was moved away",
            _ => "something else was put in the journal's place",
        });
        self.host.journal.take_away(self.t, until);
        self.host.steady_since = self.host.steady_since.max(until);
        if until < Duration::MAX {
            self.agenda(until, Agenda::JournalBack);
        }
    }

    fn return_journal(&mut self) {
        let journal = &mut self.host.journal;
        if journal.is_gone() && !journal.is_deleted() {
            journal.put_back();
            self.seen.note("the journal was put back");
        }
    }

    /// Puts the journal back for a start, if that is possible.
    pub(crate) fn find_journal(&mut self) -> bool {
        if self.host.journal.is_deleted() {
            self.seen.note("no start: the journal was deleted");
            return false;
        }
        self.return_journal();
        true
    }

    fn set_clock_right(&mut self) {
        self.host.jump = None;
        self.set_clock(0);
        self.disturb_registry();
        if self.host.up.is_none() {
            self.boot();
        }
    }

    fn change_nat(&mut self, place: usize) {
        let host = &mut self.peers[place];
        if let Some(nat) = &mut host.nat {
            nat.forget();
            host.steady_since = host.steady_since.max(self.t);
            self.seen.note("a NAT changed a mapping");
        }
    }

    fn kill_peer(&mut self, place: usize) {
        self.seen.note("a peer died");
        let host = &mut self.peers[place];
        (host.peer, host.steady_since) = (None, host.steady_since.max(self.t));
        let back = self.t + self.dice.millis(Fault::PeerDeath, 100, 40_000);
        self.agenda(back, Agenda::PeerStarts(place));
    }

    fn withdraw_peer(&mut self, place: usize) {
        let (t, host) = (self.t, &mut self.peers[place]);
        let now = Now { wall: host.clock.wall(t), mono: host.clock.mono(t) };
        if let Some(peer) = &mut host.peer {
            host.steady_since = Duration::MAX;
            peer.leave(now);
            self.drain(place);
        }
    }

    /// Reads the registry's wall clock; what is believed of it may change.
    pub(crate) fn look_at_clock(&mut self) {
        self.set_clock(self.host.clock.stepped);
    }

    /// Sets how far the registry's wall clock is wrong, in milliseconds, and reads it.
    fn set_clock(&mut self, stepped: i64) {
        let (t, before) = (self.t, self.host.clock.wall(self.t));
        self.host.clock.stepped = stepped;
        match self.setup.mutation {
            Some(Mutation::BelievesAtOnce) => self.host.clock.believe(t),
            _ => self.host.clock.look(t),
        }
        let after = self.host.clock.wall(t);
        if after.millis().abs_diff(before.millis()) > 1 {
            self.rules.on_step(before, after);
            self.disturb_registry();
        }
    }

    /// Sets the registry's wall clock hours or days wrong, in most cases for a while only.
    fn jump_clock(&mut self) {
        const HOUR: i64 = 3_600_000;
        if self.host.jump.is_some() {
            return;
        }
        let far = *self.dice.pick(Fault::Jump, &[2 * HOUR, 40 * 24 * HOUR, 365 * 24 * HOUR]);
        let back = self.dice.draw(Fault::Jump, 0, 2) == 0;
        self.seen.note(if back { "the clock jumped back" } else { "the clock jumped ahead" });
        let by = if back { -far } else { far };
        self.host.jump = Some((self.t, by));
        self.set_clock(self.host.clock.stepped + by);
        if self.dice.draw(Fault::Jump, 0, 5) > 0 {
            let later = self.t + self.dice.millis(Fault::Jump, 20, 180_000);
            self.agenda(later, Agenda::JumpBack);
        }
    }

    fn jump_back(&mut self) {
        let Some((_, by)) = self.host.jump.take() else { return };
        self.seen.note(match self.host.clock.doubted() {
            0 => "a jump of the clock was taken back after it was believed",
            _ => "a jump of the clock was taken back before it was believed",
        });
        if self.host.clock.doubted() == 0 {
            self.host.jump = Some((self.t, -by));
        }
        self.set_clock(self.host.clock.stepped - by);
    }

    /// Steps the registry's wall clock: a little, some windows, minutes, or back to the right time.
    fn step_clock(&mut self) {
        if self.host.clock.doubted() != 0 {
            return;
        }
        let length = self.setup.length.millis() as i64;
        let far = match self.dice.draw(Fault::Step, 0, 6) {
            0 => 540_000,
            1 => length * 5 / 2,
            2 => length,
            _ => 900,
        };
        let back = self.dice.draw(Fault::Step, 0, 2) == 0;
        self.seen.note(if back { "the clock was set back" } else { "the clock was set forward" });
        self.set_clock(self.host.clock.stepped + if back { -far } else { far });
    }

    fn cut_network(&mut self) {
        self.seen.note("a partition began");
        let until = self.t + self.dice.millis(Fault::Partition, 200, 15_000);
        let mut cut = Vec::new();
        if self.dice.draw(Fault::Partition, 0, 3) == 0 {
            cut.push(addr(REGISTRY).ip());
            self.host.steady_since = self.host.steady_since.max(until);
        }
        for host in &mut self.peers {
            if self.dice.draw(Fault::Partition, 0, 3) == 0 {
                cut.push(host.nat.as_ref().map_or(host.addr.ip(), |nat| nat.ip));
                host.steady_since = host.steady_since.max(until);
            }
        }
        self.network.cut.extend(cut.into_iter().map(|ip| (ip, until)));
    }

    /// Notes which pairs of peers must meet in a window that opens now.
    pub(crate) fn expect_meetings(&mut self, window: &FinalizedWindow) {
        let due = self.host.clock.when_wall(window.closes()).saturating_sub(secs(1));
        let as_told = self.rules.everyone_meets.ends_as_told(window.window(), due);
        if !as_told || due < self.t + secs(12) {
            return;
        }
        // The rule covers lists of up to 50 peers.
        for roster in window.rosters().iter().filter(|roster| roster.len() <= 51) {
            let members = roster.members().iter().enumerate();
            let there = |(number, member)| Some((number, self.place_of(member)?, member.path.peer));
            let there: Vec<_> = members.filter_map(there).collect();
            for &(number, place, _) in &there {
                let list = own_list(roster, number);
                for &(_, second, other) in &there {
                    if place != second && list.contains(&other) {
                        let (window, begun) = (window.window(), self.t);
                        let pair = Pair { window, places: [place, second], other, begun, due };
                        self.rules.everyone_meets.expect(pair);
                    }
                }
            }
        }
    }

    /// Returns the peer of a member, if it is alive and still at its address.
    fn place_of(&self, member: &Member) -> Option<usize> {
        self.peers.iter().position(|host| {
            host.peer.is_some()
                && member.id.as_ref() == Some(&host.config.id)
                && host.public(self.t) == Some(member.path.peer)
        })
    }

    /// Checks the pairs whose window has ended.
    pub(crate) fn judge_meetings(&mut self) {
        let registry = self.host.steady_since;
        let steady: Vec<Duration> =
            self.peers.iter().map(|host| host.steady_since.max(registry)).collect();
        self.rules.judge_meetings(|place| steady[place]);
    }
}

/// Returns the addresses in a member's own list.
fn own_list(roster: &Roster, member: usize) -> Vec<SocketAddr> {
    let own = roster.own_list(member);
    let pages = (0..own.parts()).filter_map(|part| own.page(part, roster.len()));
    pages.flat_map(|page| page.candidates().unwrap()).map(|peer| peer.addr).collect()
}
