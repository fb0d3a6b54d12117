// SPDX-License-Identifier: Apache-2.0
//! The project as files: where it lies, and what is in it.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().unwrap_or(crate_root).to_owned()
}

/// Where this crate keeps what tests read.
#[must_use]
pub fn testdata() -> PathBuf {
    root().join("tests/testdata")
}

/// What no test of the sources looks into: what is built, what is hidden, what is not text, and what other programs install.
const PASSED_BY: &[&str] = &["target", "testdata", "node_modules", "__pycache__"];

/// All files of the project whose name ends with one of these, relative to its root, sorted.
///
/// # Errors
/// If a directory can't be read.
pub fn files(endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    gather(&root(), Path::new(""), endings, &mut found)?;
    found.sort();
    Ok(found)
}

fn gather(root: &Path, at: &Path, endings: &[&str], found: &mut Vec<PathBuf>) -> Result<()> {
    let directory = root.join(at);
    for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || PASSED_BY.contains(&&*name) {
            continue;
        }
        let path = at.join(&*name);
        if root.join(&path).is_dir() {
            gather(root, &path, endings, found)?;
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    Ok(())
}

/// The text of a file of the project.
///
/// # Errors
/// If it can't be read.
pub fn read(path: &Path) -> Result<String> {
    let path = root().join(path);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
