// SPDX-License-Identifier: Apache-2.0
//! Which checkpoints remain as they age: a pure function of the present and of what there is.

use crate::time::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::time::Duration;

/// Which checkpoints remain.
///
/// A checkpoint remains as long as any part of this wants it. The newest always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Every checkpoint younger than this.
    pub keep_all: Duration,
    /// Of the older ones, the last of each window.
    pub tiers: Vec<Tier>,
}

/// The last checkpoint of each of so many windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// How time is cut into windows.
    pub window: Window,
    /// How many windows reach back from now; the present one counts.
    pub count: u32,
}

/// How time is cut into windows. All of them are aligned, in UTC: so a window holds the same checkpoints whenever
/// one looks, and thinning step by step ends where thinning at once would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// By this length, counted from 1970.
    Every(Duration),
    /// By hours of the clock.
    Hour,
    /// By days of the calendar.
    Day,
    /// By weeks that begin on Monday.
    Week,
    /// By months of the calendar.
    Month,
    /// By years of the calendar.
    Year,
}

const SECONDS_PER_DAY: i64 = 86_400;

impl Window {
    /// The number of the window a moment is in; later windows have greater numbers.
    #[must_use]
    pub fn number(self, moment: Timestamp) -> i64 {
        let seconds = moment.nanos().div_euclid(1_000_000_000);
        match self {
            Self::Every(length) => {
                let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX).max(1);
                moment.nanos().div_euclid(nanos)
            }
            Self::Hour => seconds.div_euclid(3600),
            Self::Day => seconds.div_euclid(SECONDS_PER_DAY),
            // 1970 began on a Thursday
            Self::Week => (seconds.div_euclid(SECONDS_PER_DAY) + 3).div_euclid(7),
            Self::Month => {
                let date = moment.to_jiff().to_zoned(TimeZone::UTC).date();
                i64::from(date.year()) * 12 + i64::from(date.month())
            }
            Self::Year => i64::from(moment.to_jiff().to_zoned(TimeZone::UTC).date().year()),
        }
    }

    /// About how long a window is.
    #[must_use]
    pub const fn length(self) -> Duration {
        match self {
            Self::Every(length) => length,
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
            Self::Week => Duration::from_hours(7 * 24),
            Self::Month => Duration::from_hours(30 * 24),
            Self::Year => Duration::from_hours(365 * 24),
        }
    }
}

impl Tier {
    /// One checkpoint per `every` for the time of `keep_for`.
    #[must_use]
    pub fn every(every: Duration, keep_for: Duration) -> Self {
        let windows = keep_for.as_nanos().div_ceil(every.as_nanos().max(1));
        Self { window: Window::Every(every), count: u32::try_from(windows).unwrap_or(u32::MAX) }
    }

    /// About how far back it reaches.
    #[must_use]
    pub fn reach(self) -> Duration {
        self.window.length().saturating_mul(self.count)
    }
}

impl Retention {
    /// What remains of `points` at `now`, oldest first.
    #[must_use]
    pub fn kept(&self, now: Timestamp, points: &[Timestamp]) -> Vec<Timestamp> {
        let sorted: BTreeSet<Timestamp> = points.iter().copied().collect();
        let mut kept: BTreeSet<Timestamp> = sorted.last().copied().into_iter().collect();
        kept.extend(sorted.range(now.minus(self.keep_all)..).copied());
        for tier in &self.tiers {
            let present = tier.window.number(now);
            let oldest = present.saturating_sub(i64::from(tier.count));
            let mut window = None;
            // from the newest: the first that is met in a window is the window's last
            for point in sorted.iter().rev() {
                let number = tier.window.number(*point);
                if number <= oldest {
                    break;
                }
                if window != Some(number) {
                    kept.insert(*point);
                    window = Some(number);
                }
            }
        }
        kept.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse::<jiff::Timestamp>().expect("time").into()
    }

    fn retention(keep_all_hours: u64, tiers: &[(Window, u32)]) -> Retention {
        let tiers = tiers.iter().map(|(window, count)| Tier { window: *window, count: *count }).collect();
        Retention { keep_all: Duration::from_hours(keep_all_hours), tiers }
    }

    #[test]
    fn windows_follow_the_calendar() {
        let same = |window: Window, one: &str, two: &str| window.number(at(one)) == window.number(at(two));
        assert!(same(Window::Hour, "2026-03-01T03:00:00Z", "2026-03-01T03:59:59.9Z"));
        assert!(!same(Window::Day, "2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z"));
        assert!(same(Window::Week, "2026-03-02T00:00:00Z", "2026-03-08T23:59:59Z"), "Monday to Sunday");
        assert!(!same(Window::Week, "2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z"));
        assert!(same(Window::Month, "2024-02-01T00:00:00Z", "2024-02-29T23:00:00Z"));
        assert!(!same(Window::Year, "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"));
        assert!(Window::Week.number(at("1969-12-31T00:00:00Z")) <= Window::Week.number(at("1970-01-01T00:00:00Z")));
    }

    #[test]
    fn the_last_of_each_window_remains() {
        let points =
            ["01T05:00", "01T23:00", "02T04:00", "03T01:00", "03T09:10", "03T09:50"].map(|t| at(&format!("2026-03-{t}:00Z")));
        let kept = |retention: &Retention| -> Vec<String> {
            let kept = retention.kept(at("2026-03-03T10:00:00Z"), &points);
            kept.into_iter().map(|point| point.to_string()[8..16].to_owned()).collect()
        };
        assert_eq!(kept(&retention(0, &[])), ["03T09:50"], "the newest always");
        assert_eq!(kept(&retention(1, &[])), ["03T09:10", "03T09:50"]);
        assert_eq!(kept(&retention(0, &[(Window::Day, 3)])), ["01T23:00", "02T04:00", "03T09:50"]);
        assert_eq!(kept(&retention(0, &[(Window::Day, 2)])), ["02T04:00", "03T09:50"], "the present day counts");
        let four_hours = Tier::every(Duration::from_hours(4), Duration::from_hours(12));
        assert_eq!(four_hours.count, 3);
        assert_eq!(kept(&Retention { keep_all: Duration::ZERO, tiers: vec![four_hours] }), ["03T01:00", "03T09:50"]);
    }

    fn windows() -> impl Strategy<Value = Window> {
        prop_oneof![
            (1_u64..5000).prop_map(|minutes| Window::Every(Duration::from_mins(minutes))),
            Just(Window::Hour),
            Just(Window::Day),
            Just(Window::Week),
            Just(Window::Month),
            Just(Window::Year),
        ]
    }

    proptest! {
        /// Whoever thins more often must not lose what a later look would have kept.
        #[test]
        fn thinning_step_by_step_ends_where_thinning_at_once_does(
            tiers in prop::collection::vec((windows(), 0_u32..30), 0..4),
            mut minutes in prop::collection::vec(0_i64..600_000, 1..60),
            (keep_all, later) in (0_u64..100, 0_i64..300_000),
        ) {
            minutes.sort_unstable();
            let minute = |minute: i64| Timestamp::from_nanos((29_000_000 + minute) * 60_000_000_000);
            let points: Vec<Timestamp> = minutes.iter().copied().map(minute).collect();
            let retention = retention(keep_all, &tiers);
            let end = minutes.last().copied().unwrap_or_default() + later;
            let at_once = retention.kept(minute(end), &points);
            let mut stepwise = Vec::new();
            for point in &minutes {
                stepwise.push(minute(*point));
                stepwise = retention.kept(minute(*point), &stepwise);
            }
            prop_assert_eq!(retention.kept(minute(end), &stepwise), at_once);
        }
    }
}
