//! Checks every datagram before anything else does: reads it, has its source prove its address,
//! answers unproven requests with a CHALLENGE or drops them, and admits the rest.
//!
//! ```text
//!  datagram ─▶ an object with a known type? ─▶ a request? ─▶ proven or trusted? ─▶ fields ─▶ Pass
//!                  │ no                          │ no           │ no                  │ bad
//!                  ▼                             ▼              ▼                     ▼
//!           Drop (trusted: ERROR)               Drop         CHALLENGE             ERROR
//! ```
//!
//! An unproven source costs no state, and is never sent more than three times what came from it
//! (RFC 9000 §8).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Now;
use crate::cookie::{CookieIssuer, Key};
use crate::limit::{Limiter, Rate, Verdict};
use crate::path::{Path, Transmit, network};
use crate::proto::{Ack, Challenge, Code, DecodeError, Envelope, Kind, Refusal, Request};
use crate::tally::DropReason;

/// The most bytes sent to an unproven source for each byte that came from it (RFC 9000 §8).
const MAX_AMPLIFICATION: usize = 3;

/// How often each member at one address may send LEAVE or ACK at once: LEAVE is retried once before a
/// client exits, and WINDOW is sent three times.
const BURST_PER_MEMBER: u32 = 3;

/// How often one trusted address is sent an ERROR for a datagram that cannot be read.
const UNREADABLE_ERROR_RATE: Rate = Rate { per_second: 1, burst: 64 };

/// The gate's decision about a datagram.
#[derive(Debug)]
pub enum Admit {
    /// A request that may be handled.
    Pass {
        /// The request, without its proof.
        request: Request,
        /// Whether the request came from a trusted source.
        trusted: bool,
    },
    /// An ACK, which is never answered; its pass is its only proof.
    Ack(Ack),
    /// The datagram is answered with this CHALLENGE.
    Answer(Transmit),
    /// The datagram is answered with this ERROR, which has this code.
    Refuse(Transmit, Code),
    /// The datagram is dropped without an answer.
    Drop(DropReason),
}

/// Admits, challenges, refuses or drops each datagram. Each core may have a clone: clones share
/// their rate limits.
#[derive(Clone, Debug)]
pub struct Gate {
    cookies: CookieIssuer,
    trust: Vec<IpNet>,
    /// The keys of a private registry; empty if the registry is public.
    keys: Vec<Key>,
    /// Limits requests but LEAVE.
    limiter: Arc<Limiter>,
    /// Limits LEAVE: who has asked for much can still leave.
    leaves: Arc<Limiter>,
    /// Limits ACKs, whose sources may be forged, in a table of its own, where they displace no others.
    acks: Arc<Limiter>,
    /// Limits the ERRORs sent for datagrams that cannot be read.
    unreadable_errors: Arc<Limiter>,
}

impl Gate {
    /// Returns a gate that challenges everyone but the sources in `trust`, and limits the requests of
    /// each address, its LEAVEs and its ACKs to `rate`.
    pub fn new(cookies: CookieIssuer, trust: Vec<IpNet>, rate: Rate) -> Gate {
        let table = |rate| Arc::new(Limiter::new(rate));
        Gate {
            cookies,
            trust,
            keys: Vec::new(),
            limiter: table(rate),
            leaves: table(rate),
            acks: table(rate),
            unreadable_errors: table(UNREADABLE_ERROR_RATE),
        }
    }

    /// Raises the bursts of LEAVE and ACK, so that as many `members` at one address as there may be
    /// can leave, and can acknowledge their WINDOW, all at the same moment.
    pub fn expect_members(&mut self, members: usize) {
        let Rate { per_second, burst } = self.leaves.rate();
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let burst = burst.max(members.saturating_mul(BURST_PER_MEMBER));
        self.leaves = Arc::new(Limiter::new(Rate { per_second, burst }));
        self.acks = Arc::new(Limiter::new(Rate { per_second, burst }));
    }

    /// Sets the keys of a private registry: from now on only requests signed with one of them are
    /// admitted, and trusted sources prove their address too. Without keys the registry is public.
    pub fn set_keys(&mut self, keys: Vec<Key>) {
        self.keys = keys;
    }

    /// Checks one datagram that came on `path`, and returns the decision.
    pub fn admit(&mut self, now: Now, path: Path, datagram: &[u8]) -> Admit {
        if !is_possible(path.peer) {
            return Admit::Drop(DropReason::NoSource);
        }
        let trusted = self.is_trusted(path.peer.ip());
        match &Envelope::open(datagram) {
            Ok(envelope) => self.admit_envelope(now, path, envelope, trusted, datagram.len()),
            Err(error) if trusted => self.refuse_unreadable(now, path, error),
            Err(_) => Admit::Drop(DropReason::Unreadable),
        }
    }

