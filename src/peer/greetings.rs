//! Greets the peers of one open window: sends GREET to each until it answers, and answers theirs.
//!
//! ```text
//!   0   100  200     400         800   1000    1500    2000  ms
//!   ├────┼────┼───────┼───────────┼─────┼───────┼───────┼── … each 500 ms to 10 s, then each 5 s
//!  GREET seq 17 ──▶ (their NAT drops it; ours now lets them in)
//!        GREET seq 93 ──▶ ◀── GREET seq 5          both sides try at the same moment, which is
//!                 GREETED seq 5 ──▶                what opens a path through both NATs
//!                         ◀── GREETED seq 93: met, after exactly as long as seq 93 took
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::reach::{Reach, same_address};
use crate::ask::jitter;
use crate::proto::{Candidate, Greet, Greeted, SEQ_END};

/// The least time between two GREETs: 500 a second.
const GREET_INTERVAL: Duration = Duration::from_millis(2);
/// How far sending may fall behind its pace and still catch up: a timer that wakes late would
/// otherwise halve the pace.
const PACE_SLACK: Duration = Duration::from_millis(10);
/// The most tries at a peer's private address.
const LAN_TRIES: u32 = 5;
/// The most extra tries that a peer can cause by greeting: a member that forges its source address
/// can make each other member send at most these, and the ordinary tries, to a victim.
const EXTRA_TRIES: u8 = 8;
/// The delay between tries at a peer that has greeted, and so can be reached, while extra tries are
/// left: it may have met us and be silent, and at 30 % loss each way half of the tries fail.
const REACHABLE_RETRY: Duration = Duration::from_secs(1);
/// The least time between the last try and an extra one: an answer may still be on the way.
const PROBE_AFTER: Duration = Duration::from_millis(100);
/// The most GREETs per window to hosts that are not on the list. Some NATs have several addresses;
/// but a member that forges one could otherwise have every peer of the list greeted there.
const OFF_LIST_BUDGET: u32 = 512;
/// The most unanswered tries remembered for each peer: an answer to an older one is not counted.
const MAX_UNANSWERED: usize = 32;

/// Returns the time from try number `tries` to the next, before jitter.
fn delay_after_try(tries: u32) -> Duration {
    Duration::from_millis(match tries {
        0..=2 => 100,
        3 => 200,
        4 => 400,
        5 => 200,
        6..=23 => 500,
        _ => 5000,
    })
}

/// One peer of the own list, and how it has been greeted so far.
#[derive(Debug)]
struct PeerState {
    addr: SocketAddr,
    /// The peer's private address, if it may be tried.
    lan: Option<SocketAddr>,
    /// The address that the peer greeted from, if neither `addr` nor `lan`: its NAT uses another
    /// port for each destination.
    via: Option<SocketAddr>,
    tries: u32,
    extra_tries: u8,
    last_try: Option<Duration>,
    /// When the last ordinary try was due without its jitter, which so does not add up.
    nominal: Duration,
    /// The time of the next ordinary try, the same as in [`Greetings::repeats`].
    next_try: Option<Duration>,
    /// The `seq` and the time of each unanswered try.
    unanswered: VecDeque<(u64, Duration)>,
    /// Whether the peer has answered a GREET.
    met: bool,
    /// Whether the peer has sent a GREET.
    has_greeted: bool,
}

impl PeerState {
    fn new(peer: Candidate, reach: &Reach) -> PeerState {
        PeerState {
            addr: peer.addr,
            lan: reach.usable_lan(peer),
            via: None,
            tries: 0,
            extra_tries: EXTRA_TRIES,
            last_try: None,
            nominal: Duration::ZERO,
            next_try: None,
            unanswered: VecDeque::new(),
            met: false,
            has_greeted: false,
        }
    }

    /// Returns the addresses that the next ordinary try is sent to.
    fn targets(&self, reach: &Reach) -> impl Iterator<Item = SocketAddr> + use<> {
        let addr = Some(self.addr).filter(|&addr| reach.allows(addr));
        let lan = self.lan.filter(|_| self.tries < LAN_TRIES);
        [addr, lan, self.via].into_iter().flatten()
    }

