//! Telling the members of a window that it has opened, pure.
//!
//! ```text
//!  opening     own push          250 ms later       1 s later
//!  ───┬───────────┬─────────────────┬───────────────────┬──────────▶
//!     │  members  all parts         part 0 again        part 0 again
//!     │  in turn, paced             until ACK or the close
//! ```
//!
//! Push announces, pull repairs: a member that misses a part asks for it (QUERY).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::clock::Now;
use crate::proto::{Ack, Listing, Opened};
use crate::roster::{Frozen, Member, Roster};
use crate::udp::{Path, Transmit};

/// How long after its own push a member is told again, until it has acknowledged.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Datagrams a second: 10,000 members with 200 peers each, 50,000 datagrams, are told within
/// 250 ms, and no interface's queue is handed more than it drains.
const PACE: u64 = 250_000;

/// Datagrams that may leave at once.
const BURST: u64 = 256;

/// One window's announcement.
#[derive(Debug)]
pub struct Fanout {
    window: Arc<Frozen>,
    /// The next member to be told: its roster, and its number within.
    turn: (usize, usize),
    /// Of the member whose turn it was: what is still to leave.
    ready: VecDeque<Transmit>,
    /// Who is told again, and when, in order of time; one queue for each of [`AGAIN`].
    again: [VecDeque<(Duration, usize, usize)>; AGAIN.len()],
    /// Who has acknowledged, by roster and number.
    acked: Vec<Vec<bool>>,
    begun: Duration,
    sent: u64,
}

impl Fanout {
    /// Begins to tell the members of a window that has just opened.
    pub fn new(window: Arc<Frozen>, now: Now) -> Fanout {
        let acked = window.rosters().iter().map(|roster| vec![false; roster.len()]).collect();
        Fanout {
            window,
            turn: (0, 0),
            ready: VecDeque::new(),
            again: [VecDeque::new(), VecDeque::new()],
            acked,
            begun: now.mono,
            sent: 0,
        }
    }

    /// The next datagram to send now, if one is due.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit> {
        if self.sent >= self.allowed(now) || now.wall >= self.window.closes() {
            return None;
        }
        if self.ready.is_empty() {
            self.prepare(now);
        }
        let transmit = self.ready.pop_front()?;
        self.sent += 1;
        Some(transmit)
    }

    /// When there is something to send next; `None` if everything has been said.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        if now.wall >= self.window.closes() {
            return None;
        }
        let paced = self.begun + pace(self.sent.saturating_sub(BURST - 1));
        if !self.has_told_all() {
            return Some(paced);
        }
        let due = self.again.iter().filter_map(|queue| queue.front()).map(|&(due, ..)| due).min();
        due.map(|due| due.max(paced))
    }

    /// Whether every member has been told once.
    pub fn has_told_all(&self) -> bool {
        self.ready.is_empty() && self.turn.0 >= self.window.rosters().len()
    }

    /// A member holds its whole list: it is not told again. Counts only with the window's pass.
    pub fn handle_ack(&mut self, path: Path, ack: &Ack) {
        if let Some((roster, member)) = acked_by(&self.window, path, ack) {
            self.acked[roster][member] = true;
        }
    }

    /// How many datagrams may have left by now.
    fn allowed(&self, now: Now) -> u64 {
        let micros = now.mono.saturating_sub(self.begun).as_micros();
        BURST + u64::try_from(micros).unwrap_or(u64::MAX / PACE) * PACE / 1_000_000
    }

    /// Makes the next datagrams: first pushes before repeats.
    fn prepare(&mut self, now: Now) {
        if let Some((roster, member)) = self.take_turn() {
            self.ready = push(&self.window, &self.window.rosters()[roster], member, now).into();
            for (queue, after) in self.again.iter_mut().zip(AGAIN) {
                queue.push_back((now.mono + after, roster, member));
            }
            return;
        }
        while let Some((roster, member)) = self.take_due(now) {
            if !self.acked[roster][member] {
                let roster = &self.window.rosters()[roster];
                self.ready.extend(push(&self.window, roster, member, now).into_iter().next());
                return;
            }
        }
    }

    fn take_turn(&mut self) -> Option<(usize, usize)> {
        let (roster, member) = self.turn;
        let members = self.window.rosters().get(roster)?.len();
        self.turn = if member + 1 < members { (roster, member + 1) } else { (roster + 1, 0) };
        Some((roster, member))
    }

    fn take_due(&mut self, now: Now) -> Option<(usize, usize)> {
        let is_due = |queue: &&mut VecDeque<(Duration, usize, usize)>| {
            queue.front().is_some_and(|&(due, ..)| due <= now.mono)
        };
        let (_, roster, member) = self.again.iter_mut().find(is_due)?.pop_front()?;
        Some((roster, member))
    }
}

