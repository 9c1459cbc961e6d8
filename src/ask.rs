//! Sends one request of a client until it is answered: retries it after a delay, and at once with
//! the cookie of a CHALLENGE; to a private registry, each time with its MAC.
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

/// The delay before the first retry, and the least wait that an ERROR can ask for.
pub(crate) const FIRST_RETRY_DELAY: Duration = Duration::from_millis(250);
/// The longest delay between ordinary retries; each delay is twice the one before, up to this.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The last span before the deadline, in which the request is sent once more.
const LAST_SEND_SPAN: Duration = Duration::from_millis(500);
/// The longest wait that an ERROR can ask for: a forged one must not silence a client for long.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest accepted cookie, in bytes: a longer one would not fit beside the longest fields.
const MAX_COOKIE: usize = 64;

/// The latest times at which a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLimits {
    /// The longest delay between two sends.
    pub longest: Duration,
    /// A moment of the monotonic clock after which the answer is worth less: in the last 500 ms
    /// before it, the request is sent once more.
    pub deadline: Option<Duration>,
}

/// The repeat that a CHALLENGE causes: at most one for each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Possible,
    Due,
    Done,
}

/// A limit on how often something is done: so often at once, then once per interval (the generic
/// cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval: Duration,
    /// How far `due` may be ahead of the time.
    burst: Duration,
    /// When the next would be due without a burst.
    due: Duration,
}

impl Pace {
    /// Returns a pace that allows `burst` at once and then one per `interval`.
    pub fn new(interval: Duration, burst: u32) -> Pace {
        Pace { interval, burst: interval * burst.saturating_sub(1), due: Duration::ZERO }
    }

    /// Returns when the next is allowed.
    pub fn ready_at(&self) -> Duration {
        self.due.saturating_sub(self.burst)
    }

    /// Returns whether one is allowed at `now`, and counts it if so.
    pub fn take(&mut self, now: Duration) -> bool {
        let ready = self.ready_at() <= now;
        if ready {
            self.due = self.due.max(now).saturating_add(self.interval);
        }
        ready
    }
}

/// What a datagram means to a pending request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The datagram is no reply to this request.
    Unrelated,
    /// A CHALLENGE: the request is sent again with the new cookie.
    Challenge,
    /// The answer, which completes the request.
    Answer,
    /// An ERROR: with a retryable code the request is sent again later, with any other it has
    /// failed.
    Error,
}

/// One outstanding request: REGISTER, LEAVE or QUERY.
///
/// Sans-IO: datagrams from the registry's address and the time go in ([`PendingRequest::handle`]),
/// datagrams come out ([`PendingRequest::poll_transmit`]). The caller checks where datagrams come
/// from.
#[derive(Debug)]
pub struct PendingRequest {
    request: Request,
    auth: Auth,
    /// The key of a private registry.
    key: Option<Key>,
    limits: RetryLimits,
    rng: ChaCha8Rng,
    /// The delay before the next retry, without its jitter.
    delay: Duration,
    /// When the request is sent next; `None` once answered or failed.
    due: Option<Duration>,
    repeat: Repeat,
}

