// SPDX-License-Identifier: Apache-2.0
//! Finding the end of a contiguous series by asking which numbers exist, without a listing.

/// The search for the last number of a series in which every number up to the last exists.
///
/// Asks for 1, 2, 4, 8 … past what is known, then bisects: `2·log2(n)` questions for an end n numbers away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gallop {
    /// Known to exist, or 0.
    known: u64,
    /// Known not to exist.
    absent: Option<u64>,
    step: u64,
}

impl Gallop {
    /// A search that starts at a number known to exist; 0 if none is.
    #[must_use]
    pub const fn from(known: u64) -> Self {
        Self { known, absent: None, step: 1 }
    }

    /// The number to ask for next; `None` when the search has ended.
    #[must_use]
    pub fn probe(&self) -> Option<u64> {
        match self.absent {
            None => self.known.checked_add(self.step),
            Some(absent) if absent - self.known > 1 => Some(self.known + (absent - self.known) / 2),
            Some(_) => None,
        }
    }

    /// Takes the answer for the number that [`probe`](Self::probe) asked for.
    pub fn answer(&mut self, exists: bool) {
        let Some(asked) = self.probe() else { return };
        if exists {
            self.known = asked;
            self.step = self.step.saturating_mul(2);
        } else {
            self.absent = Some(asked);
        }
    }

    /// The last number known to exist, or 0: the end of the series once [`probe`](Self::probe) is `None`.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(start: u64, end: u64) -> (u64, u32) {
        let mut gallop = Gallop::from(start);
        let mut questions = 0;
        while let Some(n) = gallop.probe() {
            questions += 1;
            assert!(n > start, "{n} was known from the start");
            gallop.answer(n <= end);
        }
        (gallop.last(), questions)
    }

    #[test]
    fn an_empty_series_costs_one_question() {
        assert_eq!(search(0, 0), (0, 1));
    }

    proptest! {
        #[test]
        fn the_end_is_found_in_logarithmic_time(start in 0_u64..1000, distance in 0_u64..1 << 40) {
            let (end, questions) = search(start, start + distance);
            prop_assert_eq!(end, start + distance);
            prop_assert!(questions <= 2 * (64 - distance.leading_zeros()) + 2, "{} questions for {}", questions, distance);
        }
    }
}
