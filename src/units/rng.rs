//! Seeded random numbers: the same seed gives the same numbers on every machine.
//!
//! For choices among equals (pieces, peers), never for secrets. Every number is drawn from 64 bits: a draw of
//! `usize` or in native byte order would differ between machines.

/// A seeded random number generator.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// Returns a generator with this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(fastrand::Rng::with_seed(seed))
    }

    /// Returns a number in `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.u64(..n as u64) as usize }
    }

    /// Returns 32 random bits.
    pub fn u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// Returns 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.iter_mut().zip(self.0.u64(..).to_le_bytes()).for_each(|(to, byte)| *to = byte);
        }
    }

    /// Shuffles `items`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in 1..items.len() {
            items.swap(i, self.below(i.saturating_add(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_on_every_machine() {
        let mut rng = Rng::new(7);
        let below: Vec<usize> = (1..=8).map(|n| rng.below(n * 1000)).collect();
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        rng.shuffle(&mut order);
        let mut bytes = [0; 11];
        rng.fill(&mut bytes);
        assert_eq!(below, [773, 444, 2154, 1924, 582, 993, 5541, 740]);
        assert_eq!(order, [4, 2, 3, 7, 1, 6, 5, 0]);
        assert_eq!(bytes, [145, 189, 248, 33, 57, 14, 50, 126, 51, 168, 11]);
        assert_eq!((rng.u32(), rng.u64()), (0x0e64_c683, 0x84e1_d8a4_5edb_a374));
    }
}
