// SPDX-License-Identifier: Apache-2.0
//! Which packs are worth rewriting.

/// What a pack carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Its bytes.
    pub size: u64,
    /// Of these, those of frames that something reaches.
    pub live: u64,
}

/// When a rewrite is worth its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// At least so many bytes must come free.
    pub dead_bytes: u64,
    /// At most so many hundredths of the pack may be live: what is live is read, sealed and sent anew.
    pub live_percent: u64,
}

impl Default for Worth {
    /// Two thirds dead, and a mebibyte of it: a request or two for each mebibyte.
    fn default() -> Self {
        Self { dead_bytes: 1 << 20, live_percent: 33 }
    }
}

impl Worth {
    /// Whether rewriting this pack is worth it. One without anything live is garbage, not a case for rewriting.
    #[must_use]
    pub const fn rewriting(&self, load: Load) -> bool {
        let dead = load.size.saturating_sub(load.live);
        load.live > 0 && dead >= self.dead_bytes && load.live.saturating_mul(100) <= load.size.saturating_mul(self.live_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mostly_dead_and_worth_the_requests() {
        let worth = Worth::default();
        let table = [(4 << 20, 1 << 20, true), (4 << 20, 0, false), (4 << 20, 2 << 20, false), (900 << 10, 1 << 10, false)];
        for (size, live, expected) in table {
            assert_eq!(worth.rewriting(Load { size, live }), expected, "{live} of {size}");
        }
        assert!(!worth.rewriting(Load { size: 10, live: 20 }), "a size that a listing got wrong");
    }
}