    fn admit_envelope(
        &self,
        now: Now,
        path: Path,
        envelope: &Envelope<'_>,
        trusted: bool,
        came: usize,
    ) -> Admit {
        match envelope.kind() {
            Kind::Ack => return self.admit_ack(now, path, envelope, trusted),
            kind if !kind.is_request() => return Admit::Drop(DropReason::NoRequest),
            _ => {}
        }
        let needs_proof = !trusted || !self.keys.is_empty();
        if needs_proof && !self.is_proven(now, path, envelope) {
            return self.challenge(now, path, envelope, came);
        }
        if !trusted && let Some(refused) = self.limit(now, path, envelope) {
            return refused;
        }
        if !self.is_authorized(envelope) {
            return forbidden(path, envelope.seq());
        }
        match envelope.request() {
            Ok(request) => Admit::Pass { request, trusted },
            Err(error) => refuse(path, envelope.seq(), &error),
        }
    }

    /// Refuses or drops a request beyond its source's rate; `None` within the rate.
    fn limit(&self, now: Now, path: Path, envelope: &Envelope<'_>) -> Option<Admit> {
        let limiter = match envelope.kind() {
            Kind::Leave => &self.leaves,
            _ => &self.limiter,
        };
        match limiter.take(network(path.peer.ip()), now.mono) {
            Verdict::Within => None,
            Verdict::Drop => Some(Admit::Drop(DropReason::TooOften)),
            Verdict::TooOften(wait) => Some(slow_down(path, envelope.seq(), wait)),
        }
    }

    /// Sends a trusted source an ERROR for a datagram that cannot be read; not without limit, or a
    /// service there that answers everything (RFC 864) would keep us sending.
    fn refuse_unreadable(&mut self, now: Now, path: Path, error: &DecodeError) -> Admit {
        match self.unreadable_errors.take(network(path.peer.ip()), now.mono) {
            Verdict::Within => refuse(path, None, error),
            _ => Admit::Drop(DropReason::Unreadable),
        }
    }

    /// Admits an ACK within its source's rate. An ACK is never answered and needs no cookie: its pass
    /// is its proof.
    fn admit_ack(&self, now: Now, path: Path, envelope: &Envelope<'_>, trusted: bool) -> Admit {
        let rate = || self.acks.take(network(path.peer.ip()), now.mono);
        if !trusted && rate() != Verdict::Within {
            return Admit::Drop(DropReason::AckTooOften);
        }
        match envelope.ack() {
            Ok(ack) => Admit::Ack(ack),
            Err(_) => Admit::Drop(DropReason::Unreadable),
        }
    }

    fn is_trusted(&self, ip: IpAddr) -> bool {
        self.trust.iter().any(|net| net.contains(&ip))
    }

    fn is_authorized(&self, envelope: &Envelope<'_>) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let (mac, signed_bytes) = (envelope.mac().unwrap_or_default(), envelope.signed_bytes());
        self.keys.iter().any(|key| key.verify(&mac, &signed_bytes))
    }

    fn is_proven(&self, now: Now, path: Path, envelope: &Envelope<'_>) -> bool {
        let cookie = envelope.cookie();
        cookie.is_some_and(|cookie| self.cookies.verify(&cookie, path.peer, now.wall.seconds32()))
    }

    fn challenge(&self, now: Now, path: Path, envelope: &Envelope<'_>, came: usize) -> Admit {
        let cookie = self.cookies.issue(path.peer, now.wall.seconds32());
        let challenge = Challenge { seq: envelope.seq(), cookie: cookie.as_str().to_owned() };
        let payload = challenge.encode();
        if payload.len() > MAX_AMPLIFICATION * came {
            return Admit::Drop(DropReason::TooShort);
        }
        Admit::Answer(Transmit { path, payload })
    }
}

/// Returns whether a datagram can come from this address: port 0, multicast and broadcast are
/// forged.
fn is_possible(source: SocketAddr) -> bool {
    let impossible = match source.ip() {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_multicast() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
    };
    source.port() != 0 && !impossible
}

fn forbidden(path: Path, seq: Option<u64>) -> Admit {
    let reason = "this registry is private: its key is needed".to_owned();
    error(path, Refusal { seq, code: Code::Forbidden, reason, retry_in_ms: None })
}

