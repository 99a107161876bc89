//! What the negotiations of encrypted connections (MSE) share: secret numbers, key pairs, and a limit of the
//! exponentiations that callers can cause.
//!
//! A caller that sends only a public key costs no exponentiation of its own: all callers are answered with one
//! pair, until one of them names a torrent or the pair is old. A shared secret is computed only after the bytes
//! that need it, and at most [`MSE_PER_SECOND`](limits::MSE_PER_SECOND) times a second.

use super::limits;
use crate::units::Instant;
use crate::wire::mse::{Accepter, Dialer, KeyPair, MAX_PAD};
use sha1::{Digest, Sha1};
use std::time::Duration;

/// Time between two shared secrets of callers in the long run.
const STEP: Duration = Duration::from_micros(1_000_000 / limits::MSE_PER_SECOND as u64);
/// How far the virtual clock may run ahead: a burst of [`limits::MSE_AT_ONCE`] secrets.
const LEAD: Duration = STEP.saturating_mul(limits::MSE_AT_ONCE - 1);

/// The shared state of all negotiations of an engine.
pub struct KeyExchange {
    secrets: Secrets,
    /// The pair of dials to which no peer has answered yet.
    dialing: Option<KeyPair>,
    /// The pair of callers of which none has named a torrent yet, and its age.
    accepting: Option<(KeyPair, Instant)>,
    /// Virtual clock of the rate limit (GCRA): ahead of the real time after a burst.
    paid_until: Instant,
    /// Public keys and shared secrets computed so far.
    exponentiations: u64,
}

impl KeyExchange {
    /// Returns the state; secret numbers follow from `seed`.
    pub fn new(seed: [u8; 32]) -> KeyExchange {
        KeyExchange {
            secrets: Secrets { seed, counter: 0 },
            dialing: None,
            accepting: None,
            paid_until: Instant::ZERO,
            exponentiations: 0,
        }
    }

    /// Starts the negotiation of a dialed connection and appends its first message to `out`.
    pub fn dialer(&mut self, info_hash: [u8; 20], provide: u32, initial: &[u8], out: &mut Vec<u8>) -> Dialer {
        let pad = self.secrets.padding();
        let pair = match &self.dialing {
            Some(pair) => pair.clone(),
            None => {
                let pair = self.pair();
                self.dialing.insert(pair).clone()
            }
        };
        Dialer::new(pair, info_hash, provide, &pad, initial, out)
    }

    /// Starts the negotiation of a caller.
    pub fn accepter(&mut self, now: Instant, methods: &'static [u32]) -> Accepter {
        let pad = self.secrets.padding();
        let pair = match &self.accepting {
            Some((pair, made)) if now.since(*made) < limits::MSE_PAIR_AGE => pair.clone(),
            _ => {
                let pair = self.pair();
                self.accepting.insert((pair, now)).0.clone()
            }
        };
        Accepter::new(pair, &pad, methods)
    }

    fn pair(&mut self) -> KeyPair {
        self.exponentiations += 1;
        KeyPair::new(self.secrets.next())
    }

    /// Returns when the next secret of a caller may be computed; `None` if it may be computed now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let ahead = self.paid_until.since(now);
        (ahead > LEAD).then(|| now + (ahead - LEAD))
    }

    /// Counts a secret that was computed for a caller.
    pub fn on_caller_secret(&mut self, now: Instant) {
        self.exponentiations += 1;
        self.paid_until = self.paid_until.max(now) + STEP;
    }

    /// Counts a secret that was computed for a dialed peer, which has seen the pair: later dials use another.
    pub fn on_dialed_secret(&mut self) {
        self.exponentiations += 1;
        self.dialing = None;
    }

    /// A caller named a torrent: later callers get another pair.
    pub fn on_accepted(&mut self) {
        self.accepting = None;
    }

    /// Returns the number of exponentiations so far.
    #[cfg(test)]
    pub fn exponentiations(&self) -> u64 {
        self.exponentiations
    }
}

impl std::fmt::Debug for KeyExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyExchange").field("exponentiations", &self.exponentiations).finish_non_exhaustive()
    }
}

/// Numbers that peers cannot foresee: SHA1(seed ‖ counter).
struct Secrets {
    seed: [u8; 32],
    counter: u64,
}

impl Secrets {
    fn next(&mut self) -> [u8; 20] {
        self.counter += 1;
        Sha1::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes()).finalize().into()
    }

    /// Returns 0 to [`MAX_PAD`] bytes: a fixed length would tell the protocol to a filter.
    fn padding(&mut self) -> Vec<u8> {
        let [a, b, ..] = self.next();
        let len = usize::from(u16::from_be_bytes([a, b])) % (MAX_PAD + 1);
        let mut pad = Vec::new();
        while pad.len() < len {
            pad.extend(self.next());
        }
        pad.truncate(len);
        pad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_by_seed_and_by_call_and_paddings_stay_within_the_limit() {
        let mut a = Secrets { seed: [1; 32], counter: 0 };
        let mut b = Secrets { seed: [2; 32], counter: 0 };
        assert_ne!(a.next(), b.next());
        assert_ne!(a.next(), a.next());
        let lengths: Vec<usize> = (0..200).map(|_| a.padding().len()).collect();
        assert!(lengths.iter().all(|len| *len <= MAX_PAD));
        assert!(lengths.iter().any(|len| *len < 100) && lengths.iter().any(|len| *len > 400));
    }

    #[test]
    fn a_burst_of_secrets_is_followed_by_the_long_run_rate() {
        let mut exchange = KeyExchange::new([0; 32]);
        let now = Instant::from_micros(10_000_000);
        for _ in 0..limits::MSE_AT_ONCE {
            assert_eq!(exchange.wait_until(now), None);
            exchange.on_caller_secret(now);
        }
        assert_eq!(exchange.wait_until(now), Some(now + STEP));
        assert_eq!(exchange.wait_until(now + STEP), None);
    }
}
