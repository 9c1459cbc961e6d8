//! Any datagrams from any source: nothing is amplified, no answer is answered, and no request passes
//! whose source has not proven its address, unless it is trusted.
//!
//! The first byte names the source, the second what kind of registry it is; the rest is datagrams,
//! each after a zero byte, in which some words stand for what only a registry or a key can make.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use hit7::clock::Now;
use hit7::cookie::{CookieIssuer, Key, Secret};
use hit7::gate::{Admit, Gate};
use hit7::limit::Rate;
use hit7::path::{Path, Transmit};
use hit7::proto::{Datagram, Envelope, Kind, MAX_DATAGRAM};
use hit7::window::Wall;

const SOURCES: [&str; 10] = [
    "203.0.113.9:40112",
    "[2001:db8::9]:40112",
    "127.0.0.1:40112",
    "10.1.2.3:5",
    "[::1]:5",
    "[::ffff:127.0.0.1]:5",
    "203.0.113.9:0",
    "224.0.0.1:5",
    "255.255.255.255:5",
    "[::]:5",
];
const PRIVATE: u8 = 1;
const LIMITED: u8 = 2;
/// Stand for the cookie of the source, fresh and as old as one may be.
const OWN: &str = "OWN-COOKIE------";
const OLD: &str = "OLD-COOKIE------";
/// Stand for the cookie of another source, a stale one, and one from the future.
const OTHERS: &str = "OTHERS-COOKIE---";
const STALE: &str = "STALE-COOKIE----";
const FUTURE: &str = "FUTURE-COOKIE---";
/// Stands for the MAC of the datagram.
const MAC: &str = "MAC-------------------";
const SECONDS: u32 = 1_795_000_000;

pub(crate) fn check(input: &[u8]) {
    let [source, flags, rest @ ..] = input else { return };
    let peer: SocketAddr = SOURCES[usize::from(*source) % SOURCES.len()].parse().unwrap();
    let path = Path::new(peer, "192.0.2.1".parse().unwrap());
    let cookies = Secret::from_bytes([7; 32]).cookie_issuer();
    let (private, limited) = (flags & PRIVATE != 0, flags & LIMITED != 0);
    let rate =
        if limited { Rate { per_second: 1, burst: 2 } } else { Rate { per_second: 0, burst: 0 } };
    // The table of a gate's limiter is large: a gate is made once, and an hour goes by between two
    // inputs, in which all that it counted is forgotten.
    let kind = usize::from(flags & (PRIVATE | LIMITED));
    let used = GATES.with_borrow_mut(|gates| gates[kind].take());
    let gate = used.unwrap_or_else(|| gate(&cookies, private, rate));
    let mono = UPTIME.replace(UPTIME.get() + Duration::from_secs(3600));
    let mut harness = Harness { gate, cookies, path, mono, private, limited, passed: 0 };
    for datagram in rest.split(|byte| *byte == 0) {
        harness.send(datagram);
    }
    let rate = rate.burst as usize;
    assert!(!limited || harness.is_trusted() || harness.passed <= rate, "its rate is exceeded");
    GATES.with_borrow_mut(|gates| gates[kind] = Some(harness.gate));
}

thread_local! {
    static GATES: RefCell<[Option<Gate>; 4]> = const { RefCell::new([None, None, None, None]) };
    static UPTIME: Cell<Duration> = const { Cell::new(Duration::from_secs(3600)) };
}

fn gate(cookies: &CookieIssuer, private: bool, rate: Rate) -> Gate {
    let trust = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let mut gate = Gate::new(cookies.clone(), trust, rate);
    if private {
        gate.set_keys(vec![Key::from_text("the key of last year").unwrap(), key()]);
    }
    gate
}

fn key() -> Key {
    Key::from_text("the key of this year").unwrap()
}

struct Harness {
    gate: Gate,
    cookies: CookieIssuer,
    path: Path,
    mono: Duration,
    private: bool,
    limited: bool,
    passed: usize,
}

