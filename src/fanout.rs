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
use crate::path::{Path, Train};
use crate::proto::{Ack, MAX_DATAGRAM, MAX_LIST, Opened, Page};
use crate::roster::{FinalizedWindow, Member, Roster};

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
    window: Arc<FinalizedWindow>,
    /// The next member to be told: its roster, and its number within.
    turn: (usize, usize),
    /// Who is told again, and when, in order of time; one queue for each of [`AGAIN`].
    again: [VecDeque<(Duration, usize, usize)>; AGAIN.len()],
    /// Who has acknowledged, by roster and number.
    acked: Vec<Vec<bool>>,
    begun: Duration,
    sent: u64,
}

impl Fanout {
    /// Begins to tell the members of a window that has just opened.
    pub fn new(window: Arc<FinalizedWindow>, now: Now) -> Fanout {
        let acked = window.rosters().iter().map(|roster| vec![false; roster.len()]).collect();
        Fanout {
            window,
            turn: (0, 0),
            again: [VecDeque::new(), VecDeque::new()],
            acked,
            begun: now.mono,
            sent: 0,
        }
    }

    /// What to send to the next member now, if one is due: first pushes before repeats.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Train> {
        if self.sent >= self.allowed(now) || now.wall >= self.window.closes() {
            return None;
        }
        let train = self.first_push(now).or_else(|| self.repeat(now))?;
        self.sent += train.datagrams().len() as u64;
        Some(train)
    }

    /// When there is something to send next; `None` if everything has been said.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        if now.wall >= self.window.closes() {
            return None;
        }
        let paced = self.begun + pace(self.sent / BURST * BURST);
        if !self.has_told_all() {
            return Some(paced);
        }
        let due = self.again.iter().filter_map(|queue| queue.front()).map(|&(due, ..)| due).min();
        due.map(|due| due.max(paced))
    }

    /// Whether every member has been told once.
    pub fn has_told_all(&self) -> bool {
        self.turn.0 >= self.window.rosters().len()
    }

    /// A member holds its whole list: it is not told again. Counts only with the window's pass.
    pub fn handle_ack(&mut self, path: Path, ack: &Ack) {
        if let Some((roster, member)) = acked_by(&self.window, path, ack) {
            self.acked[roster][member] = true;
        }
    }

    /// How many datagrams may have left by now: whole bursts.
    fn allowed(&self, now: Now) -> u64 {
        let micros = now.mono.saturating_sub(self.begun).as_micros();
        let paced = u64::try_from(micros).unwrap_or(u64::MAX / PACE) * PACE / 1_000_000;
        BURST + paced / BURST * BURST
    }

    fn first_push(&mut self, now: Now) -> Option<Train> {
        let (place, member) = self.turn;
        let roster = self.window.rosters().get(place)?;
        self.turn = if member + 1 < roster.len() { (place, member + 1) } else { (place + 1, 0) };
        for (queue, after) in self.again.iter_mut().zip(AGAIN) {
            queue.push_back((now.mono + after, place, member));
        }
        Some(push(&self.window, roster, member, now, u32::MAX))
    }

    fn repeat(&mut self, now: Now) -> Option<Train> {
        loop {
            let (place, member) = self.take_due(now)?;
            if !self.acked[place][member] {
                return Some(push(&self.window, &self.window.rosters()[place], member, now, 1));
            }
        }
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
pub fn acked_by(window: &FinalizedWindow, path: Path, ack: &Ack) -> Option<(usize, usize)> {
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

/// The first parts of one member's WINDOW, at most so many; all but the last are padded to one
/// length, so that segmentation offload can cut them apart.
fn push(window: &FinalizedWindow, roster: &Roster, member: usize, now: Now, most: u32) -> Train {
    let own = roster.own_list(member);
    let page = |part| own.page(part, roster.len()).expect("the part is one of the list's");
    let Member { id, path, .. } = &roster.members()[member];
    let mut opened = Opened {
        id: id.clone(),
        room: roster.room().clone(),
        window: window.window(),
        closes_in_ms: now.wall.millis_to(window.closes()),
        you: path.peer,
        pass: roster.pass().clone(),
        page: page(0),
    };
    let last = own.parts().min(most) - 1;
    let mut payload = Vec::with_capacity((last + 1) as usize * MAX_DATAGRAM);
    for part in 0..last {
        opened.page = page(part);
        payload = opened.encode_behind(payload);
        payload.resize(payload.len() + room_left(&opened.page), b' ');
    }
    let size = payload.len() / last.max(1) as usize;
    opened.page = page(last);
    payload = opened.encode_behind(payload);
    Train { path: *path, size: if last == 0 { payload.len() } else { size }, payload }
}

/// By how much a part is shorter than one of its list could be: one with a full page and the longest
/// number.
fn room_left(page: &Page<'_>) -> usize {
    let digits = |part: u32| part.checked_ilog10().unwrap_or(0) as usize;
    MAX_LIST - page.peers.len() + digits(page.parts - 1) - digits(page.part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::Secret;
    use crate::mesh::ListCap;
    use crate::proto::{Datagram, Profile};
    use crate::roster::NextWindow;
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

    fn opened(members: usize, cap: usize) -> Arc<FinalizedWindow> {
        let mut filling = NextWindow::new(window(), Length::MINUTE);
        for member in 0..members {
            let known = Member {
                path: Path::new(addr(member), [198, 51, 100, 10].into()),
                id: (member > 0).then(|| format!("id{member}").parse().unwrap()),
                profile: Profile::default(),
                registered: window().opens(),
            };
            filling.register(known, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        Arc::new(filling.finalize(Some(window().opens()), &secret, ListCap::new(cap)))
    }

    /// Each datagram that leaves now, and to whom.
    fn sent(fanout: &mut Fanout, now: Now) -> Vec<(SocketAddr, Vec<u8>)> {
        let trains = std::iter::from_fn(|| fanout.poll_transmit(now));
        let to = |peer| move |datagram: &[u8]| (peer, datagram.to_vec());
        trains
            .flat_map(|train| train.datagrams().map(to(train.path.peer)).collect::<Vec<_>>())
            .collect()
    }

    fn ack(frozen: &FinalizedWindow, member: usize) -> Ack {
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
        for (peer, payload) in sent(&mut fanout, after(5)) {
            assert!(payload.len() <= MAX_DATAGRAM);
            let Ok(Datagram::Window(opened)) = Datagram::decode(&payload) else {
                panic!("no WINDOW")
            };
            assert_eq!((opened.you, opened.closes_in_ms), (peer, 59_995));
            assert_eq!((opened.page.parts, opened.page.count), (3, 100));
            told.entry(peer).or_default().push(opened.page.part);
        }
        assert_eq!(told.len(), 100);
        assert!(told.values().all(|parts| parts == &[0, 1, 2]));
    }

    #[test]
    fn all_parts_but_the_last_have_one_length() {
        // Of 500 members some part numbers have two digits; of 2, there is but one part.
        for (members, cap) in [(500, 600), (500, 200), (100, 200), (2, 200)] {
            let frozen = opened(members, cap);
            let roster = &frozen.rosters()[0];
            for member in [0, 1, members - 1] {
                let train = push(&frozen, roster, member, after(0), u32::MAX);
                let parts: Vec<&[u8]> = train.datagrams().collect();
                let read = |part: &&[u8]| match Datagram::decode(part) {
                    Ok(Datagram::Window(opened)) => opened.page.part,
                    other => panic!("{other:?}"),
                };
                let count = roster.own_list(member).parts();
                assert!(parts.iter().map(read).eq(0..count), "{members}: each part by itself");
                let (last, full) = parts.split_last().unwrap();
                assert!(full.iter().all(|part| part.len() == train.size));
                assert!(last.len() <= train.size && train.size <= MAX_DATAGRAM);
                assert!(!last.ends_with(b" "), "{members}: nothing is padded for nothing");
                let again = push(&frozen, roster, member, after(0), 1);
                assert!(parts[0].starts_with(&again.payload), "part 0 again is part 0");
                assert_eq!(again.size, again.payload.len());
            }
        }
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
            told.extend(sent(&mut fanout, now).into_iter().map(|(peer, _)| (now.mono, peer)));
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
        let mut filling = NextWindow::new(window(), Length::MINUTE);
        for (k, room) in ["sala", "a", "lab", "main"].into_iter().enumerate() {
            let (id, room) = (Some(format!("id{k}").parse().unwrap()), room.parse().unwrap());
            let (path, registered) = (path(k), window().opens());
            let profile = Profile { room, ..Profile::default() };
            filling.register(Member { path, id, profile, registered }, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        let frozen = filling.finalize(Some(window().opens()), &secret, ListCap::new(200));
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
            // The last member of a burst is told all of its parts.
            assert!(burst > 0 && burst < BURST + 5, "{burst} at {due:?}");
            (datagrams, last) = (datagrams + burst, due);
        }
        assert_eq!(datagrams, 5000);
        assert!(last >= pace(5000 - BURST - 5) && last <= pace(5000), "{last:?}");
    }
}
