// SPDX-License-Identifier: Apache-2.0
//! Chance that can be repeated.

/// So many rounds, times `HOLDFAST_TEST_TIMES`: few while one works, many where there is time.
#[allow(dead_code, reason = "not every test has rounds")]
pub(crate) fn rounds(few: u64) -> u64 {
    let times = std::env::var("HOLDFAST_TEST_TIMES").map_or(1, |times| times.parse().expect("HOLDFAST_TEST_TIMES is a number"));
    few * times
}

/// xorshift64*, Vigna 2014.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Less than `sides`, of which there may be 2^31.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        assert!(sides <= 1 << 31, "{sides} sides");
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}
