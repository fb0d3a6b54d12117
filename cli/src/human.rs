// SPDX-License-Identifier: Apache-2.0
//! Numbers, times and names for people.

use holdfast_agent::clock::SystemClock;
use holdfast_core::time::Timestamp;
use holdfast_store::capture::Clock;
use jiff::tz::TimeZone;
use std::fmt::Write;
use std::time::Duration;

/// Here and now, which times are told relative to.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    pub(crate) now: Timestamp,
    pub(crate) zone: TimeZone,
}

impl Here {
    /// By the system's clock and zone.
    pub(crate) fn system() -> Self {
        Self { now: SystemClock.now(), zone: TimeZone::system() }
    }

    /// `14:03:07 (10 minutes ago)`, with the date if it isn't today's.
    pub(crate) fn when(&self, moment: Timestamp) -> String {
        let there = moment.to_jiff().to_zoned(self.zone.clone());
        let today = self.now.to_jiff().to_zoned(self.zone.clone()).date() == there.date();
        let form = if today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!("{} ({})", there.strftime(form), self.ago(moment))
    }

    /// `10 minutes ago`, `in 3 seconds`.
    pub(crate) fn ago(&self, moment: Timestamp) -> String {
        if moment > self.now {
            return format!("in {}", about(moment.since(self.now)));
        }
        let age = self.now.since(moment);
        if age < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", about(age)) }
    }

    /// The moment that a text means.
    pub(crate) fn parse(&self, text: &str) -> Result<Timestamp, holdfast_core::time::ParseTimeError> {
        holdfast_core::time::parse(text, self.now, &self.zone)
    }
}

/// A span in its largest unit: `10 minutes`.
pub(crate) fn about(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..=119 => (seconds.max(1), "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A measured span: `0.31 s`, `12.4 s`, `3 min 4 s`.
pub(crate) fn took(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match span.as_secs() {
        0..=9 => format!("{seconds:.2} s"),
        10..=59 => format!("{seconds:.1} s"),
        whole @ 60..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// `512 B`, `1.5 KiB`, `3.0 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    while scaled >= 1024 * 1024 && unit + 1 < UNITS.len() {
        scaled /= 1024;
        unit += 1;
    }
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // in tenths, rounded down: a size is never shown larger than it is
    let tenths = scaled * 10 / 1024;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// `4 entries`.
pub(crate) fn entries(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

/// Characters that change how a terminal shows what is around them, or that can't be seen at all.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text on one line that can't steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    if !text.contains(is_treacherous) {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_treacherous(c) { cleaned.extend(c.escape_default()) } else { cleaned.push(c) }
    }
    cleaned
}

/// A path for people: on one line, and different for different paths. A backslash is doubled, a byte that is no text is shown as `\xff`.
pub(crate) fn path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if is_treacherous(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}"); // a String takes whatever is written
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Here {
        let now: jiff::Timestamp = "2026-11-21T14:13:07Z".parse().expect("a constant");
        Here { now: now.into(), zone: TimeZone::UTC }
    }

    #[test]
    fn times_are_told_from_here() {
        let when = |text: &str| here().when(here().parse(text).expect("a time"));
        assert_eq!(when("14:03:07"), "14:03:07 (10 minutes ago)");
        assert_eq!(when("yesterday 23:00"), "2026-11-20 23:00:00 (15 hours ago)");
        assert_eq!(when("2026-11-01 00:00"), "2026-11-01 00:00:00 (20 days ago)");
        assert_eq!(when("2026-11-21T14:13:37Z"), "14:13:37 (in 30 seconds)");
        assert_eq!(here().ago(here().now), "just now");
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn names_cant_steer_a_terminal_and_stay_apart() {
        assert_eq!(path(b"a\x1b[31mb\nc"), "a\\u{1b}[31mb\\nc");
        assert_eq!(path(b"x\xff\\xff"), "x\\xff\\\\xff");
        assert_eq!(path("gr\u{fc}n \u{202e}cod.exe".as_bytes()), "gr\u{fc}n \\u{202e}cod.exe");
        assert_eq!(clean("a\u{9b}31mb"), "a\\u{9b}31mb");
        assert_eq!(clean("C:\\x"), "C:\\x");
    }
}
