//! The simulated network: loses, duplicates, delays and reorders datagrams, can be cut, and has
//! NATs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::faults::{Counts, Dice, Fault};

/// A datagram in flight, with its source as the receiver will see it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// The datagrams in flight, in the order of arrival.
#[derive(Debug)]
pub(crate) struct Network {
    /// The percentage of datagrams that are lost.
    pub(crate) loss: u64,
    /// Addresses that are cut off, and until when.
    pub(crate) cut: BTreeMap<IpAddr, Duration>,
    /// A fixed delay in place of random ones, if a test needs that.
    pub(crate) fixed: Option<Duration>,
    wire: BTreeMap<(Duration, u64), Packet>,
    sent: u64,
}

impl Network {
    pub(crate) fn new(loss: u64) -> Network {
        let (cut, wire) = (BTreeMap::new(), BTreeMap::new());
        Network { loss, cut, fixed: None, wire, sent: 0 }
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.wire.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn take(&mut self) -> Option<Packet> {
        self.wire.pop_first().map(|(_, packet)| packet)
    }

    /// Takes a datagram, and loses, duplicates or delays it at random.
    pub(crate) fn send(&mut self, t: Duration, packet: Packet, dice: &mut Dice, seen: &mut Counts) {
        let is_cut = |ip: IpAddr| self.cut.get(&ip).is_some_and(|until| t < *until);
        if is_cut(packet.from.ip()) || is_cut(packet.to.ip()) {
            return seen.note("cut off by a partition");
        }
        if dice.roll(Fault::Double, 0.3) {
            seen.note("doubled");
            self.carry(t, packet.clone(), dice, seen);
        }
        if dice.roll(Fault::Stale, 0.02) {
            seen.note("a copy came much later");
            let later = t + dice.millis(Fault::Stale, 2_000, 80_000);
            self.arrive(later, packet.clone());
        }
        self.carry(t, packet, dice, seen);
    }

    fn carry(&mut self, t: Duration, packet: Packet, dice: &mut Dice, seen: &mut Counts) {
        if dice.roll(Fault::Loss, self.loss as f64 / 100.0) {
            return seen.note("lost");
        }
        let mut delay = dice.millis(Fault::Chance, 5, 15);
        if dice.has(Fault::Delay) {
            delay = dice.millis(Fault::Delay, 1, 120);
            if dice.roll(Fault::Delay, 0.01) {
                seen.note("delayed for seconds");
                delay += dice.millis(Fault::Delay, 500, 4_000);
            }
        }
        self.arrive(t + self.fixed.unwrap_or(delay), packet);
        if self.wire.last_key_value().is_some_and(|((last, _), _)| *last > t + delay) {
            seen.note("overtaken or overtaking");
        }
    }

    fn arrive(&mut self, at: Duration, packet: Packet) {
        self.sent += 1;
        self.wire.insert((at, self.sent), packet);
    }
}

/// A NAT in front of one host: one port for all destinations, open to those that were sent
/// something, both for a time (RFC 4787: endpoint-independent mapping, port-dependent filtering).
#[derive(Clone, Debug)]
pub(crate) struct Nat {
    pub(crate) ip: IpAddr,
    pub(crate) forgets_after: Duration,
    port: u16,
    used: Option<Duration>,
    sent_to: BTreeMap<SocketAddr, Duration>,
}

impl Nat {
    pub(crate) fn new(ip: IpAddr, port: u16, forgets_after: Duration) -> Nat {
        Nat { ip, forgets_after, port, used: None, sent_to: BTreeMap::new() }
    }

    /// Returns the public address, while the mapping lasts.
    pub(crate) fn public(&self, t: Duration) -> Option<SocketAddr> {
        let used = self.used?;
        (t <= used + self.forgets_after).then_some(SocketAddr::new(self.ip, self.port))
    }

    /// Sends a datagram through the NAT: returns its public source, and whether that has changed.
    pub(crate) fn leave(&mut self, t: Duration, to: SocketAddr) -> (SocketAddr, bool) {
        let changed = self.used.is_some() && self.public(t).is_none();
        if changed {
            self.forget();
        }
        self.used = Some(t);
        self.sent_to.insert(to, t);
        (SocketAddr::new(self.ip, self.port), changed)
    }

    /// Drops the mapping, so that the next datagram gets another port.
    pub(crate) fn forget(&mut self) {
        self.port += 7;
        self.used = None;
        self.sent_to.clear();
    }

    /// Returns whether a datagram from `from` is let in.
    pub(crate) fn lets_in(&self, t: Duration, from: SocketAddr) -> bool {
        self.sent_to.get(&from).is_some_and(|sent| t <= *sent + self.forgets_after)
    }
}
