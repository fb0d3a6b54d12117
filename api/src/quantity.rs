// SPDX-License-Identifier: Apache-2.0
//! The quantities people write: `10s`, `30d`, `64Mi`, `20MiB/s`, `500m`.

use std::time::Duration;

/// Splits `12ms` into 12 and `ms`, and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit);
    Some((number.parse().ok()?, unit, rest))
}

/// A time such as `500ms`, `10s` or `1m30s`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// An age such as `90m`, `24h`, `30d`, `8w` or `1y`.
#[must_use]
pub fn parse_age(text: &str) -> Option<Duration> {
    let (number, unit, rest) = number_and_unit(text)?;
    let minutes = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        "w" => 7 * 24 * 60,
        "y" => 365 * 24 * 60,
        _ => return None,
    };
    let seconds = number.checked_mul(minutes)?.checked_mul(60)?;
    (rest.is_empty() && number > 0).then(|| Duration::from_secs(seconds))
}

/// Bytes such as `64Mi`, `1.5Gi` or `10G`.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    scaled(number, factor)
}

/// `number`, which may have up to three digits after a point, times `factor`.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let part = thousandths.checked_mul(factor)? / 1000;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
}

/// Bytes per second such as `20MiB/s` or `500kB/s`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    parse_bytes(text.strip_suffix("B/s")?)
}

/// Thousandths of a core: `500m`, `2` or `0.5`.
#[must_use]
pub fn parse_cpu(text: &str) -> Option<u32> {
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => scaled(text, 1000),
    };
    millis.and_then(|millis| u32::try_from(millis).ok())
}

/// A time in words as short as it can be said exactly: `1m30s`, `30d`, `0s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in units {
        let count = rest / millis;
        rest %= millis;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Bytes in the greatest unit that says them exactly: `64Mi`, `1500`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let units: [(&str, u64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let fits = units.into_iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    fits.map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_said() {
        for (text, millis) in [("200ms", 200), ("10s", 10_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        for text in ["", "10", "s", "10 s", "1d", "-1s", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        for (text, hours) in [("24h", 24), ("30d", 720), ("2w", 336), ("1y", 8760), ("120m", 2)] {
            assert_eq!(parse_age(text), Some(Duration::from_hours(hours)), "{text}");
        }
        for text in ["", "0d", "1d12h", "10s", "d", "1 d"] {
            assert_eq!(parse_age(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_rates_and_cores_are_read() {
        assert_eq!(parse_bytes("64Mi"), Some(64 << 20));
        assert_eq!(parse_bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(parse_bytes("10k"), Some(10_000));
        assert_eq!(parse_rate("20MiB/s"), Some(20 << 20));
        assert_eq!(parse_cpu("500m"), Some(500));
        assert_eq!(parse_cpu("0.25"), Some(250));
        assert_eq!(parse_cpu("2"), Some(2000));
        for text in ["", "Mi", "64MB", "1.Mi", ".5Mi", "1.2345Gi", "-1", "1e3"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(parse_rate("20Mi"), None);
        assert_eq!(parse_cpu("half"), None);
        assert_eq!((show_bytes(64 << 20), show_bytes(1500)), ("64Mi".to_owned(), "1500".to_owned()));
    }
}
