//! Where a client looks for its registry: the addresses that it tries, and those that it never does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::cause::Probe;
use super::{Cause, ClientError, Lookup};
use crate::cookie::Key;
use crate::path::canonical;
use crate::udp::{Sockets, check_own};

/// How long to try one of the registry's addresses before the next, unless the timeout is short.
const TIMEOUT_PER_ADDRESS: Duration = Duration::from_secs(2);
/// The shortest time for which to try each of the registry's addresses.
const MIN_TIMEOUT_PER_ADDRESS: Duration = Duration::from_millis(10);
/// The most addresses of a registry that are tried.
const MAX_REGISTRIES: usize = 8;
/// How long before the timeout the system is asked for a reason, unless that is short: Linux takes
/// three seconds to find that a neighbour is not there.
const PROBE_LEAD: Duration = Duration::from_secs(4);

/// How to reach a registry: its addresses, an own address, a key and a timeout.
#[derive(Clone, Debug)]
pub struct Target {
    /// The registry's addresses, tried one after the other; at least one.
    pub registries: Vec<SocketAddr>,
    /// The thread that resolves the registry's name again; `None` if the registry has no name.
    pub lookup: Option<Lookup>,
    /// The local addresses to send from, of one port: see [`all_addresses`].
    ///
    /// [`all_addresses`]: crate::udp::all_addresses
    pub bind: Vec<SocketAddr>,
    /// The key that signs requests to a private registry.
    pub key: Option<Key>,
    /// How long the registry may be silent before the client reports it or gives up.
    pub timeout: Duration,
}

impl Target {
    /// Returns how long to try one address before the next: all are tried before the timeout.
    pub(super) fn time_per_address(&self) -> Duration {
        let addresses = u32::try_from(self.registries.len()).unwrap_or(u32::MAX).max(1);
        TIMEOUT_PER_ADDRESS.min(self.timeout / addresses).max(MIN_TIMEOUT_PER_ADDRESS)
    }

    /// Binds the sockets to send from, and removes the registry's addresses of a family that none
    /// of them has, or of more machines than one; fails if no address is left.
    pub(super) fn open(mut self) -> Result<(Target, Sockets), ClientError> {
        for (addrs, of) in [(&self.registries, "registry's"), (&self.bind, "own")] {
            if addrs.is_empty() {
                return Err(ClientError::NoAddress(of));
            }
        }
        let all = of_one_machine(&self.registries)?;
        let sockets = Sockets::bind(&self.bind)?;
        self.registries = reached(&all, &sockets);
        match self.registries.is_empty() {
            true => Err(ClientError::OtherFamily { registries: all, own: sockets.local_addrs() }),
            false => Ok((self, sockets)),
        }
    }

    /// Returns how long a registry may be silent before the system is asked for a reason.
    pub(super) fn probe_after(&self) -> Duration {
        self.timeout - PROBE_LEAD.min(self.timeout / 4 * 3)
    }

    /// Replaces the registry's addresses with those that a lookup has found, if any: another machine may
    /// have the earlier ones by now. Returns the first that is new.
    pub(super) fn take_found(&mut self, sockets: &Sockets) -> Option<SocketAddr> {
        let found = self.lookup.as_mut()?.take_found();
        let all = reached(&of_one_machine(&found).ok()?, sockets);
        let is_new = |addr: &&SocketAddr| !self.registries.contains(addr);
        let new = all.iter().find(is_new).copied();
        if !all.is_empty() {
            self.registries = all;
        }
        new
    }

    /// Returns the address to try after `address`.
    pub(super) fn next_address(&self, address: SocketAddr) -> SocketAddr {
        let at = self.registries.iter().position(|&it| it == address);
        self.registries[at.map_or(0, |at| (at + 1) % self.registries.len())]
    }

    /// Returns why the registry does not answer: `probe` tells best, then, of a single address, what was
    /// refused at sending.
    pub(super) fn cause(&self, probe: Option<&Probe>, refused: &Cause) -> Cause {
        let refused = if self.registries.len() == 1 { refused.clone() } else { Cause::Unknown };
        probe.map(Probe::cause).unwrap_or_default().or(refused)
    }
}

/// Returns the addresses as answers come from them (`::ffff:192.0.2.1` is 192.0.2.1), without those that
/// are not of one machine; fails if only such were given.
fn of_one_machine(registries: &[SocketAddr]) -> Result<Vec<SocketAddr>, ClientError> {
    let all: Vec<SocketAddr> = registries.iter().copied().map(canonical).collect();
    let (one, many): (Vec<_>, Vec<_>) = all.into_iter().partition(|addr| is_of_one(*addr));
    match many.first() {
        Some(first) if one.is_empty() => Err(ClientError::NotOneMachine(*first)),
        _ => Ok(one),
    }
}

/// Returns the first addresses of a family that one of the sockets has.
fn reached(all: &[SocketAddr], sockets: &Sockets) -> Vec<SocketAddr> {
    let own = sockets.local_addrs();
    let is_reached = |addr: &&SocketAddr| own.iter().any(|it| it.is_ipv4() == addr.is_ipv4());
    all.iter().filter(is_reached).take(MAX_REGISTRIES).copied().collect()
}

