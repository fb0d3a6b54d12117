// SPDX-License-Identifier: Apache-2.0
//! The `holdfast` program as its help describes it.

use crate::project;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, and what it said of its subcommands so far.
#[derive(Debug)]
pub struct Program {
    binary: PathBuf,
    helps: BTreeMap<Vec<String>, String>,
}

impl Program {
    /// The program as it was built beside the running test; builds it if it is missing, or older than its sources.
    ///
    /// # Errors
    /// If it can't be built.
    pub fn locate() -> Result<Self> {
        let test = std::env::current_exe()?;
        let profile = test.ancestors().nth(2).context("tests lie in PROFILE/deps")?;
        let binary = profile.join("holdfast");
        if !is_current(&binary)? {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "holdfast"]).current_dir(project::root());
            cargo.args(profile.ends_with("release").then_some("--release"));
            cargo.env("CARGO_TARGET_DIR", profile.parent().context("PROFILE lies in the target directory")?);
            let output = cargo.output().context("run cargo")?;
            ensure!(output.status.success(), "build holdfast: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self { binary, helps: BTreeMap::new() })
    }

    /// What it says to `--help` of a subcommand.
    fn help(&mut self, path: &[String]) -> Result<String> {
        if let Some(help) = self.helps.get(path) {
            return Ok(help.clone());
        }
        let output = Command::new(&self.binary).args(path).arg("--help").output().context("run holdfast")?;
        ensure!(output.status.success(), "`holdfast {} --help` fails", path.join(" "));
        let help = String::from_utf8(output.stdout)?;
        self.helps.insert(path.to_vec(), help.clone());
        Ok(help)
    }

    /// Whether a command, without the program's name, has only subcommands and flags that exist.
    ///
    /// # Errors
    /// Which doesn't.
    pub fn check(&mut self, words: &[String]) -> Result<()> {
        let mut path: Vec<String> = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next().filter(|word| *word != "--") {
            let help = self.help(&path)?;
            if word.starts_with('-') && word.len() > 1 {
                let flag = word.split('=').next().unwrap_or_default().trim_end_matches([']', ')', '.']);
                let takes_value =
                    takes_value(&help, flag).with_context(|| format!("`holdfast {}` has no {flag}", path.join(" ")))?;
                if takes_value && !word.contains('=') {
                    words.next();
                }
                continue;
            }
            let subcommands = subcommands(&help);
            let is_word = word.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '|');
            if !subcommands.is_empty() && is_word {
                let known = word.split('|').all(|name| subcommands.iter().any(|subcommand| subcommand == name));
                if !known {
                    bail!("`holdfast {}` has no subcommand {word:?}, only {subcommands:?}", path.join(" "));
                }
                path.push(word.split('|').next().unwrap_or_default().to_owned());
            }
        }
        Ok(())
    }
}

fn is_current(binary: &Path) -> Result<bool> {
    let Ok(built) = binary.metadata().and_then(|meta| meta.modified()) else { return Ok(false) };
    for path in project::files(&[".rs"])?.iter().filter(|path| path.starts_with("cli/src")) {
        if project::root().join(path).metadata()?.modified()? > built {
            return Ok(false);
        }
    }
    Ok(true)
}

fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    // what is indented further continues a description
    listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Whether a flag is followed by a value; `None` if there is no such flag.
fn takes_value(help: &str, flag: &str) -> Option<bool> {
    let of_line = |line: &str| {
        let line = line.trim_start();
        let names: Vec<_> = line.split("  ").next()?.split([' ', ',', '=']).collect();
        let is_it = line.starts_with('-') && names.iter().any(|name| name.trim_end_matches("...") == flag);
        is_it.then(|| names.iter().any(|name| name.starts_with('<')))
    };
    help.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Usage\n\nCommands:\n  run     Runs\n          on\n  help    Says\n\nOptions:\n  -v, --verbose...      More\n      --repo <URL>  Where\n";

    #[test]
    fn a_help_is_understood() {
        assert_eq!(subcommands(HELP), ["run", "help"]);
        let flags = ["--repo", "--verbose", "-v", "--re", "run"].map(|flag| takes_value(HELP, flag));
        assert_eq!(flags, [Some(true), Some(false), Some(false), None, None]);
    }
}
