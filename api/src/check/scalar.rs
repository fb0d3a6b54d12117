// SPDX-License-Identifier: Apache-2.0
//! What a bare word of YAML is. Kubernetes reads YAML 1.1, where `no` is false and `010` is eight.

use super::yaml::Content;
use granit_parser::ScalarStyle;

/// What this scalar is. Quoted or tagged, it is a text.
pub(crate) fn read(text: &str, style: ScalarStyle, tagged: bool) -> Content {
    if tagged || style != ScalarStyle::Plain {
        return Content::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Content::Bool(true, text.to_owned()),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Content::Bool(false, text.to_owned()),
        _ => number(text).unwrap_or_else(|| Content::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Content> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let negative = text.starts_with('-');
    let whole = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => i64::from_str_radix(&unsigned[2..], 16).ok(),
        [b'0', b'o', ..] => i64::from_str_radix(&unsigned[2..], 8).ok(),
        [b'0', b'0'..=b'7', ..] => i64::from_str_radix(&unsigned[1..], 8).ok(),
        _ => unsigned.replace('_', "").parse().ok(),
    };
    if let Some(whole) = whole {
        return Some(Content::Integer(if negative { -whole } else { whole }, text.to_owned()));
    }
    // words that Rust takes for floats, such as "inf", don't begin with a digit
    let float: f64 = text.parse().ok()?;
    Some(Content::Float(float, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_what_kubernetes_takes_them_for() {
        let plain = |text| read(text, ScalarStyle::Plain, false);
        assert_eq!(plain("no"), Content::Bool(false, "no".into()));
        assert_eq!(plain("0755"), Content::Integer(0o755, "0755".into()));
        assert_eq!(plain("-12"), Content::Integer(-12, "-12".into()));
        assert_eq!(plain("1.5"), Content::Float(1.5, "1.5".into()));
        for text in ["10s", "infinity", "1.2.3", "0 3 * * *", "-", "64Mi"] {
            assert_eq!(plain(text), Content::Text(text.into()));
        }
        assert_eq!(read("no", ScalarStyle::DoubleQuoted, false), Content::Text("no".into()));
    }
}
