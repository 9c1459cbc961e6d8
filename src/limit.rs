//! Fixed-size token buckets: how often one address may ask.
//!
//! A table of buckets that never grows, whatever arrives, and is one for all cores: addresses that ask most recently keep
//! theirs, and one that has been pushed out starts with a full bucket.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;

/// Buckets in a row; an address can stand in any of its row's.
const WAYS: usize = 4;
/// Rows: with four buckets of 40 bytes each, 2.5 MiB.
const ROWS: usize = 1 << 14;
/// An address is told to slow down once in this time.
const TELL: Duration = Duration::from_secs(1);

/// How much one address may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second; 0 for no limit.
    pub per_second: u32,
    /// Requests at once, after a silence; at least 1 is taken.
    pub burst: u32,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Within,
    /// It is not, and its sender is told how long to wait.
    TooOften(Duration),
    /// It is not, and its sender has just been told.
    Silent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Whose: its address, hashed with a key of this process. 0: nobody's.
    owner: u64,
    /// When it will be full again (the "theoretical arrival time" of GCRA, ITU-T I.371).
    full_at: Duration,
    told_at: Duration,
}

/// The buckets of all addresses.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    hasher: RandomState,
    /// Each has a lock of its own: two cores seldom meet at one.
    rows: Vec<Mutex<Row>>,
}

/// The buckets that an address can have.
type Row = [Bucket; WAYS];

impl Limiter {
    /// A table of full buckets.
    pub fn new(rate: Rate) -> Limiter {
        let rows = if rate.per_second == 0 { 0 } else { ROWS };
        let rows = (0..rows).map(|_| Mutex::default()).collect();
        Limiter { rate, hasher: RandomState::default(), rows }
    }

    /// Takes a token out of the bucket of `network` ([`network`](crate::path::network) says which is
    /// an address's), at `now` of a clock that never steps.
    pub fn take(&self, network: IpAddr, now: Duration) -> Verdict {
        if self.rows.is_empty() {
            return Verdict::Within;
        }
        let each = Duration::from_secs(1) / self.rate.per_second;
        let depth = each * self.rate.burst.max(1);
        let owner = self.hasher.hash_one(network).max(1);
        let row = &self.rows[owner as usize % ROWS];
        // Whoever panicked with the lock left buckets, and any bucket is one.
        let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket_of(&mut row, owner, now);
        let full_at = bucket.full_at.max(now) + each;
        if full_at <= now + depth {
            bucket.full_at = full_at;
            return Verdict::Within;
        }
        if now < bucket.told_at {
            return Verdict::Silent;
        }
        bucket.told_at = now + TELL;
        Verdict::TooOften(full_at - (now + depth))
    }
}

/// The bucket of `owner`; the one of its row that is full the longest makes way for a new one.
fn bucket_of(row: &mut Row, owner: u64, now: Duration) -> &mut Bucket {
    let own = row.iter().position(|bucket| bucket.owner == owner);
    let place = own.unwrap_or_else(|| {
        let oldest = (0..WAYS).min_by_key(|&way| row[way].full_at).unwrap_or(0);
        row[oldest] = Bucket { owner, full_at: now, told_at: Duration::ZERO };
        oldest
    });
    &mut row[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 50, burst: 500 };

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(10_000 + millis)
    }

    fn served(limiter: &Limiter, ip: IpAddr, now: Duration, asked: usize) -> usize {
        (0..asked).filter(|_| limiter.take(ip, now) == Verdict::Within).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = Limiter::new(RATE);
        assert_eq!(served(&limiter, ip(1), at(0), 1000), 500);
        assert_eq!(served(&limiter, ip(1), at(1000), 1000), 50);
        assert_eq!(served(&limiter, ip(1), at(3000), 1000), 100);
        assert_eq!(served(&limiter, ip(1), at(60_000), 1000), 500);
    }

    #[test]
    fn one_address_does_not_cost_another() {
        let limiter = Limiter::new(RATE);
        served(&limiter, ip(1), at(0), 1000);
        assert_eq!(served(&limiter, ip(2), at(0), 1000), 500);
    }

    #[test]
    fn it_is_told_once_a_second_and_how_long_to_wait() {
        let limiter = Limiter::new(Rate { per_second: 50, burst: 1 });
        assert_eq!(limiter.take(ip(1), at(0)), Verdict::Within);
        assert_eq!(limiter.take(ip(1), at(0)), Verdict::TooOften(Duration::from_millis(20)));
        assert_eq!(limiter.take(ip(1), at(1)), Verdict::Silent);
        assert_eq!(limiter.take(ip(1), at(20)), Verdict::Within);
        assert_eq!(limiter.take(ip(1), at(20)), Verdict::Silent);
        assert_eq!(limiter.take(ip(1), at(1000)), Verdict::Within);
        assert!(matches!(limiter.take(ip(1), at(1000)), Verdict::TooOften(_)));
    }

    #[test]
    fn the_table_does_not_grow_and_the_busiest_stay() {
        let limiter = Limiter::new(RATE);
        let size = limiter.rows.len();
        for n in 0..200_000 {
            limiter.take(ip(n), at(u64::from(n) / 100));
            served(&limiter, ip(0xffff_ffff), at(u64::from(n) / 100), 1);
        }
        assert_eq!(limiter.rows.len(), size);
        assert!(served(&limiter, ip(0xffff_ffff), at(2000), 100) <= 1, "it was not forgotten");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limiter = Limiter::new(Rate { per_second: 0, burst: 0 });
        assert_eq!(served(&limiter, ip(1), at(0), 100_000), 100_000);
    }
}
