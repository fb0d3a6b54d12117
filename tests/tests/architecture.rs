// SPDX-License-Identifier: Apache-2.0
//! What depends on what, and which words may stand where. Whoever needs another edge changes this file, and says why.

use anyhow::{Context, Result, ensure};
use holdfast_tests::project;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

fn packages() -> Result<Vec<Package>> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(project::root()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice::<Metadata>(&output.stdout)?.packages)
}

/// The packages of the workspace, and those of them that each may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("holdfast-core", &[]),
    ("holdfast-store", &["holdfast-core"]),
    ("holdfast-proto", &["holdfast-core"]),
    ("holdfast-api", &["holdfast-core"]),
    ("holdfast-agent", &["holdfast-core", "holdfast-store", "holdfast-proto"]),
    ("holdfast-coordinator", &["holdfast-core", "holdfast-store", "holdfast-proto", "holdfast-api"]),
    ("holdfast-webhook", &["holdfast-core", "holdfast-api"]),
    ("holdfast", ANY),
    ("holdfast-tests", ANY),
    // leaves: servers that demonstrations and tests need
    ("holdfast-s3-server", &[]),
    ("holdfast-factoriser", &[]),
    ("holdfast-factoriser-operator", &[]),
];

/// The top of the house sees all of it.
const ANY: &[&str] = &["*"];

/// Edges that only a crate's own tests have, and only to leaves; and that of the agent's process, which is held against a real coordinator
/// (which knows nothing of agents but what they say).
const FOR_TESTS: &[(&str, &str)] = &[("holdfast-agent", "holdfast-s3-server"), ("holdfast-agent", "holdfast-coordinator")];

fn may(from: &str, to: &Dependency) -> Option<bool> {
    let (_, allowed) = EDGES.iter().find(|(name, _)| *name == from)?;
    let to_leaf = to.kind.as_deref() == Some("dev") && FOR_TESTS.contains(&(from, &to.name));
    Some(*allowed == ANY || allowed.contains(&&*to.name) || to_leaf)
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let packages = packages()?;
    for package in &packages {
        ensure!(EDGES.iter().any(|(name, _)| *name == package.name), "{} is not in the table of edges", package.name);
        // that of a library's tests counts like its own: it would hide a cycle
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let allowed = may(&package.name, dependency).context("in the table")?;
            ensure!(allowed, "{} may not depend on {}", package.name, dependency.name);
            // nothing may rest on what is made of everything, not even the other top
            let to_top = ["holdfast", "holdfast-tests"].contains(&dependency.name.as_str());
            ensure!(!to_top, "nothing may depend on {}, as {} does", dependency.name, package.name);
        }
    }
    Ok(())
}

/// Crates without any I/O, clock or randomness of their own.
const CORE_MAY_USE: &[&str] = &["croner", "globset", "jiff", "serde", "thiserror"];

#[test]
fn core_is_pure() -> Result<()> {
    let packages = packages()?;
    let core = packages.iter().find(|package| package.name == "holdfast-core").context("core")?;
    for dependency in core.dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
        ensure!(CORE_MAY_USE.contains(&dependency.name.as_str()), "core may not use {}", dependency.name);
    }
    ensure!(core.dependencies.iter().all(|dependency| dependency.kind.as_deref() != Some("build")), "core builds nothing");
    let words = [
        "async ",
        ".await",
        "std::fs",
        "std::net",
        "std::io",
        "std::process",
        "std::env",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "println!",
        "rand::",
        "getrandom",
    ];
    forbid(&words, |path| path.starts_with("core/src"), |_| false)
}

