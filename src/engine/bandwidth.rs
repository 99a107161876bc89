//! Rate limits: token buckets for all torrents together and for each torrent, one for each direction.
//!
//! A bucket without a rate is unlimited. The tokens may become negative by the bytes that were under way
//! already; the allowance stays zero until the debt is paid. There is no tick: a bucket is filled when its
//! deadline comes or when it is used.

use super::limits;
use crate::units::Instant;
use std::time::Duration;

/// The token bucket of one limit; one token is one byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    rate: Option<u64>,
    tokens: i64,
    at: Instant,
}

impl TokenBucket {
    /// Returns a full bucket for `rate` bytes a second; `None` is unlimited.
    pub fn new(rate: Option<u64>) -> TokenBucket {
        let mut bucket = TokenBucket { rate: rate.map(|r| r.max(1)), tokens: 0, at: Instant::ZERO };
        bucket.tokens = bucket.burst();
        bucket
    }

    fn burst(&self) -> i64 {
        let rate = self.rate.unwrap_or(0);
        let burst = (rate as f64 * limits::BURST.as_secs_f64()) as u64;
        i64::try_from(burst.max(limits::BURST_MIN_BYTES)).unwrap_or(i64::MAX)
    }

    /// Returns the number of bytes that may pass now.
    pub fn allowance(&self) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) => u64::try_from(self.tokens).unwrap_or(0),
        }
    }

    /// Takes the tokens of bytes that passed.
    pub fn take(&mut self, now: Instant, bytes: u64) {
        if self.rate.is_some() {
            self.fill(now);
            self.tokens = self.tokens.saturating_sub_unsigned(bytes);
        }
    }

    /// Adds the tokens of the time up to `now`.
    pub fn fill(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let gained = (now.since(self.at).as_micros().saturating_mul(u128::from(rate)) / 1_000_000) as u64;
        if gained > 0 {
            self.at = now;
            self.tokens = self.tokens.saturating_add_unsigned(gained).min(self.burst());
        }
    }

    /// Returns the time until half a burst may pass, 1 ms to 60 s; `None` if bytes may pass now. A shorter
    /// wait would wake the caller for few bytes.
    pub fn wait(&self) -> Option<Duration> {
        let rate = self.rate?;
        if self.tokens > 0 {
            return None;
        }
        let goal = self.burst() / 2;
        let missing = goal.saturating_sub(self.tokens).max(1) as u64;
        Some(
            Duration::from_micros((missing as u128 * 1_000_000 / u128::from(rate)).min(60_000_000) as u64)
                .max(Duration::from_millis(1)),
        )
    }
}

/// A torrent's part of the limit that all torrents share. While several torrents want bytes, each refill of
/// the common bucket divides its tokens among them; with fewer the share is unlimited.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    left: u64,
    /// The torrent asked for bytes since the last division.
    wanted: bool,
}

impl Default for Share {
    fn default() -> Share {
        Share { left: u64::MAX, wanted: false }
    }
}

impl Share {
    /// Returns the number of bytes that may pass now, and notes that the torrent wants some.
    pub fn ask(&mut self) -> u64 {
        self.wanted = true;
        self.left
    }

    /// Takes bytes that passed.
    pub fn take(&mut self, bytes: u64) {
        if self.left < u64::MAX {
            self.left = self.left.saturating_sub(bytes);
        }
    }

    /// Returns whether nothing may pass before the next division.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Divides the tokens of a bucket among the torrents that want bytes.
    pub fn divide<'a>(bucket: &TokenBucket, shares: impl Iterator<Item = &'a mut Share>) {
        let shares: Vec<&mut Share> = shares.collect();
        let wanting = shares.iter().filter(|share| share.wanted).count() as u64;
        let left = if bucket.rate.is_none() || wanting < 2 { u64::MAX } else { bucket.allowance() / wanting };
        for share in shares {
            *share = Share { left, wanted: false };
        }
    }

    /// Returns the time until the next division; `None` if the bucket's own refill divides its tokens, or if no
    /// share is spent.
    pub fn wait<'a>(bucket: &TokenBucket, mut shares: impl Iterator<Item = &'a Share>) -> Option<Duration> {
        (bucket.wait().is_none() && shares.any(Share::is_spent)).then_some(limits::SHARE_ROUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_minute_exceed_the_limit_by_less_than_two_percent() {
        let mut b = TokenBucket::new(Some(100_000));
        let mut now = Instant::ZERO;
        let mut passed = 0u64;
        while now < Instant::from_micros(60_000_000) {
            b.fill(now);
            match b.wait() {
                None => {
                    let n = b.allowance().min(16_384);
                    b.take(now, n);
                    passed += n;
                }
                Some(d) => now = now + d,
            }
        }
        assert!((5_900_000..6_100_000).contains(&passed), "{passed}");
    }

    #[test]
    fn no_byte_passes_before_the_debt_is_paid() {
        let mut b = TokenBucket::new(Some(1000));
        b.take(Instant::ZERO, 100_000);
        assert_eq!(b.allowance(), 0);
        b.fill(Instant::from_micros(10_000_000));
        assert_eq!(b.allowance(), 0);
    }

    #[test]
    fn tokens_are_divided_among_the_torrents_that_want_bytes() {
        let bucket = TokenBucket::new(Some(1 << 20));
        let mut shares = [Share::default(); 3];
        let left = |shares: &[Share; 3]| shares.map(|share| share.left);
        shares[0].ask();
        Share::divide(&bucket, shares.iter_mut());
        assert_eq!(left(&shares), [u64::MAX; 3], "one torrent alone has all");
        shares[0].take(1 << 30);
        shares[0].ask();
        shares[1].ask();
        Share::divide(&bucket, shares.iter_mut());
        assert_eq!(left(&shares), [1 << 17; 3]);
        shares[0].take(1 << 20);
        assert!(shares[0].is_spent() && Share::wait(&bucket, shares.iter()) == Some(limits::SHARE_ROUND));
        Share::divide(&bucket, shares.iter_mut());
        assert_eq!(
            (left(&shares), Share::wait(&bucket, shares.iter())),
            ([u64::MAX; 3], None),
            "none wants any"
        );
        shares.iter_mut().for_each(|share| _ = share.ask());
        Share::divide(&TokenBucket::new(None), shares.iter_mut());
        assert_eq!(left(&shares), [u64::MAX; 3], "there is no limit");
    }

    #[test]
    fn a_bucket_without_a_rate_is_unlimited() {
        let mut b = TokenBucket::new(None);
        b.take(Instant::ZERO, u64::MAX);
        assert_eq!((b.allowance(), b.wait()), (u64::MAX, None));
    }

    #[test]
    fn what_no_32_bit_number_holds_may_pass_all_the_same() {
        let b = TokenBucket::new(Some(1 << 40));
        assert_eq!(b.allowance(), 1 << 38);
    }
}