fn slow_down(path: Path, seq: Option<u64>, wait: Duration) -> Admit {
    let reason = "your address asks too often".to_owned();
    let retry_in_ms = Some(wait.as_millis().max(1) as u64);
    error(path, Refusal { seq, code: Code::SlowDown, reason, retry_in_ms })
}

fn refuse(path: Path, seq: Option<u64>, why: &DecodeError) -> Admit {
    let reason = why.to_string();
    error(path, Refusal { seq, code: why.code(), reason, retry_in_ms: None })
}

fn error(path: Path, refusal: Refusal) -> Admit {
    Admit::Refuse(Transmit { path, payload: refusal.encode() }, refusal.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{NO_COOKIE, Secret};
    use crate::proto::{Auth, Datagram, Id, MAX_DATAGRAM, Profile, RequestKind, Room};
    use crate::window::Wall;

    const STRANGER: &str = "203.0.113.9:40112";
    const FRIEND: &str = "127.0.0.1:40112";

    fn now() -> Now {
        Now { wall: Wall::from_millis(1_795_000_000_000), mono: Duration::ZERO }
    }

    fn admit(from: &str, datagram: &[u8]) -> Admit {
        let secret = Secret::from_bytes([7; 32]);
        let path = Path::new(from.parse().unwrap(), "127.0.0.1".parse().unwrap());
        let trust = vec!["127.0.0.0/8".parse().unwrap()];
        Gate::new(secret.cookie_issuer(), trust, Rate { per_second: 0, burst: 0 }).admit(
            now(),
            path,
            datagram,
        )
    }

    fn answer(from: &str, datagram: &[u8]) -> Vec<u8> {
        match admit(from, datagram) {
            Admit::Answer(transmit) | Admit::Refuse(transmit, _) => {
                assert_eq!(transmit.path.peer, from.parse().unwrap());
                transmit.payload
            }
            other => panic!("{other:?}"),
        }
    }

    fn code(from: &str, datagram: &[u8]) -> Code {
        match Datagram::decode(&answer(from, datagram)).unwrap() {
            Datagram::Error(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    fn cookie(challenge: &[u8]) -> String {
        match Datagram::decode(challenge).unwrap() {
            Datagram::Challenge(challenge) => challenge.cookie,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trusted_source_needs_no_cookie() {
        assert!(matches!(
            admit(FRIEND, br#"{"type":"QUERY"}"#),
            Admit::Pass { request: Request { kind: RequestKind::Query { .. }, .. }, trusted: true }
        ));
    }

    #[test]
    fn a_stranger_proves_its_address_first() {
        let register = |cookie: Option<String>| {
            let request = Request::register(None, Some(3), Profile::default());
            request.encode(&Auth { cookie, mac: None })
        };
        let challenge = answer(STRANGER, &register(None));
        assert!(challenge.starts_with(br#"{"type":"CHALLENGE","seq":3,"cookie":""#));
        let cookie = Some(cookie(&challenge));
        assert!(matches!(
            admit(STRANGER, &register(cookie.clone())),
            Admit::Pass { trusted: false, .. }
        ));
        assert!(matches!(admit("203.0.113.9:40113", &register(cookie)), Admit::Answer(_)));
    }

    #[test]
    fn fields_are_looked_at_after_the_proof() {
        let bad = br#"{"type":"REGISTER","seq":1,"name":"a  b","cookie":"x"}"#;
        let cookie = cookie(&answer(STRANGER, bad));
        let proven = format!(r#"{{"type":"REGISTER","seq":1,"name":"a  b","cookie":"{cookie}"}}"#);
        assert_eq!(code(STRANGER, proven.as_bytes()), Code::BadField);
        assert_eq!(code(FRIEND, bad), Code::BadField);
    }

    #[test]
    fn only_trusted_sources_get_errors_for_unreadable_datagrams() {
        let large = vec![b' '; MAX_DATAGRAM + 1];
        for (datagram, expected) in [
            (&b"hello"[..], Code::Malformed),
            (br#"{"type":"HELLO"}"#, Code::UnknownType),
            (&large, Code::TooLarge),
        ] {
            assert_eq!(code(FRIEND, datagram), expected);
            assert!(matches!(admit(STRANGER, datagram), Admit::Drop(DropReason::Unreadable)));
        }
    }

    #[test]
    fn errors_to_one_trusted_source_are_limited() {
        let secret = Secret::from_bytes([7; 32]);
        let trust = vec!["127.0.0.0/8".parse().unwrap()];
        let mut gate = Gate::new(secret.cookie_issuer(), trust, Rate { per_second: 0, burst: 0 });
        let path = Path::new(FRIEND.parse().unwrap(), "127.0.0.1".parse().unwrap());
        let told = |_: &usize| matches!(gate.admit(now(), path, b"!\"#$%&"), Admit::Refuse(..));
        assert_eq!((0..1000).filter(told).count(), 64);
    }

    #[test]
    fn datagrams_that_are_no_requests_are_never_answered() {
        let others = |kind: &&Kind| !kind.is_request() && **kind != Kind::Ack;
        for kind in Kind::ALL.iter().filter(others) {
            let datagram = format!(r#"{{"type":"{}","seq":"bad"}}"#, kind.name());
            for from in [STRANGER, FRIEND] {
                assert!(matches!(
                    admit(from, datagram.as_bytes()),
                    Admit::Drop(DropReason::NoRequest)
                ));
            }
        }
        for from in [STRANGER, FRIEND] {
            assert!(matches!(
                admit(from, br#"{"type":"ACK"}"#),
                Admit::Drop(DropReason::Unreadable)
            ));
        }
    }

    #[test]
    fn impossible_sources_are_not_answered() {
        for from in ["127.0.0.1:0", "224.0.0.1:5", "255.255.255.255:5", "0.0.0.0:5", "[ff02::1]:5"]
        {
            let dropped = admit(from, br#"{"type":"QUERY"}"#);
            assert!(matches!(dropped, Admit::Drop(DropReason::NoSource)), "{from}");
        }
    }

    #[test]
    fn no_request_is_amplified() {
        let id: Option<Id> = Some("0123456789a".parse().unwrap());
        for request in [
            Request::register(id.clone(), Some(1), Profile::default()),
            Request::leave(id.clone(), Some(1)),
            Request::query(id, Some(1), Room::default(), 0),
        ] {
            let own = request.encode(&Auth::with_cookie(NO_COOKIE));
            assert!(answer(STRANGER, &own).len() <= own.len());
        }
        for least in
            [&br#"{"type":"REGISTER"}"#[..], br#"{"type":"LEAVE"}"#, br#"{"type":"QUERY"}"#]
        {
            assert!(answer(STRANGER, least).len() <= 3 * least.len());
        }
    }

    #[test]
    fn a_proven_source_is_held_to_its_rate() {
        let secret = Secret::from_bytes([7; 32]);
        let rate = Rate { per_second: 10, burst: 2 };
        let mut gate =
            Gate::new(secret.cookie_issuer(), vec!["127.0.0.0/8".parse().unwrap()], rate);
        let mut ask = |from: &str, later: u64| {
            let path = Path::new(from.parse().unwrap(), "127.0.0.1".parse().unwrap());
            let now = Now { mono: Duration::from_millis(5000 + later), ..now() };
            let cookie = secret.cookie_issuer().issue(path.peer, now.wall.seconds32());
            let query = Request::query(None, None, Room::default(), 0);
            gate.admit(now, path, &query.encode(&Auth::with_cookie(cookie.as_str())))
        };
        assert!(matches!(ask(STRANGER, 0), Admit::Pass { .. }));
        assert!(matches!(ask("203.0.113.9:40113", 0), Admit::Pass { .. }));
        let Admit::Refuse(transmit, Code::SlowDown) = ask(STRANGER, 0) else {
            panic!("it is told to slow down")
        };
        let told = String::from_utf8(transmit.payload).unwrap();
        assert!(told.contains(r#""code":"slow_down""#) && told.contains(r#""retry_in_ms":100"#));
        assert!(matches!(ask(STRANGER, 1), Admit::Drop(DropReason::TooOften)));
        assert!(matches!(ask(STRANGER, 100), Admit::Pass { .. }));
        assert!((0..100).all(|_| matches!(ask(FRIEND, 0), Admit::Pass { trusted: true, .. })));
    }

    /// Returns a closure that passes a datagram of each kind from [`STRANGER`] through one gate at a rate
    /// of 10 a second and 2 at once, with 5 members to expect; it returns whether the gate admits it.
    fn stranger_at_a_rate() -> impl FnMut(&str, u64) -> bool {
        let secret = Secret::from_bytes([7; 32]);
        let mut gate = Gate::new(secret.cookie_issuer(), vec![], Rate { per_second: 10, burst: 2 });
        gate.expect_members(5);
        let path = Path::new(STRANGER.parse().unwrap(), "127.0.0.1".parse().unwrap());
        let cookie = secret.cookie_issuer().issue(path.peer, now().wall.seconds32());
        move |kind, later| {
            let (window, cookie) = (r#""window":"2026-11-23T11:29:00Z""#, cookie.as_str());
            let text = format!(r#"{{"type":"{kind}",{window},"pass":"x","cookie":"{cookie}"}}"#);
            let now = Now { mono: Duration::from_millis(5000 + later), ..now() };
            match gate.admit(now, path, text.as_bytes()) {
                Admit::Pass { .. } | Admit::Ack(_) => true,
                Admit::Refuse(_, Code::SlowDown) if kind != "ACK" => false,
                Admit::Drop(DropReason::TooOften) if kind != "ACK" => false,
                Admit::Drop(DropReason::AckTooOften) if kind == "ACK" => false,
                other => panic!("{kind}: {other:?}"),
            }
        }
    }

    #[test]
    fn all_members_of_an_address_that_asked_too_often_can_leave_and_acknowledge() {
        let mut admits = stranger_at_a_rate();
        let mut count = |kind, later| (0..100).filter(|_| admits(kind, later)).count();
        assert_eq!(count("QUERY", 0), 2);
        // Three times for each of five members; then the rate.
        for kind in ["LEAVE", "ACK"] {
            assert_eq!((count(kind, 0), count(kind, 1000)), (15, 10), "{kind}");
        }
        assert_eq!(count("REGISTER", 1000), 2, "it has a rate of its own");
    }

    /// Returns a gate with two keys, and a request with the cookie of `proven`, signed with `key`.
    fn private(proven: &str, key: Option<&str>) -> (Gate, Vec<u8>) {
        let secret = Secret::from_bytes([7; 32]);
        let key_of = |text: &str| Key::from_text(text).unwrap();
        let trust = vec!["127.0.0.0/8".parse().unwrap()];
        let mut gate = Gate::new(secret.cookie_issuer(), trust, Rate { per_second: 0, burst: 0 });
        gate.set_keys(vec![key_of("the key of last year"), key_of("the key of this year")]);
        let cookie = secret.cookie_issuer().issue(proven.parse().unwrap(), now().wall.seconds32());
        let profile = Profile { name: Some("ana".parse().unwrap()), ..Profile::default() };
        let request = Request::register(None, None, profile);
        let mut auth = Auth::with_cookie(cookie.as_str());
        if let Some(key) = key {
            auth.sign(&request, |signed_bytes| key_of(key).mac(signed_bytes));
        }
        (gate, request.encode(&auth))
    }

    fn ask_private(from: &str, (mut gate, request): (Gate, Vec<u8>)) -> Result<(), String> {
        let path = Path::new(from.parse().unwrap(), "127.0.0.1".parse().unwrap());
        match gate.admit(now(), path, &request) {
            Admit::Pass { .. } => Ok(()),
            Admit::Answer(transmit) | Admit::Refuse(transmit, _) => {
                Err(String::from_utf8(transmit.payload).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_private_registry_admits_what_is_signed_with_one_of_its_keys() {
        for key in ["the key of last year", "the key of this year"] {
            assert_eq!(ask_private(STRANGER, private(STRANGER, Some(key))), Ok(()));
        }
        for key in [None, Some("the key of nobody")] {
            let told = ask_private(STRANGER, private(STRANGER, key)).unwrap_err();
            assert!(told.contains(r#""code":"forbidden""#), "{told}");
        }
    }

    #[test]
    fn a_signed_request_is_of_no_use_elsewhere_or_changed() {
        let key = Some("the key of this year");
        let replayed = ask_private("203.0.113.9:40113", private(STRANGER, key)).unwrap_err();
        assert!(replayed.contains("CHALLENGE"), "{replayed}");
        let (gate, request) = private(STRANGER, key);
        let changed = String::from_utf8(request).unwrap().replace("ana", "eve").into_bytes();
        let told = ask_private(STRANGER, (gate, changed)).unwrap_err();
        assert!(told.contains("forbidden"), "{told}");
    }

    #[test]
    fn a_private_registry_asks_trusted_sources_for_a_cookie_too() {
        let unproven = private(STRANGER, Some("the key of this year"));
        assert!(ask_private(FRIEND, unproven).unwrap_err().contains("CHALLENGE"));
        assert!(ask_private(FRIEND, private(FRIEND, None)).unwrap_err().contains("forbidden"));
    }
}