/// Whose ACK that is, by roster and number; of nobody without the pass of its window and room.
pub fn acked_by(window: &Frozen, path: Path, ack: &Ack) -> Option<(usize, usize)> {
    let (roster, member) = match &ack.id {
        Some(id) => window.find(id),
        None => window.find_at(path.peer),
    }?;
    let pass = roster.pass().as_str().as_bytes().ct_eq(ack.pass.as_str().as_bytes());
    if roster.members()[member].id != ack.id || ack.window != window.window() || !bool::from(pass) {
        return None;
    }
    // A member can say it as often as it likes: of ten thousand rooms, each is not looked at.
    let place = window.rosters().binary_search_by_key(&roster.room(), Roster::room);
    place.ok().map(|place| (place, member))
}

/// The time that so many datagrams take.
fn pace(datagrams: u64) -> Duration {
    Duration::from_micros((datagrams * 1_000_000).div_ceil(PACE))
}

/// All parts of one member's WINDOW; all but the last padded to one length, so that segmentation
/// offload can cut them apart.
fn push(window: &Frozen, roster: &Roster, member: usize, now: Now) -> Vec<Transmit> {
    let own = roster.own_list(member);
    let path = roster.members()[member].path;
    let mut parts: Vec<Vec<u8>> =
        (0..own.parts()).map(|part| encode(window, roster, member, &own, part, now)).collect();
    let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
    let last = parts.len() - 1;
    parts[..last].iter_mut().for_each(|part| part.resize(longest, b' '));
    parts.into_iter().map(|payload| Transmit { path, payload }).collect()
}

