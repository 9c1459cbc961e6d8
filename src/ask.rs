//! A client's one request until it is answered: sent again after a while, and again with the cookie
//! that a CHALLENGE gave; to a private registry, each time with its MAC.
//!
//! ```text
//!  REGISTER seq 1 ──▶   lost
//!      250 ms ± 20 %
//!  REGISTER seq 1 ──▶ ◀── CHALLENGE seq 1, cookie
//!      at once
//!  REGISTER seq 1 ──▶ ◀── REGISTERED seq 1: done
//!      500 ms, then every second, without end
//! ```

use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::clock::Now;
use crate::cookie::{Key, NO_COOKIE};
use crate::proto::{Auth, Datagram, Id, Refusal, Request, RequestKind};

/// The delay before the first retry, and between two sends that a registry can provoke.
const FIRST: Duration = Duration::from_millis(250);
/// The delay between retries, once they have slowed down.
const SLOWEST: Duration = Duration::from_secs(1);
/// How long before the deadline the last retry that can still arrive in time may be sent.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// The longest wait that an ERROR can ask for: a forged one silences nobody for long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest cookie that is taken: a longer one would not fit beside the longest fields.
const MAX_COOKIE: usize = 64;

/// When a request is sent again, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLimits {
    /// The longest delay between two sends.
    pub longest: Duration,
    /// A moment of the monotonic clock after which the answer is worth less: in the last 500 ms
    /// before it, the request is sent once more.
    pub deadline: Option<Duration>,
}

/// What a datagram means to a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is no reply to this request.
    Unrelated,
    /// A CHALLENGE: the request is sent again with the new cookie.
    Challenge,
    /// The answer, which completes the request.
    Answer,
    /// An ERROR: with a retryable code the request is sent again later, with any other it has failed.
    Error,
}

/// One outstanding request: REGISTER, LEAVE or QUERY.
///
/// It does no I/O: datagrams from the registry's address and the time go in
/// ([`PendingRequest::handle`]), datagrams come out ([`PendingRequest::poll_transmit`]). The caller
/// checks where datagrams come from.
#[derive(Debug)]
pub struct PendingRequest {
    request: Request,
    auth: Auth,
    /// The key of a private registry.
    key: Option<Key>,
    limits: RetryLimits,
    rng: ChaCha8Rng,
    /// The next delay, before its jitter.
    delay: Duration,
    /// When it is sent next; `None` once it is answered or has failed.
    due: Option<Duration>,
    /// When it was last sent for a CHALLENGE.
    challenged: Option<Duration>,
}

impl PendingRequest {
    /// Sends `request` from now on, with `cookie`: the last that was given, or [`NO_COOKIE`].
    /// `seed` draws the jitter.
    pub fn new(
        request: Request,
        cookie: &str,
        limits: RetryLimits,
        seed: u64,
        now: Now,
    ) -> PendingRequest {
        PendingRequest {
            request,
            auth: Auth::with_cookie(cookie),
            key: None,
            limits,
            rng: ChaCha8Rng::seed_from_u64(seed),
            delay: FIRST,
            due: Some(now.mono),
            challenged: None,
        }
    }

    /// Signs what is sent, for a private registry.
    pub fn signed(self, key: Option<Key>) -> PendingRequest {
        PendingRequest { key, ..self }
    }

    /// The datagram to send, if it is time for that.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Vec<u8>> {
        if now.mono < self.due? {
            return None;
        }
        let delay = self.next_delay();
        self.due = Some(self.in_time(now.mono, now.mono.saturating_add(delay)));
        if let Some(key) = &self.key {
            self.auth.sign(&self.request, |signed_bytes| key.mac(signed_bytes));
        }
        Some(self.request.encode(&self.auth))
    }

    /// The moment of the monotonic clock at which the request is sent next; `None` once it is
    /// answered or has failed.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// The last cookie given, to be used for later requests.
    pub fn cookie(&self) -> &str {
        self.auth.cookie.as_deref().unwrap_or(NO_COOKIE)
    }

    /// Takes a datagram that came from the registry's address.
    pub fn handle(&mut self, datagram: &Datagram<'_>, now: Now) -> Reply {
        let (id, seq) = (self.request.id.as_ref(), self.request.seq);
        match datagram {
            _ if self.due.is_none() => Reply::Unrelated,
            Datagram::Challenge(it) if it.seq == seq => self.handle_challenge(&it.cookie, now.mono),
            Datagram::Error(it) if it.seq == seq => self.handle_error(it, now.mono),
            _ if echoed(&self.request.kind, datagram) != Some((id, seq)) => Reply::Unrelated,
            _ => {
                self.due = None;
                Reply::Answer
            }
        }
    }

    fn handle_challenge(&mut self, cookie: &str, now: Duration) -> Reply {
        if cookie.len() > MAX_COOKIE {
            return Reply::Unrelated;
        }
        self.auth.cookie = Some(cookie.to_owned());
        // At once, but not at any rate: who forges the registry's address and guesses the seq
        // would otherwise make us send as fast as it does.
        let again = self.challenged.map_or(now, |last| now.max(last.saturating_add(FIRST)));
        self.challenged = Some(again);
        self.delay = FIRST;
        self.due = self.due.map(|due| due.min(again));
        Reply::Challenge
    }

    fn handle_error(&mut self, refusal: &Refusal, now: Duration) -> Reply {
        if !refusal.code.is_retryable() {
            self.due = None;
            return Reply::Error;
        }
        let wait = match refusal.retry_in_ms {
            Some(millis) => self.no_sooner(Duration::from_millis(millis)),
            None => self.next_delay(),
        };
        self.due = Some(now.saturating_add(wait));
        Reply::Error
    }

    /// A little later than told, or all who were told the same would be back at once.
    fn no_sooner(&mut self, wait: Duration) -> Duration {
        wait.clamp(FIRST, LONGEST_WAIT).mul_f64(self.rng.random_range(1.0..1.2))
    }

    fn next_delay(&mut self) -> Duration {
        let delay = jitter(&mut self.rng, self.delay).min(self.limits.longest);
        self.delay = (self.delay * 2).min(SLOWEST);
        delay
    }

    /// `at`, unless nothing would then be sent in the last 500 ms before the deadline that can
    /// still arrive in time.
    fn in_time(&mut self, now: Duration, at: Duration) -> Duration {
        let Some(deadline) = self.limits.deadline else { return at };
        let from = deadline.saturating_sub(LAST_CHANCE);
        if now >= from || at <= from + LAST_CHANCE / 2 {
            return at;
        }
        from + self.rng.random_range(Duration::ZERO..LAST_CHANCE / 2)
    }
}

