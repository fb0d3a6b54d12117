// SPDX-License-Identifier: Apache-2.0
//! Times as people write them: `10 minutes ago`, `yesterday 14:03`, `14:03:07`, `2026-11-20 09:00`, RFC 3339.

use super::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

/// A text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time; write for example '10 minutes ago', 'yesterday 14:03', '14:03:07', '2026-11-20 09:00' or '2026-11-20T09:00:00Z'"
)]
pub struct ParseTimeError(String);

/// Reads a moment. Times without a zone are in `zone`; a time of day without a date is its last occurrence before `now`.
///
/// # Errors
/// If the text is none of the forms that the error's message lists.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, ParseTimeError> {
    let trimmed = text.trim();
    let (trimmed, zone) = match trimmed.len().checked_sub(4).and_then(|at| trimmed.split_at_checked(at)) {
        Some((rest, suffix)) if suffix.eq_ignore_ascii_case(" utc") => (rest.trim_end(), &TimeZone::UTC),
        _ => (trimmed, zone),
    };
    let here = now.to_jiff().to_zoned(zone.clone());
    parse_words(trimmed, &here).or_else(|| parse_stamp(trimmed, zone)).ok_or_else(|| ParseTimeError(text.to_owned()))
}

fn parse_words(text: &str, here: &Zoned) -> Option<Timestamp> {
    let lower = text.to_ascii_lowercase();
    if lower == "now" {
        return Some(here.timestamp().into());
    }
    if let Some(amount) = lower.strip_suffix(" ago") {
        return ago(amount, here);
    }
    // a span alone can only have gone by
    let is_span =
        lower.starts_with(|first: char| first.is_ascii_digit()) && lower.ends_with(|last: char| last.is_ascii_lowercase());
    if is_span && !lower.contains([':', '-']) {
        return ago(&lower, here);
    }
    for (word, days_back) in [("today", 0), ("yesterday", 1)] {
        if let Some(rest) = lower.strip_prefix(word) {
            let time = if rest.trim().is_empty() { Time::midnight() } else { time_of_day(rest.trim())? };
            let date = here.date().checked_sub(days_back.days()).ok()?;
            return at(date, time, here.time_zone());
        }
    }
    let time = time_of_day(&lower)?;
    let today = at(here.date(), time, here.time_zone())?;
    if today <= here.timestamp().into() { Some(today) } else { at(here.date().yesterday().ok()?, time, here.time_zone()) }
}

/// `10 minutes`, `90s`, `1h 30m`, `2 days and 3 hours`.
fn ago(amount: &str, here: &Zoned) -> Option<Timestamp> {
    let one = amount.strip_prefix("an ").or_else(|| amount.strip_prefix("a ")).map(|unit| format!("1 {unit}"));
    let spaced = one.unwrap_or_else(|| amount.replace(" and ", " ").replace(',', " "));
    let span: jiff::Span = spaced.trim().parse().ok()?;
    if span.is_negative() {
        return None;
    }
    Some(here.checked_sub(span).ok()?.timestamp().into())
}

fn time_of_day(text: &str) -> Option<Time> {
    // jiff would read "14" as an hour; a bare number is more likely a slip
    if !text.contains(':') || text.contains('-') {
        return None;
    }
    let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
    padded.parse().ok()
}

fn parse_stamp(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(moment.into());
    }
    let civil: DateTime = text.parse().ok()?;
    at(civil.date(), civil.time(), zone)
}

fn at(date: Date, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    Some(zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().ok()?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let now: jiff::Timestamp = "2026-11-21T10:00:00Z".parse().expect("a constant");
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let found = parse(text, now.into(), &zone).ok().map(|moment| moment.to_string());
        assert_eq!(found.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn times_as_people_write_them() {
        check("now", Some("2026-11-21T10:00:00Z"));
        check("10 minutes ago", Some("2026-11-21T09:50:00Z"));
        check("1h 30m ago", Some("2026-11-21T08:30:00Z"));
        check("2 days and 3 hours ago", Some("2026-11-19T07:00:00Z"));
        check("90s ago", Some("2026-11-21T09:58:30Z"));
        check("an hour ago", Some("2026-11-21T09:00:00Z"));
        check("a minute ago", Some("2026-11-21T09:59:00Z"));
        check("5m", Some("2026-11-21T09:55:00Z"));
        check("1h 30m", Some("2026-11-21T08:30:00Z"));
        check("2026-11-20 09:00 UTC", Some("2026-11-20T09:00:00Z"));
        check("yesterday 14:03 utc", Some("2026-11-20T14:03:00Z"));
        check("yesterday 14:03", Some("2026-11-20T13:03:00Z"));
        check("yesterday", Some("2026-11-19T23:00:00Z"));
        check("today 9:05", Some("2026-11-21T08:05:00Z"));
        check("10:59:59", Some("2026-11-21T09:59:59Z"));
        check("14:03:07", Some("2026-11-20T13:03:07Z"));
        check("2026-11-20 09:00", Some("2026-11-20T08:00:00Z"));
        check("2026-11-20", Some("2026-11-19T23:00:00Z"));
        check("2026-11-20T09:00:00Z", Some("2026-11-20T09:00:00Z"));
        check("2026-11-20T09:00:00.5+03:00", Some("2026-11-20T06:00:00.5Z"));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "soon",
            "14",
            "-5 minutes ago",
            "25:00",
            "2026-13-01",
            "yesterday noonish",
            "10 parsecs ago",
            "10 parsecs",
            "a parsec ago",
            "utc",
            "2026-02-30",
        ] {
            check(text, None);
        }
    }
}