impl PendingRequest {
    /// Returns a request that is due now, with `cookie`: the last one received, or [`NO_COOKIE`].
    /// `seed` is the seed of the jitter.
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
            delay: FIRST_RETRY_DELAY,
            due: Some(now.mono),
            repeat: Repeat::Possible,
        }
    }

    /// Signs the request with `key` each time it is sent, for a private registry.
    pub fn signed(self, key: Option<Key>) -> PendingRequest {
        PendingRequest { key, ..self }
    }

    /// Returns the datagram to send, or `None` if it is not due.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Vec<u8>> {
        if now.mono < self.due? {
            return None;
        }
        self.repeat = match self.repeat {
            Repeat::Due => {
                // The repeat belongs to its try, and is followed by the same delay.
                self.delay = (self.delay / 2).max(FIRST_RETRY_DELAY);
                Repeat::Done
            }
            _ => Repeat::Possible,
        };
        let delay = self.next_delay();
        self.due = Some(self.before_deadline(now.mono, now.mono.saturating_add(delay)));
        if let Some(key) = &self.key {
            self.auth.sign(&self.request, |signed_bytes| key.mac(signed_bytes));
        }
        Some(self.request.encode(&self.auth))
    }

    /// Returns when the request is sent next, by the monotonic clock; `None` if answered or failed.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// Returns the `seq` of the request.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.request.seq
    }

    /// Sets the deadline, in the last 500 ms before which the request is sent once more.
    pub(crate) fn set_deadline(&mut self, now: Now, deadline: Duration) {
        self.limits.deadline = Some(deadline);
        if let Some(due) = self.due {
            self.due = Some(self.before_deadline(now.mono, due));
        }
    }

    /// Returns the last cookie received, for use in later requests.
    pub fn cookie(&self) -> &str {
        self.auth.cookie.as_deref().unwrap_or(NO_COOKIE)
    }

    /// Processes a datagram that came from the registry's address, and returns what it means.
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
        // At once, but once for each try: a registry that sends nothing else would otherwise make us
        // send as fast as it does.
        if self.repeat == Repeat::Possible {
            (self.repeat, self.due) = (Repeat::Due, Some(now));
        }
        Reply::Challenge
    }

    fn handle_error(&mut self, refusal: &Refusal, now: Duration) -> Reply {
        if !refusal.code.is_retryable() {
            self.due = None;
            return Reply::Error;
        }
        let wait = match refusal.retry_in_ms {
            Some(millis) => self.error_wait(Duration::from_millis(millis)),
            None => self.next_delay(),
        };
        self.due = Some(now.saturating_add(wait));
        Reply::Error
    }

    /// Returns the wait that an ERROR asks for and up to 20 % more, or all clients would be back at
    /// once.
    fn error_wait(&mut self, wait: Duration) -> Duration {
        wait.clamp(FIRST_RETRY_DELAY, LONGEST_WAIT).mul_f64(self.rng.random_range(1.0..1.2))
    }

    fn next_delay(&mut self) -> Duration {
        let delay = jitter(&mut self.rng, self.delay).min(self.limits.longest);
        self.delay = (self.delay * 2).min(MAX_RETRY_DELAY);
        delay
    }

    /// Returns the retry time `at`, or an earlier one if otherwise nothing would be sent in the
    /// last 500 ms before the deadline that can still arrive in time.
    fn before_deadline(&mut self, now: Duration, at: Duration) -> Duration {
        let Some(deadline) = self.limits.deadline else { return at };
        let from = deadline.saturating_sub(LAST_SEND_SPAN);
        if now >= from || at <= from + LAST_SEND_SPAN / 2 {
            return at;
        }
        from + self.rng.random_range(Duration::ZERO..LAST_SEND_SPAN / 2)
    }
}

/// Returns `span` ± 20 %: clients that began at one moment do not stay in step.
pub fn jitter(rng: &mut ChaCha8Rng, span: Duration) -> Duration {
    span.mul_f64(rng.random_range(0.8..1.2))
}

/// Returns the `id` and `seq` that `datagram` echoes, if it answers a request of this kind.
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

    /// Sends the request until `end`, and returns the times.
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
    fn challenges_cause_one_repeat_for_each_try() {
        let mut pending = pending(LIMITS, 1);
        let mut sent = 0;
        for now in (0..10_000).map(ms) {
            pending.handle(&challenge(7, "awQjfGkU0tbP4drN"), at(now));
            sent += usize::from(pending.poll_transmit(at(now)).is_some());
        }
        assert!(sent <= 45, "{sent} in ten seconds");
    }

    #[test]
    fn a_pace_allows_a_burst_and_then_one_per_interval() {
        let mut pace = Pace::new(ms(20), 5);
        let taken = (0..1000).filter(|now| pace.take(ms(*now))).count();
        assert_eq!(taken, 4 + 50);
        assert_eq!((0..100).filter(|_| pace.take(ms(5000))).count(), 5, "again after a rest");
        assert_eq!(pace.ready_at(), ms(5020));
    }

    #[test]
    fn a_cookie_that_is_too_long_is_ignored() {
        let mut pending = pending(LIMITS, 1);
        assert_eq!(pending.handle(&challenge(7, &"x".repeat(65)), at(ms(0))), Reply::Unrelated);
        assert_eq!(pending.cookie(), NO_COOKIE);
    }

    #[test]
    fn only_an_answer_with_the_same_id_and_seq_completes_the_request() {
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
    fn errors_that_are_not_retryable_end_the_request() {
        for &code in Code::ALL {
            let mut pending = pending(LIMITS, 1);
            assert_eq!(pending.handle(&error(7, code, None), at(ms(5))), Reply::Error);
            assert_eq!(pending.poll_timeout().is_none(), !code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn after_a_retryable_error_the_request_is_sent_again_later() {
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
