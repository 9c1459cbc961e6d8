//! Rule "No amplifier": an unproven address is sent few bytes, and only CHALLENGEs.

use super::*;

const RULE: Rule = Rule::NoAmplifier;

/// The bytes that came from an address, and those sent to it before it had proven itself.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    received: usize,
    sent: usize,
    proven: bool,
}

#[derive(Debug, Default)]
pub(crate) struct NoAmplifier {
    accounts: BTreeMap<SocketAddr, Account>,
    cookies: BTreeSet<(SocketAddr, String)>,
    /// The requests that hit7's own clients sent before they had proven their addresses.
    own: BTreeSet<(SocketAddr, Vec<u8>)>,
}

impl NoAmplifier {
    fn is_proven(&self, addr: SocketAddr) -> bool {
        is_trusted(addr) || self.accounts.get(&addr).is_some_and(|account| account.proven)
    }

    /// Notes a request of one of hit7's own clients.
    pub(crate) fn on_peer_asks(&mut self, from: SocketAddr, bytes: &[u8]) {
        if !self.is_proven(from) {
            self.own.insert((from, bytes.to_vec()));
        }
    }

    /// Counts the bytes of a datagram to the registry.
    pub(crate) fn on_hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry(from).or_default();
        account.received += bytes.len();
        let cookie = cookie_of(bytes).map(|cookie| (from, cookie.to_owned()));
        account.proven |= cookie.is_some_and(|cookie| self.cookies.contains(&cookie));
    }

    /// Checks that a request that passed the gate is from a proven address.
    pub(crate) fn on_passed(&self, from: SocketAddr) -> Check {
        RULE.require(self.is_proven(from), || format!("{from} is let in, unproven"))
    }

    pub(crate) fn on_synced(&self, records: &[Record]) -> Check {
        records.iter().try_for_each(|record| {
            let peer = match record {
                Record::Register(it) => it.path.peer,
                Record::Leave(it) => it.path.peer,
                Record::Open(_) | Record::Missed(_) => return Ok(()),
            };
            RULE.require(self.is_proven(peer), || format!("{peer} is in the journal, unproven"))
        })
    }

    /// Checks that hit7's own client is not sent more bytes than it sent.
    pub(crate) fn on_answered(&self, packet: &Packet, answers: &[Transmit]) -> Check {
        answers.iter().try_for_each(|answer| {
            let (came, went) = (packet.bytes.len(), answer.payload.len());
            let from_own = !self.is_proven(packet.from)
                && self.own.contains(&(packet.from, packet.bytes.clone()));
            RULE.require(!from_own || went <= came, || format!("{went} bytes for {came}"))
        })
    }

    /// Checks that an unproven address is sent at most three times its bytes.
    pub(crate) fn on_transmit(&mut self, transmit: &Transmit) -> Check {
        let to = transmit.path.peer;
        if self.is_proven(to) {
            return Ok(());
        }
        let account = self.accounts.entry(to).or_default();
        account.sent += transmit.payload.len();
        let Account { received, sent, .. } = *account;
        RULE.require(sent <= 3 * received, || {
            format!("{sent} bytes to {to}, of {received} unproven")
        })?;
        let is_challenge = transmit.payload.starts_with(br#"{"type":"CHALLENGE""#);
        RULE.require(is_challenge, || format!("{to} is unproven, and told more than a cookie"))
    }

    pub(crate) fn on_challenge(&mut self, to: SocketAddr, cookie: String) {
        self.cookies.insert((to, cookie));
    }
}

pub(super) fn is_trusted(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V4(v4) if v4.ip().octets()[0] == 10)
}

/// Returns the cookie in a datagram of any type, if there is one.
fn cookie_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(r#""cookie":""#)?;
    rest.split('"').next()
}