/// `span` ± 20 %: clients that began at one moment do not stay in step.
pub fn jitter(rng: &mut ChaCha8Rng, span: Duration) -> Duration {
    span.mul_f64(rng.random_range(0.8..1.2))
}

/// The `id` and `seq` that `datagram` echoes, if it answers a request of this kind.
fn echoed<'a>(
    kind: &RequestKind,
    datagram: &'a Datagram<'_>,
) -> Option<(Option<&'a Id>, Option<u64>)> {
    match (kind, datagram) {
        (RequestKind::Register(_), Datagram::Registered(it)) => Some((it.id.as_ref(), it.seq)),
        (RequestKind::Leave, Datagram::Left(it)) => Some((it.id.as_ref(), it.seq)),
        (RequestKind::Query { .. }, Datagram::Peers(it)) => Some((it.id.as_ref(), it.seq)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Page;
    use crate::proto::{Challenge, Code, Left, Peers, Profile, Room};
    use crate::window::Wall;

    const LIMITS: RetryLimits = RetryLimits { longest: Duration::from_secs(15), deadline: None };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(mono: Duration) -> Now {
        Now { wall: Wall::from_millis(0), mono }
    }

    fn leave() -> Request {
        Request::leave(Some("me".parse().unwrap()), Some(7))
    }

    fn pending(limits: RetryLimits, seed: u64) -> PendingRequest {
        PendingRequest::new(leave(), NO_COOKIE, limits, seed, at(ms(0)))
    }

    fn left(id: &str, seq: u64) -> Datagram<'static> {
        let window = "2026-11-23T11:29:00Z".parse().unwrap();
        Datagram::Left(Left { id: Some(id.parse().unwrap()), seq: Some(seq), window })
    }

    fn challenge(seq: u64, cookie: &str) -> Datagram<'static> {
        Datagram::Challenge(Challenge { seq: Some(seq), cookie: cookie.into() })
    }

    fn error(seq: u64, code: Code, retry_in_ms: Option<u64>) -> Datagram<'static> {
        Datagram::Error(Refusal { seq: Some(seq), code, reason: String::new(), retry_in_ms })
    }

    /// The moments at which it is sent until `end`.
    fn sends(pending: &mut PendingRequest, end: Duration) -> Vec<Duration> {
        let mut moments = Vec::new();
        while let Some(due) = pending.poll_timeout().filter(|due| *due <= end) {
            assert_eq!(
                pending.poll_transmit(at(due.saturating_sub(ms(1)))).is_some(),
                due == ms(0)
            );
            if due > ms(0) {
                assert!(pending.poll_transmit(at(due)).is_some());
            }
            moments.push(due);
        }
        moments
    }

    fn gaps(moments: &[Duration]) -> Vec<Duration> {
        moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn retries_slow_down_to_one_a_second_and_do_not_stop() {
        for seed in 0..50 {
            let gaps = gaps(&sends(&mut pending(LIMITS, seed), ms(100_000)));
            assert!(gaps.len() > 80);
            for (gap, nominal) in gaps.iter().zip([250, 500].into_iter().chain([1000; 200])) {
                let near = ms(nominal * 8 / 10)..=ms(nominal * 12 / 10);
                assert!(near.contains(gap), "{gap:?} is not about {nominal} ms");
            }
        }
    }

    #[test]
    fn no_delay_is_longer_than_its_limits() {
        let limits = RetryLimits { longest: ms(250), deadline: None };
        let gaps = gaps(&sends(&mut pending(limits, 3), ms(20_000)));
        assert!(gaps.iter().all(|gap| *gap <= ms(250)), "{gaps:?}");
    }

    #[test]
    fn the_request_is_sent_once_in_the_last_half_second_before_the_deadline() {
        for seed in 0..200 {
            let deadline = ms(3000 + seed * 7);
            let limits = RetryLimits { deadline: Some(deadline), ..LIMITS };
            let moments = sends(&mut pending(limits, seed), ms(8000));
            let last = |moment: &&Duration| **moment >= deadline - ms(500) && **moment < deadline;
            assert_eq!(moments.iter().filter(last).count(), 1, "{moments:?} for {deadline:?}");
        }
    }

    #[test]
    fn after_a_challenge_the_request_is_sent_at_once_with_the_same_seq() {
        let mut pending = pending(LIMITS, 1);
        let first = pending.poll_transmit(at(ms(0))).unwrap();
        assert!(String::from_utf8(first).unwrap().contains(NO_COOKIE));
        assert_eq!(pending.handle(&challenge(7, "awQjfGkU0tbP4drN"), at(ms(20))), Reply::Challenge);
        let again = String::from_utf8(pending.poll_transmit(at(ms(20))).unwrap()).unwrap();
        assert!(again.contains(r#""seq":7,"cookie":"awQjfGkU0tbP4drN""#), "{again}");
        assert_eq!(pending.cookie(), "awQjfGkU0tbP4drN");
    }

    #[test]
    fn forged_challenges_do_not_cause_a_flood() {
        let mut pending = pending(LIMITS, 1);
        let mut sent = 0;
        for now in (0..10_000).map(ms) {
            pending.handle(&challenge(7, "awQjfGkU0tbP4drN"), at(now));
            sent += usize::from(pending.poll_transmit(at(now)).is_some());
        }
        assert!(sent <= 42, "{sent} in ten seconds");
    }

    #[test]
    fn a_cookie_that_is_too_long_is_ignored() {
        let mut pending = pending(LIMITS, 1);
        assert_eq!(pending.handle(&challenge(7, &"x".repeat(65)), at(ms(0))), Reply::Unrelated);
        assert_eq!(pending.cookie(), NO_COOKIE);
    }

    #[test]
    fn only_an_answer_with_the_same_id_and_seq_completes_it() {
        let mut pending = pending(LIMITS, 1);
        let peers = Datagram::Peers(Peers {
            id: Some("me".parse().unwrap()),
            seq: Some(7),
            room: Default::default(),
            window: "2026-11-23T11:29:00Z".parse().unwrap(),
            closes_in_ms: 0,
            you: None,
            pass: None,
            page: Page { part: 0, parts: 1, count: 0, peers: "" },
        });
        let others = [left("me", 6), left("you", 7), challenge(8, "x"), peers];
        for other in others.into_iter().chain([error(6, Code::Forbidden, None)]) {
            assert_eq!(pending.handle(&other, at(ms(5))), Reply::Unrelated, "{other:?}");
        }
        assert_eq!(pending.handle(&left("me", 7), at(ms(5))), Reply::Answer);
        assert_eq!((pending.poll_timeout(), pending.poll_transmit(at(ms(9000)))), (None, None));
        assert_eq!(pending.handle(&left("me", 7), at(ms(6))), Reply::Unrelated, "only once");
    }

    #[test]
    fn errors_that_are_not_retryable_end_it() {
        for &code in Code::ALL {
            let mut pending = pending(LIMITS, 1);
            assert_eq!(pending.handle(&error(7, code, None), at(ms(5))), Reply::Error);
            assert_eq!(pending.poll_timeout().is_none(), !code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn after_a_retryable_error_it_is_sent_again_when_told() {
        let mut pending = pending(LIMITS, 1);
        pending.poll_transmit(at(ms(0)));
        pending.handle(&error(7, Code::Full, Some(5000)), at(ms(10)));
        let due = pending.poll_timeout().unwrap();
        assert!(due >= ms(5010) && due <= ms(6010), "{due:?}");
        pending.handle(&error(7, Code::SlowDown, Some(0)), at(ms(20)));
        assert!(pending.poll_timeout().unwrap() >= ms(270), "no loop");
        pending.handle(&error(7, Code::SlowDown, Some((1 << 53) - 1)), at(ms(20)));
        assert!(pending.poll_timeout().unwrap() <= ms(72_020), "not for ever");
        pending.handle(&error(7, Code::Unavailable, None), at(ms(20)));
        assert!(pending.poll_timeout().unwrap() <= ms(1220));
    }

    #[test]
    fn every_request_carries_its_cookie() {
        let register = Request::register(None, None, Profile::default());
        let query = Request::query(None, None, Room::default(), 0);
        for request in [register, leave(), query] {
            let mut pending =
                PendingRequest::new(request, "awQjfGkU0tbP4drN", LIMITS, 1, at(ms(0)));
            let sent = String::from_utf8(pending.poll_transmit(at(ms(0))).unwrap()).unwrap();
            assert!(sent.contains(r#""cookie":"awQjfGkU0tbP4drN""#), "{sent}");
        }
    }
}
