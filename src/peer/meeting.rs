//! Meeting the peers of one open window: GREET each until it answers, answer each that greets.
//!
//! ```text
//!   0   100  200     400         800   1000           2000      ms
//!   ├────┼────┼───────┼───────────┼─────┼──────────────┼── … each second to 10 s, then each 5 s
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

use super::reach::{Reach, same};
use crate::ask::jitter;
use crate::proto::{Candidate, Greet, Greeted, Name, Pass, Room, SEQ_END, Text};
use crate::window::Window;

/// Between two datagrams: 500 a second.
const PACE: Duration = Duration::from_millis(2);
/// How far the pace may lag and catch up, or a timer that wakes late would halve it.
const SLACK: Duration = Duration::from_millis(10);
/// Tries of a second candidate.
const LAN_TRIES: u32 = 5;
/// Extra tries a peer can provoke by greeting: a member that forges its source address can make
/// each other member send at most these, and the ordinary tries, to a victim.
const NUDGES: u8 = 8;
/// What of them is left when tries get rare is spent at this pace on a peer that has greeted, and so
/// is there: it may have met us and be silent, and at 30 % loss each way half of the tries fail.
const REACHABLE_RETRY: Duration = Duration::from_secs(1);
/// No extra try sooner than this after the last: its answer may still be on the way.
const NUDGE_AFTER: Duration = Duration::from_millis(100);
/// GREETs a window to where greetings came from, if that is another host than the list says: some
/// NATs have several addresses, but a member that forges one could otherwise have each name of a
/// list tried there.
const OFF_LIST_BUDGET: u32 = 512;
/// Unanswered tries remembered for each peer: an answer to an older one is not counted.
const REMEMBERED: usize = 32;

/// The time from try number `tries` to the next, before jitter.
fn gap(tries: u32) -> Duration {
    Duration::from_millis(match tries {
        0..=2 => 100,
        3 => 200,
        4 => 400,
        5 => 200,
        6..=14 => 1000,
        _ => 5000,
    })
}

/// What this peer says of itself in one window.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) room: Room,
    pub(super) window: Window,
    pub(super) pass: Pass,
    pub(super) me: SocketAddr,
    pub(super) name: Option<Name>,
    pub(super) text: Option<Text>,
}

/// One listed peer.
#[derive(Debug)]
struct PeerState {
    addr: SocketAddr,
    lan: Option<SocketAddr>,
    /// Where it greeted from, if that is neither: its NAT has another port for each destination.
    via: Option<SocketAddr>,
    tries: u32,
    nudges: u8,
    last: Option<Duration>,
    /// Its next ordinary try, as it stands in `again`.
    due: Option<Duration>,
    asked: VecDeque<(u64, Duration)>,
    met: bool,
    greeted: bool,
}

impl PeerState {
    fn new(peer: Candidate, reach: &Reach) -> PeerState {
        PeerState {
            addr: peer.addr,
            lan: reach.second(peer),
            via: None,
            tries: 0,
            nudges: NUDGES,
            last: None,
            due: None,
            asked: VecDeque::new(),
            met: false,
            greeted: false,
        }
    }

    /// Where the next try goes.
    fn targets(&self, reach: &Reach) -> impl Iterator<Item = SocketAddr> + use<> {
        let addr = Some(self.addr).filter(|&addr| reach.makes_sense(addr));
        let lan = self.lan.filter(|_| self.tries < LAN_TRIES);
        [addr, lan, self.via].into_iter().flatten()
    }

    fn knows(&self, from: SocketAddr) -> bool {
        [Some(self.addr), self.lan, self.via].into_iter().flatten().any(|addr| same(addr, from))
    }

    /// Whether the list says nothing of the host at `to`.
    fn is_astray(&self, to: SocketAddr) -> bool {
        to.ip() != self.addr.ip() && self.lan.is_none_or(|lan| !same(lan, to))
    }

    /// The time to the next try, shorter for a peer that is known to be there.
    fn spend_on_the_sure(&mut self, gap: Duration) -> Duration {
        if gap <= REACHABLE_RETRY || !self.greeted || self.nudges == 0 {
            return gap;
        }
        self.nudges -= 1;
        REACHABLE_RETRY
    }

    fn remember(&mut self, seq: u64, now: Duration) {
        if self.asked.len() == REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back((seq, now));
        self.last = Some(now);
    }
}

/// A peer that was met.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) peer: SocketAddr,
    pub(super) rtt: Duration,
}

/// The answer to a valid GREET, and whether it was the first of its peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) first: bool,
    pub(super) datagram: Vec<u8>,
}