    fn has_address(&self, from: SocketAddr) -> bool {
        let mut known = [Some(self.addr), self.lan, self.via].into_iter().flatten();
        known.any(|addr| same_address(addr, from))
    }

    /// Returns whether `to` is on another host than the list says.
    fn is_off_list(&self, to: SocketAddr) -> bool {
        to.ip() != self.addr.ip() && self.lan.is_none_or(|lan| !same_address(lan, to))
    }

    /// Counts an ordinary try, and returns the delay to the next: shorter for a peer that has
    /// greeted.
    fn count_try(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let gap = delay_after_try(self.tries);
        if gap <= REACHABLE_RETRY || !self.has_greeted || self.extra_tries == 0 {
            return gap;
        }
        self.extra_tries -= 1;
        REACHABLE_RETRY
    }

    fn remember(&mut self, seq: u64, now: Duration) {
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((seq, now));
        self.last_try = Some(now);
    }
}

/// The answer to a valid GREET, and whether it was the first of its peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) first: bool,
    pub(super) datagram: Vec<u8>,
}

/// The greetings of one window, from the moment that the own list is complete.
#[derive(Debug)]
pub(super) struct Greetings {
    /// The GREET of this client; each try gets its own `seq`.
    pub(super) own: Greet,
    reach: Reach,
    /// The longest delay between tries.
    longest: Duration,
    rng: ChaCha8Rng,
    /// The peers of the own list, in its order, without this client.
    peers: Vec<PeerState>,
    /// For each address on the member's own list, its index in `peers`.
    index: HashMap<SocketAddr, usize>,
    /// The indexes of peers not tried yet, shuffled: in the order of the list, its first peer would
    /// be greeted by everyone at once.
    first_tries: Vec<usize>,
    /// Extra tries: the index of a peer, and the address that it greeted from.
    probes: VecDeque<(usize, SocketAddr)>,
    /// Further ordinary tries, ordered by time: when, and the index of the peer.
    repeats: BTreeSet<(Duration, usize)>,
    /// When the pace allows the next datagram.
    ready_at: Duration,
    /// How many GREETs of [`OFF_LIST_BUDGET`] are left.
    off_list_budget: u32,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Greetings {
    /// Greets the peers of `list` from `begin` on with the GREET `own`, whose `seq` is not used.
    pub(super) fn new(
        own: Greet,
        reach: Reach,
        list: &[Candidate],
        longest: Duration,
        seed: u64,
        begin: Duration,
    ) -> Greetings {
        let (mut peers, mut index) = (Vec::new(), HashMap::new());
        for peer in list.iter().filter(|peer| !same_address(peer.addr, own.from)) {
            index.entry(peer.addr).or_insert_with(|| {
                peers.push(PeerState::new(*peer, &reach));
                peers.len() - 1
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut first_tries: Vec<usize> = (0..peers.len()).collect();
        first_tries.shuffle(&mut rng);
        Greetings {
            own,
            reach,
            longest,
            rng,
            peers,
            index,
            first_tries,
            probes: VecDeque::new(),
            repeats: BTreeSet::new(),
            ready_at: begin,
            off_list_budget: OFF_LIST_BUDGET,
            outbox: VecDeque::new(),
        }
    }

    /// Returns when the pace allows the next GREET.
    pub(super) fn ready_at(&self) -> Duration {
        self.ready_at
    }

    /// Forgets the tries that are unanswered: after a pause, an answer to one tells no round trip.
    pub(super) fn forget_tries(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.unanswered.clear());
    }

    /// Returns the addresses of the own list, in its order, without this client.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(|peer| peer.addr).collect()
    }

    /// Returns the addresses of the peers that were not met.
    pub(super) fn missing(&self) -> Vec<SocketAddr> {
        self.peers.iter().filter(|peer| !peer.met).map(|peer| peer.addr).collect()
    }

    /// Returns the next GREET, if the pace allows one.
    pub(super) fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        while self.outbox.is_empty() && self.ready_at <= now {
            self.next_try(now)?;
        }
        self.outbox.pop_front()
    }

    /// Returns when the next GREET may be sent; `None` if none is pending.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        if !(self.outbox.is_empty() && self.first_tries.is_empty() && self.probes.is_empty()) {
            return Some(self.ready_at);
        }
        self.repeats.first().map(|&(due, _)| due.max(self.ready_at))
    }

    /// Makes the next try: first tries, then extra ones, then repeats. `None` if none is due.
    fn next_try(&mut self, now: Duration) -> Option<()> {
        if let Some(index) = self.first_tries.pop() {
            self.peers[index].nominal = now;
            self.try_peer(index, now);
        } else if let Some((index, to)) = self.probes.pop_front() {
            self.greet(index, to, now);
        } else {
            let &(due, index) = self.repeats.first().filter(|(due, _)| *due <= now)?;
            self.repeats.remove(&(due, index));
            self.try_peer(index, now);
        }
        Some(())
    }

    /// Greets a peer at all its addresses, and schedules the next ordinary try.
    fn try_peer(&mut self, index: usize, now: Duration) {
        for to in self.peers[index].targets(&self.reach) {
            self.greet(index, to, now);
        }
        let peer = &mut self.peers[index];
        if !peer.met {
            let gap = peer.count_try().min(self.longest);
            // A try that the pace, or a pause, has made late is not made up for.
            let last = peer.nominal.max(now.saturating_sub(gap / 2));
            let due = last.saturating_add(jitter(&mut self.rng, gap));
            peer.nominal = last.saturating_add(gap);
            peer.next_try = Some(due);
            self.repeats.insert((due, index));
        }
    }

    fn greet(&mut self, index: usize, to: SocketAddr, now: Duration) {
        let peer = &mut self.peers[index];
        let off_list = peer.is_off_list(to);
        if peer.met || off_list && self.off_list_budget == 0 {
            return;
        }
        self.off_list_budget -= u32::from(off_list);
        let seq = self.rng.next_u64() % SEQ_END;
        peer.remember(seq, now);
        self.ready_at =
            self.ready_at.max(now.saturating_sub(PACE_SLACK)).saturating_add(GREET_INTERVAL);
        self.outbox.push_back((to, Greet { seq, ..self.own.clone() }.encode()));
    }

    /// Answers a GREET that came from `from`. An invalid one gets no answer: a stranger must not
    /// learn who is here.
    pub(super) fn on_greet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        greet: &Greet,
    ) -> Option<Reply> {
        let own = &self.own;
        let is_ours =
            greet.room == own.room && greet.window == own.window && greet.pass == own.pass;
        if !is_ours || !self.reach.allows(from) {
            return None;
        }
        let index = *self.index.get(&greet.from)?;
        self.probe(index, from, now);
        let first = !std::mem::replace(&mut self.peers[index].has_greeted, true);
        Some(Reply { first, datagram: self.greeted(greet.seq) })
    }

    fn greeted(&self, seq: u64) -> Vec<u8> {
        let Greet { room, window, from, name, .. } = self.own.clone();
        Greeted { room, window, seq, from, name }.encode()
    }

    /// Queues an extra try at `from`: a greeting from there shows a path, so now is the best
    /// moment.
    fn probe(&mut self, index: usize, from: SocketAddr, now: Duration) {
        let peer = &mut self.peers[index];
        let known = peer.has_address(from);
        let waited = peer.last_try.is_some_and(|last| now >= last.saturating_add(PROBE_AFTER));
        if peer.met || peer.extra_tries == 0 || known && !waited {
            return;
        }
        if !known {
            peer.via = Some(from);
        }
        peer.extra_tries -= 1;
        peer.last_try = Some(now);
        self.probes.push_back((index, from));
    }

    /// Processes a GREETED from any address: only that peer was sent its `seq`. Returns the round
    /// trip time if the peer is met by this.
    pub(super) fn on_greeted(&mut self, now: Duration, greeted: &Greeted) -> Option<Duration> {
        if (&greeted.room, greeted.window) != (&self.own.room, self.own.window) {
            return None;
        }
        let index = *self.index.get(&greeted.from)?;
        let peer = &mut self.peers[index];
        let &(_, sent) = peer.unanswered.iter().find(|(seq, _)| *seq == greeted.seq)?;
        peer.met = true;
        peer.unanswered = VecDeque::new();
        if let Some(due) = peer.next_try.take() {
            self.repeats.remove(&(due, index));
        }
        Some(now.saturating_sub(sent))
    }
}
