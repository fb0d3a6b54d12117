// SPDX-License-Identifier: Apache-2.0
//! Whether a pattern of includes and excludes can be understood.

use globset::GlobBuilder;

/// Whether this names something beneath a state path: the rules by which captures read patterns.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    let trimmed = pattern.trim_start_matches('/').trim_end_matches('/');
    if trimmed.is_empty() || trimmed.split('/').any(|part| part == "..") {
        return false;
    }
    GlobBuilder::new(trimmed).literal_separator(true).backslash_escape(true).build().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_pattern;

    #[test]
    fn what_people_write_is_a_pattern_and_nonsense_is_not() {
        for pattern in ["*.tmp", "cache/**", "/logs/", "a/{b,c}/d", "données/*.db"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in ["", "/", "../up", "a/../b", "[", "{a"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }
}
