//! The fan-out: tells the members of a window that it has opened, as a pure state machine.
//!
//! ```text
//!  opening     own push          250 ms later       1 s later
//!  ───┬───────────┬─────────────────┬───────────────────┬──────────▶
//!     │  members  all parts         part 0 again        part 0 again
//!     │  in turn, paced             until ACK or the close
//! ```
//!
//! The registry pushes each part once; a member that misses a part asks for it with QUERY.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::clock::Now;
use crate::path::{Path, Train};
use crate::proto::{Ack, MAX_DATAGRAM, MAX_LIST, Opened, Page};
use crate::roster::{FinalizedWindow, Member, Roster};

/// How long after the first push the WINDOW is repeated to a member that has not acknowledged it.
const REPEAT_DELAYS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// The most datagrams sent per second: 10,000 members with 200 peers each need 50,000 datagrams,
/// which leave within 250 ms, and no network interface's queue overflows.
const DATAGRAMS_PER_SECOND: u64 = 250_000;

/// The number of datagrams that may be sent at once, before the pace allows the next.
const BURST_DATAGRAMS: u64 = 256;

/// Members heard from within this time, in tenths of a second, are sent to first: live clients
/// send every 15 s to keep their NATs open. A host that is gone may delay what is sent after it.
const RECENT_TENTHS: u32 = 200;

/// The time after which a push that found a full socket is retried.
const FULL_SOCKET_RETRY: Duration = Duration::from_millis(10);

/// The announcement of one window to its members.
#[derive(Debug)]
pub struct Fanout {
    window: Arc<FinalizedWindow>,
    /// The member that gets its first push next; `None` once all have been sent one.
    next: Option<(Round, Recipient)>,
    /// The members to repeat the push to, and when, earliest first; a queue per [`REPEAT_DELAYS`].
    repeats: [VecDeque<(Duration, Recipient)>; REPEAT_DELAYS.len()],
    /// Pushes that found a full socket: when each is retried, and when it is given up.
    returned: VecDeque<(Duration, Duration, Recipient)>,
    /// Whether each member has acknowledged, by roster and by number within.
    acked: Vec<Vec<bool>>,
    begun: Now,
    sent: u64,
}

/// The two rounds of first pushes: members heard from recently, then the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Recent,
    Others,
}

/// A member of the window: the index of its roster, and its index within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recipient {
    roster: u32,
    member: u32,
}

/// The datagrams of a WINDOW that are sent to one member at once.
#[derive(Debug)]
pub struct Push {
    /// The datagrams and the path that they take.
    pub train: Train,
    to: Recipient,
    /// The moment of the monotonic clock from which the push is not retried.
    until: Duration,
}

impl Push {
    /// Calls `send` with the train; if that finds a full socket, returns the push as the error.
    pub fn send(self, send: impl FnOnce(Train) -> Result<(), Train>) -> Result<(), Push> {
        let Push { train, to, until } = self;
        send(train).map_err(|train| Push { train, to, until })
    }
}

impl Fanout {
    /// Starts the announcement of a window that has just opened.
    pub fn new(window: Arc<FinalizedWindow>, now: Now) -> Fanout {
        let acked = window.rosters().iter().map(|roster| vec![false; roster.len()]).collect();
        let mut fanout = Fanout {
            window,
            next: Some((Round::Recent, Recipient::default())),
            repeats: [VecDeque::new(), VecDeque::new()],
            returned: VecDeque::new(),
            acked,
            begun: now,
            sent: 0,
        };
        fanout.skip_to_round();
        fanout
    }

    /// Returns the window that is being announced.
    pub fn window(&self) -> &Arc<FinalizedWindow> {
        &self.window
    }

