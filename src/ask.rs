//! A client's one request until it is answered: tried again, and again with the cookie that a
//! CHALLENGE gave; to a private registry, each time with its MAC.
//!
//! ```text
//!  REGISTER seq 1 ──▶   lost
//!      250 ms ± 20 %
//!  REGISTER seq 1 ──▶ ◀── CHALLENGE seq 1, cookie
//!      at once
//!  REGISTER seq 1 ──▶ ◀── REGISTERED seq 1: over
//!      500 ms, then every second, for ever
//! ```

use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::clock::Now;
use crate::cookie::{Key, NO_COOKIE};
use crate::proto::{Datagram, Id, Refusal, Request};

/// Before the first retry, and between two that a registry can provoke.
const FIRST: Duration = Duration::from_millis(250);
/// Between retries, once they have slowed down.
const SLOWEST: Duration = Duration::from_secs(1);
/// The end of the time before a deadline that holds one more try.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// The longest wait that an ERROR can ask for: a forged one silences nobody for long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A longer cookie would not fit beside the longest fields.
const MAX_COOKIE: usize = 64;

/// What bounds the tries of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// No delay between tries is longer.
    pub longest: Duration,
    /// A moment of the monotonic clock after which the answer is worth less: the last 500 ms
    /// before it hold one more try.
    pub deadline: Option<Duration>,
}

/// What a datagram was to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing of its business.
    Nothing,
    /// A CHALLENGE: it goes out again with the new cookie.
    Challenged,
    /// Its answer, which ends it.
    Answered,
    /// An ERROR: one with a passing code is tried again later, any other ends it.
    Refused,
}

/// One outstanding request: REGISTER, LEAVE or QUERY; an ACK is never answered.
///
/// Sans-IO: datagrams from the registry's address and the time go in, datagrams come out.
/// Whoever owns it looks at where they come from.
#[derive(Debug)]
pub struct Ask {
    request: Request,
    /// Of a private registry.
    key: Option<Key>,
    terms: Terms,
    rng: ChaCha8Rng,
    /// The next delay, before its jitter.
    delay: Duration,
    /// The next try; none once it has ended.
    due: Option<Duration>,
    /// When a CHALLENGE was last obeyed.
    challenged: Option<Duration>,
}

impl Ask {
    /// Asks `request`, from now on, with `cookie` in it: the last that was given, or
    /// [`NO_COOKIE`]. `seed` draws the jitter.
    pub fn new(mut request: Request, cookie: &str, terms: Terms, seed: u64, now: Now) -> Ask {
        set_cookie(&mut request, cookie);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (due, key) = (Some(now.mono), None);
        Ask { request, key, terms, rng, delay: FIRST, due, challenged: None }
    }

    /// Signs its tries, for a private registry.
    pub fn signed(self, key: Option<Key>) -> Ask {
        Ask { key, ..self }
    }

    /// The request, if it is time for a try.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Vec<u8>> {
        if now.mono < self.due? {
            return None;
        }
        let delay = self.next_delay();
        self.due = Some(self.in_time(now.mono, now.mono.saturating_add(delay)));
        if let Some(key) = &self.key {
            self.request.sign(|signed_bytes| key.mac(signed_bytes));
        }
        Some(self.request.encode())
    }

    /// When the next try is due, by the monotonic clock; `None` once it has ended.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// The last cookie given, to be used for later requests.
    pub fn cookie(&self) -> &str {
        let cookie = match &self.request {
            Request::Register(register) => &register.cookie,
            Request::Leave(leave) => &leave.cookie,
            Request::Query(query) => &query.cookie,
            Request::Ack(_) => &None,
        };
        cookie.as_deref().unwrap_or(NO_COOKIE)
    }

    /// Takes what came from the registry's address.
    pub fn handle(&mut self, datagram: &Datagram<'_>, now: Now) -> Heard {
        let (id, seq) = identity(&self.request);
        match datagram {
            _ if self.due.is_none() => Heard::Nothing,
            Datagram::Challenge(it) if it.seq == seq => self.challenge(&it.cookie, now.mono),
            Datagram::Error(it) if it.seq == seq => self.refuse(it, now.mono),
            _ if answered(&self.request, datagram) != Some((id, seq)) => Heard::Nothing,
            _ => {
                self.due = None;
                Heard::Answered
            }
        }
    }

    fn challenge(&mut self, cookie: &str, now: Duration) -> Heard {
        if cookie.len() > MAX_COOKIE {
            return Heard::Nothing;
        }
        set_cookie(&mut self.request, cookie);
        // At once, but not at any rate: who forges the registry's address and guesses the seq
        // would otherwise make us send as fast as it does.
        let again = self.challenged.map_or(now, |last| now.max(last.saturating_add(FIRST)));
        self.challenged = Some(again);
        self.delay = FIRST;
        self.due = self.due.map(|due| due.min(again));
        Heard::Challenged
    }

    fn refuse(&mut self, refusal: &Refusal, now: Duration) -> Heard {
        if !refusal.code.is_retryable() {
            self.due = None;
            return Heard::Refused;
        }
        let wait = match refusal.retry_in_ms {
            Some(millis) => self.no_sooner(Duration::from_millis(millis)),
            None => self.next_delay(),
        };
        self.due = Some(now.saturating_add(wait));
        Heard::Refused
    }

    /// A little later than told, or all who were told the same would be back at once.
    fn no_sooner(&mut self, wait: Duration) -> Duration {
        wait.clamp(FIRST, LONGEST_WAIT).mul_f64(self.rng.random_range(1.0..1.2))
    }

    fn next_delay(&mut self) -> Duration {
        let delay = jitter(&mut self.rng, self.delay).min(self.terms.longest);
        self.delay = (self.delay * 2).min(SLOWEST);
        delay
    }

    /// `at`, unless that leaves the last 500 ms before the deadline without a try that can still
    /// arrive in time.
    fn in_time(&mut self, now: Duration, at: Duration) -> Duration {
        let Some(deadline) = self.terms.deadline else { return at };
        let from = deadline.saturating_sub(LAST_CHANCE);
        if now >= from || at <= from + LAST_CHANCE / 2 {
            return at;
        }
        from + self.rng.random_range(Duration::ZERO..LAST_CHANCE / 2)
    }
}