/// Words of programs, outside of comments.
fn forbid(words: &[&str], within: impl Fn(&Path) -> bool, except: impl Fn(&Path) -> bool) -> Result<()> {
    let mut found = BTreeSet::new();
    for path in project::files(&[".rs"])?.into_iter().filter(|path| within(path) && !except(path)) {
        for (number, line) in project::read(&path)?.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let word = words.iter().find(|word| names(code, word));
            found.extend(word.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    ensure!(found.is_empty(), "words where they may not be: {found:#?}");
    Ok(())
}

/// Whether a word stands there, and not as the end of a longer one.
fn names(code: &str, word: &str) -> bool {
    let ends_here = |(at, _): (usize, &str)| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    code.match_indices(word).any(ends_here)
}

fn anywhere(_: &Path) -> bool {
    true
}

fn is_below(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// This file names what it forbids.
const SELF: &str = "tests/tests/architecture.rs";

#[test]
fn one_place_speaks_to_amazon() -> Result<()> {
    let places = ["store/src/transport/s3.rs", "store/src/transport/s3", "store/s3-server/tests", SELF];
    forbid(&["aws_sdk_s3", "aws_config"], anywhere, |path| is_below(path, &places))
}

#[test]
fn one_place_watches_files() -> Result<()> {
    let places = ["agent/src/watch.rs", "agent/src/watch", SELF];
    forbid(&["notify::"], anywhere, |path| is_below(path, &places))
}

#[test]
fn kubernetes_is_known_where_it_must_be() -> Result<()> {
    let places = ["api", "coordinator", "webhook", "cli", EXAMPLE_OPERATOR, SELF];
    forbid(&["kube::", "k8s_openapi"], anywhere, |path| is_below(path, &places))
}

/// The example's operator is an operator as others write them: it speaks to Kubernetes, and knows nothing of Holdfast.
const EXAMPLE_OPERATOR: &str = "deploy/examples/factoriser/operator";

/// What reaches the outside, and which packages may link it.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("aws-", &["holdfast-store", "holdfast-s3-server"]),
    ("notify", &["holdfast-agent"]),
    ("kube", &["holdfast-api", "holdfast-coordinator", "holdfast-webhook", "holdfast", "holdfast-factoriser-operator"]),
    ("k8s-openapi", &["holdfast-api", "holdfast-coordinator", "holdfast-webhook", "holdfast", "holdfast-factoriser-operator"]),
];

/// What is linked there for its cryptography, which everybody may use.
const HARMLESS: &[&str] = &["aws-lc-rs"];

#[test]
fn clients_are_linked_where_they_are_used() -> Result<()> {
    for package in packages()? {
        for dependency in package.dependencies.iter().filter(|dependency| !HARMLESS.contains(&dependency.name.as_str())) {
            let owners = OUTSIDE.iter().find(|(prefix, _)| dependency.name.starts_with(prefix)).map(|(_, owners)| *owners);
            let allowed = owners.is_none_or(|owners| owners.contains(&package.name.as_str()));
            ensure!(allowed, "{} may not link {}", package.name, dependency.name);
        }
    }
    Ok(())
}

/// Clippy refuses a detached task too, but an `allow` silences it; here nothing does.
#[test]
fn every_task_has_an_owner() -> Result<()> {
    forbid(&["tokio::spawn(", "tokio::task::spawn(", "mem::forget("], anywhere, |path| path == Path::new(SELF))?;
    let banned = project::read(Path::new("clippy.toml"))?;
    for method in ["tokio::spawn", "std::thread::sleep", "std::time::SystemTime::now", "tokio::sync::mpsc::unbounded_channel"] {
        ensure!(banned.contains(&format!("\"{method}\"")), "clippy.toml no longer refuses {method}");
    }
    Ok(())
}

#[test]
fn every_file_says_its_licence() -> Result<()> {
    let mut without = Vec::new();
    for path in project::files(&[".rs", ".toml", ".sh", ".py", ".proto"])? {
        let text = project::read(&path)?;
        let mut lines = text.lines().skip_while(|line| line.starts_with("#!/"));
        let first = lines.next().unwrap_or_default();
        if !["// SPDX-License-Identifier: Apache-2.0", "# SPDX-License-Identifier: Apache-2.0"].contains(&first) {
            without.push(path);
        }
    }
    ensure!(without.is_empty(), "without `SPDX-License-Identifier: Apache-2.0` in the first line: {without:#?}");
    Ok(())
}

/// The project is whole: it refers to nothing on the machine that it was written on.
#[test]
fn nothing_points_outside() -> Result<()> {
    let (above, machine) = (concat!("../", "shared"), concat!("/", "work/"));
    let endings = [".rs", ".toml", ".sh", ".py", ".proto", ".md", ".yaml", ".yml", ".json", ".html", ".css", ".js", "justfile"];
    for path in project::files(&endings)?.iter().chain(&project::files(&["Dockerfile.agent", "Dockerfile.coordinator"])?) {
        let text = project::read(path)?;
        // an application in an example may keep its state under any name, that one too
        let is_example = path.starts_with("deploy/examples") && path.extension().is_some_and(|extension| extension == "yaml");
        ensure!(is_example || !text.contains(machine), "{} names {machine:?}", path.display());
        ensure!(!text.contains(above), "{} names {above:?}", path.display());
    }
    Ok(())
}

/// Rustdoc would take its time to find that there are no examples: where it is not asked, there must be none that nobody runs.
#[test]
fn examples_in_documentation_are_run() -> Result<()> {
    for path in project::files(&["Cargo.toml"])? {
        let manifest = project::read(&path)?;
        let of = path.parent().unwrap_or(Path::new("")).join("src");
        if !manifest.contains("doctest = false") {
            continue;
        }
        for source in project::files(&[".rs"])?.iter().filter(|source| source.starts_with(&of)) {
            let text = project::read(source)?;
            let fences = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("//")?.trim_start_matches(['/', '!', ' ']).strip_prefix("```"));
            let unrun = fences.step_by(2).find(|language| *language != "text");
            ensure!(
                unrun.is_none(),
                "{}: an example that is not run: take `doctest = false` out of {}",
                source.display(),
                path.display()
            );
        }
    }
    Ok(())
}
