// SPDX-License-Identifier: Apache-2.0
//! A number's factorisation into two.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Two numbers whose product is the number searched, the smaller first; `[factor, cofactor]` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Solution([u64; 2]);

impl Solution {
    /// The solution with this factor; `None` unless it divides the number and is neither 1 nor the number.
    #[must_use]
    pub fn new(number: u64, factor: u64) -> Option<Self> {
        let cofactor = number.checked_div(factor)?;
        let solution = Self([factor.min(cofactor), factor.max(cofactor)]);
        solution.solves(number).then_some(solution)
    }

    /// What is said of a number that nothing but 1 and itself divides.
    #[must_use]
    pub const fn prime(number: u64) -> Self {
        Self([1, number])
    }

    /// Whether this is a proper factorisation of the number. What was read from elsewhere is asked this.
    #[must_use]
    pub fn solves(self, number: u64) -> bool {
        let [factor, cofactor] = self.0;
        factor > 1 && factor <= cofactor && factor.checked_mul(cofactor) == Some(number)
    }

    /// The smaller of the two.
    #[must_use]
    pub const fn factor(self) -> u64 {
        self.0[0]
    }

    /// The larger of the two.
    #[must_use]
    pub const fn cofactor(self) -> u64 {
        self.0[1]
    }
}

impl fmt::Display for Solution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} * {}", self.factor(), self.cofactor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proper_factors_solve() {
        assert_eq!(Solution::new(91, 13), Solution::new(91, 7));
        assert_eq!(Solution::new(91, 13), Some(Solution([7, 13])));
        for factor in [0, 1, 2, 90, 91, 92, u64::MAX] {
            assert_eq!(Solution::new(91, factor), None);
        }
        assert!(!Solution::prime(91).solves(91));
        assert!(!Solution([13, 7]).solves(91));
        assert!(!Solution([u64::MAX, u64::MAX]).solves(1));
        assert_eq!(serde_json::to_string(&Solution::prime(7)).unwrap(), "[1,7]");
    }
}
