// SPDX-License-Identifier: Apache-2.0
//! What the documents name exists: paths, links, subcommands and flags, recipes, packages.

use anyhow::{Context, Result, bail, ensure};
use holdfast_tests::markdown::{Piece, commands, pieces};
use holdfast_tests::program::Program;
use holdfast_tests::project;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Documents that must be there.
const REQUIRED: &[&str] = &["docs/format.md", "docs/glossary.md"];

/// Documents that are checked, besides all in `docs/`.
const TOP: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// Calls a check with each piece of each document, and gathers what it complains of.
fn check(mut each: impl FnMut(&Path, &Piece) -> Result<()>) -> Result<()> {
    let mut wrong = Vec::new();
    let is_checked = |path: &PathBuf| path.starts_with("docs") || TOP.iter().any(|top| path == Path::new(top));
    let documents: Vec<_> = project::files(&[".md"])?.into_iter().filter(is_checked).collect();
    for document in &documents {
        for (line, piece) in pieces(&project::read(document)?) {
            if let Err(error) = each(document, &piece) {
                wrong.push(format!("{}:{line}: {error:#}", document.display()));
            }
        }
    }
    for required in REQUIRED {
        ensure!(documents.iter().any(|document| document == Path::new(required)), "{required} is missing");
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn links_lead_somewhere() -> Result<()> {
    check(|document, piece| {
        let Piece::Link(target) = piece else { return Ok(()) };
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
            return Ok(());
        }
        let from = project::root().join(document).parent().context("a document lies in a directory")?.to_owned();
        ensure!(from.join(path).exists(), "the link to {target} leads nowhere");
        Ok(())
    })
}

/// Endings of files that documents name.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".py", ".sh", ".proto", ".yaml", ".json"];

#[test]
fn paths_exist() -> Result<()> {
    let files = project::files(ENDINGS)?;
    let names: BTreeSet<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    check(|document, piece| {
        let Piece::Span(text) = piece else { return Ok(()) };
        let is_path = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) && !text.starts_with(['/', '.', '-']);
        let is_file = ENDINGS.iter().any(|ending| text.ends_with(ending) && text.len() > ending.len());
        let root = project::root();
        // a path begins with a directory of the project; anything else with a slash may be a key, a media type, a name of an image
        let begins_here = text.split_once('/').is_some_and(|(first, _)| root.join(first).is_dir());
        if !is_path || !(is_file || begins_here) {
            return Ok(());
        }
        let beside = root.join(document).parent().context("a document lies in a directory")?.join(text);
        let is_name = !text.contains('/') && names.contains(text.as_str());
        ensure!(is_name || root.join(text).exists() || beside.exists(), "there is no {text}");
        Ok(())
    })
}

/// Calls a check with the words after each use of a program, in code of any kind.
fn check_uses(program: &str, mut each: impl FnMut(&[String]) -> Result<()>) -> Result<()> {
    check(|_, piece| {
        let (Piece::Span(text) | Piece::Block(text)) = piece else { return Ok(()) };
        for command in commands(text) {
            match command.split_first() {
                Some((name, words)) if name == program => each(words).with_context(|| format!("`{}`", command.join(" ")))?,
                _ => {}
            }
        }
        Ok(())
    })
}

#[test]
fn the_program_does_what_is_written() -> Result<()> {
    let mut program = None;
    check_uses("holdfast", |words| {
        let program = match &mut program {
            Some(program) => program,
            none => none.insert(Program::locate()?),
        };
        program.check(words)
    })
}

#[test]
fn recipes_exist() -> Result<()> {
    let justfile = project::root().join("justfile");
    let text = std::fs::read_to_string(justfile).unwrap_or_default();
    let is_recipe = |name: &str| {
        let head = |line: &str| line.split([':', ' ']).next().is_some_and(|word| word == name) && line.contains(':');
        text.lines().any(|line| head(line.trim_start_matches('@')))
    };
    check_uses("just", |words| {
        // prose says "just that" too, but not in code
        let name = words.iter().find(|word| !word.starts_with('-')).context("no recipe")?;
        ensure!(is_recipe(name), "the justfile has no recipe {name:?}");
        Ok(())
    })
}

#[test]
fn packages_and_targets_exist() -> Result<()> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(project::root()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages: Vec<_> = metadata["packages"].as_array().context("packages")?.iter().collect();
    let is_package = |name: &str| packages.iter().any(|package| package["name"] == name);
    let is_target = |kind: &str, name: &str| {
        let mut targets = packages.iter().filter_map(|package| package["targets"].as_array()).flatten();
        targets.any(|target| target["name"] == name && target["kind"][0] == kind)
    };
    check_uses("cargo", |words| {
        for pair in words.windows(2).take_while(|pair| pair[0] != "--") {
            let [flag, name] = pair else { continue };
            let exists = match flag.as_str() {
                "-p" | "--package" => is_package(name),
                "--example" | "--test" | "--bin" | "--bench" => is_target(flag.trim_start_matches('-'), name),
                _ => true,
            };
            if !exists {
                bail!("there is no {name:?} for {flag}");
            }
        }
        Ok(())
    })
}
