//! Chance that can be repeated.

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Numbers that follow from a seed, for one of many who need some.
pub struct Dice(TestRng);

impl Dice {
    pub fn new(seed: u64, whose: usize) -> Self {
        Self(rng(seed, whose))
    }

    /// From 0 up to `end`, which is not among them.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }
}

/// The same for proptest.
pub fn rng(seed: u64, whose: usize) -> TestRng {
    let bytes = [seed.to_le_bytes(), (whose as u64).to_le_bytes(), [0; 8], [0; 8]].concat();
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
