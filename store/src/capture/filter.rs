// SPDX-License-Identifier: Apache-2.0
//! Which paths beneath a state path are state.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A glob that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{glob:?} is not a pattern: {reason}; write for example 'cache/**', '*.tmp' or 'logs/*.log'")]
pub struct FilterError {
    glob: String,
    reason: String,
}

/// Includes and excludes: gitignore-like globs on paths relative to the state path. A pattern without a slash matches a name at any depth.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

fn compile(globs: &[String]) -> Result<Option<GlobSet>, FilterError> {
    if globs.is_empty() {
        return Ok(None);
    }
    let failed = |glob: &str, error: globset::Error| FilterError { glob: glob.to_owned(), reason: error.kind().to_string() };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let trimmed = glob.trim_start_matches('/').trim_end_matches('/');
        if trimmed.is_empty() || trimmed.split('/').any(|part| part == "..") {
            return Err(FilterError { glob: glob.clone(), reason: "it must name something beneath the state path".to_owned() });
        }
        let anchored = if trimmed.contains('/') || glob.starts_with('/') { trimmed.to_owned() } else { format!("**/{trimmed}") };
        // what a pattern names, and everything beneath it
        for pattern in [anchored.clone(), format!("{anchored}/**")] {
            let built = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
            set.add(built.map_err(|error| failed(glob, error))?);
        }
    }
    set.build().map(Some).map_err(|error| failed(&globs[0], error))
}

impl Filter {
    /// A filter of these globs. No includes: everything.
    ///
    /// # Errors
    /// If one can't be understood.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        Ok(Self { include: compile(include)?, exclude: compile(exclude)? })
    }

    /// Whether everything is state.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the entry at this path is state. A directory is kept if something beneath it may be included.
    #[must_use]
    pub fn keeps(&self, path: &[u8], is_directory: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        if self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(path)) {
            return false;
        }
        is_directory || self.include.as_ref().is_none_or(|include| include.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(include: &[&str], exclude: &[&str], kept: &[&str], left: &[&str]) {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&owned(include), &owned(exclude)).expect("patterns");
        for path in kept {
            assert!(filter.keeps(path.as_bytes(), false), "{path} should be kept");
        }
        for path in left {
            assert!(!filter.keeps(path.as_bytes(), false), "{path} should be left out");
        }
    }

    #[test]
    fn patterns_mean_what_people_mean() {
        check(&[], &[], &["a", "a/b"], &[]);
        check(&[], &["*.tmp"], &["a", "x/tmp"], &["a.tmp", "x/y/b.tmp", "d.tmp/inside"]);
        check(&[], &["cache/**", "/logs/"], &["x/cache/a", "x/logs"], &["cache/a", "cache/a/b", "logs", "logs/x"]);
        check(&["data/*.db"], &[], &["data/a.db"], &["data/sub/a.db", "a.db", "data/a.txt"]);
        check(&["*.db"], &["old.db"], &["x/a.db"], &["x/old.db"]);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for glob in ["", "/", "../up", "a/../b", "[", "{a"] {
            let error = Filter::new(&[], &[glob.to_owned()]).expect_err("nonsense");
            assert!(error.to_string().contains("is not a pattern"), "{error}");
        }
    }
}
