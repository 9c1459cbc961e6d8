//! Rule "Bounded": no more datagrams are sent than are due, no more journals and windows are kept than
//! needed, and caps and rates are kept to.

use std::net::IpAddr;

use hit7::limit::Rate;
use hit7::path::network;
use hit7::registry::Caps;

use super::*;

/// The most windows in memory besides the current one and the one whose document is being written.
const MAX_HELD: usize = 2;

/// What this process of the registry has sent and taken.
#[derive(Debug)]
pub(crate) struct Bounded {
    caps: Caps,
    rate: Rate,
    /// The next window as the process found it: a cap may be lower than that.
    found: Filling,
    /// How many requests each address may make, LEAVEs and others, and since when.
    tokens: BTreeMap<(IpAddr, bool), (f64, Duration)>,
    /// How often each part of WINDOW was sent to a member.
    told: BTreeMap<(SocketAddr, Window, u32), u32>,
    acked: BTreeSet<(SocketAddr, Window)>,
}

impl Bounded {
    pub(crate) fn new(caps: Caps, rate: Rate, found: Filling) -> Bounded {
        let (tokens, told, acked) = Default::default();
        Bounded { caps, rate, found, tokens, told, acked }
    }

    /// Checks that the member that has just entered the next window is within the caps.
    pub(crate) fn on_entered(&self, next: &Filling, addr: SocketAddr) -> Check {
        let Some(member) = next.members.get(&addr) else { return Ok(()) };
        let room = &member.profile.room;
        let rooms = |members: &Members| {
            let rooms = members.values().map(|member| member.profile.room.clone());
            rooms.collect::<BTreeSet<_>>().len()
        };
        let in_room =
            |members: &Members| members.values().filter(|it| it.profile.room == *room).count();
        let from_ip = |members: &Members| {
            members.keys().filter(|it| network(it.ip()) == network(addr.ip())).count()
        };
        let per_ip = if is_trusted(addr) { 0 } else { self.caps.per_ip };
        let nobody = Members::new();
        let found = if self.found.window == next.window { &self.found.members } else { &nobody };
        let within = |what: &str, cap: usize, count: &dyn Fn(&Members) -> usize| {
            let (had, has) = (count(found), count(&next.members));
            Rule::Bounded.require(cap == 0 || has <= cap.max(had), || {
                format!("{:?} has {has} {what}, of at most {cap}", next.window)
            })
        };
        within("members of one address", per_ip, &from_ip)?;
        within("members of one room", self.caps.room, &in_room)?;
        within("members", self.caps.window, &Members::len)?;
        within("rooms", self.caps.rooms, &rooms)
    }

    /// Checks that an address gets no more requests through the gate than its rate allows, and one for
    /// clocks that drift.
    pub(crate) fn on_passed(&mut self, t: Duration, from: SocketAddr, leaves: bool) -> Check {
        let Rate { per_second, burst } = self.rate;
        if per_second == 0 || is_trusted(from) {
            return Ok(());
        }
        let most = f64::from(burst.max(1)) + 1.0;
        let address = (network(from.ip()), leaves);
        let (tokens, since) = self.tokens.entry(address).or_insert((most, t));
        let refilled = *tokens + f64::from(per_second) * (t - *since).as_secs_f64();
        (*tokens, *since) = (refilled.min(most) - 1.0, t);
        Rule::Bounded.require(*tokens >= 0.0, || format!("{from} gets more than {per_second}/s"))
    }

    /// Checks how many windows are kept in memory, besides the current one and the one whose document
    /// is being written.
    pub(crate) fn on_held(&self, held: usize) -> Check {
        Rule::Bounded.require(held <= MAX_HELD, || format!("{held} windows are held in memory"))
    }

    /// Notes a member's valid ACK: it must not be sent WINDOW any more.
    pub(crate) fn on_ack(&mut self, member: SocketAddr, window: Window) {
        self.acked.insert((member, window));
    }

    /// Checks that a part of WINDOW is sent once, part 0 up to three times, and none after the ACK.
    pub(crate) fn on_window(&mut self, to: SocketAddr, window: Window, part: u32) -> Check {
        let times = self.told.entry((to, window, part)).or_default();
        *times += 1;
        let (times, most) = (*times, if part == 0 { 3 } else { 1 });
        let again = times > 1 && self.acked.contains(&(to, window));
        Rule::Bounded.require(times <= most && !again, || {
            format!("{to} is told part {part} of {window} {times} times, acked: {again}")
        })
    }
}
