// SPDX-License-Identifier: Apache-2.0
//! What is kept, with an example: which points in time exist after a month.

use super::Page;
use crate::quantity::show_duration;
use holdfast_core::policy::{Policy, Retention, Tier, Window};
use holdfast_core::time::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;

/// 2026-03-31T12:00:00Z, in the middle of a day.
const NOW: Timestamp = Timestamp::from_nanos(1_774_958_400_000_000_000);
/// 2026-03-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp::from_nanos(1_772_323_200_000_000_000);

pub(super) fn explain(policy: &Policy, page: &mut Page) {
    let retention = &policy.retention;
    page.title("What is kept");
    page.line(&format!("Every checkpoint of the last {}.", show_duration(retention.keep_all)));
    for tier in &retention.tiers {
        page.line(&format!("One for each of {}, the present one included.", windows(*tier)));
    }
    if retention.tiers.is_empty() {
        page.line("Of anything older, only the newest checkpoint.");
    }
    page.line(
        "Windows begin on the hour, at midnight and on Mondays in UTC, and the last checkpoint of each is the one that stays.",
    );
    page.line("Snapshots, and what they hold, stay until they are deleted; so does a checkpoint that somebody pinned.");
    example(policy, page);
}

fn windows(tier: Tier) -> String {
    let count = tier.count;
    let last = |unit: &str| if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") };
    match tier.window {
        Window::Every(length) => format!("{count} stretches of {}", show_duration(length)),
        Window::Hour => last("hour"),
        Window::Day => last("day"),
        Window::Week => last("week"),
        Window::Month => last("month"),
        Window::Year => last("year"),
    }
}

fn example(policy: &Policy, page: &mut Page) {
    let retention = &policy.retention;
    page.title("Points in time after a month of steady work (1 March to 31 March, noon, UTC)");
    let all: u128 = retention.keep_all.as_nanos() / policy.paces.limit.as_nanos().max(1);
    page.line(&format!("{:<22} every checkpoint, about {all}", format!("since {}", shown(NOW.minus(retention.keep_all)))));
    let (steady, mut told) = (steady(), 0);
    for tier in &retention.tiers {
        let alone = Retention { keep_all: Duration::ZERO, tiers: vec![*tier] };
        let points = alone.kept(NOW, &steady);
        if let (Some(first), count) = (points.first(), points.len()) {
            let newest: Vec<String> = points.iter().rev().take(3).map(|point| shown(*point)).collect();
            let rest = if count > 3 { " …" } else { "" };
            told += count;
            let points = if count == 1 { "1 point".to_owned() } else { format!("{count} points") };
            page.line(&format!("{:<22} {points}: {}{rest}", format!("since {}", shown(*first)), newest.join(", ")));
        }
    }
    let older: Vec<Timestamp> =
        retention.kept(NOW, &steady).into_iter().filter(|point| *point < NOW.minus(retention.keep_all)).collect();
    match older.first() {
        Some(oldest) => page.line(&format!(
            "Older than {}: {} points in all{}, the oldest of {}.",
            show_duration(retention.keep_all),
            older.len(),
            if told > older.len() { " (some are in several of these lines)" } else { "" },
            shown(*oldest)
        )),
        None => page.line("Nothing older."),
    }
}

/// A checkpoint a minute: no window is shorter.
fn steady() -> Vec<Timestamp> {
    let minute = Duration::from_mins(1);
    std::iter::successors(Some(BEGIN.plus(minute)), |point| Some(point.plus(minute))).take_while(|point| *point < NOW).collect()
}

fn shown(moment: Timestamp) -> String {
    let date = moment.to_jiff().to_zoned(TimeZone::UTC);
    date.strftime(if date.year() == 2026 { "%-d %b %H:%M" } else { "%-d %b %Y" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_month_it_says() {
        assert_eq!((BEGIN.to_string().as_str(), NOW.to_string().as_str()), ("2026-03-01T00:00:00Z", "2026-03-31T12:00:00Z"));
        assert_eq!((shown(BEGIN), shown(NOW)), ("1 Mar 00:00".to_owned(), "31 Mar 12:00".to_owned()));
    }
}