impl Harness {
    fn send(&mut self, datagram: &[u8]) {
        let datagram = self.fill_in(datagram);
        let wall = Wall::from_millis(i64::from(SECONDS) * 1000);
        let now = Now { wall, mono: self.mono };
        match self.gate.admit(now, self.path, &datagram) {
            Admit::Pass { trusted, .. } => self.check_pass(&datagram, trusted),
            Admit::Ack(_) => assert_eq!(kind(&datagram).as_deref(), Some("ACK")),
            Admit::Answer(transmit) => {
                self.check_answer(&datagram, &transmit);
                let challenge = Datagram::decode(&transmit.payload);
                assert!(matches!(challenge, Ok(Datagram::Challenge(_))), "{challenge:?}");
                assert!(transmit.payload.len() <= 3 * datagram.len(), "amplified");
                assert!(!self.is_proven(&datagram), "it was proven");
            }
            Admit::Refuse(transmit, _) => {
                self.check_answer(&datagram, &transmit);
                let error = Datagram::decode(&transmit.payload);
                assert!(matches!(error, Ok(Datagram::Error(_))), "{error:?}");
                assert!(
                    self.is_trusted() || self.is_proven(&datagram),
                    "an unproven source is told"
                );
                // What cannot be read has no cookie either.
                let is_request = Envelope::open(&datagram).is_ok();
                assert!(!self.private || self.is_proven(&datagram) || !is_request);
            }
            Admit::Drop(_) => assert!(!self.must_pass(&datagram), "a good request is dropped"),
        }
    }

    /// Puts cookies and MACs in the place of the words that stand for them.
    fn fill_in(&self, datagram: &[u8]) -> Vec<u8> {
        let Ok(text) = str::from_utf8(datagram) else { return datagram.to_vec() };
        let cookie = |source, seconds| self.cookies.issue(source, seconds).as_str().to_owned();
        let other = SocketAddr::new(self.path.peer.ip(), self.path.peer.port() ^ 1);
        let text = text
            .replace(OWN, &cookie(self.path.peer, SECONDS))
            .replace(OLD, &cookie(self.path.peer, SECONDS - 120))
            .replace(OTHERS, &cookie(other, SECONDS))
            .replace(STALE, &cookie(self.path.peer, SECONDS - 121))
            .replace(FUTURE, &cookie(self.path.peer, SECONDS + 1));
        let mac = Envelope::open(text.as_bytes()).map(|it| key().mac(&it.signed_bytes()));
        text.replace(MAC, &mac.unwrap_or_default()).into_bytes()
    }

    fn check_pass(&mut self, datagram: &[u8], trusted: bool) {
        self.passed += 1;
        assert_eq!(trusted, self.is_trusted());
        assert!(self.is_proven(datagram) || (trusted && !self.private), "not proven");
        assert!(!self.private || has_mac(datagram), "it is not signed");
    }

    /// Checks what must hold for every answer.
    fn check_answer(&self, datagram: &[u8], answer: &Transmit) {
        assert_eq!(answer.path, self.path);
        assert!(answer.payload.len() <= MAX_DATAGRAM);
        assert!(self.is_possible(), "an impossible source is answered");
        let known = ["CHALLENGE", "REGISTERED", "LEFT", "PEERS", "WINDOW", "ERROR", "GREET"];
        let known = known.iter().chain(&["GREETED", "ACK"]);
        if let Some(kind) = kind(datagram) {
            assert!(!known.into_iter().any(|known| kind == *known), "{kind} is answered");
        }
    }

    fn is_possible(&self) -> bool {
        SOURCES[..5].contains(&self.path.peer.to_string().as_str()) || self.is_trusted()
    }

    fn is_trusted(&self) -> bool {
        self.path.peer.ip().to_canonical().is_loopback()
    }

    /// Whether it holds one of the two good cookies: no other can be made without the secret.
    fn is_proven(&self, datagram: &[u8]) -> bool {
        let Ok(envelope) = Envelope::open(datagram) else { return false };
        let good = [SECONDS, SECONDS - 120].map(|then| self.cookies.issue(self.path.peer, then));
        envelope.cookie().is_some_and(|cookie| good.iter().any(|good| good.as_str() == cookie))
    }

    fn must_pass(&self, datagram: &[u8]) -> bool {
        let good = Envelope::open(datagram).is_ok_and(|it| match it.kind() {
            Kind::Ack => it.ack().is_ok(),
            _ => it.request().is_ok(),
        });
        good && self.is_possible()
            && !self.limited
            && self.is_proven(datagram)
            && (!self.private || has_mac(datagram))
    }
}

fn has_mac(datagram: &[u8]) -> bool {
    let Ok(envelope) = Envelope::open(datagram) else { return false };
    envelope.mac().is_some_and(|mac| mac == key().mac(&envelope.signed_bytes()))
}

/// The `type`, read by another parser; of what is too large nothing is read.
fn kind(datagram: &[u8]) -> Option<String> {
    if datagram.len() > MAX_DATAGRAM {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(datagram).ok()?;
    Some(value.as_object()?.get("type")?.as_str()?.to_owned())
}
