//! Counts the connections: how many there are, how many of one address, and whether the next one is
//! among the last, which are kept for health checks. Large answers are counted in the same way.
//!
//! Without these a crowd of viewers would make an orchestrator end a registry that is well.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::IpNet;

use crate::path::network;

use super::refusals::Refusal;

/// The most connections that are kept for health checks; fewer where there are less than 128 in all.
const MAX_FOR_CHECKS: usize = 16;

/// How many connections an address may have at least: a browser opens six to a server, and streams.
const LEAST_PER_ADDRESS: usize = 8;

/// The places for connections, or for large answers, shared by all clones.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    for_anything: usize,
    for_checks: usize,
    per_address: usize,
    trust: Vec<IpNet>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    for_anything: usize,
    for_checks: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection or large answer, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: IpAddr,
    is_for_checks: bool,
}

impl Places {
    /// Creates places for `most` connections: at most a quarter for one address, or IPv6 /64, unless
    /// it is in `trust`.
    pub(super) fn new(most: usize, trust: Vec<IpNet>) -> Places {
        let for_checks = (most / 8).min(MAX_FOR_CHECKS);
        let per_address = (most / 4).max(LEAST_PER_ADDRESS);
        let (for_anything, taken) = (most - for_checks, Mutex::default());
        Places(Arc::new(Shared { for_anything, for_checks, per_address, trust, taken }))
    }

    /// Creates places for `most` answers: at most `per_address` for one address, or IPv6 /64, unless
    /// it is in `trust`.
    pub(super) fn of_answers(most: usize, per_address: usize, trust: Vec<IpNet>) -> Places {
        let (for_anything, for_checks, taken) = (most, 0, Mutex::default());
        Places(Arc::new(Shared { for_anything, for_checks, per_address, trust, taken }))
    }

    /// Takes a place for a client at `ip`: one for health checks only if there is no other.
    pub(super) fn take(&self, ip: IpAddr) -> Result<Place, Refusal> {
        let (shared, ip) = (&*self.0, ip.to_canonical());
        let address = network(ip);
        let mut taken = self.taken();
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        if own >= shared.per_address && !shared.trust.iter().any(|net| net.contains(&ip)) {
            return Err(Refusal::TooManyFromAddress);
        }
        let is_for_checks = taken.for_anything >= shared.for_anything;
        if is_for_checks && taken.for_checks >= shared.for_checks {
            return Err(Refusal::TooManyConnections);
        }
        *taken.of_kind(is_for_checks) += 1;
        taken.by_address.insert(address, own + 1);
        Ok(Place { places: self.clone(), address, is_for_checks })
    }

    /// Returns how many connections there are.
    pub(super) fn count(&self) -> usize {
        let taken = self.taken();
        taken.for_anything + taken.for_checks
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().expect("no holder of this lock panics")
    }
}

impl Taken {
    fn of_kind(&mut self, is_for_checks: bool) -> &mut usize {
        if is_for_checks { &mut self.for_checks } else { &mut self.for_anything }
    }
}

impl Place {
    /// Returns whether the connection may be used for health checks and metrics alone.
    pub(super) fn is_for_checks(&self) -> bool {
        self.is_for_checks
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        *taken.of_kind(self.is_for_checks) -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places until none is given; returns them, and why the last was refused.
    fn take_all(places: &Places, ip: &str) -> (Vec<Place>, Refusal) {
        let mut taken = Vec::new();
        loop {
            match places.take(ip.parse().unwrap()) {
                Ok(place) => taken.push(place),
                Err(why) => return (taken, why),
            }
        }
    }

    #[test]
    fn an_address_has_a_quarter_and_a_trusted_one_all() {
        let places = Places::new(512, vec!["127.0.0.0/8".parse().unwrap()]);
        let (own, why) = take_all(&places, "192.0.2.1");
        assert_eq!((own.len(), why), (128, Refusal::TooManyFromAddress));
        let mapped = take_all(&places, "::ffff:192.0.2.1");
        assert_eq!((mapped.0.len(), mapped.1), (0, Refusal::TooManyFromAddress));
        let (net, _) = take_all(&places, "2001:db8::1");
        assert_eq!((net.len(), take_all(&places, "2001:db8::2:1").0.len()), (128, 0));
        let (trusted, why) = take_all(&places, "::ffff:127.0.0.1");
        assert_eq!((trusted.len(), why), (256, Refusal::TooManyConnections));
        assert_eq!(places.count(), 512);
        drop(own);
        assert_eq!(take_all(&places, "192.0.2.1").0.len(), 128);
    }

    #[test]
    fn the_last_ones_are_for_checks_and_free_ones_are_for_anything() {
        for (most, for_checks) in [(512, 16), (128, 16), (64, 8), (8, 1), (0, 0)] {
            let places = Places::new(most, vec!["::/0".parse().unwrap()]);
            let (mut taken, _) = take_all(&places, "2001:db8::1");
            let kinds: Vec<bool> = taken.iter().map(Place::is_for_checks).collect();
            let expected: Vec<bool> = (0..most).map(|place| place >= most - for_checks).collect();
            assert_eq!(kinds, expected, "{most}");
            taken.truncate(most / 2);
            let next = places.take("2001:db8::1".parse().unwrap());
            assert_eq!(next.is_ok_and(|place| !place.is_for_checks()), most > 0, "{most}");
        }
    }

    #[test]
    fn of_few_connections_an_address_has_what_a_browser_opens() {
        assert_eq!(take_all(&Places::new(16, Vec::new()), "192.0.2.1").0.len(), 8);
    }

    #[test]
    fn an_address_that_is_gone_is_forgotten() {
        let places = Places::new(8, Vec::new());
        drop(take_all(&places, "192.0.2.1"));
        assert_eq!((places.count(), places.taken().by_address.len()), (0, 0));
    }
}
