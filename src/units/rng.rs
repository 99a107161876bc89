//! Randomness that comes from a seed: the same seed gives the same run on every machine.
//!
//! For choices among equals (which piece, which peer), never for secrets.

/// A seeded generator of choices.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The generator that `seed` stands for.
    pub fn new(seed: u64) -> Rng {
        Rng(fastrand::Rng::with_seed(seed))
    }

    /// A number in `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.usize(..n) }
    }

    /// Any 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// Any 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Fills `bytes` with any bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// Puts `items` into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.0.shuffle(items);
    }
}
