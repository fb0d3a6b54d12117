// SPDX-License-Identifier: Apache-2.0
//! The second implementation of the format, which is in Python.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Where it may not be missing, this is `1`.
const REQUIRE: &str = "HOLDFAST_REQUIRE_PYTHON";

/// Whether the programs can run here. Says why not.
///
/// # Errors
/// If they can't, and `HOLDFAST_REQUIRE_PYTHON` says that they must.
pub fn is_available() -> Result<bool> {
    let tried = Command::new("python3").args(["-c", "import cryptography, zstandard"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return Ok(true),
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it fails").to_owned(),
        Err(error) => error.to_string(),
    };
    if std::env::var_os(REQUIRE).is_some_and(|value| value == "1") {
        bail!("python3 with the packages cryptography and zstandard is required ({REQUIRE}=1): {why}");
    }
    skip(&why);
    Ok(false)
}

#[allow(clippy::print_stderr, reason = "a test that didn't run must be seen not to have")]
fn skip(why: &str) {
    eprintln!("SKIPPED: the independent reader needs python3 with the packages cryptography and zstandard: {why}");
}

/// Runs a program of `tests/python` and returns what it printed.
///
/// # Errors
/// If it fails; with what it said.
pub fn run(program: &str, arguments: &[&OsStr]) -> Result<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(program);
    // -B: nothing is left behind among the sources
    let output = Command::new("python3").arg("-B").arg(&program).args(arguments).output().context("run python3")?;
    if !output.status.success() {
        bail!("{} {arguments:?}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("its output is not text")
}
