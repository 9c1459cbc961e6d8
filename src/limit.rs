//! Limits how often one address may send requests: token buckets in a table of fixed size.
//!
//! The table never grows, whatever arrives, and all cores share it. The addresses that sent most
//! recently keep their buckets; one that was evicted starts again with a full bucket.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;

/// The number of buckets in a row of the table; an address has one row, and any bucket in it.
const BUCKETS_PER_ROW: usize = 4;
/// The number of rows in the table: with four buckets of 40 bytes each they take 2.5 MiB.
const TABLE_ROWS: usize = 1 << 14;
/// The least time between two answers that tell an address to slow down.
const SLOW_DOWN_EVERY: Duration = Duration::from_secs(1);

/// How many requests one address may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run; 0 for no limit.
    pub per_second: u32,
    /// Requests at once, after a pause; 0 is taken for 1.
    pub burst: u32,
}

/// The rate limit's decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request is within the rate, and is served.
    Within,
    /// The request is refused, and its sender must wait this long.
    TooOften(Duration),
    /// The request is dropped: its sender was told to wait less than a second ago.
    Drop,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The address that owns the bucket, hashed with a key of this process; 0 for none.
    owner: u64,
    /// When the bucket will be full again (the "theoretical arrival time" of GCRA, ITU-T I.371).
    full_at: Duration,
    /// From when on the owner may again be sent an answer to slow down.
    tell_from: Duration,
}

/// The token buckets of all addresses, with one rate for each.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    hasher: RandomState,
    /// Each row has a lock of its own, so that two cores seldom wait for each other.
    rows: Vec<Mutex<Row>>,
}

/// A row of the table: the buckets of up to four addresses.
type Row = [Bucket; BUCKETS_PER_ROW];

impl Limiter {
    /// Returns a table in which no address has used its bucket yet.
    pub fn new(rate: Rate) -> Limiter {
        let rows = if rate.per_second == 0 { 0 } else { TABLE_ROWS };
        let rows = (0..rows).map(|_| Mutex::default()).collect();
        Limiter { rate, hasher: RandomState::default(), rows }
    }

    /// Returns the rate that each address is held to.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token out of the bucket of `network` at `now`, by a monotonic clock.
    /// [`network`](crate::path::network) gives the network that an address is counted as.
    pub fn take(&self, network: IpAddr, now: Duration) -> Verdict {
        if self.rows.is_empty() {
            return Verdict::Within;
        }
        let each = Duration::from_secs(1) / self.rate.per_second;
        let depth = each * self.rate.burst.max(1);
        let owner = self.hasher.hash_one(network).max(1);
        let row = &self.rows[owner as usize % TABLE_ROWS];
        // A thread that panicked with the lock left valid buckets: any values are valid.
        let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket_of(&mut row, owner, now);
        let full_at = bucket.full_at.max(now) + each;
        if full_at <= now + depth {
            bucket.full_at = full_at;
            return Verdict::Within;
        }
        if now < bucket.tell_from {
            return Verdict::Drop;
        }
        bucket.tell_from = now + SLOW_DOWN_EVERY;
        Verdict::TooOften(full_at - (now + depth))
    }
}

/// Returns the bucket of `owner`. A new owner takes over the bucket of its row that was full first.
fn bucket_of(row: &mut Row, owner: u64, now: Duration) -> &mut Bucket {
    let own = row.iter().position(|bucket| bucket.owner == owner);
    let place = own.unwrap_or_else(|| {
        let oldest = (0..BUCKETS_PER_ROW).min_by_key(|&way| row[way].full_at).unwrap_or(0);
        row[oldest] = Bucket { owner, full_at: now, tell_from: Duration::ZERO };
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

    /// Returns how many of `asked` requests from one address are within the rate.
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
    fn one_address_does_not_use_up_the_rate_of_another() {
        let limiter = Limiter::new(RATE);
        served(&limiter, ip(1), at(0), 1000);
        assert_eq!(served(&limiter, ip(2), at(0), 1000), 500);
    }

    #[test]
    fn an_address_is_told_to_wait_once_a_second_and_how_long() {
        let limiter = Limiter::new(Rate { per_second: 50, burst: 1 });
        assert_eq!(limiter.take(ip(1), at(0)), Verdict::Within);
        assert_eq!(limiter.take(ip(1), at(0)), Verdict::TooOften(Duration::from_millis(20)));
        assert_eq!(limiter.take(ip(1), at(1)), Verdict::Drop);
        assert_eq!(limiter.take(ip(1), at(20)), Verdict::Within);
        assert_eq!(limiter.take(ip(1), at(20)), Verdict::Drop);
        assert_eq!(limiter.take(ip(1), at(1000)), Verdict::Within);
        assert!(matches!(limiter.take(ip(1), at(1000)), Verdict::TooOften(_)));
    }

    /// Of very many addresses that have used up their burst, the latest of each row are still
    /// refused: their buckets are remembered.
    #[test]
    fn a_table_remembers_as_many_addresses_as_it_has_room_for() {
        let limiter = Limiter::new(Rate { per_second: 1, burst: 1 });
        let asked = |n: u32| at(0) + Duration::from_micros(n.into());
        let addresses = 200_000;
        assert!((0..addresses).all(|n| limiter.take(ip(n), asked(n)) == Verdict::Within));
        let is_refused = |n: &u32| limiter.take(ip(*n), asked(addresses)) != Verdict::Within;
        let remembered = (0..addresses).rev().filter(is_refused).count();
        let room = TABLE_ROWS * BUCKETS_PER_ROW;
        assert!((room * 9 / 10..=room).contains(&remembered), "{remembered} of {room}");
    }

    #[test]
    fn an_address_that_asks_all_the_time_is_not_pushed_out_by_others() {
        let (limiter, busy) = (Limiter::new(RATE), ip(0xffff_ffff));
        let in_turn = |n: u64| {
            limiter.take(ip(n as u32), at(n / 100));
            served(&limiter, busy, at(n / 100), 1)
        };
        // In two seconds: its burst, and what the rate adds; if evicted, it would have a new burst.
        assert_eq!((0..200_000).map(in_turn).sum::<usize>(), 500 + 99);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let limiter = Limiter::new(Rate { per_second: 0, burst: 0 });
        assert_eq!(served(&limiter, ip(1), at(0), 100_000), 100_000);
    }
}