fn encode(
    window: &Frozen,
    roster: &Roster,
    member: usize,
    own: &Listing,
    part: u32,
    now: Now,
) -> Vec<u8> {
    let Member { id, path, .. } = &roster.members()[member];
    let opened = Opened {
        id: id.clone(),
        room: roster.room().clone(),
        window: window.window(),
        closes_in_ms: now.wall.millis_to(window.closes()),
        you: path.peer,
        pass: roster.pass().clone(),
        page: own.page(part, roster.len()).expect("the part is one of the list's"),
    };
    opened.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::mesh::ListCap;
    use crate::proto::{Datagram, Room};
    use crate::roster::Filling;
    use crate::window::{Length, Window};
    use std::collections::HashMap;
    use std::net::SocketAddr;

    fn window() -> Window {
        "2026-11-23T11:29:00Z".parse().unwrap()
    }

    fn after(millis: u64) -> Now {
        let mono = Duration::from_millis(millis);
        Now { wall: window().opens().plus(mono), mono }
    }

    fn addr(member: usize) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 9], 10_000 + member as u16))
    }

    fn opened(members: usize, cap: usize) -> Arc<Frozen> {
        let mut filling = Filling::new(window(), Length::MINUTE);
        for member in 0..members {
            let known = Member {
                path: Path::new(addr(member), [198, 51, 100, 10].into()),
                id: (member > 0).then(|| format!("id{member}").parse().unwrap()),
                room: Room::default(),
                name: None,
                lan: None,
                registered: window().opens(),
            };
            filling.register(known, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        Arc::new(filling.freeze(Some(window().opens()), &secret, ListCap::new(cap)))
    }

    fn sent(fanout: &mut Fanout, now: Now) -> Vec<Transmit> {
        std::iter::from_fn(|| fanout.poll_transmit(now)).collect()
    }

    fn ack(frozen: &Frozen, member: usize) -> Ack {
        let roster = &frozen.rosters()[0];
        let id = roster.members()[member].id.clone();
        Ack { id, window: window(), pass: roster.pass().clone() }
    }

    fn path(member: usize) -> Path {
        Path::new(addr(member), [198, 51, 100, 10].into())
    }

    #[test]
    fn every_member_is_told_every_part_of_its_own_list() {
        let mut fanout = Fanout::new(opened(100, 200), after(0));
        let mut told: HashMap<SocketAddr, Vec<u32>> = HashMap::new();
        for transmit in sent(&mut fanout, after(5)) {
            assert!(transmit.payload.len() <= crate::proto::MAX_DATAGRAM);
            let Ok(Datagram::Window(opened)) = Datagram::decode(&transmit.payload) else {
                panic!("no WINDOW")
            };
            assert_eq!((opened.you, opened.closes_in_ms), (transmit.path.peer, 59_995));
            assert_eq!((opened.page.parts, opened.page.count), (3, 100));
            told.entry(transmit.path.peer).or_default().push(opened.page.part);
        }
        assert_eq!(told.len(), 100);
        assert!(told.values().all(|parts| parts == &[0, 1, 2]));
    }

    #[test]
    fn all_parts_but_the_last_have_one_length() {
        let frozen = opened(500, 600);
        let parts = push(&frozen, &frozen.rosters()[0], 3, after(0));
        let lengths: Vec<usize> = parts.iter().map(|part| part.payload.len()).collect();
        assert!(lengths.len() > 10, "some part numbers have two digits");
        assert!(lengths[..lengths.len() - 1].iter().all(|length| *length == lengths[0]));
        assert!(lengths[lengths.len() - 1] <= lengths[0]);
    }

    #[test]
    fn who_does_not_acknowledge_is_told_part_0_twice_more() {
        let frozen = opened(2, 200);
        let mut fanout = Fanout::new(frozen.clone(), after(0));
        assert_eq!(sent(&mut fanout, after(3)).len(), 2);
        fanout.handle_ack(path(1), &ack(&frozen, 1));
        let mut told = Vec::new();
        while let Some(due) = fanout.poll_timeout(after(3)) {
            let now = after(due.as_millis() as u64);
            told.extend(sent(&mut fanout, now).into_iter().map(|t| (now.mono, t.path.peer)));
        }
        let millis = Duration::from_millis;
        assert_eq!(told, [(millis(253), addr(0)), (millis(1003), addr(0))]);
    }

    #[test]
    fn an_ack_counts_with_the_pass_alone() {
        let frozen = opened(2, 200);
        let mut fanout = Fanout::new(frozen.clone(), after(0));
        sent(&mut fanout, after(0));
        let other: Window = "2026-11-23T11:28:00Z".parse().unwrap();
        fanout.handle_ack(path(1), &Ack { pass: "guess".parse().unwrap(), ..ack(&frozen, 1) });
        fanout.handle_ack(path(1), &Ack { window: other, ..ack(&frozen, 1) });
        fanout.handle_ack(path(1), &Ack { id: None, ..ack(&frozen, 1) });
        assert_eq!(sent(&mut fanout, after(250)).len(), 2);
        fanout.handle_ack(path(0), &ack(&frozen, 0));
        fanout.handle_ack(path(9), &ack(&frozen, 1));
        assert_eq!(sent(&mut fanout, after(1000)).len(), 0);
    }

    #[test]
    fn an_ack_finds_its_room() {
        let mut filling = Filling::new(window(), Length::MINUTE);
        for (k, room) in ["sala", "a", "lab", "main"].into_iter().enumerate() {
            let (id, room) = (Some(format!("id{k}").parse().unwrap()), room.parse().unwrap());
            let (path, registered) = (path(k), window().opens());
            filling.register(Member { path, id, room, name: None, lan: None, registered }, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        let frozen = filling.freeze(Some(window().opens()), &secret, ListCap::new(200));
        for (place, roster) in frozen.rosters().iter().enumerate() {
            let id = roster.members()[0].id.clone();
            let right = Ack { id, window: window(), pass: roster.pass().clone() };
            assert_eq!(acked_by(&frozen, path(9), &right), Some((place, 0)));
            let pass = frozen.rosters()[(place + 1) % 4].pass().clone();
            assert_eq!(acked_by(&frozen, path(9), &Ack { pass, ..right }), None, "of another room");
        }
    }

    #[test]
    fn nothing_is_said_after_the_close() {
        let mut fanout = Fanout::new(opened(1, 200), after(0));
        assert_eq!(sent(&mut fanout, after(60_000)).len(), 0);
        assert_eq!(fanout.poll_timeout(after(60_000)), None);
    }

    #[test]
    fn a_large_room_is_paced() {
        let mut fanout = Fanout::new(opened(1000, 200), after(0));
        let (mut datagrams, mut last) = (0, Duration::ZERO);
        while datagrams < 5000 {
            let due = fanout.poll_timeout(after(0)).unwrap();
            let wall = window().opens().plus(due);
            let now = Now { wall, mono: due };
            let burst = sent(&mut fanout, now).len() as u64;
            assert!(burst > 0 && burst <= BURST, "{burst} at {due:?}");
            (datagrams, last) = (datagrams + burst, due);
        }
        assert_eq!(datagrams, 5000);
        assert!(last >= pace(5000 - BURST) && last <= pace(5000), "{last:?}");
    }
}
