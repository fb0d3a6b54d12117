// SPDX-License-Identifier: Apache-2.0
//! Reading raw JSON of Kubernetes objects. What is missing or of another type reads as nothing; what the API server
//! will refuse anyway is not our business.

use serde_json::Value;

/// The text at a path of names.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// The value at a path of names, if it is there and not null.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(value, |value, name| value.get(name))?;
    (!found.is_null()).then_some(found)
}

/// The list at a path of names; none is an empty one.
pub(crate) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The name of one element of a list.
pub(crate) fn name(value: &Value) -> &str {
    text(value, &["name"]).unwrap_or_default()
}

/// A label.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    text(object, &["metadata", "labels", key])
}

/// An annotation.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    text(object, &["metadata", "annotations", key])
}

/// Whether a container is a sidecar that starts before the others and ends after them.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    text(container, &["restartPolicy"]) == Some("Always")
}

/// A quantity in thousandths: `100m`, `1.5`, `64Mi`, `1e3`, or a plain number.
pub(crate) fn quantity(value: &Value) -> Option<i128> {
    let written = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let unit = written.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(written.len());
    let (number, unit) = written.split_at(unit);
    let factor = match unit {
        "n" | "u" => 0,
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        _ => 1000 * 10_i128.checked_pow(unit.strip_prefix(['e', 'E'])?.parse().ok()?)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = fraction.len().min(9);
    let fraction: i128 = if digits == 0 { 0 } else { fraction.get(..digits)?.parse().ok()? };
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part = fraction.checked_mul(factor)? / 10_i128.checked_pow(u32::try_from(digits).ok()?)?;
    whole.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_compare_as_kubernetes_compares_them() {
        let equal = [("1", "1000m"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), (".5", "500m")];
        for (one, other) in equal {
            assert_eq!(quantity(&json!(one)), quantity(&json!(other)), "{one} {other}");
            assert!(quantity(&json!(one)).is_some(), "{one}");
        }
        assert_eq!(quantity(&json!(2)), Some(2000));
        for bad in [json!("x"), json!("1e99"), json!(null), json!("1Qi"), json!("1.é"), json!("--1")] {
            assert_eq!(quantity(&bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_reads_as_nothing() {
        let pod = json!({"spec": {"containers": null, "volumes": {"a": 1}}, "metadata": {"labels": {"a": 1}}});
        assert!(list(&pod, &["spec", "containers"]).is_empty());
        assert!(list(&pod, &["spec", "volumes"]).is_empty());
        assert_eq!(label(&pod, "a"), None);
        assert_eq!(at(&pod, &["spec", "volumes", "a", "b"]), None);
    }
}