    /// Returns the next push to send, if one is due: first pushes, then those that found a full
    /// socket, then repeats.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Push> {
        if self.sent >= self.datagrams_allowed(now) || now.wall >= self.window.closes() {
            return None;
        }
        let push = self.first_push(now).or_else(|| self.returned_push(now));
        let push = push.or_else(|| self.repeat(now))?;
        self.sent += push.train.datagrams().len() as u64;
        Some(push)
    }

    /// Takes back a push that found a full socket, and returns whether it will be retried; it is
    /// not once it has waited for too long, and the member then gets the repeats alone.
    pub fn retry_later(&mut self, now: Now, push: &Push) -> bool {
        self.sent = self.sent.saturating_sub(push.train.datagrams().len() as u64);
        let again = now.mono + FULL_SOCKET_RETRY;
        if again < push.until {
            self.returned.push_back((again, push.until, push.to));
        }
        again < push.until
    }

    /// Returns when the next push is due, by the monotonic clock; `None` if no more follows.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        if now.wall >= self.window.closes() {
            return None;
        }
        let paced = self.begun.mono + time_to_send(self.sent / BURST_DATAGRAMS * BURST_DATAGRAMS);
        if !self.has_pushed_to_all() {
            return Some(paced);
        }
        let repeats = self.repeats.iter().filter_map(|queue| queue.front()).map(|&(due, _)| due);
        let returned = self.returned.front().map(|&(due, ..)| due);
        repeats.chain(returned).min().map(|due| due.max(paced))
    }

    /// Returns whether every member has been sent its first push.
    pub fn has_pushed_to_all(&self) -> bool {
        self.next.is_none()
    }

    /// Stops the repeats to the member that sent an ACK. Returns whether the ACK is valid: it must
    /// come from a member, with the pass of its window and room.
    pub fn handle_ack(&mut self, path: Path, ack: &Ack) -> bool {
        let sender = acked_by(&self.window, path, ack);
        if let Some(Recipient { roster, member }) = sender {
            self.acked[roster as usize][member as usize] = true;
        }
        sender.is_some()
    }

    /// Returns how many datagrams may have been sent by now, in whole bursts.
    fn datagrams_allowed(&self, now: Now) -> u64 {
        let micros = now.mono.saturating_sub(self.begun.mono).as_micros();
        let paced = u64::try_from(micros).unwrap_or(u64::MAX / DATAGRAMS_PER_SECOND)
            * DATAGRAMS_PER_SECOND
            / 1_000_000;
        BURST_DATAGRAMS + paced / BURST_DATAGRAMS * BURST_DATAGRAMS
    }

    fn first_push(&mut self, now: Now) -> Option<Push> {
        let (round, to) = self.next?;
        self.next = self.successor(round, to);
        self.skip_to_round();
        for (queue, after) in self.repeats.iter_mut().zip(REPEAT_DELAYS) {
            queue.push_back((now.mono + after, to));
        }
        Some(self.push(to, now, u32::MAX, now.mono + REPEAT_DELAYS[0]))
    }

    /// Returns the member after this one, and its round; `None` after the last of both rounds.
    fn successor(
        &self,
        round: Round,
        Recipient { roster, member }: Recipient,
    ) -> Option<(Round, Recipient)> {
        let rosters = self.window.rosters();
        if (member as usize) + 1 < rosters.get(roster as usize)?.len() {
            return Some((round, Recipient { roster, member: member + 1 }));
        }
        match round {
            _ if (roster as usize) + 1 < rosters.len() => {
                Some((round, Recipient { roster: roster + 1, member: 0 }))
            }
            Round::Recent => Some((Round::Others, Recipient::default())),
            Round::Others => None,
        }
    }

    /// Moves `next` to the first member from there on that belongs to the round.
    fn skip_to_round(&mut self) {
        while let Some((round, to)) = self.next
            && self.round_of(to) != Some(round)
        {
            self.next = self.successor(round, to);
        }
    }

    /// Returns the round in which a member gets its first push; `None` if there is no such member.
    fn round_of(&self, to: Recipient) -> Option<Round> {
        let roster = self.window.rosters().get(to.roster as usize)?;
        let heard = roster.members().get(to.member as usize)?.heard;
        let recent = self.begun.tenths().saturating_sub(heard) <= RECENT_TENTHS;
        Some(if recent { Round::Recent } else { Round::Others })
    }

    fn returned_push(&mut self, now: Now) -> Option<Push> {
        self.returned.front().filter(|(due, ..)| *due <= now.mono)?;
        let (_, until, to) = self.returned.pop_front()?;
        Some(self.push(to, now, u32::MAX, until))
    }

    /// Returns part 0 again, for the next member that has not acknowledged, if a repeat is due.
    fn repeat(&mut self, now: Now) -> Option<Push> {
        loop {
            let to = self.take_due_repeat(now)?;
            if !self.acked[to.roster as usize][to.member as usize] {
                return Some(self.push(to, now, 1, now.mono));
            }
        }
    }

    fn take_due_repeat(&mut self, now: Now) -> Option<Recipient> {
        let is_due = |queue: &&mut VecDeque<(Duration, Recipient)>| {
            queue.front().is_some_and(|&(due, _)| due <= now.mono)
        };
        let (_, to) = self.repeats.iter_mut().find(is_due)?.pop_front()?;
        Some(to)
    }

    /// Makes a push of a member's WINDOW: its first parts, at most `most`.
    fn push(&self, to: Recipient, now: Now, most: u32, until: Duration) -> Push {
        let roster = &self.window.rosters()[to.roster as usize];
        Push { train: train(&self.window, roster, to.member as usize, now, most), to, until }
    }
}