/// `span` ± 20 %: what began at one moment does not stay in step.
pub fn jitter(rng: &mut ChaCha8Rng, span: Duration) -> Duration {
    span.mul_f64(rng.random_range(0.8..1.2))
}

fn set_cookie(request: &mut Request, cookie: &str) {
    let cookie = Some(cookie.to_owned());
    match request {
        Request::Register(register) => register.cookie = cookie,
        Request::Leave(leave) => leave.cookie = cookie,
        Request::Query(query) => query.cookie = cookie,
        Request::Ack(_) => {}
    }
}

/// What an answer has to echo.
fn identity(request: &Request) -> (Option<&Id>, Option<u64>) {
    match request {
        Request::Register(register) => (register.id.as_ref(), register.seq),
        Request::Leave(leave) => (leave.id.as_ref(), leave.seq),
        Request::Query(query) => (query.id.as_ref(), query.seq),
        Request::Ack(ack) => (ack.id.as_ref(), None),
    }
}

/// What `datagram` echoes, if it answers this kind of request.
fn answered<'a>(
    request: &Request,
    datagram: &'a Datagram<'_>,
) -> Option<(Option<&'a Id>, Option<u64>)> {
    match (request, datagram) {
        (Request::Register(_), Datagram::Registered(it)) => Some((it.id.as_ref(), it.seq)),
        (Request::Leave(_), Datagram::Left(it)) => Some((it.id.as_ref(), it.seq)),
        (Request::Query(_), Datagram::Peers(it)) => Some((it.id.as_ref(), it.seq)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Page;
    use crate::proto::{Challenge, Code, Leave, Left, Peers, Query, Register};
    use crate::window::Wall;

    const TERMS: Terms = Terms { longest: Duration::from_secs(15), deadline: None };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn at(mono: Duration) -> Now {
        Now { wall: Wall::from_millis(0), mono }
    }

    fn leave() -> Request {
        Request::Leave(Leave { id: Some("me".parse().unwrap()), seq: Some(7), ..Leave::default() })
    }

    fn ask(terms: Terms, seed: u64) -> Ask {
        Ask::new(leave(), NO_COOKIE, terms, seed, at(ms(0)))
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

    /// The moments of the tries until `end`.
    fn tries(ask: &mut Ask, end: Duration) -> Vec<Duration> {
        let mut moments = Vec::new();
        while let Some(due) = ask.poll_timeout().filter(|due| *due <= end) {
            assert_eq!(ask.poll_transmit(at(due.saturating_sub(ms(1)))).is_some(), due == ms(0));
            if due > ms(0) {
                assert!(ask.poll_transmit(at(due)).is_some());
            }
            moments.push(due);
        }
        moments
    }

    fn gaps(moments: &[Duration]) -> Vec<Duration> {
        moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn retries_slow_down_to_one_a_second_and_never_end() {
        for seed in 0..50 {
            let gaps = gaps(&tries(&mut ask(TERMS, seed), ms(100_000)));
            assert!(gaps.len() > 80);
            for (gap, nominal) in gaps.iter().zip([250, 500].into_iter().chain([1000; 200])) {
                let near = ms(nominal * 8 / 10)..=ms(nominal * 12 / 10);
                assert!(near.contains(gap), "{gap:?} is not about {nominal} ms");
            }
        }
    }

    #[test]
    fn no_delay_is_longer_than_its_terms() {
        let terms = Terms { longest: ms(250), deadline: None };
        let gaps = gaps(&tries(&mut ask(terms, 3), ms(20_000)));
        assert!(gaps.iter().all(|gap| *gap <= ms(250)), "{gaps:?}");
    }

    #[test]
    fn the_last_half_second_before_the_deadline_holds_a_try() {
        for seed in 0..200 {
            let deadline = ms(3000 + seed * 7);
            let terms = Terms { deadline: Some(deadline), ..TERMS };
            let moments = tries(&mut ask(terms, seed), ms(8000));
            let last = |moment: &&Duration| **moment >= deadline - ms(500) && **moment < deadline;
            assert_eq!(moments.iter().filter(last).count(), 1, "{moments:?} for {deadline:?}");
        }
    }

    #[test]
    fn a_challenge_is_obeyed_at_once_with_the_same_seq() {
        let mut ask = ask(TERMS, 1);
        let first = ask.poll_transmit(at(ms(0))).unwrap();
        assert!(String::from_utf8(first).unwrap().contains(NO_COOKIE));
        assert_eq!(ask.handle(&challenge(7, "awQjfGkU0tbP4drN"), at(ms(20))), Heard::Challenged);
        let again = String::from_utf8(ask.poll_transmit(at(ms(20))).unwrap()).unwrap();
        assert!(again.contains(r#""seq":7,"cookie":"awQjfGkU0tbP4drN""#), "{again}");
        assert_eq!(ask.cookie(), "awQjfGkU0tbP4drN");
    }

    #[test]
    fn forged_challenges_are_no_loop() {
        let mut ask = ask(TERMS, 1);
        let mut sent = 0;
        for now in (0..10_000).map(ms) {
            ask.handle(&challenge(7, "awQjfGkU0tbP4drN"), at(now));
            sent += usize::from(ask.poll_transmit(at(now)).is_some());
        }
        assert!(sent <= 42, "{sent} in ten seconds");
    }

    #[test]
    fn a_cookie_that_would_not_fit_is_no_cookie() {
        let mut ask = ask(TERMS, 1);
        assert_eq!(ask.handle(&challenge(7, &"x".repeat(65)), at(ms(0))), Heard::Nothing);
        assert_eq!(ask.cookie(), NO_COOKIE);
    }

    #[test]
    fn only_the_own_answer_ends_it() {
        let mut ask = ask(TERMS, 1);
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
            assert_eq!(ask.handle(&other, at(ms(5))), Heard::Nothing, "{other:?}");
        }
        assert_eq!(ask.handle(&left("me", 7), at(ms(5))), Heard::Answered);
        assert_eq!((ask.poll_timeout(), ask.poll_transmit(at(ms(9000)))), (None, None));
        assert_eq!(ask.handle(&left("me", 7), at(ms(6))), Heard::Nothing, "only once");
    }

    #[test]
    fn final_errors_end_it() {
        for code in Code::ALL {
            let mut ask = ask(TERMS, 1);
            assert_eq!(ask.handle(&error(7, code, None), at(ms(5))), Heard::Refused);
            assert_eq!(ask.poll_timeout().is_none(), !code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn a_passing_error_is_retried_when_told() {
        let mut ask = ask(TERMS, 1);
        ask.poll_transmit(at(ms(0)));
        ask.handle(&error(7, Code::Full, Some(5000)), at(ms(10)));
        let due = ask.poll_timeout().unwrap();
        assert!(due >= ms(5010) && due <= ms(6010), "{due:?}");
        ask.handle(&error(7, Code::SlowDown, Some(0)), at(ms(20)));
        assert!(ask.poll_timeout().unwrap() >= ms(270), "no loop");
        ask.handle(&error(7, Code::SlowDown, Some((1 << 53) - 1)), at(ms(20)));
        assert!(ask.poll_timeout().unwrap() <= ms(72_020), "not for ever");
        ask.handle(&error(7, Code::Unavailable, None), at(ms(20)));
        assert!(ask.poll_timeout().unwrap() <= ms(1220));
    }

    #[test]
    fn every_request_carries_its_cookie() {
        let requests =
            [Request::Register(Register::default()), leave(), Request::Query(Query::default())];
        for request in requests {
            let mut ask = Ask::new(request, "awQjfGkU0tbP4drN", TERMS, 1, at(ms(0)));
            let sent = String::from_utf8(ask.poll_transmit(at(ms(0))).unwrap()).unwrap();
            assert!(sent.contains(r#""cookie":"awQjfGkU0tbP4drN""#), "{sent}");
        }
    }
}
