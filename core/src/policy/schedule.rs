// SPDX-License-Identifier: Apache-2.0
//! When snapshots are taken by themselves.

use crate::time::Timestamp;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use std::time::Duration;

/// A cron line and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields (minute, hour, day of month, month, day of week), or `@hourly` and its like.
    pub cron: String,
    /// The IANA name of the zone the line is read in.
    pub time_zone: String,
    /// For now, none are taken.
    pub suspended: bool,
    /// So many of those taken by the schedule are kept.
    pub keep: u32,
}

/// What a schedule says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// A snapshot is to be taken, for this moment.
    pub due: Option<Timestamp>,
    /// The next moment, to be noted for the next look.
    pub next: Option<Timestamp>,
}

impl Schedule {
    /// Whether the line can be understood.
    #[must_use]
    pub fn is_understood(&self) -> bool {
        self.parse().is_some()
    }

    /// Whether this looks like the name of a zone. Whether the zone exists, only a zone database can tell.
    #[must_use]
    pub fn names_zone(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-');
        let part = |part: &str| !part.is_empty() && part.chars().all(plain);
        self.time_zone.starts_with(|c: char| c.is_ascii_alphabetic()) && self.time_zone.split('/').all(part)
    }

    /// The first moment after `now` at which a snapshot is due; `zone` is what [`Self::time_zone`] names.
    #[must_use]
    pub fn next_after(&self, now: Timestamp, zone: TimeZone) -> Option<Timestamp> {
        if self.suspended {
            return None;
        }
        let now = now.to_jiff().to_zoned(zone);
        let next = self.parse()?.find_next_occurrence(&now, false).ok()?;
        Some(next.timestamp().into())
    }

    /// What is to be done at `now`, where the look before this one noted a next moment.
    ///
    /// A moment that has passed is made up for once, however many have passed since; one that the line doesn't name any more is forgotten.
    #[must_use]
    pub fn turn(&self, now: Timestamp, zone: &TimeZone, noted: Option<Timestamp>) -> Turn {
        let due = noted.filter(|noted| *noted <= now && self.names(*noted, zone));
        Turn { due, next: self.next_after(now, zone.clone()) }
    }

    fn names(&self, moment: Timestamp, zone: &TimeZone) -> bool {
        self.next_after(moment.minus(Duration::from_secs(1)), zone.clone()) == Some(moment)
    }

    /// What the line says, in words.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let words = self.parse()?.describe();
        let mut letters = words.trim_end_matches('.').chars();
        let first = letters.next()?;
        Some(first.to_lowercase().chain(letters).collect())
    }

    fn parse(&self) -> Option<Cron> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(&self.cron).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, time_zone: &str) -> Schedule {
        Schedule { cron: cron.to_owned(), time_zone: time_zone.to_owned(), suspended: false, keep: 1 }
    }

    #[test]
    fn the_next_moment_is_after_now() {
        let now: Timestamp = "2026-03-01T03:00:00Z".parse::<jiff::Timestamp>().expect("time").into();
        let next = |cron| schedule(cron, "UTC").next_after(now, TimeZone::UTC).map(|next| next.to_string());
        assert_eq!(next("0 3 * * *").as_deref(), Some("2026-03-02T03:00:00Z"));
        assert_eq!(next("*/15 * * * *").as_deref(), Some("2026-03-01T03:15:00Z"));
        assert_eq!(next("@monthly").as_deref(), Some("2026-04-01T00:00:00Z"));
        assert_eq!(next("0 3 31 2 *"), None, "there is no such day");
        assert_eq!(Schedule { suspended: true, ..schedule("0 3 * * *", "UTC") }.next_after(now, TimeZone::UTC), None);
    }

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        let at = |text: &str| -> Timestamp { format!("2026-03-01T{text}Z").parse::<jiff::Timestamp>().expect("time").into() };
        let hourly = schedule("0 * * * *", "UTC");
        let turn = |now: &str, noted: Option<&str>| hourly.turn(at(now), &TimeZone::UTC, noted.map(at));
        let next = |next: &str| Some(at(next));
        assert_eq!(turn("03:10:00", None), Turn { due: None, next: next("04:00:00") }, "nothing before it was looked at first");
        assert_eq!(turn("03:59:59", Some("04:00:00")), Turn { due: None, next: next("04:00:00") });
        assert_eq!(turn("04:00:00", Some("04:00:00")), Turn { due: next("04:00:00"), next: next("05:00:00") });
        assert_eq!(turn("09:30:00", Some("04:00:00")), Turn { due: next("04:00:00"), next: next("10:00:00") }, "six were missed");
        assert_eq!(turn("09:30:00", Some("04:15:00")), Turn { due: None, next: next("10:00:00") }, "the line was another one");
        assert_eq!(turn("03:30:00", Some("09:00:00")), Turn { due: None, next: next("04:00:00") }, "the clock was set back");
        let suspended = Schedule { suspended: true, ..hourly.clone() };
        assert_eq!(suspended.turn(at("09:30:00"), &TimeZone::UTC, next("04:00:00")), Turn::default());
    }

    #[test]
    fn lines_with_seconds_or_words_are_refused() {
        for cron in ["", "every day", "0 0 3 * * *", "61 * * * *", "0 3 * *"] {
            assert!(!schedule(cron, "UTC").is_understood(), "{cron}");
        }
    }

    #[test]
    fn zones_have_names() {
        for zone in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(schedule("@daily", zone).names_zone(), "{zone}");
        }
        for zone in ["", "/Berlin", "Europe/", "+02:00", "Europe Berlin"] {
            assert!(!schedule("@daily", zone).names_zone(), "{zone}");
        }
    }
}