/// Returns the member that sent an ACK; `None` without the pass of its window and room.
fn acked_by(window: &FinalizedWindow, path: Path, ack: &Ack) -> Option<Recipient> {
    let (roster, member) = match &ack.id {
        Some(id) => window.find(id),
        None => window.find_at(path.peer),
    }?;
    let pass = roster.pass().as_str().as_bytes().ct_eq(ack.pass.as_str().as_bytes());
    if roster.members()[member].id != ack.id || ack.window != window.window() || !bool::from(pass) {
        return None;
    }
    // A binary search: there may be ten thousand rooms, and a member can send any number of ACKs.
    let place = window.rosters().binary_search_by_key(&roster.room(), Roster::room);
    place.ok().map(|place| Recipient { roster: place as u32, member: member as u32 })
}

/// Returns the time that sending `datagrams` takes at the pace.
fn time_to_send(datagrams: u64) -> Duration {
    Duration::from_micros((datagrams * 1_000_000).div_ceil(DATAGRAMS_PER_SECOND))
}

/// Encodes the first parts of one member's WINDOW, at most `most`; all but the last are padded to
/// one length, so that segmentation offload can split them.
fn train(window: &FinalizedWindow, roster: &Roster, member: usize, now: Now, most: u32) -> Train {
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
        payload.resize(payload.len() + padding_len(&opened.page), b' ');
    }
    let size = payload.len() / last.max(1) as usize;
    opened.page = page(last);
    payload = opened.encode_behind(payload);
    Train { path: *path, size: if last == 0 { payload.len() } else { size }, payload }
}