/// Returns whether an address can be that of one registry: not a wildcard, a group or a broadcast.
fn is_of_one(addr: SocketAddr) -> bool {
    !addr.ip().is_unspecified() && check_own(addr.ip()).is_ok() && addr.port() != 0
}

/// Returns what to give instead of an address that is not of one machine.
pub(super) fn one_machine(addr: SocketAddr) -> &'static str {
    match addr.ip() {
        _ if addr.port() == 0 => "give the port on which the registry listens",
        ip if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            "give 127.0.0.1 for a registry on this machine, or the address of its machine"
        }
        ip if ip.is_unspecified() => {
            "give ::1 for a registry on this machine, or the address of its machine"
        }
        _ => "give the address of the registry's machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn target(registries: &[&str], lookup: Option<Lookup>) -> Target {
        let registries = registries.iter().map(|text| addr(text)).collect();
        let bind = crate::udp::all_addresses(0).to_vec();
        Target { registries, lookup, bind, key: None, timeout: Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn what_a_lookup_finds_replaces_the_earlier_addresses_unless_it_finds_none() {
        let one = ["127.0.0.1:5", "0.0.0.0:5", "127.0.0.3:5"].map(addr).to_vec();
        let found = std::sync::Mutex::new([one, vec![addr("0.0.0.0:5")], Vec::new()].into_iter());
        let lookup = Lookup::start(move || found.lock().unwrap().next().unwrap_or_default());
        let lookup = Some(lookup.unwrap());
        let (mut target, sockets) = target(&["127.0.0.1:5", "127.0.0.2:5"], lookup).open().unwrap();
        for new in [Some("127.0.0.3:5"), None, None] {
            target.lookup.as_ref().unwrap().request();
            target.lookup.as_ref().unwrap().found().await;
            assert_eq!(target.take_found(&sockets), new.map(addr));
            assert_eq!(target.registries, ["127.0.0.1:5", "127.0.0.3:5"].map(addr));
            assert_eq!(target.take_found(&sockets), None, "once");
        }
    }

    #[test]
    fn the_addresses_are_tried_in_turn_from_the_first_if_the_one_in_use_is_gone() {
        let target = target(&["127.0.0.1:5", "127.0.0.2:5"], None);
        for (used, next) in [("1", "2"), ("2", "1"), ("3", "1")] {
            let addr = |n| addr(&format!("127.0.0.{n}:5"));
            assert_eq!(target.next_address(addr(used)), addr(next));
        }
    }

    #[tokio::test]
    async fn an_address_of_more_machines_than_one_is_no_registry() {
        for (many, remedy) in [
            ("0.0.0.0:5", "give 127.0.0.1 for"),
            ("[::]:5", "give ::1 for"),
            ("[::ffff:0.0.0.0]:5", "give 127.0.0.1 for"),
            ("224.0.0.1:5", "the registry's machine"),
            ("[ff02::1]:5", "the registry's machine"),
            ("255.255.255.255:5", "the registry's machine"),
            ("127.255.255.255:5", "the registry's machine"),
            ("192.0.2.1:0", "give the port"),
        ] {
            let error = target(&[many], None).open().unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
            let (both, _) = target(&[many, "192.0.2.1:5"], None).open().unwrap();
            assert_eq!(both.registries, [addr("192.0.2.1:5")]);
        }
    }

    #[test]
    fn every_address_is_tried_before_the_timeout() {
        let time = |addresses: usize, timeout| {
            let registries = vec![SocketAddr::from(([127, 0, 0, 1], 8080)); addresses];
            let (lookup, bind, key) = (None, Vec::new(), None);
            Target { registries, lookup, bind, key, timeout }.time_per_address()
        };
        assert_eq!(time(1, Duration::from_secs(30)), TIMEOUT_PER_ADDRESS);
        assert_eq!(time(2, Duration::from_secs(1)), Duration::from_millis(500));
        assert_eq!(time(3, Duration::ZERO), MIN_TIMEOUT_PER_ADDRESS);
        assert_eq!(time(1, Duration::MAX), TIMEOUT_PER_ADDRESS);
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_used_is_an_error_in_words_of_its_own() {
        for (registries, bind, error) in [
            (&[][..], &["127.0.0.1:0"][..], "there is no registry's address to use"),
            (&["127.0.0.1:9"], &[], "there is no own address to use"),
            (
                &["[::1]:9"],
                &["127.0.0.1:0"],
                "cannot reach [::1]:9: the only own address, 127.0.0.1:",
            ),
            (&["127.0.0.1:9"], &["192.0.2.1:0"], "cannot bind 192.0.2.1:0: "),
        ] {
            let bind = bind.iter().map(|text| addr(text)).collect();
            let target = Target { bind, ..target(registries, None) };
            let text = target.open().unwrap_err().to_string();
            assert!(text.starts_with(error) && !text.contains("--"), "{text}");
        }
    }
}