/// One window's greetings, from the moment that the own list is whole.
#[derive(Debug)]
pub(super) struct Meeting {
    voice: Identity,
    reach: Reach,
    /// No delay between tries is longer.
    longest: Duration,
    rng: ChaCha8Rng,
    /// In the own list's order, without oneself.
    peers: Vec<PeerState>,
    places: HashMap<SocketAddr, usize>,
    /// First tries that are to come, shuffled: were all to follow the list, its first peer would
    /// be greeted by everyone at once.
    fresh: Vec<usize>,
    /// Extra tries, each to where a greeting came from.
    nudged: VecDeque<(usize, SocketAddr)>,
    /// Repeats, by their moment.
    again: BTreeSet<(Duration, usize)>,
    /// When the pace allows the next datagram.
    ready: Duration,
    /// How many of [`OFF_LIST_BUDGET`] are left.
    astray: u32,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Meeting {
    pub(super) fn new(
        voice: Identity,
        reach: Reach,
        list: &[Candidate],
        longest: Duration,
        seed: u64,
        now: Duration,
    ) -> Meeting {
        let (mut peers, mut places) = (Vec::new(), HashMap::new());
        for peer in list.iter().filter(|peer| !same(peer.addr, voice.me)) {
            places.entry(peer.addr).or_insert_with(|| {
                peers.push(PeerState::new(*peer, &reach));
                peers.len() - 1
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fresh: Vec<usize> = (0..peers.len()).collect();
        fresh.shuffle(&mut rng);
        let (nudged, again, out) = (VecDeque::new(), BTreeSet::new(), VecDeque::new());
        let (ready, astray) = (now, OFF_LIST_BUDGET);
        Meeting {
            voice,
            reach,
            longest,
            rng,
            peers,
            places,
            fresh,
            nudged,
            again,
            ready,
            astray,
            out,
        }
    }

    pub(super) fn voice(&self) -> &Identity {
        &self.voice
    }

    /// The own list, in its order, without oneself.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(|peer| peer.addr).collect()
    }

    /// Who was not met.
    pub(super) fn missing(&self) -> Vec<SocketAddr> {
        self.peers.iter().filter(|peer| !peer.met).map(|peer| peer.addr).collect()
    }

    /// The next GREET, if the pace allows one.
    pub(super) fn poll_transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        while self.out.is_empty() && self.ready <= now {
            self.next_try(now)?;
        }
        self.out.pop_front()
    }

    /// When there is something to send.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        if !self.out.is_empty() || !self.fresh.is_empty() || !self.nudged.is_empty() {
            return Some(self.ready);
        }
        self.again.first().map(|&(due, _)| due.max(self.ready))
    }

    /// First tries, then those to peers that are known to be there, then repeats.
    fn next_try(&mut self, now: Duration) -> Option<()> {
        if let Some(place) = self.fresh.pop() {
            self.greet_all(place, now);
        } else if let Some((place, to)) = self.nudged.pop_front() {
            self.greet_at(place, to, now);
        } else {
            let &(due, place) = self.again.first().filter(|(due, _)| *due <= now)?;
            self.again.remove(&(due, place));
            self.greet_all(place, now);
        }
        Some(())
    }

    /// One try at all addresses of a peer, and the moment of the next.
    fn greet_all(&mut self, place: usize, now: Duration) {
        for to in self.peers[place].targets(&self.reach) {
            self.greet_at(place, to, now);
        }
        let peer = &mut self.peers[place];
        if !peer.met {
            peer.tries = peer.tries.saturating_add(1);
            let gap = peer.spend_on_the_sure(gap(peer.tries));
            let due = now.saturating_add(jitter(&mut self.rng, gap).min(self.longest));
            peer.due = Some(due);
            self.again.insert((due, place));
        }
    }

    fn greet_at(&mut self, place: usize, to: SocketAddr, now: Duration) {
        let astray = self.peers[place].is_astray(to);
        if self.peers[place].met || astray && self.astray == 0 {
            return;
        }
        self.astray -= u32::from(astray);
        let seq = self.rng.next_u64() % SEQ_END;
        self.peers[place].remember(seq, now);
        self.ready = self.ready.max(now.saturating_sub(SLACK)).saturating_add(PACE);
        self.out.push_back((to, self.hello(seq)));
    }

    fn hello(&self, seq: u64) -> Vec<u8> {
        let Identity { room, window, pass, me, name, text } = self.voice.clone();
        Greet { room, window, pass, seq, from: me, name, text }.encode()
    }

    /// Takes a GREET that came from `from`. One that is wrong in anything is dropped in silence: a
    /// stranger is not to learn who is here.
    pub(super) fn on_greet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        greet: &Greet,
    ) -> Option<Reply> {
        let voice = &self.voice;
        let ours = (&voice.room, voice.window, &voice.pass);
        if (&greet.room, greet.window, &greet.pass) != ours || !self.reach.makes_sense(from) {
            return None;
        }
        let place = *self.places.get(&greet.from)?;
        self.nudge(place, from, now);
        let first = !std::mem::replace(&mut self.peers[place].greeted, true);
        Some(Reply { first, datagram: self.welcome(greet.seq) })
    }

    fn welcome(&self, seq: u64) -> Vec<u8> {
        let Identity { room, window, me, name, .. } = self.voice.clone();
        Greeted { room, window, seq, from: me, name }.encode()
    }

    /// A greeting shows that there is a path from `from`: the best moment to try it the other way.
    fn nudge(&mut self, place: usize, from: SocketAddr, now: Duration) {
        let peer = &mut self.peers[place];
        let known = peer.knows(from);
        let waited = peer.last.is_some_and(|last| now >= last.saturating_add(NUDGE_AFTER));
        if peer.met || peer.nudges == 0 || known && !waited {
            return;
        }
        if !known {
            peer.via = Some(from);
        }
        peer.nudges -= 1;
        peer.last = Some(now);
        self.nudged.push_back((place, from));
    }

    /// Takes a GREETED, from whatever address: its `seq` was told to nobody but that peer.
    pub(super) fn on_greeted(&mut self, now: Duration, greeted: &Greeted) -> Option<Met> {
        let voice = &self.voice;
        if (&greeted.room, greeted.window) != (&voice.room, voice.window) {
            return None;
        }
        let place = *self.places.get(&greeted.from)?;
        let peer = &mut self.peers[place];
        let &(_, sent) = peer.asked.iter().find(|(seq, _)| *seq == greeted.seq)?;
        peer.met = true;
        peer.asked = VecDeque::new();
        if let Some(due) = peer.due.take() {
            self.again.remove(&(due, place));
        }
        Some(Met { peer: peer.addr, rtt: now.saturating_sub(sent) })
    }
}