/// Returns how many bytes a part lacks to the longest part of its list, one with a full page and
/// the highest part number.
fn padding_len(page: &Page<'_>) -> usize {
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
        // Of all lengths as text.
        SocketAddr::from(([203, 0, 113, 9], 1 + 60 * member as u16))
    }

    fn opened(members: usize, cap: usize) -> Arc<FinalizedWindow> {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(cap));
        for member in 0..members {
            let known = Member {
                path: Path::new(addr(member), [198, 51, 100, 10].into()),
                id: (member > 0).then(|| format!("id{member}").parse().unwrap()),
                profile: Profile::default(),
                registered: window().opens(),
                heard: 0,
            };
            filling.register(known, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        Arc::new(filling.finalize(Some(window().opens()), &secret))
    }

    /// Returns each datagram that is sent at `now`, with its destination.
    fn sent(fanout: &mut Fanout, now: Now) -> Vec<(SocketAddr, Vec<u8>)> {
        let trains = std::iter::from_fn(|| fanout.poll_transmit(now)).map(|push| push.train);
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
                let train = super::train(&frozen, roster, member, after(0), u32::MAX);
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
                let again = super::train(&frozen, roster, member, after(0), 1);
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
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(200));
        for (k, room) in ["sala", "a", "lab", "main"].into_iter().enumerate() {
            let (id, room) = (Some(format!("id{k}").parse().unwrap()), room.parse().unwrap());
            let (path, registered) = (path(k), window().opens());
            let profile = Profile { room, ..Profile::default() };
            filling.register(Member { path, id, profile, registered, heard: 0 }, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        let frozen = filling.finalize(Some(window().opens()), &secret);
        for (place, roster) in frozen.rosters().iter().enumerate() {
            let id = roster.members()[0].id.clone();
            let right = Ack { id, window: window(), pass: roster.pass().clone() };
            let first = Recipient { roster: place as u32, member: 0 };
            assert_eq!(acked_by(&frozen, path(9), &right), Some(first));
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
            // The last member of a burst is sent all of its parts.
            assert!(burst > 0 && burst < BURST_DATAGRAMS + 5, "{burst} at {due:?}");
            (datagrams, last) = (datagrams + burst, due);
        }
        assert_eq!(datagrams, 5000);
        assert!(
            last >= time_to_send(5000 - BURST_DATAGRAMS - 5) && last <= time_to_send(5000),
            "{last:?}"
        );
    }

    /// Makes a window whose members were heard from at these tenths of a second, and the moment at
    /// which it opens: at 100 s, by the monotonic clock.
    fn heard(at: impl Fn(usize) -> u32) -> (Arc<FinalizedWindow>, Now) {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(200));
        for member in 0..6 {
            let heard = at(member);
            let (path, registered) = (path(member), window().opens());
            let profile = Profile::default();
            let known = Member { path, id: None, profile, registered, heard };
            filling.register(known, None);
        }
        let secret = Secret::from_bytes([7; 32]);
        let finalized = filling.finalize(Some(window().opens()), &secret);
        (Arc::new(finalized), Now { mono: Duration::from_secs(100), ..after(0) })
    }

    #[test]
    fn who_was_heard_from_recently_is_told_first() {
        let (finalized, now) =
            heard(
                |member| if member % 2 == 1 { 1000 - RECENT_TENTHS } else { 999 - RECENT_TENTHS },
            );
        let mut fanout = Fanout::new(finalized, now);
        let told: Vec<SocketAddr> = sent(&mut fanout, now).into_iter().map(|(to, _)| to).collect();
        assert_eq!(told, [1, 3, 5, 0, 2, 4].map(addr));
        assert!(fanout.has_pushed_to_all());
    }

    #[test]
    fn a_push_that_found_a_full_socket_is_offered_again_for_a_while() {
        let (finalized, begun) = heard(|_| 950);
        let mut fanout = Fanout::new(finalized, begun);
        let first = fanout.poll_transmit(begun).unwrap();
        assert!(fanout.retry_later(begun, &first));
        assert_eq!(fanout.sent, 0, "the pace counts what has left");
        let others = std::iter::from_fn(|| fanout.poll_transmit(begun)).count();
        assert_eq!(others, 5, "nobody waits for it");
        let (mut now, mut offers) = (begun, 0);
        loop {
            now = Now { mono: fanout.poll_timeout(now).unwrap(), ..now };
            let push = fanout.poll_transmit(now).unwrap();
            assert_eq!(push.train.path.peer, addr(0));
            offers += 1;
            if !fanout.retry_later(now, &push) {
                break;
            }
        }
        assert!(now.mono < begun.mono + REPEAT_DELAYS[0] && offers > 10, "{offers} until {now:?}");
    }

    #[test]
    fn a_push_is_given_back_until_its_time_is_over() {
        let (finalized, begun) = heard(|_| 950);
        let mut fanout = Fanout::new(finalized, begun);
        let push = fanout.poll_transmit(begun).unwrap();
        let (to, until) = (push.to, push.until);
        let push = push.send(Err).unwrap_err();
        assert_eq!((push.to, push.until), (to, until));
        let now = Now { mono: until - FULL_SOCKET_RETRY, ..begun };
        assert!(!fanout.retry_later(now, &push) && fanout.returned.is_empty());
        let mut taken = None;
        let take = |train| {
            taken = Some(train);
            Ok(())
        };
        assert!(push.send(take).is_ok() && taken.is_some());
    }

    #[test]
    fn a_burst_is_sent_at_once_and_no_more() {
        // With so short lists, a member is told in one datagram.
        let mut fanout = Fanout::new(opened(2 * BURST_DATAGRAMS as usize, 2), after(0));
        assert_eq!(sent(&mut fanout, after(0)).len() as u64, BURST_DATAGRAMS);
    }

    #[test]
    fn the_members_of_all_rooms_are_told_once() {
        let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(200));
        let rooms = ["a", "a", "a", "b", "c", "c", "d"];
        for (member, room) in rooms.into_iter().enumerate() {
            let profile = Profile { room: room.parse().unwrap(), ..Profile::default() };
            let (path, registered) = (path(member), window().opens());
            let heard = if member % 2 == 0 { 950 } else { 500 };
            filling.register(Member { path, id: None, profile, registered, heard }, None);
        }
        let finalized = filling.finalize(Some(window().opens()), &Secret::from_bytes([7; 32]));
        let now = Now { mono: Duration::from_secs(100), ..after(0) };
        let mut fanout = Fanout::new(Arc::new(finalized), now);
        let told: Vec<SocketAddr> = sent(&mut fanout, now).into_iter().map(|(to, _)| to).collect();
        assert_eq!(told, [0, 2, 4, 6, 1, 3, 5].map(addr));
    }

    #[test]
    fn a_part_is_padded_to_the_longest_of_its_list() {
        let frozen = (20..).map(|n| opened(20 * n, 2000));
        let frozen =
            frozen.into_iter().find(|it| it.rosters()[0].own_list(0).parts() >= 10).unwrap();
        let roster = &frozen.rosters()[0];
        let own = roster.own_list(0);
        let last = own.parts() - 1;
        for part in 0..last {
            let page = own.page(part, roster.len()).unwrap();
            // The part number of the last has one digit, or two.
            let shorter = usize::from(last >= 10 && part < 10);
            assert_eq!(padding_len(&page), MAX_LIST - page.peers.len() + shorter);
        }
    }
}
