// SPDX-License-Identifier: Apache-2.0
//! Writes the repository that is kept as `tests/testdata/format-v1`; with `--extend` the committed one and what it doesn't have yet. Run it
//! as root, so that the entries' owners are root's.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).context("which directory? It must not exist")?;
    // never over the one that is committed: what was released once must stay as it was
    ensure!(!directory.exists(), "{} exists already", directory.display());
    ensure!(rustix::process::geteuid().is_root(), "the owners of what it writes would not be root");
    std::fs::create_dir_all(&directory)?;
    if std::env::args().nth(2).as_deref() == Some("--extend") {
        return holdfast_tests::format_v1::extend(&directory);
    }
    holdfast_tests::format_v1::write(&directory)
}
